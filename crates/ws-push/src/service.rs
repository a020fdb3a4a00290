//! The service as a whole: its tasks, its routes, its readiness and its end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix_web::web::{Data, ServiceConfig};
use tidings_common::auth::Keys;
use tidings_common::backends::Backends;
use tidings_common::clock::Clock;
use tidings_common::config::Config;
use tidings_common::domain::ServerId;
use tidings_common::log::{Applied, Revocations};
use tidings_common::sync;
use tidings_common::tasks::Tasks;
use tidings_common::telemetry::Metrics;
use tidings_http::health::Readiness;
use tidings_http::{Authenticator, BodyLimit, Origins};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::acks;
use crate::binder::{Partitions, UNBIND_AFTER};
use crate::connection::MailboxLimits;
use crate::hub::{Hub, HubLimits};
use crate::large::{Follower, LargeGroups};
use crate::metrics::PushMetrics;
use crate::poll::Pollers;
use crate::registrar::Registrar;
use crate::state::State;
use crate::{consumer, drain, routes};

/// What the service shares with the rest of its process.
pub struct Surroundings {
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    pub revocations: Arc<Revocations>,
    /// Where the service's tasks run, and whose shutdown it follows. Connections run on the
    /// HTTP server's workers.
    pub tasks: Tasks,
}

/// Delivery, running. Dropping it does not stop it; the shutdown of its tasks does.
pub struct PushService {
    state: Arc<State>,
    body_limit: BodyLimit,
    tasks: TaskTracker,
}

impl PushService {
    /// Starts reading this server's queue. When the shutdown of its tasks begins the service
    /// drains: it takes nobody in, moves its clients over during `ws.drain_secs`, and stops. The
    /// HTTP server must go on until [`PushService::stopped`] returns.
    pub fn start(
        config: &Config,
        backends: &Backends,
        surroundings: Surroundings,
        metrics: &Metrics,
    ) -> Self {
        let (reports, recorder) = acks::channel();
        let tasks = surroundings.tasks.clone();
        let metrics = PushMetrics::register(metrics);
        let (state, follower) = state(config, backends, surroundings, metrics, reports);
        let stop = CancellationToken::new();
        let running = TaskTracker::new();
        let (bus, presence) = (backends.bus.clone(), backends.presence.clone());
        let registrar = Registrar::new(state.hub.clone(), presence.clone(), bus.clone());
        let registrar = registrar.run(stop.clone());
        running.spawn_on(tasks.watched("who is here", registrar), tasks.runtime());
        let consumer = consumer::run(state.clone(), bus, stop.clone(), tasks.clone());
        running.spawn_on(tasks.watched("consumer", consumer), tasks.runtime());
        let following = follower.run(stop.clone());
        running.spawn_on(tasks.watched("large groups", following), tasks.runtime());
        let recorder = recorder.run(presence, stop.clone());
        running.spawn_on(tasks.watched("acknowledgements", recorder), tasks.runtime());
        let watch = watch_sessions(state.clone(), stop.clone());
        running.spawn_on(tasks.watched("ended sessions", watch), tasks.runtime());
        let sweep = state.pollers.clone().sweep(stop.clone());
        running.spawn_on(tasks.watched("polls", sweep), tasks.runtime());
        let (hub, over, shutdown) = (state.hub.clone(), config.ws.drain, tasks.shutdown().clone());
        let draining = async move {
            // Dropped at the end, and by a panic as well: the others do not go on alone.
            let _stop = stop.drop_guard();
            shutdown.cancelled().await;
            drain::drain(&hub, over).await;
        };
        running.spawn_on(tasks.watched("drain", draining), tasks.runtime());
        running.close();
        Self {
            state,
            body_limit: BodyLimit(config.limits.body_bytes),
            tasks: running,
        }
    }

    /// What to mount: `/v1/ws`, `/v1/events` and `/v1/poll`, beside whatever else the application serves.
    pub fn routes(&self) -> impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static {
        let state = Data::from(self.state.clone());
        let authenticator = Data::new(self.state.authenticator.clone());
        let body_limit = self.body_limit;
        move |config| {
            config
                .app_data(state.clone())
                .app_data(authenticator.clone())
                .app_data(body_limit)
                .configure(routes::mount);
        }
    }

    /// Adds what this service needs to take work: its consumer (`consumer`), and room
    /// (`connections`: `full` or `draining`); and presence, without which it goes on.
    #[must_use]
    pub fn checks(&self, readiness: Readiness) -> Readiness {
        let (consumer, connections) = (self.state.clone(), self.state.clone());
        let refusal = |state: Arc<State>, of_consumer: bool| async move {
            match state.refusal() {
                Some(reason) if (reason == "down") == of_consumer => Err(reason),
                _ => Ok(()),
            }
        };
        readiness
            .required("consumer", move || refusal(consumer.clone(), true))
            .required("connections", move || refusal(connections.clone(), false))
            .reporting_presence(self.state.presence.clone())
    }

    /// Returns when the service has drained and all its tasks have ended.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }
}

fn state(
    config: &Config,
    backends: &Backends,
    surroundings: Surroundings,
    metrics: PushMetrics,
    acks: acks::AckReports,
) -> (Arc<State>, Follower) {
    let Surroundings {
        keys,
        clock,
        revocations,
        tasks: _,
    } = surroundings;
    let partitions = Partitions::new(config.bus.partitions, UNBIND_AFTER);
    let limits = HubLimits {
        connections: config.ws.max_connections,
        connections_per_user: config.ws.max_connections_per_user,
    };
    let hub = Hub::new(limits, metrics.clone(), partitions.clone());
    let store = backends.store.clone();
    let applied = Arc::new(Applied::new(
        store.clone(),
        config.limits.fanout_limit.into(),
    ));
    let server = ServerId::generate();
    let (large, follower) = LargeGroups::new(server, store.clone(), hub.clone());
    let state = Arc::new(State {
        server,
        epoch: backends.meta.epoch,
        heartbeat: config.ws.heartbeat,
        write_deadline: config.ws.write_deadline,
        mailbox_limits: MailboxLimits {
            bytes: config.ws.mailbox_bytes,
            deltas: config.ws.mailbox_deltas,
        },
        origins: Origins::new(&config.public_url, &config.ws.origins),
        large,
        pollers: Pollers::new(hub.clone(), limits.connections_per_user),
        sync: sync::Sync::new(store.clone(), applied, backends.meta.epoch),
        store,
        hub,
        partitions,
        presence: backends.presence.clone(),
        authenticator: Authenticator::new(keys.clone(), clock.clone(), revocations.clone()),
        keys,
        clock,
        revocations,
        acks,
        metrics,
        consuming: AtomicBool::new(false),
    });
    (state, follower)
}

/// Closes the connections of sessions as they end.
async fn watch_sessions(state: Arc<State>, stop: CancellationToken) {
    let mut changes = state.revocations.changes();
    loop {
        // Both branches are cancel-safe.
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                state.hub.end_sessions(|session| state.revocations.is_ended(session));
            }
            () = stop.cancelled() => return,
        }
    }
}
