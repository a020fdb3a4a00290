use std::num::NonZeroU16;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidings_common::bus::Recipients;
use tidings_common::domain::{ChannelId, EntryId, StreamId, Timestamp};
use tidings_common::telemetry::Metrics;
use tidings_common::wire::ServerFrame;

use super::*;
use crate::connection::{Mailbox, MailboxLimits, Outgoing};

fn hub(connections: usize, connections_per_user: usize) -> Arc<Hub> {
    let limits = HubLimits {
        connections,
        connections_per_user,
    };
    let metrics = PushMetrics::register(&Metrics::default());
    let partitions = Partitions::new(NonZeroU16::new(8).unwrap(), Duration::from_secs(60));
    Hub::new(limits, metrics, partitions)
}

fn mailbox() -> Arc<Mailbox> {
    let mailbox = Mailbox::new(MailboxLimits {
        bytes: 1000,
        deltas: 10,
    });
    mailbox.open(ServerFrame::Pong);
    assert_eq!(take(&mailbox), Some(Outgoing::Frame(ServerFrame::Pong)));
    Arc::new(mailbox)
}

fn join(hub: &Arc<Hub>, user: UserId) -> (Arc<Mailbox>, (Registration, Place)) {
    let mailbox = mailbox();
    let place = hub.reserve().unwrap();
    let registration = hub
        .register(
            user,
            SessionId::generate(),
            Transport::WebSocket,
            mailbox.clone(),
        )
        .unwrap();
    (mailbox, (registration, place))
}

fn take(mailbox: &Mailbox) -> Option<Outgoing> {
    match mailbox.poll_take(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outgoing) => Some(outgoing),
        Poll::Pending => None,
    }
}

fn envelope() -> Envelope {
    Envelope {
        id: Some(EntryId::generate()),
        position: Some((StreamId::Channel(ChannelId::generate()), 1)),
        at: Timestamp::default(),
        to: Recipients::Users(Vec::new()),
        trace: None,
        body: Bytes::from_static(b"{}"),
    }
}

#[test]
fn a_delta_reaches_every_connection_of_its_recipients_and_no_other() {
    let hub = hub(10, 10);
    let (ada, bob) = (UserId::generate(), UserId::generate());
    let (laptop, _a) = join(&hub, ada);
    let (phone, _b) = join(&hub, ada);
    let (other, _c) = join(&hub, bob);
    hub.dispatch(&[UserId::generate(), ada], &envelope());
    assert!(matches!(take(&laptop), Some(Outgoing::Deltas(deltas)) if deltas.len() == 1));
    assert!(matches!(take(&phone), Some(Outgoing::Deltas(deltas)) if deltas.len() == 1));
    assert_eq!(take(&other), None);
    assert_eq!(hub.metrics.deliveries.get(), 2);
}

#[test]
fn whoever_leaves_is_out_at_once_and_gauges_return_to_zero() {
    let hub = hub(10, 2);
    let user = UserId::generate();
    let (mailbox, registration) = join(&hub, user);
    let (_, second) = join(&hub, user);
    let (_, third) = join(&hub, user);
    assert_eq!(hub.connections(), 3, "one of them is still ending");
    drop((registration, second, third));
    hub.dispatch(&[user], &envelope());
    assert_eq!(mailbox.closing(), Some(Close::Displaced));
    assert_eq!(hub.connections(), 0);
    assert_eq!(hub.metrics.connections.get(), 0);
    assert!(hub.clients().is_empty());
}

#[test]
fn one_too_many_of_a_user_closes_the_oldest() {
    let hub = hub(10, 2);
    let user = UserId::generate();
    let (first, _a) = join(&hub, user);
    let (second, _b) = join(&hub, user);
    let (elsewhere, _c) = join(&hub, UserId::generate());
    let (third, _d) = join(&hub, user);
    assert_eq!(first.closing(), Some(Close::Displaced));
    for stays in [&second, &third, &elsewhere] {
        assert_eq!(stays.closing(), None);
    }
}

#[test]
fn who_comes_anew_is_not_the_oldest() {
    let hub = hub(10, 2);
    let user = UserId::generate();
    let (first, (registration, _place)) = join(&hub, user);
    let (second, _b) = join(&hub, user);
    registration.renew();
    let (third, _c) = join(&hub, user);
    assert_eq!(second.closing(), Some(Close::Displaced));
    for stays in [&first, &third] {
        assert_eq!(stays.closing(), None);
    }
}

#[test]
fn a_full_or_draining_server_takes_nobody() {
    let hub = hub(1, 1);
    let (_, registration) = join(&hub, UserId::generate());
    assert!(hub.is_full());
    assert_eq!(hub.reserve().unwrap_err(), NoPlace::Full);
    drop(registration);
    let place = hub.reserve().unwrap();
    assert!(hub.drain().is_empty());
    assert_eq!(hub.reserve().unwrap_err(), NoPlace::Draining);
    let refused = hub.register(
        UserId::generate(),
        SessionId::generate(),
        Transport::WebSocket,
        mailbox(),
    );
    assert_eq!(refused.unwrap_err(), NoPlace::Draining);
    drop(place);
    assert_eq!(hub.connections(), 0);
}

#[test]
fn ended_sessions_are_closed() {
    let hub = hub(10, 10);
    let user = UserId::generate();
    let (ended, (registration, _place)) = join(&hub, user);
    let (stays, _b) = join(&hub, user);
    let session = registration.client.session;
    hub.end_sessions(|candidate| candidate == session);
    assert_eq!(ended.closing(), Some(Close::SessionRevoked));
    assert_eq!(stays.closing(), None);
}

#[test]
fn resumes_are_spread_at_500_a_second() {
    let hub = hub(2000, 10);
    let members: Vec<_> = (0..1001).map(|_| join(&hub, UserId::generate())).collect();
    hub.resume_all();
    let mut delays: Vec<_> = members
        .iter()
        .map(|(mailbox, _)| match take(mailbox) {
            Some(Outgoing::Frame(ServerFrame::Resume {
                reason: ResumeReason::Missed,
                after_ms,
            })) => after_ms,
            other => panic!("{other:?}"),
        })
        .collect();
    delays.sort_unstable();
    assert_eq!((delays[0], delays[500], delays[1000]), (0, 1000, 2000));
}

#[test]
fn only_those_are_told_to_sync_who_are_named() {
    let hub = hub(10, 10);
    let (ada, bob) = (UserId::generate(), UserId::generate());
    let (named, _a) = join(&hub, ada);
    let (other, _b) = join(&hub, bob);
    hub.resume([UserId::generate(), ada]);
    assert!(matches!(
        take(&named),
        Some(Outgoing::Frame(ServerFrame::Resume { .. }))
    ));
    assert_eq!(take(&other), None);
    let mut users = hub.users();
    users.sort_unstable();
    assert_eq!(users, [ada.min(bob), ada.max(bob)]);
    assert!(hub.is_connected(ada) && !hub.is_connected(UserId::generate()));
}

#[test]
fn a_place_is_taken_until_the_socket_is_done_with() {
    let hub = hub(1, 10);
    let (_mailbox, (registration, place)) = join(&hub, UserId::generate());
    drop(registration);
    assert_eq!(hub.reserve().unwrap_err(), NoPlace::Full);
    drop(place);
    assert_eq!(hub.connections(), 0);
}
