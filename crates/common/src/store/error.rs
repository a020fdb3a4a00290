//! What can go wrong in a store.

use std::error::Error;

/// A variant exists because a caller does something different with it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The write may have been applied. Read it back by its key before anything else.
    #[error("the outcome of a write is unknown")]
    Uncertain(#[source] Box<dyn Error + Send + Sync>),
    /// Nothing was done; it may work later.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn Error + Send + Sync>),
    /// What is stored cannot be understood. Trying again will not help.
    #[error("stored data cannot be read")]
    Corrupt(#[source] Box<dyn Error + Send + Sync>),
}
