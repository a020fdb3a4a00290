//! The log's contract over the embedded store.

use std::sync::Arc;

use super::contract::log_contract;
use crate::store::{SqliteStore, Store};

/// A folder that goes with the test.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

async fn fresh_store() -> Option<(Arc<dyn Store>, Folder)> {
    let name = format!("tidings-log-{}", uuid::Uuid::now_v7());
    let folder = Folder(std::env::temp_dir().join(name));
    let store = SqliteStore::open(&folder.0.join("test.db")).unwrap();
    Some((Arc::new(store), folder))
}

log_contract!(fresh_store);
