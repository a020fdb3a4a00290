//! A server of its own for each test, and people who use it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tidings_api::{Api, Surroundings};
use tidings_common::auth::Keys;
use tidings_common::backends::Backends;
use tidings_common::bus::Bus;
use tidings_common::clock::ManualClock;
use tidings_common::config::{Binary, Config};
use tidings_common::domain::Timestamp;
use tidings_common::log::{Log, Revocations};
use tidings_common::tasks::Tasks;
use tidings_common::telemetry::Metrics;
use tidings_http::access_log::AccessLog;
use tidings_http::health::{self, Readiness};
use tidings_http::server::{ServerOptions, bind, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) backends: Backends,
    pub(crate) metrics: Metrics,
    config: Config,
    log: Log,
    shutdown: CancellationToken,
    running: Option<JoinHandle<std::io::Result<()>>>,
    /// None: another server's.
    directory: Option<PathBuf>,
}

/// Somebody who is logged in.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) id: String,
    pub(crate) session: String,
    pub(crate) token: String,
    pub(crate) refresh_token: String,
    pub(crate) client: Client,
    pub(crate) base: String,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With settings that differ from the tests' usual ones.
    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        Self::over(settings, |_| {}).await
    }

    /// With something else behind the traits.
    pub(crate) async fn over(
        settings: &[(&str, &str)],
        exchange: impl FnOnce(&mut Backends),
    ) -> Self {
        let directory = std::env::temp_dir().join(format!("tidings-api-{}", Uuid::new_v4()));
        let path = directory.join("tidings.db");
        let usual = [
            ("TIDINGS__STORE__PATH", path.to_str().unwrap()),
            (
                "TIDINGS__AUTH__SECRET",
                "a secret of more than thirty-two bytes",
            ),
            ("TIDINGS__AUTH__ARGON2_MEMORY_KIB", "8"),
            ("TIDINGS__AUTH__ARGON2_PASSES", "1"),
        ];
        let variables = usual.iter().chain(settings);
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::load_from(Binary::Standalone, None, variables).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_262_400_000)));
        let metrics = Metrics::default();
        let tasks = Tasks::new(CancellationToken::new());
        let mut backends = Backends::open(&config, &(clock.clone() as _), &metrics, &tasks)
            .await
            .unwrap();
        exchange(&mut backends);
        Self::on(config, backends, clock, metrics, Some(directory)).await
    }

    /// Another process on the same store, as far as that goes: its bus is what `exchange` makes
    /// of this one's.
    pub(crate) async fn beside(&self, exchange: impl FnOnce(Arc<dyn Bus>) -> Arc<dyn Bus>) -> Self {
        let mut backends = self.backends.clone();
        backends.bus = exchange(backends.bus);
        let (config, clock) = (self.config.clone(), self.clock.clone());
        Self::on(config, backends, clock, Metrics::default(), None).await
    }

    async fn on(
        config: Config,
        backends: Backends,
        clock: Arc<ManualClock>,
        metrics: Metrics,
        directory: Option<PathBuf>,
    ) -> Self {
        let tasks = Tasks::new(CancellationToken::new());
        let log = Log::start(
            backends.store.clone(),
            backends.bus.clone(),
            clock.clone(),
            config.limits.fanout_limit.into(),
            &metrics,
            &tasks,
        );
        let revocations = Revocations::start(
            backends.store.clone(),
            backends.bus.clone(),
            clock.clone(),
            config.auth.access_ttl,
            &tasks,
        );
        let surroundings = Surroundings {
            keys: Arc::new(Keys::new(config.auth.secret.as_ref().unwrap())),
            clock: clock.clone(),
            log: log.clone(),
            revocations: revocations.await.unwrap(),
        };
        let api = Api::new(&config, &backends, surroundings).unwrap();
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(serving(api, listener, shutdown.clone()));
        Self {
            address,
            client: Client::new(),
            clock,
            backends,
            metrics,
            config,
            log,
            shutdown,
            running: Some(running),
            directory,
        }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn register(&self, username: &str) -> Value {
        let body = json!({"username": username, "password": PASSWORD});
        let response = self.request("POST", "/v1/users").json(&body).send().await;
        answer(response.unwrap(), 201).await
    }

    pub(crate) async fn log_in(&self, username: &str) -> Person {
        let body = json!({"username": username, "password": PASSWORD, "device_name": "laptop"});
        let request = self.request("POST", "/v1/sessions").json(&body);
        let login = answer(request.send().await.unwrap(), 201).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Person {
            id: text(&login["user"]["id"]),
            session: text(&login["session"]),
            token: text(&login["access_token"]),
            refresh_token: text(&login["refresh_token"]),
            client: self.client.clone(),
            base: format!("http://{}", self.address),
        }
    }

    /// Registers somebody and logs them in.
    pub(crate) async fn person(&self, username: &str) -> Person {
        self.register(username).await;
        self.log_in(username).await
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        self.running.take().unwrap().await.unwrap().unwrap();
        self.log.stop().await;
        if let Some(directory) = self.directory {
            std::fs::remove_dir_all(directory).unwrap();
        }
    }
}

async fn serving(
    api: Api,
    listener: std::net::TcpListener,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let metrics = Data::new(Metrics::default());
    let readiness = Data::new(api.checks(Readiness::default()));
    let mut options = ServerOptions::new(AccessLog::new(&metrics));
    options.workers = std::num::NonZeroUsize::MIN;
    options.shutdown_timeout = std::time::Duration::ZERO;
    let routes = api.routes();
    let configure = move |app: &mut ServiceConfig| {
        app.app_data(readiness.clone())
            .app_data(metrics.clone())
            .configure(health::routes)
            .configure(&routes);
    };
    serve(listener, options, configure, shutdown).await
}

impl Person {
    /// The same session, asking another server.
    pub(crate) fn at(&self, server: &Server) -> Self {
        Self {
            base: format!("http://{}", server.address),
            ..self.clone()
        }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(&self.token)
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        answer(self.request("GET", path).send().await.unwrap(), 200).await
    }

    /// Sends a body, expects `status`, and returns the answer's body.
    pub(crate) async fn send(&self, method: &str, path: &str, body: Value, status: u16) -> Value {
        let request = self.request(method, path).json(&body);
        answer(request.send().await.unwrap(), status).await
    }

    /// Sends no body, expects `status`.
    pub(crate) async fn call(&self, method: &str, path: &str, status: u16) -> Value {
        answer(self.request(method, path).send().await.unwrap(), status).await
    }

    /// As [`Person::send`], with a key; returns whether it was a replay as well.
    pub(crate) async fn keyed(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Value,
        status: u16,
    ) -> (Value, bool) {
        let mut request = self.request(method, path).header("Idempotency-Key", key);
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let replayed = is_replay(&response);
        (answer(response, status).await, replayed)
    }

    /// Creates a group; returns its id and that of its channel.
    pub(crate) async fn group(&self, members: &[&Person]) -> (String, String) {
        let members: Vec<&str> = members.iter().map(|person| person.id.as_str()).collect();
        let body = json!({"name": "Engine room", "members": members});
        let group = self.send("POST", "/v1/groups", body, 201).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&group["id"]), text(&group["channels"][0]["id"]))
    }

    pub(crate) async fn say(&self, channel: &str, content: &str) -> Value {
        let path = format!("/v1/channels/{channel}/messages");
        self.send("POST", &path, json!({"content": content}), 201)
            .await
    }
}

pub(crate) fn is_replay(response: &Response) -> bool {
    let header = response.headers().get("Idempotency-Replayed");
    header.is_some_and(|value| value == "true")
}

/// The body of an answer with this status; null if it has none. Problems must look like one.
pub(crate) async fn answer(response: Response, status: u16) -> Value {
    let actual = response.status().as_u16();
    let content_type = response.headers().get("content-type").cloned();
    let text = response.text().await.unwrap();
    assert_eq!(actual, status, "{text}");
    if text.is_empty() {
        return Value::Null;
    }
    let body: Value = serde_json::from_str(&text).unwrap();
    if status >= 400 {
        assert_eq!(content_type.unwrap(), "application/problem+json");
        assert_eq!(body["status"], status);
        assert!(body["code"].is_string(), "{body}");
    }
    body
}

/// Asserts that a problem has this code, and points at `pointer` unless that is empty.
pub(crate) fn check_problem(body: &Value, code: &str, pointer: &str) {
    assert_eq!(body["code"], code, "{body}");
    if !pointer.is_empty() {
        assert_eq!(body["errors"][0]["pointer"], pointer, "{body}");
    }
}
