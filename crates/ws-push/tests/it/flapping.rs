//! A server behind whose back the broker comes and goes: a real one, reached through a proxy.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tidings_common::auth::Principal;
use tidings_common::bus::{
    Announcement, Audience, Bus as _, ConsumerLimits, Payload, RabbitMqBus, RabbitMqConfig,
};
use tidings_common::domain::{Change, ChannelId, DeploymentId, Seq};
use tidings_common::tasks::Tasks;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clients::Client;
use crate::harness::{Server, entry, until};
use crate::tapped_bus::{Tap, TappedBus};

/// A way to the broker that can be cut and opened.
struct Way {
    address: SocketAddr,
    broker: SocketAddr,
    open: CancellationToken,
    tasks: TaskTracker,
}

impl Way {
    async fn to(broker: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            broker,
            open: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.open = CancellationToken::new();
        let (open, broker, tasks) = (self.open.clone(), self.broker, self.tasks.clone());
        self.tasks.spawn(async move {
            while let Some(Ok((client, _))) = open.run_until_cancelled(listener.accept()).await {
                let open = open.clone();
                tasks.spawn(async move {
                    open.run_until_cancelled(pass(client, broker)).await;
                });
            }
        });
    }

    async fn cut(&mut self) {
        self.open.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }

    /// As short as a connection takes to be made, or less.
    async fn open_for_a_moment(&mut self) {
        self.open().await;
        sleep(Duration::from_millis(fastrand::u64(5..150))).await;
        self.cut().await;
        sleep(Duration::from_millis(fastrand::u64(5..150))).await;
    }
}

async fn pass(mut client: TcpStream, broker: SocketAddr) {
    if let Ok(mut broker) = TcpStream::connect(broker).await {
        // How either side ends is theirs to notice.
        drop(copy_bidirectional(&mut client, &mut broker).await);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "where the services of tests are is no setting"
)]
fn broker_url() -> Option<String> {
    let (url, ci) = (
        std::env::var("TIDINGS_TEST_RABBITMQ_URL"),
        std::env::var("CI"),
    );
    assert!(
        url.is_ok() || ci.as_deref() != Ok("true"),
        "TIDINGS_TEST_RABBITMQ_URL is not set"
    );
    if url.is_err() {
        eprintln!("skipped: TIDINGS_TEST_RABBITMQ_URL is not set");
    }
    url.ok()
}

fn settings(url: &str, deployment: DeploymentId) -> RabbitMqConfig {
    RabbitMqConfig {
        urls: vec![url.to_owned().into()],
        prefix: format!("test-{deployment}"),
        partitions: NonZeroU16::new(1024).unwrap(),
        exchanges: NonZeroU16::new(2).unwrap(),
        deployment,
        limits: ConsumerLimits::default(),
    }
}

#[tokio::test]
async fn clients_are_told_once_after_each_interruption_however_often_the_broker_came_and_went() {
    let Some(url) = broker_url() else {
        return;
    };
    let address = url.rsplit_once('@').unwrap().1;
    let address = address.split('/').next().unwrap();
    let mut way = Way::to(address.parse().unwrap()).await;
    let deployment = DeploymentId::generate();
    let tasks = Tasks::new(CancellationToken::new());
    let elsewhere = RabbitMqBus::start(settings(&url, deployment), &tasks).unwrap();
    let through = url.replace(address, &way.address.to_string());
    let bus = RabbitMqBus::start(settings(&through, deployment), &tasks).unwrap();
    way.open().await;
    let tap = Tap::default();
    let on_the_bus = tap.clone();
    let server = Server::over(&[], |backends| {
        backends.bus = Arc::new(TappedBus::new(Arc::new(bus), on_the_bus));
    })
    .await;
    let people: Vec<Principal> = (0..3).map(|_| server.login()).collect();
    let mut clients = Vec::new();
    for who in &people {
        clients.push(server.connect(who).await);
    }
    let channel = ChannelId::generate();
    let mut told = 0;
    for seq in 1..=4 {
        way.cut().await;
        let flaps = if seq == 1 { 0 } else { 5 };
        for _ in 0..flaps {
            way.open_for_a_moment().await;
        }
        until("noticed", || async { tap.interrupted() > told }).await;
        way.open().await;
        until("back", || async {
            tap.interrupted() == tap.missed() && server.readiness().await.0 == 200
        })
        .await;
        let periods = tap.missed() - told;
        told += periods;
        println!("{flaps} flaps, {periods} interruptions");
        publish(&elsewhere, channel, seq, &people).await;
        for client in &mut clients {
            assert_eq!(resumes_before(client, seq).await, periods);
        }
    }
    server.stop().await;
}

async fn publish(bus: &RabbitMqBus, channel: ChannelId, seq: Seq, to: &[Principal]) {
    let delta = Announcement {
        payload: Payload::Entry(Box::new(entry(
            channel.into(),
            seq,
            Change::MembersChanged { gv: seq },
        ))),
        audience: Audience::Users(to.iter().map(|who| who.user).collect()),
        trace: None,
    };
    for confirmed in bus.publish(&[delta]).await {
        confirmed.unwrap();
    }
}

/// How often the client is told to sync before the delta at `seq` comes.
async fn resumes_before(client: &mut Client, seq: Seq) -> usize {
    let mut resumes = 0;
    loop {
        let frame = client.frame().await;
        match frame["type"].as_str().unwrap() {
            "resume" => resumes += 1,
            // What was not acknowledged when the connection broke comes again.
            "delta" if frame["seq"].as_u64().unwrap() < seq => {}
            "delta" => return resumes,
            _ => panic!("{frame}"),
        }
    }
}
