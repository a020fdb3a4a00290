//! A server with a handful of routes, one for each test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::HttpResponse;
use actix_web::web::{self, Data, ServiceConfig};
use reqwest::{Client, RequestBuilder, Response};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use tidings_common::auth::{Keys, SessionCheck};
use tidings_common::clock::ManualClock;
use tidings_common::domain::{SessionId, Timestamp, UserId};
use tidings_common::telemetry::Metrics;
use tidings_http::access_log::AccessLog;
use tidings_http::health::{self, Readiness};
use tidings_http::server::{ServerOptions, bind, serve};
use tidings_http::{Authenticated, Authenticator, Json, Origins, Path, Query};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Pages of these may read what is answered.
pub(crate) const OWN_ORIGIN: &str = "https://chat.example.org";
pub(crate) const LISTED_ORIGIN: &str = "https://app.example.org";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Draft {
    content: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<u8>,
}

/// Switches that stand for the state of the world.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) store_is_down: AtomicBool,
    pub(crate) sessions_are_revoked: AtomicBool,
}

impl SessionCheck for World {
    fn is_revoked(&self, _: SessionId) -> bool {
        self.sessions_are_revoked.load(Ordering::SeqCst)
    }
}

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    pub(crate) keys: Arc<Keys>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) world: Arc<World>,
    shutdown: CancellationToken,
    running: JoinHandle<std::io::Result<()>>,
}

async fn post_draft(draft: Json<Draft>) -> HttpResponse {
    HttpResponse::Created().json(draft.0.content)
}

async fn get_user(user: Path<UserId>, page: Query<Page>) -> HttpResponse {
    HttpResponse::Ok().json((user.into_inner(), page.into_inner().limit))
}

async fn get_me(who: Authenticated) -> HttpResponse {
    HttpResponse::Ok().json(who.0.user)
}

async fn get_framework_error() -> Result<HttpResponse, actix_web::Error> {
    Err(actix_web::error::ErrorInternalServerError("secret cause"))
}

fn test_routes(config: &mut ServiceConfig) {
    config
        .service(
            web::resource("/drafts")
                .route(web::post().to(post_draft))
                .route(web::put().to(post_draft)),
        )
        .service(web::resource("/users/{user}").route(web::get().to(get_user)))
        .service(web::resource("/me").route(web::get().to(get_me)))
        .service(web::resource("/broken").route(web::get().to(get_framework_error)));
}

fn readiness(world: &Arc<World>) -> Readiness {
    let world = Arc::clone(world);
    Readiness::default()
        .required("store", move || {
            let world = Arc::clone(&world);
            async move {
                let is_down = world.store_is_down.load(Ordering::SeqCst);
                if is_down { Err("down") } else { Ok(()) }
            }
        })
        .reported("bus", || async { Err("down") })
}

impl TestServer {
    pub(crate) fn start() -> Self {
        let secret = SecretString::from("a secret of more than thirty-two bytes");
        let keys = Arc::new(Keys::new(&secret));
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_763_726_400_000)));
        let world = Arc::new(World::default());
        let authenticator = Authenticator::new(
            Arc::clone(&keys),
            Arc::clone(&clock) as _,
            Arc::clone(&world) as _,
        );
        let authenticator = Data::new(authenticator);
        let readiness = Data::new(readiness(&world));
        let metrics = Data::new(Metrics::default());
        let options = ServerOptions {
            origins: Origins::new(OWN_ORIGIN, &[LISTED_ORIGIN.to_owned()]),
            ..ServerOptions::new(AccessLog::new(&metrics))
        };

        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let configure = move |config: &mut ServiceConfig| {
            config
                .app_data(authenticator.clone())
                .app_data(readiness.clone())
                .app_data(metrics.clone())
                .configure(health::routes)
                .configure(test_routes);
        };
        let running = tokio::spawn(serve(listener, options, configure, shutdown.clone()));
        Self {
            address,
            client: Client::new(),
            keys,
            clock,
            world,
            shutdown,
            running,
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    /// Stops the server and waits until it has ended.
    pub(crate) async fn stop(self) {
        drop(self.client);
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// Asserts that `response` is a problem with this status and code, and returns its body.
pub(crate) async fn problem(response: Response, status: u16, code: &str) -> Value {
    assert_eq!(response.status(), status);
    let content_type = response.headers()["content-type"].to_str().unwrap();
    assert_eq!(content_type, "application/problem+json");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    assert_eq!(body["code"], code);
    body
}
