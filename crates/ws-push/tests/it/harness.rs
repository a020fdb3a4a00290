//! The server under test, and what publishes to it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{Data, ServiceConfig};
use serde_json::Value;
use tidings_common::auth::{Keys, Principal};
use tidings_common::backends::Backends;
use tidings_common::bus::{Announcement, Audience, Bus as _, Control, MemoryBus, Payload};
use tidings_common::clock::{Clock, SystemClock};
use tidings_common::config::{Binary, Config};
use tidings_common::domain::{
    Change, ChannelId, Entry, EntryId, GroupId, GroupKind, Key, PresenceState, Role, Seq,
    SessionId, StreamId, Timestamp, UserId,
};
use tidings_common::log::Revocations;
use tidings_common::presence::MemoryPresence;
use tidings_common::store::{SqliteStore, StateStore as _, project};
use tidings_common::tasks::Tasks;
use tidings_common::telemetry::Metrics;
use tidings_http::Origins;
use tidings_http::access_log::AccessLog;
use tidings_http::health::{self, Readiness};
use tidings_http::server::{ServerOptions, bind, serve};
use tidings_ws_push::{PushService, Surroundings};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::clients::Client;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) bus: MemoryBus,
    pub(crate) keys: Arc<Keys>,
    pub(crate) tasks: Tasks,
    backends: Backends,
    metrics: Data<Metrics>,
    stopped: tokio::task::JoinHandle<()>,
    directory: PathBuf,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// `settings`: `("WS__HEARTBEAT_MS", "100")` and so on.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        Self::over(settings, |_| {}).await
    }

    /// With something else behind the traits.
    pub(crate) async fn over(
        settings: &[(&str, &str)],
        exchange: impl FnOnce(&mut Backends),
    ) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let config = config(settings).with_bound_address(address);
        let directory = std::env::temp_dir().join(format!("tidings-{}", EntryId::generate()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let bus = MemoryBus::new(config.bus.partitions);
        let store = Arc::new(SqliteStore::open(&directory.join("tidings.db")).unwrap());
        let mut backends = Backends {
            meta: store.meta().await.unwrap(),
            store,
            bus: Arc::new(bus.clone()),
            presence: Arc::new(MemoryPresence::new(clock.clone())),
        };
        exchange(&mut backends);
        let keys = Arc::new(Keys::new(config.auth.secret.as_ref().unwrap()));
        let metrics = Data::new(Metrics::default());
        let tasks = Tasks::new(CancellationToken::new());
        let service = service(&config, &backends, &keys, clock, &metrics, &tasks).await;
        let origins = Origins::new(&config.public_url, &config.ws.origins);
        let stopped = tokio::spawn(run(listener, service, metrics.clone(), origins));
        let server = Self {
            address,
            bus,
            keys,
            tasks,
            backends,
            metrics,
            stopped,
            directory,
        };
        until("the server is ready", || async {
            server.status("/readyz").await == 200
        })
        .await;
        server
    }

    /// The answer to `/readyz`.
    pub(crate) async fn readiness(&self) -> (u16, Value) {
        let answer = reqwest::get(format!("http://{}/readyz", self.address)).await;
        let answer = answer.unwrap();
        let status = answer.status().as_u16();
        (
            status,
            serde_json::from_str(&answer.text().await.unwrap()).unwrap(),
        )
    }

    pub(crate) async fn status(&self, path: &str) -> u16 {
        let url = format!("http://{}{path}", self.address);
        reqwest::get(url).await.unwrap().status().as_u16()
    }

    /// Stops the server and waits until it has drained.
    pub(crate) async fn stop(self) {
        self.tasks.shutdown().cancel();
        timeout(DEADLINE, self.stopped).await.unwrap().unwrap();
        drop(self.backends);
        std::fs::remove_dir_all(self.directory).unwrap();
    }

    /// A login that lasts, and one of the same user's further devices.
    pub(crate) fn login(&self) -> Principal {
        self.login_of(UserId::generate())
    }

    pub(crate) fn login_of(&self, user: UserId) -> Principal {
        self.login_for(user, Duration::from_secs(900))
    }

    pub(crate) fn login_for(&self, user: UserId, ttl: Duration) -> Principal {
        let session = SessionId::generate();
        let (_, expires_at) = self.keys.access_token(user, session, now(), ttl);
        Principal {
            user,
            session,
            expires_at,
        }
    }

    pub(crate) fn ticket(&self, who: &Principal) -> String {
        self.ticket_made_at(who, now())
    }

    pub(crate) fn ticket_made_at(&self, who: &Principal, at: Timestamp) -> String {
        use secrecy::ExposeSecret as _;
        self.keys.ticket(who, at).expose_secret().to_owned()
    }

    pub(crate) fn access_token(&self, who: &Principal, ttl: Duration) -> String {
        use secrecy::ExposeSecret as _;
        let (token, _) = self.keys.access_token(who.user, who.session, now(), ttl);
        token.expose_secret().to_owned()
    }

    pub(crate) fn path(&self, ticket: &str) -> String {
        format!("/v1/ws?p=1&ticket={ticket}")
    }

    pub(crate) fn events_path(&self, ticket: &str) -> String {
        format!("/v1/events?p=1&ticket={ticket}")
    }

    /// Connects and waits for `hello`.
    pub(crate) async fn connect(&self, who: &Principal) -> Client {
        let path = self.path(&self.ticket(who));
        let mut client = self.open(&path, &[]).await.unwrap();
        client.hello = client.frame().await;
        assert_eq!(client.hello["type"], "hello");
        client
    }

    /// The status if the upgrade is refused.
    pub(crate) async fn open(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, u16> {
        Client::open(&format!("ws://{}{path}", self.address), headers).await
    }

    /// Publishes `count` deltas of one channel from `first` on, as one announcement each.
    pub(crate) async fn publish(&self, channel: ChannelId, first: Seq, count: u64, to: &[UserId]) {
        let deltas: Vec<_> = (first..first + count)
            .map(|seq| Announcement {
                payload: Payload::Entry(Box::new(entry(
                    channel.into(),
                    seq,
                    Change::MembersChanged { gv: seq },
                ))),
                audience: Audience::Users(to.to_vec()),
                trace: None,
            })
            .collect();
        for confirmed in self.bus.publish(&deltas).await {
            confirmed.unwrap();
        }
    }

    /// Commits an entry of the user's own stream, and announces it.
    pub(crate) async fn commit(&self, user: UserId, seq: Seq) {
        let entry = entry(user.into(), seq, Change::MembersChanged { gv: seq });
        self.backends
            .store
            .append(vec![entry.clone()])
            .await
            .unwrap();
        let announcement = Announcement {
            payload: Payload::Entry(Box::new(entry)),
            audience: Audience::Users(vec![user]),
            trace: None,
        };
        for confirmed in self.bus.publish(&[announcement]).await {
            confirmed.unwrap();
        }
    }

    /// A group of these users.
    pub(crate) async fn group(&self, users: &[UserId]) -> GroupId {
        let group = GroupId::generate();
        let created = Change::GroupCreated {
            kind: GroupKind::Group,
            name: Some("Engine room".to_owned()),
            members: users.iter().map(|user| (*user, Role::Member)).collect(),
            channels: Vec::new(),
        };
        self.change_group(group, 1, created).await;
        group
    }

    /// Commits and applies the next change of a group, and hints at it.
    pub(crate) async fn change_group(&self, group: GroupId, seq: Seq, change: Change) {
        let entry = entry(group.into(), seq, change);
        let (store, changes) = (&self.backends.store, project(&entry, 1000));
        let stream = entry.stream;
        store.append(vec![entry]).await.unwrap();
        store.apply(stream, seq, changes).await.unwrap();
        let hint = Control::GroupChanged { group, seq };
        self.bus.publish_control(hint).await.unwrap();
    }

    /// How presence has somebody.
    pub(crate) async fn state_of(&self, user: UserId) -> PresenceState {
        let states = self.backends.presence.states(&[user]).await;
        states.unwrap()[0].state
    }

    pub(crate) async fn revoke(&self, who: &Principal) {
        let ended = Change::SessionEnded {
            session: who.session,
            user: who.user,
        };
        let seq = self
            .backends
            .store
            .head(StreamId::Sessions)
            .await
            .unwrap()
            .seq
            + 1;
        let run = vec![entry(StreamId::Sessions, seq, ended)];
        self.backends.store.append(run).await.unwrap();
        self.bus
            .publish_control(Control::SessionsEnded)
            .await
            .unwrap();
    }

    pub(crate) async fn acknowledged(&self, who: &Principal) -> Vec<Seq> {
        let cursor = self
            .backends
            .presence
            .acknowledged(who.session)
            .await
            .unwrap();
        cursor.into_values().collect()
    }

    /// The value of a metric; None while it has none.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    }

    pub(crate) async fn metric_becomes(&self, name: &str, expected: f64) {
        until(name, || async { self.metric(name) == Some(expected) }).await;
    }
}

fn config(settings: &[(&str, &str)]) -> Config {
    let usual = [
        ("AUTH__SECRET", "a secret of more than thirty-two bytes"),
        ("WS__DRAIN_SECS", "0"),
    ];
    // Later ones replace earlier ones.
    let environment: BTreeMap<_, _> = usual
        .iter()
        .chain(settings)
        .map(|(key, value)| (format!("TIDINGS__{key}"), (*value).to_owned()))
        .collect();
    Config::load_from(Binary::Standalone, None, environment).unwrap()
}

async fn service(
    config: &Config,
    backends: &Backends,
    keys: &Arc<Keys>,
    clock: Arc<dyn Clock>,
    metrics: &Metrics,
    tasks: &Tasks,
) -> PushService {
    let (store, bus) = (backends.store.clone(), backends.bus.clone());
    let ttl = config.auth.access_ttl;
    let revocations = Revocations::start(store, bus, clock.clone(), ttl, tasks)
        .await
        .unwrap();
    let surroundings = Surroundings {
        keys: keys.clone(),
        clock,
        revocations,
        tasks: tasks.clone(),
    };
    PushService::start(config, backends, surroundings, metrics)
}

async fn run(
    listener: std::net::TcpListener,
    service: PushService,
    metrics: Data<Metrics>,
    origins: Origins,
) {
    let readiness = Data::new(service.checks(Readiness::default()));
    let routes = service.routes();
    let options = ServerOptions {
        workers: 2.try_into().unwrap(),
        shutdown_timeout: Duration::from_secs(1),
        origins,
        ..ServerOptions::new(AccessLog::new(&metrics))
    };
    let configure = move |app: &mut ServiceConfig| {
        app.app_data(readiness.clone())
            .app_data(metrics.clone())
            .configure(health::routes)
            .configure(&routes);
    };
    let drained = CancellationToken::new();
    let server = serve(listener, options, configure, drained.clone());
    let stop = async {
        service.stopped().await;
        drained.cancel();
    };
    let (served, ()) = tokio::join!(server, stop);
    served.unwrap();
}

pub(crate) fn entry(stream: StreamId, seq: Seq, change: Change) -> Entry {
    Entry {
        id: EntryId::generate(),
        stream,
        seq,
        at: now(),
        actor: None,
        key: Key::unique(),
        request: None,
        gv: 0,
        ord: 0,
        change,
    }
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// Waits until `condition` holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, holds)
        .await
        .unwrap_or_else(|_| panic!("in time: {what}"));
}
