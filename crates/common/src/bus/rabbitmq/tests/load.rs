//! What a broker carries. The numbers are printed; the bounds are what would be a fault.

mod long {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use tokio::time::Instant;
    use tokio_util::task::TaskTracker;

    use super::super::super::*;
    use super::super::{tasks, with_broker};
    use crate::bus::Delivery;
    use crate::bus::contract::{channel, delta, user_in};

    const PARTITIONS: u16 = 1024;
    const EXCHANGES: u16 = 8;
    const PUBLISHERS: u64 = 4;
    const BATCH: u64 = 64;

    #[tokio::test(flavor = "multi_thread")]
    async fn groups_of_2_10_and_500_are_told() {
        with_broker(|admin| async move {
            let mut config = admin.config(ConsumerLimits::default());
            config.partitions = NonZeroU16::new(PARTITIONS).unwrap();
            config.exchanges = NonZeroU16::new(EXCHANGES).unwrap();
            let bus = Arc::new(RabbitMqBus::start(config, &tasks()).unwrap());
            let readers = TaskTracker::new();
            // Two servers, as the balancer would spread the partitions over them.
            for server in 0..2 {
                let subscription = bus.subscribe(ServerId::generate()).await.unwrap();
                let began = Instant::now();
                for partition in (0..PARTITIONS).filter(|partition| partition % 2 == server) {
                    subscription.bindings.bind(partition).await.unwrap();
                }
                let rate = f64::from(PARTITIONS / 2) / began.elapsed().as_secs_f64();
                println!("binds, one after the other: {rate:.0}/s");
                let mut deliveries = subscription.deliveries;
                let keep = subscription.bindings;
                readers.spawn(async move {
                    while !matches!(deliveries.next().await, Delivery::Closed) {}
                    drop(keep);
                });
            }
            for size in [2, 10, 500] {
                let rate = announce_to(&bus, size).await;
                assert!(rate > 100.0, "{rate} recipients a second");
            }
            bus.shutdown();
            readers.close();
            readers.wait().await;
        })
        .await;
    }

    /// Recipients per second.
    async fn announce_to(bus: &Arc<RabbitMqBus>, size: u16) -> f64 {
        let publishers = TaskTracker::new();
        let began = Instant::now();
        let until = began + Duration::from_secs(5);
        let mut tasks = Vec::new();
        for _ in 0..PUBLISHERS {
            let bus = bus.clone();
            tasks.push(publishers.spawn(async move {
                let (mut confirmed, mut published) = (0, 0);
                while Instant::now() < until {
                    let stream = channel();
                    let batch: Vec<_> = (1..=BATCH)
                        .map(|seq| delta(stream, seq, &group_of(size)))
                        .collect();
                    let messages = batch
                        .iter()
                        .map(|one| messages_for(&bus, one))
                        .sum::<usize>();
                    let outcomes = bus.publish(&batch).await;
                    confirmed += outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                    published += messages;
                }
                (confirmed, published)
            }));
        }
        let (mut confirmed, mut published) = (0, 0);
        for task in tasks {
            let (of_task, messages) = task.await.unwrap();
            confirmed += of_task;
            published += messages;
        }
        let seconds = began.elapsed().as_secs_f64();
        let announcements = confirmed as f64 / seconds;
        let recipients = announcements * f64::from(size);
        println!(
            "groups of {size}: {announcements:.0} announcements/s, {:.0} publishes/s, \
             {recipients:.0} recipients/s",
            published as f64 / seconds
        );
        recipients
    }

    fn group_of(size: u16) -> Vec<crate::domain::UserId> {
        let any = |_| user_in(fastrand::u16(..PARTITIONS));
        (0..size).map(any).collect()
    }

    fn messages_for(bus: &RabbitMqBus, announcement: &Announcement) -> usize {
        let envelope = announcement.encode().unwrap();
        bus.broker.codec.envelope("", &envelope).len()
    }
}
