//! The log's contract over the embedded store, and what its cache of groups keeps.

use std::sync::Arc;
use std::time::Duration;

use super::contract::log_contract;
use super::groups::Groups;
use super::metrics::LogMetrics;
use crate::domain::{Group, GroupId, GroupKind, Seq, Size, Timestamp};
use crate::store::{SqliteStore, Store};
use crate::telemetry::Metrics;

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

fn group(id: GroupId, applied: Seq) -> Arc<Group> {
    Arc::new(Group {
        id,
        kind: GroupKind::Group,
        name: None,
        created_at: Timestamp::default(),
        version: 1,
        applied,
        deleted: false,
        lease: None,
        size: Size::default(),
        members: [].into(),
        channels: [].into(),
    })
}

#[tokio::test]
async fn a_group_that_was_read_before_a_hint_is_not_kept() {
    let (store, _folder) = fresh_store().await.unwrap();
    for (hinted, read, kept) in [
        (Some(2), 1, false),
        (Some(2), 2, true),
        (None, 1, true),
        (Some(Seq::MAX), 2, false),
    ] {
        let groups = Groups::new(
            store.clone(),
            super::testing::FANOUT_LIMIT,
            LogMetrics::register(&Metrics::default()).caches,
        );
        let id = GroupId::generate();
        let reading = groups.begin_reading(id);
        let slower = groups.begin_reading(id);
        match hinted {
            // Hints were lost.
            Some(Seq::MAX) => groups.forget_all(),
            Some(seq) => groups.forget_before(id, seq),
            None => {}
        }
        reading.keep(&group(id, read));
        drop(reading);
        slower.keep(&group(id, read));
        drop(slower);
        // The store has none, so it comes from the cache.
        let found = groups.get(id, 0).await.unwrap();
        assert_eq!(found.is_some(), kept, "{hinted:?} {read}");
        // The next read begins anew.
        groups.begin_reading(id).keep(&group(id, 1));
        assert!(groups.get(id, 0).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn look_ups_of_groups_are_counted_by_what_comes_of_them() {
    let (store, _folder) = fresh_store().await.unwrap();
    let metrics = Metrics::default();
    let caches = LogMetrics::register(&metrics).caches;
    let groups = Groups::new(store, super::testing::FANOUT_LIMIT, caches);
    let id = GroupId::generate();
    assert_eq!(groups.get(id, 0).await.unwrap(), None);
    groups.begin_reading(id).keep(&group(id, 3));
    assert!(groups.get(id, 3).await.unwrap().is_some());
    assert_eq!(groups.get(id, 4).await.unwrap(), None);
    groups.fresh(id).await.unwrap();
    tokio::time::pause();
    groups.begin_reading(id).keep(&group(id, 3));
    tokio::time::advance(Duration::from_secs(30)).await;
    tokio::time::resume();
    groups.get(id, 3).await.unwrap();
    let text = metrics.encode();
    for line in [
        "cache_lookups_total{cache=\"group\",outcome=\"miss\"} 1",
        "cache_lookups_total{cache=\"group\",outcome=\"hit\"} 1",
        "cache_lookups_total{cache=\"group\",outcome=\"stale\"} 1",
        "cache_lookups_total{cache=\"group\",outcome=\"reread\"} 1",
        "cache_lookups_total{cache=\"group\",outcome=\"expired\"} 1",
        "group_staleness_seconds_count 1",
    ] {
        assert!(
            text.contains(&format!("tidings_log_{line}\n")),
            "{line} in {text}"
        );
    }
}
