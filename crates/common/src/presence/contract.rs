//! What every presence store must do: the sentences of the traits' documentation, each with
//! its test. An implementation says `presence_contract!(fresh_presence);`, with
//! `async fn fresh_presence() -> Arc<dyn Presence>`.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{MAX_STREAMS, Presence};
use crate::domain::{ChannelId, Cursor, SessionId, StreamId, UserId};

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
