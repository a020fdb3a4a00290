//! What the broker, or the way to it, may do.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::super::codec::tests::largest;
use super::super::*;
use super::broker::Admin;
use super::proxy::Proxy;
use super::{tasks, with_broker};
use crate::bus::contract::{channel, delta, next, next_delta, next_seq, publish, user_in};
use crate::bus::{Audience, Delivery, Recipients};
use crate::domain::{Seq, StreamId, UserId};

pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// A bus that reaches the broker through a proxy, which is closed at first.
pub(super) async fn behind_proxy(admin: &Admin) -> (RabbitMqBus, Proxy) {
    let proxy = Proxy::to(admin.address()).await;
    let mut config = admin.config(ConsumerLimits::default());
    config.urls = vec![admin.url_at(proxy.address)];
    (RabbitMqBus::start(config, &tasks()).unwrap(), proxy)
}

pub(super) async fn eventually<T: Future<Output = bool>>(what: &str, condition: impl Fn() -> T) {
    let waiting = async {
        while !condition().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(
        timeout(DEADLINE, waiting).await.is_ok(),
        "not in time: {what}"
    );
}

pub(super) async fn publish_one(bus: &RabbitMqBus, stream: StreamId, seq: Seq) -> bool {
    let user = user_in(1);
    bus.publish(&[delta(stream, seq, &[user])])
        .await
        .iter()
        .all(Result::is_ok)
}

/// Waits for what a delivery says, whatever deltas come before.
pub(super) async fn await_delivery(
    deliveries: &mut Box<dyn Deliveries>,
    is_it: fn(&Delivery) -> bool,
) {
    let waiting = async { while !is_it(&deliveries.next().await) {} };
    assert!(timeout(DEADLINE, waiting).await.is_ok(), "it did not come");
}

/// The next delta of a stream. What was not acknowledged on a connection that broke comes again.
async fn next_of(stream: StreamId, deliveries: &mut Box<dyn Deliveries>) -> Seq {
    loop {
        if let Delivery::Delta(envelope) = next(deliveries).await
            && let Some((of, seq)) = envelope.position
            && of == stream
        {
            return seq;
        }
    }
}

#[tokio::test]
async fn a_broker_that_is_away_refuses_at_once_and_is_used_when_it_comes() {
    with_broker(|admin| async move {
        let (bus, mut proxy) = behind_proxy(&admin).await;
        let began = Instant::now();
        assert!(bus.check().await.is_err());
        for seq in 1..=100 {
            assert!(!publish_one(&bus, channel(), seq).await);
        }
        assert!(bus.publish_control(Control::SessionsEnded).await.is_err());
        assert!(bus.subscribe(ServerId::generate()).await.is_err());
        assert!(bus.control().await.is_err());
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        proxy.open().await;
        eventually("publishing", async || bus.check().await.is_ok()).await;
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        server.bindings.bind(1).await.unwrap();
        assert!(publish_one(&bus, channel(), 1).await);
        assert_eq!(next_seq(&mut server.deliveries).await, 1);
    })
    .await;
}

#[tokio::test]
async fn a_cut_connection_is_told_at_once_and_everything_is_in_force_again_afterwards() {
    with_broker(|admin| async move {
        let (bus, mut proxy) = behind_proxy(&admin).await;
        proxy.open().await;
        eventually("connected", async || bus.control().await.is_ok()).await;
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        let mut hints = bus.control().await.unwrap();
        for partition in [1, 2] {
            server.bindings.bind(partition).await.unwrap();
        }
        for round in 1..=3 {
            proxy.cut().await;
            for deliveries in [&mut server.deliveries, &mut hints] {
                let told = await_delivery(deliveries, |delivery| {
                    matches!(delivery, Delivery::Interrupted)
                });
                assert!(timeout(Duration::from_secs(2), told).await.is_ok());
            }
            eventually("publishing fails", async || bus.check().await.is_err()).await;
            assert!(server.bindings.bind(3).await.is_err());
            assert!(server.bindings.unbind(2).await.is_err());
            proxy.open().await;
            for deliveries in [&mut server.deliveries, &mut hints] {
                assert!(matches!(next(deliveries).await, Delivery::Missed));
            }
            server.bindings.unbind(2).await.unwrap();
            eventually("publishing", async || bus.check().await.is_ok()).await;
            let stream = channel();
            let partitions = [2, 1, 3].map(|partition| [user_in(partition)]);
            for (seq, to) in (1..).zip(&partitions) {
                publish(&bus, &[delta(stream, seq, to)]).await;
            }
            // What was asked for while the broker was away is in force; what was taken back,
            // is not.
            assert_eq!(
                next_of(stream, &mut server.deliveries).await,
                2,
                "round {round}"
            );
            assert_eq!(
                next_of(stream, &mut server.deliveries).await,
                3,
                "round {round}"
            );
            bus.publish_control(Control::SessionsEnded).await.unwrap();
            for deliveries in [&mut server.deliveries, &mut hints] {
                await_delivery(deliveries, |delivery| {
                    matches!(delivery, Delivery::Control(_))
                })
                .await;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_came_while_the_server_was_away_is_there_when_it_is_back() {
    with_broker(|admin| async move {
        let (bus, mut proxy) = behind_proxy(&admin).await;
        proxy.open().await;
        eventually("connected", async || bus.control().await.is_ok()).await;
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        server.bindings.bind(1).await.unwrap();
        let elsewhere =
            RabbitMqBus::start(admin.config(ConsumerLimits::default()), &tasks()).unwrap();
        proxy.cut().await;
        await_delivery(&mut server.deliveries, |delivery| {
            matches!(delivery, Delivery::Interrupted)
        })
        .await;
        assert!(publish_one(&elsewhere, channel(), 7).await);
        proxy.open().await;
        assert!(matches!(
            next(&mut server.deliveries).await,
            Delivery::Missed
        ));
        assert_eq!(next_seq(&mut server.deliveries).await, 7);
    })
    .await;
}

#[tokio::test]
async fn addresses_are_tried_in_turn() {
    with_broker(|admin| async move {
        let nobody = Proxy::to(admin.address()).await;
        let mut config = admin.config(ConsumerLimits::default());
        config.urls.insert(0, admin.url_at(nobody.address));
        let bus = RabbitMqBus::start(config, &tasks()).unwrap();
        assert!(publish_one(&bus, channel(), 1).await);
        assert!(bus.control().await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_stops_nothing() {
    with_broker(|admin| async move {
        let bus = RabbitMqBus::start(admin.config(ConsumerLimits::default()), &tasks()).unwrap();
        let mut other = admin.config(ConsumerLimits::default());
        other.deployment = DeploymentId::generate();
        let other = RabbitMqBus::start(other, &tasks()).unwrap();
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        server.bindings.bind(1).await.unwrap();
        publish(&other, &[delta(channel(), 1, &[user_in(1)])]).await;
        let exchange = bus.broker.codec.topology.deltas(1);
        let (options, none) = (Default::default(), Default::default());
        let raw = admin.channel().await;
        raw.basic_publish(exchange, "1".into(), options, b"?", none)
            .await
            .unwrap();
        eventually("dropped", async || bus.counters().undecodable.get() == 2).await;
        publish(&bus, &[delta(channel(), 2, &[user_in(1)])]).await;
        assert_eq!(next_seq(&mut server.deliveries).await, 2);
    })
    .await;
}

#[tokio::test]
async fn the_largest_envelope_passes_the_broker() {
    with_broker(|admin| async move {
        let mut config = admin.config(ConsumerLimits::default());
        let (codec, envelope) = largest();
        config.partitions = codec.topology.partitions;
        config.exchanges = codec.topology.exchanges;
        let bus = RabbitMqBus::start(config, &tasks()).unwrap();
        let Recipients::Users(users) = envelope.to else {
            panic!("{envelope:?}");
        };
        let last = users.last().unwrap().partition(codec.topology.partitions);
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        server.bindings.bind(last).await.unwrap();
        publish(&bus, &[delta(channel(), 1, &users)]).await;
        let got = next_delta(&mut server.deliveries).await;
        let to = |to: &[UserId]| to == users;
        assert!(matches!(&got.to, Recipients::Users(users) if to(users)));
    })
    .await;
}

#[tokio::test]
async fn a_flood_is_told_once_a_second() {
    with_broker(|admin| async move {
        let bus = RabbitMqBus::start(admin.config(super::LIMITS), &tasks()).unwrap();
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        server.bindings.bind(1).await.unwrap();
        let (stream, user) = (channel(), user_in(1));
        let began = Instant::now();
        let all: Vec<_> = (1..=2000).map(|seq| delta(stream, seq, &[user])).collect();
        publish(&bus, &all).await;
        let mut told: u64 = 0;
        loop {
            match next(&mut server.deliveries).await {
                Delivery::Missed => told += 1,
                Delivery::Delta(envelope) if envelope.position.unwrap().1 == 2000 => break,
                _ => {}
            }
        }
        assert!(told <= 1 + began.elapsed().as_secs(), "{told} times");
    })
    .await;
}

#[tokio::test]
async fn an_announcement_is_confirmed_when_all_its_messages_are() {
    with_broker(|admin| async move {
        let bus = RabbitMqBus::start(admin.config(ConsumerLimits::default()), &tasks()).unwrap();
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        server.bindings.bind(0).await.unwrap();
        // Of two exchanges one is taken away: what needs it fails, and with the connection made
        // anew it is there again.
        let gone = bus.broker.codec.topology.deltas(1);
        let channel_of_admin = admin.channel().await;
        let deleted = channel_of_admin.exchange_delete(gone, Default::default());
        deleted.await.unwrap();
        let stream = channel();
        let both = delta(stream, 1, &[user_in(0), user_in(1)]);
        let confirmed = bus.publish(&[both]).await;
        assert!(confirmed[0].is_err(), "{confirmed:?}");
        assert_eq!(
            next_seq(&mut server.deliveries).await,
            1,
            "half of it arrived"
        );
        eventually("healed", async || publish_one(&bus, stream, 2).await).await;
    })
    .await;
}

pub(super) mod with_rabbitmqctl {
    use super::*;

    #[tokio::test]
    async fn bindings_do_not_double_over_reconnects() {
        with_broker(|admin| async move {
            if !admin.has_ctl() {
                return;
            }
            let bus =
                RabbitMqBus::start(admin.config(ConsumerLimits::default()), &tasks()).unwrap();
            let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
            for partition in 0..8 {
                server.bindings.bind(partition).await.unwrap();
            }
            for _ in 0..5 {
                admin.close_connections().await;
                await_delivery(&mut server.deliveries, |delivery| {
                    matches!(delivery, Delivery::Missed)
                })
                .await;
                eventually("publishing", async || publish_one(&bus, channel(), 1).await).await;
            }
            let bindings = admin.bindings().await;
            // Eight partitions, broadcast, control.
            assert_eq!(bindings.len(), 10, "{bindings:?}");
            let queues = admin.queues().await;
            assert_eq!(queues.len(), 2, "{queues:?}");
            let (lost, queue): (Vec<_>, Vec<_>) =
                queues.iter().partition(|line| line.contains(".lost\t"));
            for (line, length, bytes) in
                [(queue[0], "50000", "67108864"), (lost[0], "1", "67108864")]
            {
                for setting in [
                    "\ttrue\tfalse\tfalse\t",
                    "{\"x-expires\",60000}",
                    "{\"x-overflow\",\"drop-head\"}",
                    &format!("{{\"x-max-length\",{length}}}"),
                    &format!("{{\"x-max-length-bytes\",{bytes}}}"),
                ] {
                    assert!(line.contains(setting), "{setting} is not in {line}");
                }
            }
        })
        .await;
    }

    /// Alone: every connection that publishes to the broker is blocked meanwhile.
    #[tokio::test]
    async fn a_memory_alarm_refuses_at_once_and_nothing_piles_up() {
        let Some(admin) = Admin::alone().await else {
            return;
        };
        if !admin.has_ctl() {
            return;
        }
        let bus = RabbitMqBus::start(admin.config(ConsumerLimits::default()), &tasks()).unwrap();
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        server.bindings.bind(1).await.unwrap();
        let stream = channel();
        for seq in 1..=20 {
            assert!(publish_one(&bus, stream, seq).await);
        }
        let alarm = admin.raise_memory_alarm().await;
        let began = Instant::now();
        let before = resident_bytes();
        let mut slowest = Duration::ZERO;
        for seq in 1..=20_000 {
            let began = Instant::now();
            let published = timeout(DEADLINE, bus.publish(&[long_delta(seq)])).await;
            slowest = slowest.max(began.elapsed());
            assert!(published.expect("an answer in time")[0].is_err());
        }
        let grown = resident_bytes().saturating_sub(before);
        // All of them together are 400 MB.
        assert!(grown < 64 << 20, "{grown} bytes more");
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
        assert!(bus.check().await.is_err());
        println!(
            "20,000 refusals in {:?}, slowest {slowest:?}, {grown} bytes",
            began.elapsed()
        );
        // Consumers go on.
        server.bindings.bind(2).await.unwrap();
        for seq in 1..=20 {
            assert_eq!(next_seq(&mut server.deliveries).await, seq);
        }
        alarm.clear().await;
        eventually("publishing again", async || bus.check().await.is_ok()).await;
        assert!(publish_one(&bus, stream, 21).await);
        await_delivery(&mut server.deliveries, |delivery| {
            matches!(delivery, Delivery::Delta(envelope) if envelope.position.unwrap().1 == 21)
        })
        .await;
    }

    pub(in super::super) fn long_delta(seq: Seq) -> Announcement {
        let mut announcement = delta(channel(), seq, &[user_in(1)]);
        announcement.payload = crate::bus::contract::entry(
            channel(),
            seq + 1_000,
            crate::domain::Change::UserUpdated {
                display_name: "x".repeat(20_000),
            },
        );
        announcement.audience = Audience::Users(vec![user_in(1)]);
        announcement
    }

    pub(in super::super) fn resident_bytes() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }
}
