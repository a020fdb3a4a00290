//! What the log promises over any store: `log_contract!(fresh_store)` runs all of it.
//!
//! Several [`Log`]s over one store stand for several processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::testing::{Always, Fault, Faults, Gate, World, append};
use super::{AppendError, Draft, Log, NotValid, Proposal, Revocations, Unfinished};
use crate::bus::Recipients;
use crate::clock::SystemClock;
use crate::domain::*;
use crate::store::Store;

/// Runs the contract over the stores that `$fresh` (an async function without arguments)
/// returns, with what keeps each alive (None: there is no service to test with).
macro_rules! log_contract {
    ($fresh:path) => {
        $crate::log::contract::log_contract!($fresh:
            concurrent_appenders_leave_no_hole_and_lose_nothing,
            a_thousand_streams_advance_at_once,
            unknown_outcomes_have_one_effect,
            a_landed_prefix_is_kept_and_the_rest_is_appended,
            what_may_still_land_is_never_refused,
            what_may_still_land_is_refused_to_no_copy_of_it,
            a_replay_in_mid_batch_gets_the_first_entry,
            fifty_copies_at_once_are_one_message,
            copies_that_wait_are_answered_together,
            copies_of_a_group_change_are_completed_once,
            what_was_completed_before_is_only_looked_up,
            the_same_key_with_another_body_is_refused,
            a_replay_is_answered_though_a_rule_would_refuse_it_now,
            a_repetition_of_what_was_refused_is_decided_anew,
            a_repetition_that_is_refused_in_mid_batch_gets_the_first_entry,
            a_stream_trimmed_to_its_last_entry_goes_on,
            a_remembered_head_outlives_a_trim,
            an_abandoned_append_is_done_once,
            reactions_from_two_processes_both_count,
            an_edit_that_was_overtaken_by_a_deletion_is_refused,
            an_edit_applied_after_a_deletion_brings_nothing_back,
            an_addition_applied_late_does_not_undo_a_removal,
            a_message_numbered_after_a_removal_is_checked_again,
            nothing_of_the_removed_follows_an_acknowledged_removal,
            the_newly_added_get_what_follows_and_nothing_before,
            a_change_completed_late_reaches_those_who_came_since,
            the_order_of_an_entry_counts_messages,
            an_ended_session_is_known_everywhere,
            what_is_announced_is_settled,
            edits_are_announced_with_the_content_of_the_message,
            an_edit_not_yet_applied_reads_as_the_edit,
            state_can_be_brought_up_to_a_position,
            what_a_process_has_applied_it_does_not_apply_again,
            a_full_queue_refuses_and_recovers,
            stopping_finishes_what_was_begun,
        );
    };
    ($fresh:path: $($name:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn $name() {
            let Some((store, _alive)) = $fresh().await else {
                return;
            };
            $crate::log::contract::$name(store).await;
        }
    )*};
}
pub(crate) use log_contract;

/// Positions from 1 without holes, no key twice, `gv` never falling, `ord` counting messages.
pub(super) fn check_stream(entries: &[Entry]) {
    let mut keys = BTreeSet::new();
    let mut head = Head::default();
    for entry in entries {
        assert_eq!(entry.seq, head.seq + 1, "a hole or a duplicate");
        assert!(
            entry.gv >= head.gv,
            "gv fell from {} to {}",
            head.gv,
            entry.gv
        );
        let message = matches!(entry.change, Change::MessageCreated(_));
        assert_eq!(entry.ord, head.ord + u64::from(message));
        assert!(keys.insert(entry.key), "a key twice");
        head = entry.head();
    }
}

fn texts(entries: &[Entry]) -> Vec<&str> {
    fn text(entry: &Entry) -> Option<&str> {
        match &entry.change {
            Change::MessageCreated(state) => Some(state.content.as_str()),
            _ => None,
        }
    }
    entries.iter().filter_map(text).collect()
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen within 5 s");
}

async fn settled(world: &World) {
    eventually("settling", async || {
        let far = Timestamp::from_millis(i64::MAX);
        let page = world.store.pending(far, None, 10).await.unwrap();
        page.items.is_empty()
    })
    .await;
}

pub(crate) async fn concurrent_appenders_leave_no_hole_and_lose_nothing(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    let mut senders = Vec::new();
    for process in 0..4 {
        let log = world.process();
        for sender in 0..8 {
            let (world, log) = (world.clone(), log.clone());
            senders.push(tokio::spawn(async move {
                let mut acknowledged = BTreeMap::new();
                for message in 0..12 {
                    let text = format!("{process}-{sender}-{message}");
                    let committed = world.send(&log, world.owner, &text).await.unwrap();
                    assert!(!committed.replayed);
                    acknowledged.insert(committed.entry.seq, text);
                }
                acknowledged
            }));
        }
    }
    let mut acknowledged = BTreeMap::new();
    for sender in senders {
        for (seq, text) in sender.await.unwrap() {
            assert!(acknowledged.insert(seq, text).is_none(), "a position twice");
        }
    }
    let entries = world.channel_entries().await;
    check_stream(&entries);
    let stored: Vec<_> = texts(&entries);
    assert_eq!(stored, acknowledged.values().collect::<Vec<_>>());
    assert_eq!(stored.len(), 4 * 8 * 12);
}

pub(crate) async fn a_thousand_streams_advance_at_once(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    let tasks = (0..1000).map(|_| {
        let world = world.clone();
        tokio::spawn(async move {
            let user = UserId::generate();
            for name in ["a", "b"] {
                let change = Change::UserUpdated {
                    display_name: name.to_owned(),
                };
                let proposal = Always(change, false);
                append(&world.log, user, user, Key::unique(), proposal)
                    .await
                    .unwrap();
            }
            user
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        let user = task.await.unwrap();
        let entries = world
            .store
            .entries(user.into(), 0, Seq::MAX, 10)
            .await
            .unwrap();
        assert_eq!(entries.len(), 2);
        check_stream(&entries);
    }
}

pub(crate) async fn unknown_outcomes_have_one_effect(store: Arc<dyn Store>) {
    let world = World::new(store, &[]).await;
    for landed in [0, 1] {
        let faults = Faults::on_append([Fault::Uncertain(landed), Fault::Uncertain(landed)]);
        let log = world.process_with(&faults);
        let text = format!("landed {landed}");
        let committed = world.send(&log, world.owner, &text).await.unwrap();
        assert!(!committed.replayed, "its own entry is no replay");
        let entries = world.channel_entries().await;
        check_stream(&entries);
        assert_eq!(
            texts(&entries)
                .iter()
                .filter(|found| **found == text)
                .count(),
            1
        );
        assert_eq!(
            entries[usize::try_from(committed.entry.seq).unwrap() - 1],
            committed.entry
        );
    }
}

pub(crate) async fn what_may_still_land_is_never_refused(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let world = Arc::new(World::new(store, &[user]).await);
    let gate = Gate::new();
    let faults = Faults::on_append([Fault::UncertainAfter(gate.clone())]);
    let log = world.process_with(&faults);
    let sent = {
        let (world, log) = (world.clone(), log.clone());
        tokio::spawn(async move { world.send(&log, user, "perhaps").await })
    };
    gate.reached().await;
    world
        .change_group(&world.log, Change::MemberRemoved { user })
        .await
        .unwrap();
    gate.open();
    let outcome = sent.await.unwrap();
    assert!(
        matches!(outcome, Err(AppendError::Unavailable)),
        "{outcome:?}"
    );
}

pub(crate) async fn what_may_still_land_is_refused_to_no_copy_of_it(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let world = Arc::new(World::new(store, &[user]).await);
    let (held, doubtful) = (Gate::new(), Gate::new());
    let faults = [
        Fault::Pause(held.clone()),
        Fault::UncertainAfter(doubtful.clone()),
    ];
    let log = world.process_with(&Faults::on_append(faults));
    let held_up = spawn_send(&world, &log, Key::unique(), "held up");
    held.reached().await;
    let key = Key::unique();
    let copies: Vec<_> = (0..3)
        .map(|_| {
            let (world, log) = (world.clone(), log.clone());
            tokio::spawn(async move { world.send_with(&log, user, key, "perhaps").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    held.open();
    held_up.await.unwrap().unwrap();
    doubtful.reached().await;
    world
        .change_group(&world.log, Change::MemberRemoved { user })
        .await
        .unwrap();
    doubtful.open();
    for copy in copies {
        let outcome = copy.await.unwrap();
        assert!(
            matches!(outcome, Err(AppendError::Unavailable)),
            "{outcome:?}"
        );
    }
}

pub(crate) async fn a_landed_prefix_is_kept_and_the_rest_is_appended(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    let gate = Gate::new();
    // The first append holds the stream up while the others gather into one batch.
    let faults = Faults::on_append([Fault::Pause(gate.clone()), Fault::Uncertain(3)]);
    let log = world.process_with(&faults);
    let mut sends = Vec::new();
    for index in 0..8 {
        sends.push(spawn_send(&world, &log, Key::unique(), &index.to_string()));
        if index == 0 {
            gate.reached().await;
        }
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open();
    for send in sends {
        let committed = send.await.unwrap().unwrap();
        assert!(!committed.replayed);
    }
    let entries = world.channel_entries().await;
    check_stream(&entries);
    let stored: BTreeSet<_> = texts(&entries).into_iter().collect();
    assert_eq!((entries.len(), stored.len()), (8, 8));
}

fn spawn_send(
    world: &Arc<World>,
    log: &Log,
    key: Key,
    text: &str,
) -> tokio::task::JoinHandle<super::testing::Outcome> {
    let (world, log, text) = (world.clone(), log.clone(), text.to_owned());
    tokio::spawn(async move { world.send_with(&log, world.owner, key, &text).await })
}

pub(crate) async fn a_replay_in_mid_batch_gets_the_first_entry(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    let key = Key::unique();
    let first = world
        .send_with(&world.log, world.owner, key, "first")
        .await
        .unwrap();
    let gate = Gate::new();
    let log = world.process_with(&Faults::on_append([Fault::Pause(gate.clone())]));
    let held_up = spawn_send(&world, &log, Key::unique(), "held up");
    gate.reached().await;
    let before = spawn_send(&world, &log, Key::unique(), "before");
    let replay = spawn_send(&world, &log, key, "first");
    let behind = spawn_send(&world, &log, Key::unique(), "behind");
    gate.open();
    let replay = replay.await.unwrap().unwrap();
    assert!(replay.replayed);
    assert_eq!(replay.entry, first.entry);
    for other in [held_up, before, behind] {
        assert!(!other.await.unwrap().unwrap().replayed);
    }
    let entries = world.channel_entries().await;
    check_stream(&entries);
    assert_eq!(entries.len(), 4);
}

pub(crate) async fn fifty_copies_at_once_are_one_message(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    let processes = [world.process(), world.process(), world.process()];
    let key = Key::unique();
    let copies: Vec<_> = (0..50)
        .map(|copy| spawn_send(&world, &processes[copy % 3], key, "once"))
        .collect();
    let mut firsts = 0;
    for copy in copies {
        let committed = copy.await.unwrap().unwrap();
        assert_eq!(committed.entry.seq, 1);
        firsts += u32::from(!committed.replayed);
    }
    assert_eq!(firsts, 1);
    assert_eq!(world.channel_entries().await.len(), 1);
}

pub(crate) async fn copies_that_wait_are_answered_together(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    let gate = Gate::new();
    let faults = Faults::on_append([Fault::Pause(gate.clone())]);
    let log = world.process_with(&faults);
    let (ours, theirs) = (Key::unique(), Key::unique());
    let held_up = spawn_send(&world, &log, Key::unique(), "held up");
    gate.reached().await;
    // One is new, the other came in by another process.
    let first = world.send_with(&world.log, world.owner, theirs, "theirs");
    let first = first.await.unwrap();
    let send = |key, text| (0..50).map(move |_| (key, text));
    let copies = send(ours, "ours").chain(send(theirs, "theirs"));
    let copies: Vec<_> = copies
        .map(|(key, text)| spawn_send(&world, &log, key, text))
        .collect();
    let other_body = spawn_send(&world, &log, ours, "not ours");
    tokio::time::sleep(Duration::from_millis(200)).await;
    gate.open();
    held_up.await.unwrap().unwrap();
    let mut seqs = BTreeMap::new();
    for copy in copies {
        let committed = copy.await.unwrap().unwrap();
        let replays: &mut Vec<bool> = seqs.entry(committed.entry.seq).or_default();
        replays.push(committed.replayed);
    }
    let firsts = |replays: &Vec<bool>| replays.iter().filter(|replayed| !**replayed).count();
    let expected = [(first.entry.seq, 0), (3, 1)];
    let found: Vec<_> = seqs.iter().map(|(seq, all)| (*seq, firsts(all))).collect();
    assert_eq!(found, expected);
    let other_body = other_body.await.unwrap();
    assert!(matches!(other_body, Err(AppendError::KeyReused)));
    assert_eq!(world.channel_entries().await.len(), 3);
    // The held-up one loses its place, then both kinds go together; with room for a bad start.
    let (appends, finds) = faults.calls();
    assert!(appends + finds <= 12, "{appends} and {finds} for 102 sends");
}

pub(crate) async fn copies_of_a_group_change_are_completed_once(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let world = Arc::new(World::new(store, &[user]).await);
    let gate = Gate::new();
    let faults = Faults::on_append([Fault::Pause(gate.clone())]);
    let log = world.process_with(&faults);
    let key = Key::unique();
    let remove = || {
        let (world, log) = (world.clone(), log.clone());
        let removal = Always(Change::MemberRemoved { user }, true);
        tokio::spawn(async move { append(&log, world.group, world.owner, key, removal).await })
    };
    let first = remove();
    gate.reached().await;
    let copies: Vec<_> = (0..30).map(|_| remove()).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    gate.open();
    let first = first.await.unwrap().unwrap();
    assert!(!first.replayed);
    for copy in copies {
        let copy = copy.await.unwrap().unwrap();
        assert!(copy.replayed);
        assert_eq!(copy.entry, first.entry);
    }
    // The removal and its fence; once more for copies that came too late for the first round.
    let (appends, finds) = faults.calls();
    assert!(
        appends <= 3 && finds <= 3,
        "{appends} appends, {finds} look-ups"
    );
}

pub(crate) async fn what_was_completed_before_is_only_looked_up(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let world = World::new(store, &[user]).await;
    let removed = world.change_group(&world.log, Change::MemberRemoved { user });
    let entry = removed.await.unwrap().entry;
    let faults = Faults::default();
    let unfinished = Unfinished {
        entry,
        announce: true,
        span: Span::none(),
    };
    let finished = world.process_with(&faults).finish(&[unfinished]).await;
    assert!(finished[0].is_ok(), "{finished:?}");
    // Its fence is there.
    assert_eq!(faults.calls(), (0, 1));
}

pub(crate) async fn the_same_key_with_another_body_is_refused(store: Arc<dyn Store>) {
    let world = World::new(store, &[]).await;
    let key = Key::unique();
    world
        .send_with(&world.log, world.owner, key, "one")
        .await
        .unwrap();
    let other = world.send_with(&world.log, world.owner, key, "two").await;
    assert!(matches!(other, Err(AppendError::KeyReused)), "{other:?}");
    assert_eq!(world.channel_entries().await.len(), 1);
}

pub(crate) async fn a_replay_is_answered_though_a_rule_would_refuse_it_now(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let world = World::new(store, &[user]).await;
    let key = Key::unique();
    let first = world
        .send_with(&world.log, user, key, "mine")
        .await
        .unwrap();
    world
        .change_group(&world.log, Change::MemberRemoved { user })
        .await
        .unwrap();
    for log in [&world.log, &world.process()] {
        let replay = world.send_with(log, user, key, "mine").await.unwrap();
        assert!(replay.replayed);
        assert_eq!(replay.entry, first.entry);
        refused(&world.send(log, user, "more").await);
    }
}

pub(crate) async fn a_repetition_of_what_was_refused_is_decided_anew(store: Arc<dyn Store>) {
    let (user, role) = (UserId::generate(), Role::Member);
    let world = World::new(store, &[]).await;
    let key = Key::unique();
    refused(&world.send_with(&world.log, user, key, "mine").await);
    let added = Change::member_added(user, role);
    world.change_group(&world.log, added).await.unwrap();
    let sent = world.send_with(&world.log, user, key, "mine").await;
    assert!(!sent.unwrap().replayed);
    assert_eq!(texts(&world.channel_entries().await), ["mine"]);
}

/// A creation: only as the first entry is it valid.
struct First;

#[async_trait::async_trait]
impl Proposal for First {
    fn reads_state(&self) -> bool {
        false
    }

    async fn validate(&self, head: Head) -> Result<Draft, NotValid> {
        if head.seq > 0 {
            return Err(Refusal::NotFound.into());
        }
        let display_name = "first".to_owned();
        let change = Change::UserUpdated { display_name };
        Ok(Draft { change, gv: 0 })
    }
}

pub(crate) async fn a_repetition_that_is_refused_in_mid_batch_gets_the_first_entry(
    store: Arc<dyn Store>,
) {
    let world = World::new(store, &[]).await;
    let (user, key) = (UserId::generate(), Key::unique());
    let copies = (0..8).map(|_| append(&world.log, user, user, key, First));
    let outcomes = futures_util::future::join_all(copies).await;
    let mut firsts = 0;
    for outcome in outcomes {
        let committed = outcome.unwrap();
        assert_eq!(committed.entry.seq, 1);
        firsts += u32::from(!committed.replayed);
    }
    assert_eq!(firsts, 1);
}

fn refused(outcome: &super::testing::Outcome) {
    assert!(
        matches!(outcome, Err(AppendError::Refused(Refusal::NotFound))),
        "{outcome:?}"
    );
}

pub(crate) async fn a_stream_trimmed_to_its_last_entry_goes_on(store: Arc<dyn Store>) {
    let world = World::new(store, &[]).await;
    let user = UserId::generate();
    for name in ["a", "b", "c"] {
        rename(&world.log, user, name).await;
    }
    eventually("settling", async || {
        world
            .store
            .pending_in(user.into(), 0, 10)
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    world.store.trim(user.into(), Seq::MAX).await.unwrap();
    assert_eq!(
        world
            .store
            .entries(user.into(), 0, Seq::MAX, 10)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(rename(&world.process(), user, "d").await, 4);
}

async fn rename(log: &Log, user: UserId, name: &str) -> Seq {
    let change = Change::UserUpdated {
        display_name: name.to_owned(),
    };
    let committed = append(log, user, user, Key::unique(), Always(change, true)).await;
    committed.unwrap().entry.seq
}

pub(crate) async fn a_remembered_head_outlives_a_trim(store: Arc<dyn Store>) {
    let world = World::new(store, &[]).await;
    let user = UserId::generate();
    assert_eq!(rename(&world.log, user, "a").await, 1);
    assert_eq!(rename(&world.log, user, "b").await, 2);
    world.store.trim(user.into(), Seq::MAX).await.unwrap();
    assert_eq!(rename(&world.log, user, "c").await, 3);
}

pub(crate) async fn an_abandoned_append_is_done_once(store: Arc<dyn Store>) {
    let world = World::new(store, &[]).await;
    let gate = Gate::new();
    let log = world.process_with(&Faults::on_append([Fault::Pause(gate.clone())]));
    let key = Key::unique();
    {
        let send = world.send_with(&log, world.owner, key, "abandoned");
        tokio::pin!(send);
        tokio::select! {
            _ = &mut send => panic!("it is held up"),
            () = gate.reached() => {}
        }
    }
    gate.open();
    let replay = world
        .send_with(&log, world.owner, key, "abandoned")
        .await
        .unwrap();
    assert!(replay.replayed);
    assert_eq!(world.channel_entries().await.len(), 1);
}

fn reaction(emoji: &str) -> Change {
    Change::ReactionAdded {
        message: 1,
        now: ReactionCount::nobody(emoji),
    }
}

fn edit(text: &str) -> Change {
    Change::MessageEdited {
        message: 1,
        content: Some(text.to_owned()),
        mentions: Mentions::default(),
        edited_at: Timestamp::from_millis(1),
    }
}

pub(crate) async fn reactions_from_two_processes_both_count(store: Arc<dyn Store>) {
    let users = [UserId::generate(), UserId::generate()];
    for faulty in ["append", "apply"] {
        let world = Arc::new(World::new(store.clone(), &users).await);
        world.send(&world.log, world.owner, "hello").await.unwrap();
        let gate = Gate::new();
        let pause = [Fault::Pause(gate.clone())];
        let faults = match faulty {
            "append" => Faults::on_append(pause),
            _ => Faults::on_apply(pause),
        };
        let slow = world.process_with(&faults);
        let first = {
            let world = world.clone();
            tokio::spawn(async move { world.touch(&slow, users[0], reaction("👍")).await })
        };
        gate.reached().await;
        world
            .touch(&world.log, users[1], reaction("👍"))
            .await
            .unwrap();
        gate.open();
        first.await.unwrap().unwrap();
        let reactions = world.message(1).await.state.reactions;
        assert_eq!(reactions.len(), 1, "{faulty}");
        assert_eq!(reactions[0].count, 2, "{faulty}");
        check_stream(&world.channel_entries().await);
    }
}

pub(crate) async fn an_edit_that_was_overtaken_by_a_deletion_is_refused(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    world.send(&world.log, world.owner, "hello").await.unwrap();
    let gate = Gate::new();
    let slow = world.process_with(&Faults::on_append([Fault::Pause(gate.clone())]));
    let edited = {
        let world = world.clone();
        tokio::spawn(async move { world.touch(&slow, world.owner, edit("secret")).await })
    };
    gate.reached().await;
    let deletion = Change::MessageDeleted { message: 1 };
    world
        .touch(&world.log, world.owner, deletion)
        .await
        .unwrap();
    gate.open();
    refused(&edited.await.unwrap());
    let message = world.message(1).await;
    assert!(message.state.deleted && message.state.content.is_empty());
}

pub(crate) async fn an_edit_applied_after_a_deletion_brings_nothing_back(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    world.send(&world.log, world.owner, "hello").await.unwrap();
    let gate = Gate::new();
    let slow = world.process_with(&Faults::on_apply([Fault::Pause(gate.clone())]));
    let edited = {
        let world = world.clone();
        tokio::spawn(async move { world.touch(&slow, world.owner, edit("secret")).await })
    };
    gate.reached().await;
    let deletion = Change::MessageDeleted { message: 1 };
    world
        .touch(&world.log, world.owner, deletion)
        .await
        .unwrap();
    gate.open();
    edited.await.unwrap().unwrap();
    let message = world.message(1).await;
    assert!(message.state.deleted && message.state.content.is_empty());
    let entries = world.channel_entries().await;
    check_stream(&entries);
    assert!(!format!("{entries:?}").contains("secret"), "a copy is left");
}

pub(crate) async fn an_addition_applied_late_does_not_undo_a_removal(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let world = Arc::new(World::new(store, &[]).await);
    // Otherwise the call that is held up might be another application of the creation.
    settled(&world).await;
    let gate = Gate::new();
    let slow = world.process_with(&Faults::on_apply([Fault::Pause(gate.clone())]));
    let added = {
        let world = world.clone();
        let role = Role::Member;
        let change = Change::member_added(user, role);
        tokio::spawn(async move { world.change_group(&slow, change).await })
    };
    gate.reached().await;
    // The remover sees the addition, though the process that committed it has not applied it.
    assert!(
        world
            .log
            .groups()
            .fresh(world.group)
            .await
            .unwrap()
            .unwrap()
            .members
            .contains_key(&user)
    );
    world
        .change_group(&world.log, Change::MemberRemoved { user })
        .await
        .unwrap();
    gate.open();
    added.await.unwrap().unwrap();
    assert_eq!(
        world.store.membership(user, world.group).await.unwrap(),
        None
    );
    let membership = world
        .store
        .membership(world.owner, world.group)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(membership.size.members, 1);
}

pub(crate) async fn a_message_numbered_after_a_removal_is_checked_again(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let world = Arc::new(World::new(store, &[user]).await);
    let gate = Gate::new();
    let slow = world.process_with(&Faults::on_append([Fault::Pause(gate.clone())]));
    let sent = {
        let world = world.clone();
        tokio::spawn(async move { world.send(&slow, user, "too late").await })
    };
    gate.reached().await;
    world
        .change_group(&world.log, Change::MemberRemoved { user })
        .await
        .unwrap();
    gate.open();
    refused(&sent.await.unwrap());
    assert!(texts(&world.channel_entries().await).is_empty());
}

pub(crate) async fn nothing_of_the_removed_follows_an_acknowledged_removal(store: Arc<dyn Store>) {
    for round in 0..20 {
        let user = UserId::generate();
        let world = Arc::new(World::new(store.clone(), &[user]).await);
        let other = world.process();
        // Both processes hold the group in their caches.
        world.send(&other, user, "before").await.unwrap();
        let sender = {
            let (world, other) = (world.clone(), other.clone());
            tokio::spawn(async move {
                while world.send(&other, user, "by the removed").await.is_ok() {}
            })
        };
        tokio::time::sleep(Duration::from_millis(round % 7)).await;
        world
            .change_group(&world.log, Change::MemberRemoved { user })
            .await
            .unwrap();
        let removed_at = world.store.head(world.channel.into()).await.unwrap().seq;
        sender.await.unwrap();
        world.send(&other, world.owner, "after").await.unwrap();
        let entries = world.channel_entries().await;
        check_stream(&entries);
        let late = entries.iter().filter(|entry| entry.seq > removed_at);
        assert!(
            late.clone().all(|entry| entry.actor != Some(user)),
            "round {round}"
        );
        let last = entries.last().unwrap().seq;
        eventually("announcing", async || {
            let envelopes = world.bus.published(world.channel.into());
            envelopes
                .iter()
                .any(|envelope| envelope.position.unwrap().1 == last)
        })
        .await;
        for envelope in world.bus.published(world.channel.into()) {
            let late = envelope.position.unwrap().1 > removed_at;
            assert!(
                !(late && recipients(&envelope.to).contains(&user)),
                "round {round}"
            );
        }
    }
}

fn recipients(to: &Recipients) -> &[UserId] {
    match to {
        Recipients::Users(users) => users,
        Recipients::Group(_) | Recipients::Watchers(_) => panic!("the group is small"),
    }
}

pub(crate) async fn the_newly_added_get_what_follows_and_nothing_before(store: Arc<dyn Store>) {
    let user = UserId::generate();
    let world = World::new(store, &[]).await;
    let other = world.process();
    world.send(&other, world.owner, "before").await.unwrap();
    let role = Role::Member;
    world
        .change_group(&world.log, Change::member_added(user, role))
        .await
        .unwrap();
    let after = world.send(&other, world.owner, "after").await.unwrap();
    eventually("announcing", async || {
        world.bus.published(world.channel.into()).len() == 3
    })
    .await;
    for envelope in world.bus.published(world.channel.into()) {
        let seq = envelope.position.unwrap().1;
        assert!(recipients(&envelope.to).contains(&world.owner));
        assert_eq!(
            recipients(&envelope.to).contains(&user),
            seq > 1,
            "at {seq}"
        );
    }
    assert_eq!(after.entry.seq, 3, "the fence is between the two");
    let own = world.bus.published(world.group.into());
    assert!(recipients(&own.last().unwrap().to).contains(&user));
}

/// In a channel that is younger than the change as well.
pub(crate) async fn a_change_completed_late_reaches_those_who_came_since(store: Arc<dyn Store>) {
    let [one, two] = [(); 2].map(|()| UserId::generate());
    let world = World::new(store, &[]).await;
    let add = |user| Change::member_added(user, Role::Member);
    let early = world.change_group(&world.log, add(one)).await.unwrap();
    world.change_group(&world.log, add(two)).await.unwrap();
    let channel = ChannelId::generate();
    let created = Change::ChannelCreated {
        channel,
        name: "new".to_owned(),
    };
    world.change_group(&world.log, created).await.unwrap();
    let unfinished = Unfinished {
        entry: early.entry,
        announce: true,
        span: Span::none(),
    };
    for outcome in world.log.finish(&[unfinished]).await {
        outcome.unwrap();
    }
    eventually("announcing", async || {
        !world.bus.published(channel.into()).is_empty()
    })
    .await;
    for envelope in world.bus.published(channel.into()) {
        assert!(recipients(&envelope.to).contains(&two));
    }
}

pub(crate) async fn the_order_of_an_entry_counts_messages(store: Arc<dyn Store>) {
    let world = World::new(store, &[]).await;
    world.send(&world.log, world.owner, "one").await.unwrap();
    world
        .touch(&world.log, world.owner, reaction("👍"))
        .await
        .unwrap();
    let last = world
        .send(&world.process(), world.owner, "two")
        .await
        .unwrap();
    assert_eq!((last.entry.seq, last.entry.ord), (3, 2));
    assert_eq!(
        world.store.head(world.channel.into()).await.unwrap(),
        last.entry.head()
    );
}

pub(crate) async fn an_ended_session_is_known_everywhere(store: Arc<dyn Store>) {
    let world = World::new(store, &[]).await;
    let tasks = crate::tasks::Tasks::new(tokio_util::sync::CancellationToken::new());
    let follow = || {
        let (store, bus) = (world.store.clone(), world.bus.clone());
        let ttl = Duration::from_secs(900);
        Revocations::start(store, bus, Arc::new(SystemClock), ttl, &tasks)
    };
    let running = follow().await.unwrap();
    let (user, session) = (UserId::generate(), SessionId::generate());
    let device_name = "laptop".to_owned();
    let login = Change::SessionCreated {
        session,
        device_name,
    };
    append(&world.log, user, user, Key::unique(), Always(login, false))
        .await
        .unwrap();
    let logout = Change::SessionRevoked { session };
    append(&world.log, user, user, Key::unique(), Always(logout, true))
        .await
        .unwrap();
    // No hint comes over this bus: the stream is read every 3 s all the same.
    eventually("hearing of it", async || running.is_ended(session)).await;
    assert!(follow().await.unwrap().is_ended(session));
    assert!(!running.is_ended(SessionId::generate()));
    assert!(world.store.session(session).await.unwrap().unwrap().revoked);
}

pub(crate) async fn what_is_announced_is_settled(store: Arc<dyn Store>) {
    let world = World::new(store, &[]).await;
    for text in ["one", "two", "three"] {
        world.send(&world.log, world.owner, text).await.unwrap();
    }
    settled(&world).await;
    let published = world.bus.published(world.channel.into());
    let seqs: Vec<_> = published
        .iter()
        .map(|envelope| envelope.position.unwrap().1)
        .collect();
    assert_eq!(seqs, [1, 2, 3]);
}

pub(crate) async fn edits_are_announced_with_the_content_of_the_message(store: Arc<dyn Store>) {
    let world = World::new(store, &[]).await;
    world.send(&world.log, world.owner, "hello").await.unwrap();
    world
        .touch(&world.log, world.owner, edit("goodbye"))
        .await
        .unwrap();
    eventually("announcing", async || {
        world.bus.published(world.channel.into()).len() == 2
    })
    .await;
    let edit = world.bus.published(world.channel.into()).remove(1);
    assert!(
        std::str::from_utf8(&edit.body)
            .unwrap()
            .contains(r#""content":"goodbye""#)
    );
    let stored = world.channel_entries().await.remove(1);
    assert!(
        matches!(stored.change, Change::MessageEdited { content: None, .. }),
        "the content stands in one place"
    );
}

/// An edit that is committed and that nobody has applied, since `hold` is closed.
async fn edit_in_between(world: &Arc<World>, hold: &Gate) -> tokio::task::JoinHandle<()> {
    world.send(&world.log, world.owner, "hello").await.unwrap();
    let slow = world.process_with(&Faults::on_apply([Fault::Pause(hold.clone())]));
    let editing = world.clone();
    let edited = tokio::spawn(async move {
        let goodbye = edit("goodbye");
        editing.touch(&slow, editing.owner, goodbye).await.unwrap();
    });
    hold.reached().await;
    edited
}

pub(crate) async fn an_edit_not_yet_applied_reads_as_the_edit(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store.clone(), &[]).await);
    let hold = Gate::new();
    let edited = edit_in_between(&world, &hold).await;
    let mut entries = world.channel_entries().await;
    super::fill_in(store.as_ref(), &mut entries).await.unwrap();
    let content = |entry: &Entry| match &entry.change {
        Change::MessageEdited { content, .. } => content.clone(),
        _ => None,
    };
    assert_eq!(content(&entries[1]).as_deref(), Some("goodbye"));
    hold.open();
    edited.await.unwrap();
}

pub(crate) async fn state_can_be_brought_up_to_a_position(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store.clone(), &[]).await);
    let hold = Gate::new();
    let edited = edit_in_between(&world, &hold).await;
    assert_eq!(world.message(1).await.state.content, "hello");
    let position = (world.channel.into(), 2);
    let reader = world.process();
    reader.applied().reach_all([position]).await.unwrap();
    assert_eq!(world.message(1).await.state.content, "goodbye");
    hold.open();
    edited.await.unwrap();
    assert_eq!(world.message(1).await.state.content, "goodbye");
}

/// As long as it is pending, that is while the broker is away.
pub(crate) async fn what_a_process_has_applied_it_does_not_apply_again(store: Arc<dyn Store>) {
    const CHANGES: u64 = 3;
    let world = World::new(store.clone(), &[]).await;
    let stream = StreamId::Group(world.group);
    for seq in 2..2 + CHANGES {
        let renamed = Entry {
            id: EntryId::generate(),
            stream,
            seq,
            at: crate::clock::Clock::now(&SystemClock),
            actor: Some(world.owner),
            key: Key::unique(),
            request: None,
            gv: 0,
            ord: 0,
            change: Change::GroupUpdated {
                name: Some(seq.to_string()),
                lease: None,
            },
        };
        store.append(vec![renamed]).await.unwrap();
    }
    let gate = Gate::new();
    let faults = Faults::on_apply((0..99).map(|_| Fault::Pause(gate.clone())));
    (0..99).for_each(|_| gate.open());
    let left = || faults.apply.lock().unwrap().len();
    let log = world.process_with(&faults);
    let position = (stream, 1 + CHANGES);
    log.applied().reach_all([position]).await.unwrap();
    let after_first = left();
    assert!(after_first < 99);
    log.applied().reach_all([position]).await.unwrap();
    assert_eq!(left(), after_first);
    let group = store.group(world.group).await.unwrap().unwrap();
    assert_eq!(group.applied, 1 + CHANGES);
}

pub(crate) async fn a_full_queue_refuses_and_recovers(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    let gate = Gate::new();
    let log = world.process_with(&Faults::on_append([Fault::Pause(gate.clone())]));
    let held_up = spawn_send(&world, &log, Key::unique(), "held up");
    gate.reached().await;
    let sends: Vec<_> = (0..300)
        .map(|index| spawn_send(&world, &log, Key::unique(), &index.to_string()))
        .collect();
    eventually("refusing", async || {
        sends.iter().filter(|send| send.is_finished()).count() >= 300 - 256
    })
    .await;
    gate.open();
    held_up.await.unwrap().unwrap();
    let mut sent = 0;
    for send in sends {
        match send.await.unwrap() {
            Ok(_) => sent += 1,
            Err(error) => assert!(matches!(error, AppendError::Unavailable)),
        }
    }
    assert_eq!(sent, 256);
    assert_eq!(world.channel_entries().await.len(), 257);
}

pub(crate) async fn stopping_finishes_what_was_begun(store: Arc<dyn Store>) {
    let world = Arc::new(World::new(store, &[]).await);
    let gate = Gate::new();
    let log = world.process_with(&Faults::on_append([Fault::Pause(gate.clone())]));
    let begun = spawn_send(&world, &log, Key::unique(), "begun");
    gate.reached().await;
    let stopping = log.stop();
    tokio::pin!(stopping);
    tokio::select! {
        biased;
        () = &mut stopping => panic!("an append is under way"),
        () = std::future::ready(()) => {}
    }
    let late = world.send(&log, world.owner, "late").await;
    assert!(matches!(late, Err(AppendError::Unavailable)), "{late:?}");
    gate.open();
    stopping.await;
    begun.await.unwrap().unwrap();
    assert_eq!(
        world.bus.published(world.channel.into()).len(),
        1,
        "announced before it stopped"
    );
    assert_eq!(world.channel_entries().await.len(), 1);
}
