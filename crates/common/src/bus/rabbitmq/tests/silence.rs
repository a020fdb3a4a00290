//! A broker that stands still or is slow, and whose peers have to find out for themselves.

use std::num::NonZeroU16;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::super::*;
use super::faults::with_rabbitmqctl::{long_delta, resident_bytes};
use super::faults::{DEADLINE, await_delivery, behind_proxy, eventually, publish_one};
use super::proxy::Proxy;
use super::{LIMITS, tasks, with_broker};
use crate::bus::Delivery;
use crate::bus::contract::{channel, delta, next, next_seq, publish, user_in};

#[tokio::test]
async fn a_broker_that_confirms_nothing_is_given_up_and_used_again_when_it_does() {
    with_broker(async |admin| {
        let (bus, mut proxy) = behind_proxy(&admin).await;
        proxy.open().await;
        eventually("connected", async || bus.check().await.is_ok()).await;
        assert!(publish_one(&bus, channel(), 1).await);
        proxy.hold(true);
        let (began, before) = (Instant::now(), resident_bytes());
        // 400 MB, if all of them were kept.
        let publishers = (0..20).map(async |_| {
            for seq in 1..=1000 {
                let published = timeout(DEADLINE, bus.publish(&[long_delta(seq)])).await;
                assert!(published.expect("an answer in time")[0].is_err());
            }
        });
        join_all(publishers).await;
        let grown = resident_bytes().saturating_sub(before);
        println!("given up after {:?}, {grown} bytes more", began.elapsed());
        assert!(grown < 64 << 20, "{grown} bytes more");
        assert!(bus.check().await.is_err());
        proxy.hold(false);
        eventually("publishing", async || publish_one(&bus, channel(), 1).await).await;
    })
    .await;
}

#[tokio::test]
async fn a_queue_whose_broker_stands_still_is_interrupted_and_opened_again() {
    with_broker(async |admin| {
        let mut proxy = Proxy::to(admin.address()).await;
        proxy.open().await;
        let mut config = admin.config(ConsumerLimits::default());
        let url = admin.url_at(proxy.address);
        // Sooner than the usual 30 s.
        config.urls = vec![format!("{}?heartbeat=1", url.expose_secret()).into()];
        let bus = RabbitMqBus::start(config, &tasks()).unwrap();
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        server.bindings.bind(1).await.unwrap();
        proxy.hold(true);
        await_delivery(&mut server.deliveries, |delivery| {
            matches!(delivery, Delivery::Interrupted)
        })
        .await;
        proxy.hold(false);
        assert!(matches!(
            next(&mut server.deliveries).await,
            Delivery::Missed
        ));
        eventually("publishing", async || publish_one(&bus, channel(), 7).await).await;
        assert_eq!(next_seq(&mut server.deliveries).await, 7);
    })
    .await;
}

/// All bindings together take longer than one request may.
#[tokio::test]
async fn many_bindings_are_in_force_again_at_a_slow_broker() {
    const PARTITIONS: u16 = 1024;
    with_broker(async |admin| {
        let mut proxy = Proxy::to(admin.address()).await;
        proxy.open().await;
        let mut config = admin.config(ConsumerLimits::default());
        config.urls = vec![admin.url_at(proxy.address)];
        config.partitions = NonZeroU16::new(PARTITIONS).unwrap();
        let bus = RabbitMqBus::start(config, &tasks()).unwrap();
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        let began = Instant::now();
        let binds = (0..PARTITIONS).map(|partition| server.bindings.bind(partition));
        assert!(join_all(binds).await.iter().all(Result::is_ok));
        println!("{PARTITIONS} binds at once: {:?}", began.elapsed());
        proxy.cut().await;
        proxy.slow_down(20_000.0);
        proxy.open().await;
        let began = Instant::now();
        await_delivery(&mut server.deliveries, |delivery| {
            matches!(delivery, Delivery::Missed)
        })
        .await;
        println!("{PARTITIONS} binds, slowed down: {:?}", began.elapsed());
        assert!(
            began.elapsed() > Duration::from_secs(5),
            "this was not slow"
        );
        let last = user_in(PARTITIONS - 1);
        publish(&bus, &[delta(channel(), 3, &[last])]).await;
        assert_eq!(next_seq(&mut server.deliveries).await, 3);
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_blocks_from_the_first_moment_is_known_to() {
    with_broker(async |admin| {
        let (bus, mut proxy) = behind_proxy(&admin).await;
        proxy.say_blocked();
        proxy.open().await;
        eventually("blocked", async || bus.counters().blocked.get() == 1).await;
        assert!(bus.check().await.is_err());
        assert!(!publish_one(&bus, channel(), 1).await);
    })
    .await;
}

#[tokio::test]
async fn an_overflow_during_an_interruption_is_told_with_it() {
    with_broker(async |admin| {
        let mut proxy = Proxy::to(admin.address()).await;
        proxy.open().await;
        let mut config = admin.config(LIMITS);
        config.urls = vec![admin.url_at(proxy.address)];
        let bus = RabbitMqBus::start(config, &tasks()).unwrap();
        let mut server = bus.subscribe(ServerId::generate()).await.unwrap();
        server.bindings.bind(1).await.unwrap();
        let elsewhere = RabbitMqBus::start(admin.config(LIMITS), &tasks()).unwrap();
        proxy.cut().await;
        await_delivery(&mut server.deliveries, |delivery| {
            matches!(delivery, Delivery::Interrupted)
        })
        .await;
        let (stream, user) = (channel(), user_in(1));
        let all: Vec<_> = (1..=100).map(|seq| delta(stream, seq, &[user])).collect();
        publish(&elsewhere, &all).await;
        proxy.open().await;
        let mut told = 0;
        let newest = async {
            loop {
                match next(&mut server.deliveries).await {
                    Delivery::Missed => told += 1,
                    Delivery::Delta(envelope) if envelope.position == Some((stream, 100)) => return,
                    _ => {}
                }
            }
        };
        assert!(timeout(DEADLINE, newest).await.is_ok());
        // What was to come has come: there is nothing else to wait for.
        let more = timeout(Duration::from_secs(2), server.deliveries.next()).await;
        assert!(more.is_err(), "{more:?}");
        assert_eq!(told, 1);
    })
    .await;
}

mod long {
    use super::*;

    /// Each connection of lapin has a thread.
    fn threads() -> usize {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = threads.map(|thread| std::fs::read_to_string(thread.path().join("comm")));
        names
            .filter(|name| {
                name.as_ref()
                    .is_ok_and(|name| name.starts_with("lapin-io-loop"))
            })
            .count()
    }

    #[tokio::test]
    async fn attempts_to_reach_a_broker_that_stands_still_leave_nothing_behind() {
        with_broker(async |admin| {
            let (bus, mut proxy) = behind_proxy(&admin).await;
            proxy.open().await;
            eventually("connected", async || bus.check().await.is_ok()).await;
            let mut servers = Vec::new();
            for _ in 0..3 {
                servers.push(bus.subscribe(ServerId::generate()).await.unwrap());
            }
            // One of them is the test's own.
            let usual = threads();
            assert_eq!(usual, 5);
            proxy.hold(true);
            let began = Instant::now();
            let mut most = 0;
            while began.elapsed() < Duration::from_secs(150) {
                drop(timeout(Duration::from_secs(1), publish_one(&bus, channel(), 1)).await);
                tokio::time::sleep(Duration::from_millis(500)).await;
                most = most.max(threads());
            }
            let left = threads();
            println!("usually {usual} threads, at most {most}, at the end {left}");
            assert!(most <= 2 * usual, "{most}");
            proxy.hold(false);
            for server in &mut servers {
                await_delivery(&mut server.deliveries, |delivery| {
                    matches!(delivery, Delivery::Missed)
                })
                .await;
            }
            eventually("publishing", async || publish_one(&bus, channel(), 1).await).await;
            eventually("the usual threads", async || threads() == usual).await;
        })
        .await;
    }
}
