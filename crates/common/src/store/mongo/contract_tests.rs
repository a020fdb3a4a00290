//! The store's contract over a real MongoDB.

use std::sync::Arc;

use super::testing::Scratch;
use crate::store::contract::{Fresh, store_contract};

async fn fresh_store() -> Option<Fresh> {
    let scratch = Scratch::new()?;
    Some(Fresh {
        store: Arc::new(scratch.open().await),
        guard: Box::new(scratch),
    })
}

store_contract!(super::fresh_store);
