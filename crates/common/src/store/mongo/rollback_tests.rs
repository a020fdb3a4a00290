//! A primary whose latest write no other node has, and that another one takes over from. In a
//! module `long`: the new primary's follower leaves a peer that stands still only after a while.

mod long {
    use mongodb::bson::doc;

    use crate::domain::Entry;
    use crate::store::contract::fixture::{after, all, channel, channel_id, fill, text};
    use crate::store::mongo::fault_tests::{append, is_uncertain};
    use crate::store::mongo::nodes::{Nodes, eventually};
    use crate::store::mongo::testing::tasks;
    use crate::store::mongo::{MongoStore, entry, field};
    use crate::store::{LogStore as _, Window};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_rolled_back_was_never_a_head() {
        let Some(nodes) = Nodes::start(3).await else {
            return;
        };
        let store = MongoStore::open(&nodes.url(), &tasks()).await.unwrap();
        let stream = channel();
        let mut committed = fill(&store, stream, [text("a"), text("b")]).await;
        let head = committed[1].head();
        let old = nodes.primary().await;
        let others = [(old + 1) % 3, (old + 2) % 3];
        for node in others {
            nodes.stop_following(node).await;
        }
        let ghost = after(stream, head, text("ghost"));
        nodes.write_alone(old, &ghost).await;
        assert_eq!(local(&nodes, old, &ghost).await, Some(true));
        check_unseen(&store, &ghost, &committed).await;

        // Nobody can follow it: its position is taken there, but no majority has it.
        let mine = after(stream, head, text("mine"));
        let outcome = append(&store, &mine).await;
        assert!(
            is_uncertain(&outcome) || matches!(outcome, Ok(0)),
            "{outcome:?}"
        );
        check_unseen(&store, &ghost, &committed).await;

        nodes.freeze(old);
        for node in others {
            nodes.follow_again(node).await;
        }
        // The first try may outlast its wait for a majority, and be in all the same.
        eventually("an append at the new primary", async || {
            drop(append(&store, &mine).await);
            let found = store.find(stream, mine.key).await;
            found.is_ok_and(|found| found.as_ref() == Some(&mine))
        })
        .await;
        committed.push(mine);
        check_unseen(&store, &ghost, &committed).await;

        nodes.thaw(old);
        eventually("the rollback", async || {
            local(&nodes, old, &committed[2]).await == Some(true)
        })
        .await;
        assert_eq!(local(&nodes, old, &ghost).await, Some(false));
        check_unseen(&store, &ghost, &committed).await;
    }

    /// Whether a node has an entry, whatever the others have; None while it gives no answer.
    async fn local(nodes: &Nodes, node: usize, entry: &Entry) -> Option<bool> {
        let find = doc! {
            "find": entry::ENTRIES,
            "filter": { "_id": field::uuid(entry.id.as_bytes()) },
        };
        let found = nodes.alone(node).await.run_command(find).await.ok()?;
        let cursor = found.get_document("cursor").unwrap();
        Some(!cursor.get_array("firstBatch").unwrap().is_empty())
    }

    /// The stream holds exactly `committed`, in every way to look at it.
    async fn check_unseen(store: &MongoStore, ghost: &Entry, committed: &[Entry]) {
        let (stream, last) = (ghost.stream, committed.last().unwrap());
        assert_eq!(store.head(stream).await.unwrap(), last.head());
        assert_eq!(store.heads(&[stream]).await.unwrap(), [last.seq]);
        assert_eq!(all(store, stream).await, committed);
        assert_eq!(
            store.newest(stream, 1).await.unwrap(),
            std::slice::from_ref(last)
        );
        assert_eq!(store.find(stream, ghost.key).await.unwrap(), None);
        assert_eq!(store.pending_in(stream, 0, 9).await.unwrap(), committed);
        let page = store.messages(channel_id(stream), Window::Newest, 9).await;
        assert_eq!(page.unwrap().items.len(), committed.len());
    }
}
