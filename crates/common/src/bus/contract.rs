//! What every bus must do: the sentences of the trait's documentation, each with its test.
//! An implementation says `bus_contract!(fresh_bus);`, with `async fn fresh_bus() -> Fixture`.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::timeout;

use super::{
    Announcement, Audience, Broadcast, Bus, Control, Deliveries, Delivery, Envelope, Part, Payload,
    Recipients, Subscription, TraceContext,
};
use crate::domain::{
    Change, ChannelId, Entry, EntryId, Ephemeral, GroupId, Key, Seq, ServerId, SessionId, StreamId,
    Timestamp, UserId, UserPresence,
};

/// A bus of its own for one test, and what only its implementation can do to it.
pub(super) struct Fixture {
    pub(super) bus: Arc<dyn Bus>,
    /// What a server's queue holds.
    pub(super) queue_count: usize,
    pub(super) queue_bytes: usize,
    /// At most so many more have left the queue and wait on their way to the server.
    pub(super) on_their_way: usize,
    /// Partition p is on exchange p modulo this.
    pub(super) exchanges: u16,
    /// Breaks a server's consumer, with the loss of what is queued.
    pub(super) sever: Box<dyn Fn(ServerId) -> BoxFuture<'static, ()> + Send + Sync>,
    /// How many queues there are: of these servers, and of subscribers to control messages.
    pub(super) open_queues: Box<dyn Fn(Vec<ServerId>) -> BoxFuture<'static, usize> + Send + Sync>,
    pub(super) shutdown: Box<dyn Fn() + Send + Sync>,
}

impl Fixture {
    pub(super) const PARTITIONS: NonZeroU16 = NonZeroU16::new(8).unwrap();

    /// More deltas than can be waiting for a server that takes none.
    fn too_many(&self) -> Seq {
        (self.queue_count + self.on_their_way) as Seq + 3
    }
}

macro_rules! bus_contract {
    ($fresh:path) => {
        $crate::bus::contract::bus_contract! {
            @each $fresh:
            deltas_of_a_stream_arrive_in_order,
            deltas_of_a_stream_arrive_in_order_at_every_server,
            only_bound_partitions_arrive,
            nothing_arrives_before_bind,
            binding_twice_is_binding_once,
            unbinding_stops_a_partition_and_leaves_what_is_queued,
            a_server_gets_one_copy_per_exchange_however_many_recipients_match,
            an_envelope_names_its_recipients_and_says_what_it_is,
            large_groups_go_to_every_server,
            what_is_for_watchers_goes_to_every_server,
            a_broadcast_says_whom_it_is_for_and_about_whom,
            control_messages_reach_every_subscriber,
            control_subscribers_get_no_deltas,
            an_overflow_is_told_and_the_newest_stay,
            an_overflow_of_bytes_is_told,
            a_slow_server_costs_others_nothing,
            a_lost_consumer_is_told_and_its_bindings_hold,
            a_dropped_subscriber_frees_its_queue,
            publishing_is_confirmed_without_subscribers,
            ephemerals_are_delivered_without_a_position,
            entries_that_no_client_may_see_are_confirmed_and_not_delivered,
            concurrent_publishers_lose_nothing,
            waiting_for_a_delivery_can_be_cancelled,
            closed_is_told_for_ever,
        }
    };
    (@each $fresh:path: $($name:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                // None: there is nothing to run it on, and that has been said.
                if let Some(fixture) = $fresh().await {
                    $crate::bus::contract::$name(fixture).await;
                }
            }
        )*
    };
}
pub(super) use bus_contract;

/// Long enough for a broker under load, short enough for a failing test.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn user_in(partition: u16) -> UserId {
    let mut bytes = *EntryId::generate().as_bytes();
    bytes[8..].copy_from_slice(&u64::from(partition).to_be_bytes());
    UserId::from_bytes(bytes)
}

pub(super) fn entry(stream: StreamId, seq: Seq, change: Change) -> Payload {
    Payload::Entry(Box::new(Entry {
        id: EntryId::generate(),
        stream,
        seq,
        at: Timestamp::from_millis(1_795_262_400_000),
        actor: None,
        key: Key::unique(),
        request: None,
        gv: 1,
        ord: 0,
        change,
    }))
}

pub(super) fn delta(stream: StreamId, seq: Seq, to: &[UserId]) -> Announcement {
    Announcement {
        payload: entry(stream, seq, Change::MembersChanged { gv: seq }),
        audience: Audience::Users(to.to_vec()),
        trace: None,
    }
}

pub(super) fn channel() -> StreamId {
    StreamId::Channel(ChannelId::generate())
}

async fn subscribe(bus: &dyn Bus, partitions: &[u16]) -> (ServerId, Subscription) {
    let server = ServerId::generate();
    let subscription = bus.subscribe(server).await.unwrap();
    for partition in partitions {
        subscription.bindings.bind(*partition).await.unwrap();
    }
    (server, subscription)
}

pub(super) async fn publish(bus: &dyn Bus, announcements: &[Announcement]) {
    let confirmed = bus.publish(announcements).await;
    assert_eq!(confirmed.len(), announcements.len());
    assert!(confirmed.iter().all(Result::is_ok), "{confirmed:?}");
}

pub(super) async fn next(deliveries: &mut Box<dyn Deliveries>) -> Delivery {
    loop {
        let delivery = timeout(DEADLINE, deliveries.next()).await;
        match delivery.expect("something should have been delivered") {
            // Only brokers that stand elsewhere can be away.
            Delivery::Interrupted => {}
            delivery => return delivery,
        }
    }
}

pub(super) async fn next_delta(deliveries: &mut Box<dyn Deliveries>) -> Arc<Envelope> {
    match next(deliveries).await {
        Delivery::Delta(envelope) => envelope,
        other => panic!("a delta was expected, not {other:?}"),
    }
}

pub(super) async fn next_seq(deliveries: &mut Box<dyn Deliveries>) -> Seq {
    next_delta(deliveries).await.position.unwrap().1
}

/// Nothing more is queued: a control message sent now is what comes next.
async fn assert_idle(bus: &dyn Bus, deliveries: &mut Box<dyn Deliveries>) {
    let mark = Control::GroupChanged {
        group: GroupId::generate(),
        seq: 1,
    };
    bus.publish_control(mark).await.unwrap();
    match next(deliveries).await {
        Delivery::Control(control) => assert_eq!(control, mark),
        other => panic!("nothing was expected, not {other:?}"),
    }
}

pub(super) async fn deltas_of_a_stream_arrive_in_order(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let (stream, user) = (channel(), user_in(1));
    let one_call: Vec<_> = (1..=5).map(|seq| delta(stream, seq, &[user])).collect();
    publish(&*fixture.bus, &one_call).await;
    for seq in 6..=10 {
        publish(&*fixture.bus, &[delta(stream, seq, &[user])]).await;
    }
    for seq in 1..=10 {
        assert_eq!(next_seq(&mut server.deliveries).await, seq);
    }
}

pub(super) async fn deltas_of_a_stream_arrive_in_order_at_every_server(fixture: Fixture) {
    let (_, mut first) = subscribe(&*fixture.bus, &[1]).await;
    let (_, mut second) = subscribe(&*fixture.bus, &[2]).await;
    let (stream, users) = (channel(), [user_in(1), user_in(2)]);
    let all: Vec<_> = (1..=10).map(|seq| delta(stream, seq, &users)).collect();
    publish(&*fixture.bus, &all).await;
    for seq in 1..=10 {
        assert_eq!(next_seq(&mut first.deliveries).await, seq);
        assert_eq!(next_seq(&mut second.deliveries).await, seq);
    }
}

pub(super) async fn only_bound_partitions_arrive(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1, 3]).await;
    let stream = channel();
    for (seq, partition) in (1..).zip([0, 1, 2, 3, 4]) {
        publish(&*fixture.bus, &[delta(stream, seq, &[user_in(partition)])]).await;
    }
    assert_eq!(next_seq(&mut server.deliveries).await, 2);
    assert_eq!(next_seq(&mut server.deliveries).await, 4);
    assert_idle(&*fixture.bus, &mut server.deliveries).await;
}

pub(super) async fn nothing_arrives_before_bind(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[]).await;
    let (stream, user) = (channel(), user_in(1));
    publish(&*fixture.bus, &[delta(stream, 1, &[user])]).await;
    server.bindings.bind(1).await.unwrap();
    publish(&*fixture.bus, &[delta(stream, 2, &[user])]).await;
    assert_eq!(next_seq(&mut server.deliveries).await, 2);
}

pub(super) async fn binding_twice_is_binding_once(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1, 1]).await;
    let (stream, user) = (channel(), user_in(1));
    publish(&*fixture.bus, &[delta(stream, 1, &[user])]).await;
    assert_eq!(next_seq(&mut server.deliveries).await, 1);
    server.bindings.unbind(1).await.unwrap();
    publish(&*fixture.bus, &[delta(stream, 2, &[user])]).await;
    assert_idle(&*fixture.bus, &mut server.deliveries).await;
}

pub(super) async fn unbinding_stops_a_partition_and_leaves_what_is_queued(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1, 2]).await;
    let stream = channel();
    publish(&*fixture.bus, &[delta(stream, 1, &[user_in(1)])]).await;
    server.bindings.unbind(1).await.unwrap();
    server.bindings.unbind(5).await.unwrap();
    publish(&*fixture.bus, &[delta(stream, 2, &[user_in(1)])]).await;
    publish(&*fixture.bus, &[delta(stream, 3, &[user_in(2)])]).await;
    assert_eq!(next_seq(&mut server.deliveries).await, 1);
    assert_eq!(next_seq(&mut server.deliveries).await, 3);
}

pub(super) async fn a_server_gets_one_copy_per_exchange_however_many_recipients_match(
    fixture: Fixture,
) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1, 2, 3]).await;
    let users = [1, 1, 2, 3, 3, 4].map(user_in);
    publish(&*fixture.bus, &[delta(channel(), 1, &users)]).await;
    let mut named = Vec::new();
    for _ in 0..fixture.exchanges {
        let copy = next_delta(&mut server.deliveries).await;
        assert_eq!(copy.position.unwrap().1, 1);
        match &copy.to {
            Recipients::Users(users) => named.extend_from_slice(users),
            Recipients::Group(_) | Recipients::Watchers(_) => panic!("{copy:?}"),
        }
    }
    named.sort_unstable();
    let mut expected = users;
    expected.sort_unstable();
    assert_eq!(named, expected, "each once");
    assert_idle(&*fixture.bus, &mut server.deliveries).await;
}

pub(super) async fn an_envelope_names_its_recipients_and_says_what_it_is(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let (stream, user) = (channel(), user_in(1));
    let mut announcement = delta(stream, 7, &[user]);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    announcement.trace = Some(TraceContext(trace.into()));
    let sent = announcement.encode().unwrap();
    publish(&*fixture.bus, &[announcement]).await;
    let got = next_delta(&mut server.deliveries).await;
    assert_eq!(got.id, sent.id);
    assert_eq!(got.position, Some((stream, 7)));
    assert_eq!(got.at, sent.at);
    assert_eq!(got.body, sent.body);
    assert_eq!(got.trace, sent.trace);
    assert!(matches!(&got.to, Recipients::Users(users) if users.contains(&user)));
}

pub(super) async fn large_groups_go_to_every_server(fixture: Fixture) {
    let (_, mut first) = subscribe(&*fixture.bus, &[1]).await;
    let (_, mut second) = subscribe(&*fixture.bus, &[]).await;
    let group = GroupId::generate();
    let mut announcement = delta(channel(), 1, &[]);
    let to = Broadcast {
        group,
        gv: 5,
        part: Part::All,
        about: None,
    };
    announcement.audience = Audience::Group(to);
    publish(&*fixture.bus, &[announcement]).await;
    for server in [&mut first, &mut second] {
        let got = next_delta(&mut server.deliveries).await;
        assert!(
            matches!(got.to, Recipients::Group(got) if got == to),
            "{:?}",
            got.to
        );
    }
}

pub(super) async fn a_broadcast_says_whom_it_is_for_and_about_whom(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[]).await;
    let (group, user) = (GroupId::generate(), UserId::generate());
    for (part, about) in [
        (Part::Admins, None),
        (Part::Others, None),
        (Part::All, Some(user)),
    ] {
        let to = Broadcast {
            group,
            gv: 5,
            part,
            about,
        };
        let mut announcement = delta(channel(), 1, &[]);
        announcement.audience = Audience::Group(to);
        publish(&*fixture.bus, &[announcement]).await;
        let got = next_delta(&mut server.deliveries).await;
        assert!(
            matches!(got.to, Recipients::Group(got) if got == to),
            "{:?}",
            got.to
        );
    }
}

pub(super) async fn what_is_for_watchers_goes_to_every_server(fixture: Fixture) {
    let (_, mut first) = subscribe(&*fixture.bus, &[1]).await;
    let (_, mut second) = subscribe(&*fixture.bus, &[]).await;
    let now = UserPresence::unknown(user_in(3), Timestamp::from_millis(7));
    publish(&*fixture.bus, &[Announcement::presence(now)]).await;
    for server in [&mut first, &mut second] {
        let got = next_delta(&mut server.deliveries).await;
        assert!(matches!(got.to, Recipients::Watchers(user) if user == now.user));
        assert_eq!((got.position, got.at), (None, now.at));
        assert!(
            got.body
                .starts_with(br#"{"type":"delta","kind":"presence.changed""#)
        );
    }
}

pub(super) async fn control_messages_reach_every_subscriber(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[]).await;
    let mut other = fixture.bus.control().await.unwrap();
    let changed = Control::GroupChanged {
        group: GroupId::generate(),
        seq: 3,
    };
    for control in [Control::SessionsEnded, changed] {
        fixture.bus.publish_control(control).await.unwrap();
        for deliveries in [&mut server.deliveries, &mut other] {
            let got = next(deliveries).await;
            assert!(
                matches!(got, Delivery::Control(c) if c == control),
                "{got:?}"
            );
        }
    }
}

pub(super) async fn control_subscribers_get_no_deltas(fixture: Fixture) {
    let mut control = fixture.bus.control().await.unwrap();
    let mut to_group = delta(channel(), 1, &[]);
    to_group.audience = Audience::Group(Broadcast {
        group: GroupId::generate(),
        gv: 1,
        part: Part::All,
        about: None,
    });
    let to_users = delta(channel(), 1, &[user_in(1)]);
    publish(&*fixture.bus, &[to_group, to_users]).await;
    assert_idle(&*fixture.bus, &mut control).await;
}

pub(super) async fn an_overflow_is_told_and_the_newest_stay(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let (stream, user) = (channel(), user_in(1));
    let last = fixture.too_many();
    for seq in 1..=last {
        publish(&*fixture.bus, &[delta(stream, seq, &[user])]).await;
    }
    let came = until_missed_and(last, &mut server.deliveries).await;
    assert!((came.len() as Seq) < last, "some went: {came:?}");
    let newest: Vec<_> = (last - fixture.queue_count as Seq + 1..=last).collect();
    assert!(came.ends_with(&newest), "{came:?}");
    publish(&*fixture.bus, &[delta(stream, last + 1, &[user])]).await;
    assert_eq!(next_seq(&mut server.deliveries).await, last + 1);
}

/// What comes, in order, until both the delta `last` and the word that some were missed have.
async fn until_missed_and(last: Seq, deliveries: &mut Box<dyn Deliveries>) -> Vec<Seq> {
    let mut came = Vec::new();
    let mut missed = false;
    while !missed || came.last() != Some(&last) {
        match next(deliveries).await {
            Delivery::Delta(envelope) => came.push(envelope.position.unwrap().1),
            Delivery::Missed => missed = true,
            other => panic!("{other:?}"),
        }
    }
    assert!(
        came.is_sorted_by(|earlier, later| earlier < later),
        "{came:?}"
    );
    came
}

pub(super) async fn an_overflow_of_bytes_is_told(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let (stream, user) = (channel(), user_in(1));
    let long = |seq| Announcement {
        payload: entry(
            stream,
            seq,
            Change::UserUpdated {
                display_name: "x".repeat(fixture.queue_bytes / 4),
            },
        ),
        audience: Audience::Users(vec![user]),
        trace: None,
    };
    let last = fixture.on_their_way as Seq + 5;
    for seq in 1..=last {
        publish(&*fixture.bus, &[long(seq)]).await;
    }
    let came = until_missed_and(last, &mut server.deliveries).await;
    assert!((came.len() as Seq) < last, "some went: {came:?}");
}

pub(super) async fn a_slow_server_costs_others_nothing(fixture: Fixture) {
    let (_, _slow) = subscribe(&*fixture.bus, &[1]).await;
    let (_, mut fast) = subscribe(&*fixture.bus, &[1]).await;
    let (stream, user) = (channel(), user_in(1));
    for seq in 1..=fixture.too_many() * 2 {
        publish(&*fixture.bus, &[delta(stream, seq, &[user])]).await;
        assert_eq!(next_seq(&mut fast.deliveries).await, seq);
    }
}

pub(super) async fn a_lost_consumer_is_told_and_its_bindings_hold(fixture: Fixture) {
    let (id, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let (_, mut other) = subscribe(&*fixture.bus, &[1]).await;
    let (stream, user) = (channel(), user_in(1));
    publish(&*fixture.bus, &[delta(stream, 1, &[user])]).await;
    (fixture.sever)(id).await;
    // What was on its way may still come before.
    while let Delivery::Delta(envelope) = next(&mut server.deliveries).await {
        assert_eq!(envelope.position.unwrap().1, 1);
    }
    publish(&*fixture.bus, &[delta(stream, 2, &[user])]).await;
    assert_eq!(next_seq(&mut server.deliveries).await, 2);
    assert_eq!(next_seq(&mut other.deliveries).await, 1);
    assert_eq!(next_seq(&mut other.deliveries).await, 2);
}

pub(super) async fn a_dropped_subscriber_frees_its_queue(fixture: Fixture) {
    let (id, server) = subscribe(&*fixture.bus, &[1]).await;
    let control = fixture.bus.control().await.unwrap();
    assert_eq!((fixture.open_queues)(vec![id]).await, 2);
    drop(server.deliveries);
    drop(control);
    timeout(DEADLINE, async {
        while (fixture.open_queues)(vec![id]).await > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the queues should have gone");
    assert!(server.bindings.bind(2).await.is_err());
    publish(&*fixture.bus, &[delta(channel(), 1, &[user_in(1)])]).await;
}

pub(super) async fn publishing_is_confirmed_without_subscribers(fixture: Fixture) {
    publish(&*fixture.bus, &[delta(channel(), 1, &[user_in(1)])]).await;
    fixture
        .bus
        .publish_control(Control::SessionsEnded)
        .await
        .unwrap();
    fixture.bus.check().await.unwrap();
}

pub(super) async fn ephemerals_are_delivered_without_a_position(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let user = user_in(1);
    let announcement = Announcement {
        payload: Payload::Ephemeral {
            at: Timestamp::from_millis(1),
            actor: Some(user),
            what: Ephemeral::UserChanged { user },
        },
        audience: Audience::Users(vec![user]),
        trace: None,
    };
    publish(&*fixture.bus, &[announcement]).await;
    let got = next_delta(&mut server.deliveries).await;
    assert_eq!((got.id, got.position), (None, None));
}

pub(super) async fn entries_that_no_client_may_see_are_confirmed_and_not_delivered(
    fixture: Fixture,
) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let user = user_in(1);
    let ended = Change::SessionEnded {
        session: SessionId::generate(),
        user,
    };
    let announcement = Announcement {
        payload: entry(StreamId::Sessions, 1, ended),
        audience: Audience::Users(vec![user]),
        trace: None,
    };
    publish(&*fixture.bus, &[announcement]).await;
    assert_idle(&*fixture.bus, &mut server.deliveries).await;
}

pub(super) async fn concurrent_publishers_lose_nothing(fixture: Fixture) {
    const EACH: Seq = 20;
    let (_, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let streams: Vec<_> = (0..8).map(|_| channel()).collect();
    let publishers = tokio_util::task::TaskTracker::new();
    // A publisher waits for its turn, so that the queue never overflows.
    let room = Arc::new(tokio::sync::Semaphore::new(fixture.queue_count / 2));
    for stream in streams.clone() {
        let (bus, room, user) = (fixture.bus.clone(), room.clone(), user_in(1));
        publishers.spawn(async move {
            for seq in 1..=EACH {
                room.acquire().await.unwrap().forget();
                publish(&*bus, &[delta(stream, seq, &[user])]).await;
            }
        });
    }
    let mut heads = BTreeMap::new();
    for _ in 0..EACH * streams.len() as Seq {
        let got = next_delta(&mut server.deliveries).await;
        room.add_permits(1);
        let (stream, seq) = got.position.unwrap();
        let head = heads.entry(stream).or_insert(0);
        assert_eq!(seq, *head + 1, "in order, each once");
        *head = seq;
    }
    publishers.close();
    publishers.wait().await;
    assert_idle(&*fixture.bus, &mut server.deliveries).await;
}

pub(super) async fn waiting_for_a_delivery_can_be_cancelled(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let (stream, user) = (channel(), user_in(1));
    for seq in 1..=5 {
        let waited = timeout(Duration::from_millis(1), server.deliveries.next()).await;
        assert!(waited.is_err(), "{waited:?}");
        publish(&*fixture.bus, &[delta(stream, seq, &[user])]).await;
        assert_eq!(next_seq(&mut server.deliveries).await, seq);
    }
}

pub(super) async fn closed_is_told_for_ever(fixture: Fixture) {
    let (_, mut server) = subscribe(&*fixture.bus, &[1]).await;
    let mut control = fixture.bus.control().await.unwrap();
    publish(&*fixture.bus, &[delta(channel(), 1, &[user_in(1)])]).await;
    assert_eq!(next_seq(&mut server.deliveries).await, 1);
    (fixture.shutdown)();
    for deliveries in [&mut server.deliveries, &mut control] {
        for _ in 0..3 {
            assert!(matches!(next(deliveries).await, Delivery::Closed));
        }
    }
    assert!(fixture.bus.check().await.is_err());
    assert!(fixture.bus.subscribe(ServerId::generate()).await.is_err());
    assert!(fixture.bus.control().await.is_err());
    let refused = fixture.bus.publish(&[delta(channel(), 1, &[])]).await;
    assert!(refused.iter().all(Result::is_err));
}
