//! The operational routes: alive, ready, metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpResponse, Responder};
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use serde::Serialize;
use tidings_common::bus::Bus;
use tidings_common::clock::Clock;
use tidings_common::domain::SessionId;
use tidings_common::presence::Presence;
use tidings_common::store::Store;
use tidings_common::telemetry::Metrics;

/// A check that takes longer counts as `down`.
const DEADLINE: Duration = Duration::from_secs(2);

/// What this process's clock and the store's may differ by.
const CLOCK_TOLERANCE_MS: u64 = 3_600_000;

/// The outcome of one check: fine, or one word for what is wrong (`down`, `full`, `draining`).
pub type CheckResult = Result<(), &'static str>;

type CheckFn = Box<dyn Fn() -> BoxFuture<'static, CheckResult> + Send + Sync>;

/// What a process needs to take work. Put one into the application's `Data`.
#[derive(Default)]
pub struct Readiness(Vec<Check>);

struct Check {
    name: &'static str,
    required: bool,
    run: CheckFn,
}

impl Readiness {
    /// Adds a check without which the process is not ready.
    #[must_use]
    pub fn required<F, Fut>(self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CheckResult> + Send + 'static,
    {
        self.with(name, true, check)
    }

    /// Adds a check that is reported and changes nothing.
    #[must_use]
    pub fn reported<F, Fut>(self, name: &'static str, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CheckResult> + Send + 'static,
    {
        self.with(name, false, check)
    }

    /// Adds the store, required: `down` if it cannot be read and written, `clock_differs` if its
    /// clock is an hour from this process's, whose tokens and times nobody should trust then.
    #[must_use]
    pub fn with_store(self, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        self.required("store", move || check_store(store.clone(), clock.clone()))
    }

    /// Adds the store for a process that can do its work for a while without it.
    #[must_use]
    pub fn reporting_store(self, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        self.reported("store", move || check_store(store.clone(), clock.clone()))
    }

    /// Adds the bus for a process that publishes, reported: what it commits while the bus is
    /// `down` is announced later.
    #[must_use]
    pub fn reporting_bus(self, bus: Arc<dyn Bus>) -> Self {
        self.reported("bus", move || {
            let bus = bus.clone();
            async move { bus.check().await.map_err(|_| "down") }
        })
    }

    /// Adds presence, reported: nothing waits for it, and what it would have said is waived.
    #[must_use]
    pub fn reporting_presence(self, presence: Arc<dyn Presence>) -> Self {
        self.reported("presence", move || {
            let presence = presence.clone();
            async move {
                // Nobody's session: the question is whether there is an answer.
                let answer = presence.acknowledged(SessionId::generate()).await;
                answer.map(drop).map_err(|_| "down")
            }
        })
    }

    fn with<F, Fut>(mut self, name: &'static str, required: bool, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CheckResult> + Send + 'static,
    {
        self.0.push(Check {
            name,
            required,
            run: Box::new(move || check().boxed()),
        });
        self
    }

    /// Runs all checks at the same time.
    pub async fn report(&self) -> Report {
        let outcomes = join_all(self.0.iter().map(Check::outcome)).await;
        let mut ready = true;
        let mut checks = BTreeMap::new();
        for (check, outcome) in self.0.iter().zip(outcomes) {
            ready &= outcome.is_ok() || !check.required;
            checks.insert(check.name, outcome.err().unwrap_or("ok"));
        }
        let status = if ready { "ready" } else { "not_ready" };
        Report { status, checks }
    }
}

async fn check_store(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> CheckResult {
    let theirs = store.check().await.map_err(|_| "down")?;
    let ours = clock.now().as_millis();
    let apart = theirs.map_or(0, |theirs| ours.abs_diff(theirs.as_millis()));
    if apart < CLOCK_TOLERANCE_MS {
        Ok(())
    } else {
        Err("clock_differs")
    }
}

impl Check {
    async fn outcome(&self) -> CheckResult {
        tokio::time::timeout(DEADLINE, (self.run)())
            .await
            .unwrap_or(Err("down"))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|check| check.name))
            .finish()
    }
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
pub struct Report {
    status: &'static str,
    checks: BTreeMap<&'static str, &'static str>,
}

impl Report {
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}

/// Mounts `/healthz`, `/readyz` and `/metrics`. The application's data must hold a
/// [`Readiness`] and the [`Metrics`], each in a `Data`.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(web::resource("/healthz").route(web::get().to(get_health)))
        .service(web::resource("/readyz").route(web::get().to(get_readiness)))
        .service(web::resource("/metrics").route(web::get().to(get_metrics)));
}

async fn get_health() -> impl Responder {
    HttpResponse::Ok().json(serde_json::json!({"status": "alive"}))
}

async fn get_readiness(readiness: Data<Readiness>) -> impl Responder {
    let report = readiness.report().await;
    if report.is_ready() {
        HttpResponse::Ok().json(report)
    } else {
        // Not a problem document: balancers and people read the same checks either way.
        HttpResponse::ServiceUnavailable().json(report)
    }
}

async fn get_metrics(metrics: Data<Metrics>) -> impl Responder {
    HttpResponse::Ok()
        .content_type(Metrics::CONTENT_TYPE)
        .body(metrics.encode())
}
