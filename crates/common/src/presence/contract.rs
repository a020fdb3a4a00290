//! What every presence store must do: the sentences of the traits' documentation, each with
//! its test. An implementation says `presence_contract!(fresh_presence);`, with
//! `async fn fresh_presence() -> Arc<dyn Presence>`.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Claim, Grant, Holding, MAX_STREAMS, Presence};
use crate::domain::{ChannelId, Cursor, GroupId, SessionId, StreamId, Timestamp, UserId};

macro_rules! presence_contract {
    ($fresh:path) => {
        $crate::presence::contract::presence_contract! {
            @each $fresh:
            a_ticket_is_redeemed_once,
            tickets_are_told_apart,
            of_concurrent_callers_one_redeems,
            an_unknown_session_has_acknowledged_nothing,
            positions_rise_and_never_fall,
            large_positions_are_told_apart,
            positions_rise_though_calls_overlap,
            a_session_cannot_make_it_remember_any_number_of_streams,
            sessions_are_told_apart,
            a_lease_has_one_holder_who_renews_it,
            of_concurrent_claimants_one_gets_a_lease,
            a_lease_is_given_back_by_its_holder_alone,
            a_lease_can_be_taken_from_its_holder,
            a_lease_ends_unless_it_is_renewed,
        }
    };
    (@each $fresh:path: $($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                if let Some(presence) = $fresh().await {
                    $crate::presence::contract::$name(presence).await;
                }
            }
        )*
    };
}
pub(super) use presence_contract;

const LIFETIME: Duration = Duration::from_secs(30);

pub(super) async fn a_ticket_is_redeemed_once(presence: Arc<dyn Presence>) {
    let ticket = Uuid::now_v7();
    assert!(presence.redeem(ticket, LIFETIME).await.unwrap());
    assert!(!presence.redeem(ticket, LIFETIME).await.unwrap());
    assert!(!presence.redeem(ticket, LIFETIME).await.unwrap());
}

pub(super) async fn tickets_are_told_apart(presence: Arc<dyn Presence>) {
    assert!(presence.redeem(Uuid::now_v7(), LIFETIME).await.unwrap());
    assert!(presence.redeem(Uuid::now_v7(), LIFETIME).await.unwrap());
}

pub(super) async fn of_concurrent_callers_one_redeems(presence: Arc<dyn Presence>) {
    let ticket = Uuid::now_v7();
    let calls = (0..16).map(|_| presence.redeem(ticket, LIFETIME));
    let answers = futures_util::future::join_all(calls).await;
    let redeemed = answers
        .into_iter()
        .filter(|answer| *answer.as_ref().unwrap());
    assert_eq!(redeemed.count(), 1);
}

pub(super) async fn an_unknown_session_has_acknowledged_nothing(presence: Arc<dyn Presence>) {
    let nothing = presence.acknowledged(SessionId::generate()).await.unwrap();
    assert_eq!(nothing, Cursor::new());
}

pub(super) async fn positions_rise_and_never_fall(presence: Arc<dyn Presence>) {
    let session = SessionId::generate();
    let first = StreamId::User(UserId::generate());
    let second = StreamId::Channel(ChannelId::generate());
    for cursor in [
        Cursor::from([(first, 4)]),
        Cursor::from([(first, 2), (second, 9)]),
        Cursor::from([(first, 5)]),
        Cursor::new(),
    ] {
        presence.record(session, &cursor).await.unwrap();
    }
    assert_eq!(
        presence.acknowledged(session).await.unwrap(),
        Cursor::from([(first, 5), (second, 9)])
    );
}

/// A client may claim any position.
pub(super) async fn large_positions_are_told_apart(presence: Arc<dyn Presence>) {
    let session = SessionId::generate();
    let stream = StreamId::User(UserId::generate());
    for seq in [u64::MAX - 2, u64::MAX - 1, 9, u64::MAX - 3] {
        let cursor = Cursor::from([(stream, seq)]);
        presence.record(session, &cursor).await.unwrap();
    }
    let known = presence.acknowledged(session).await.unwrap();
    assert_eq!(known[&stream], u64::MAX - 1);
}

pub(super) async fn positions_rise_though_calls_overlap(presence: Arc<dyn Presence>) {
    let session = SessionId::generate();
    let stream = StreamId::User(UserId::generate());
    let cursors: Vec<Cursor> = (1..=64).map(|seq| Cursor::from([(stream, seq)])).collect();
    let calls = cursors
        .iter()
        .map(|cursor| presence.record(session, cursor));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    assert_eq!(presence.acknowledged(session).await.unwrap()[&stream], 64);
}

pub(super) async fn a_session_cannot_make_it_remember_any_number_of_streams(
    presence: Arc<dyn Presence>,
) {
    let session = SessionId::generate();
    let streams = std::iter::repeat_with(|| (StreamId::User(UserId::generate()), 1));
    let many: Cursor = streams.take(MAX_STREAMS + 10).collect();
    presence.record(session, &many).await.unwrap();
    let kept = presence.acknowledged(session).await.unwrap();
    assert_eq!(kept.len(), MAX_STREAMS);
    // Those that are known still rise.
    let (known, _) = kept.first_key_value().unwrap();
    let higher = Cursor::from([(*known, 2)]);
    presence.record(session, &higher).await.unwrap();
    assert_eq!(presence.acknowledged(session).await.unwrap()[known], 2);
}

pub(super) async fn sessions_are_told_apart(presence: Arc<dyn Presence>) {
    let (one, other) = (SessionId::generate(), SessionId::generate());
    let stream = StreamId::User(UserId::generate());
    presence
        .record(one, &Cursor::from([(stream, 4)]))
        .await
        .unwrap();
    presence
        .record(other, &Cursor::from([(stream, 2)]))
        .await
        .unwrap();
    assert_eq!(presence.acknowledged(one).await.unwrap()[&stream], 4);
    assert_eq!(presence.acknowledged(other).await.unwrap()[&stream], 2);
}

fn claim(millis: i64) -> Claim {
    Claim {
        session: SessionId::generate(),
        user: UserId::generate(),
        now: Timestamp::from_millis(millis),
    }
}

fn a_group() -> StreamId {
    StreamId::Group(GroupId::generate())
}

/// What is held, without the time that is left, which must be a lease's.
fn held(holding: Option<Holding>) -> Option<Claim> {
    let holding = holding?;
    assert!(holding.rest <= LIFETIME && holding.rest > LIFETIME / 2);
    Some(Claim {
        session: holding.session,
        user: holding.user,
        now: holding.since,
    })
}

fn refused(grant: Grant) -> Option<Claim> {
    match grant {
        Grant::Refused(holding) => held(Some(holding)),
        Grant::New | Grant::Renewed => None,
    }
}

pub(super) async fn a_lease_has_one_holder_who_renews_it(presence: Arc<dyn Presence>) {
    let (group, other_group) = (a_group(), a_group());
    let (ada, bob) = (claim(1_000), claim(2_000));
    let take = async |stream, claim| presence.take(stream, claim, LIFETIME, false).await.unwrap();
    assert_eq!(presence.holding(group).await.unwrap(), None);
    assert_eq!(take(group, ada).await, Grant::New);
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(ada));
    assert_eq!(refused(take(group, bob).await), Some(ada));
    // A renewal keeps when it began.
    let later = Claim {
        now: Timestamp::from_millis(9_000),
        ..ada
    };
    assert_eq!(take(group, later).await, Grant::Renewed);
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(ada));
    // Another session of the same user is somebody else.
    let elsewhere = Claim {
        session: SessionId::generate(),
        ..ada
    };
    assert_eq!(refused(take(group, elsewhere).await), Some(ada));
    assert_eq!(take(other_group, bob).await, Grant::New);
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(ada));
}

pub(super) async fn of_concurrent_claimants_one_gets_a_lease(presence: Arc<dyn Presence>) {
    let group = a_group();
    let calls = (0..16).map(|_| presence.take(group, claim(1), LIFETIME, false));
    let grants = futures_util::future::join_all(calls).await;
    let new = grants
        .into_iter()
        .filter(|grant| *grant.as_ref().unwrap() == Grant::New);
    assert_eq!(new.count(), 1);
}

pub(super) async fn a_lease_is_given_back_by_its_holder_alone(presence: Arc<dyn Presence>) {
    let group = a_group();
    let (ada, bob) = (claim(1), claim(2));
    presence.give_back(group, ada.session).await.unwrap();
    presence.take(group, ada, LIFETIME, false).await.unwrap();
    presence.give_back(group, bob.session).await.unwrap();
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(ada));
    presence.give_back(group, ada.session).await.unwrap();
    assert_eq!(presence.holding(group).await.unwrap(), None);
    let taken = presence.take(group, bob, LIFETIME, false).await.unwrap();
    assert_eq!(taken, Grant::New);
}

pub(super) async fn a_lease_can_be_taken_from_its_holder(presence: Arc<dyn Presence>) {
    let group = a_group();
    let (ada, bob) = (claim(1), claim(2));
    let steal = async |claim| presence.take(group, claim, LIFETIME, true).await.unwrap();
    assert_eq!(steal(ada).await, Grant::New);
    assert_eq!(steal(ada).await, Grant::Renewed);
    assert_eq!(steal(bob).await, Grant::New);
    assert_eq!(held(presence.holding(group).await.unwrap()), Some(bob));
    let renewed = presence.take(group, ada, LIFETIME, false).await.unwrap();
    assert_eq!(refused(renewed), Some(bob));
}

pub(super) async fn a_lease_ends_unless_it_is_renewed(presence: Arc<dyn Presence>) {
    const SHORT: Duration = Duration::from_millis(50);
    let (group, other) = (a_group(), a_group());
    let (ada, bob) = (claim(1), claim(2));
    for stream in [group, other] {
        presence.take(stream, ada, SHORT, false).await.unwrap();
    }
    presence.take(other, ada, LIFETIME, false).await.unwrap();
    let began = std::time::Instant::now();
    while presence.holding(group).await.unwrap().is_some() {
        assert!(began.elapsed() < LIFETIME, "it does not end");
        tokio::time::sleep(SHORT).await;
    }
    let taken = presence.take(group, bob, LIFETIME, false).await.unwrap();
    assert_eq!(taken, Grant::New);
    assert_eq!(held(presence.holding(other).await.unwrap()), Some(ada));
}
