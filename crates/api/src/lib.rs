//! The HTTP API: stateless. Every change goes through the log; every read of what only
//! members may see asks the store who is one.
//!
//! A process that serves more than the API builds an [`Api`] and mounts its routes beside
//! others; [`run`] is for the API's own binary.

mod answer;
mod extract;
mod fields;
mod openapi;
mod router;
mod routes;
mod service;

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use tidings_common::auth::Keys;
use tidings_common::backends::Backends;
use tidings_common::bus::Bus;
use tidings_common::clock::Clock;
use tidings_common::config::Config;
use tidings_common::log::{Log, Revocations};
use tidings_common::store::Store;
use tidings_common::sync::Sync;
use tidings_http::health::Readiness;
use tidings_http::process::Process;
use tidings_http::{Authenticator, BodyLimit};
use utoipa::openapi::OpenApi;

pub use service::BadParameters;
use service::{
    Accounts, Bans, Buckets, Channels, Context, DefaultGroups, EditLeases, Groups, Invites, Marks,
    Members, Messages, Mutes, Passwords, Pins, Reactions, Sessions, Tickets, Typing, WhoIsThere,
};

/// What an [`Api`] shares with the rest of its process.
pub struct Surroundings {
    pub keys: Arc<Keys>,
    pub clock: Arc<dyn Clock>,
    pub log: Log,
    /// Read to the head.
    pub revocations: Arc<Revocations>,
}

/// The API, ready to be mounted. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    state: Data<ApiState>,
    authenticator: Data<Authenticator>,
    body_limit: BodyLimit,
    openapi: Arc<OpenApi>,
    store: Arc<dyn Store>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
}

/// What handlers work with: one service for each resource.
struct ApiState {
    accounts: Accounts,
    sessions: Sessions,
    groups: Groups,
    edit_leases: EditLeases,
    members: Members,
    mutes: Mutes,
    bans: Bans,
    invites: Invites,
    channels: Channels,
    messages: Messages,
    buckets: Buckets,
    pins: Pins,
    reactions: Reactions,
    marks: Marks,
    presence: WhoIsThere,
    sync: Sync,
    tickets: Tickets,
    typing: Typing,
}

impl Api {
    /// # Errors
    ///
    /// [`BadParameters`] if passwords cannot be hashed as the settings say.
    pub fn new(
        config: &Config,
        backends: &Backends,
        surroundings: Surroundings,
    ) -> Result<Self, BadParameters> {
        let Surroundings {
            keys,
            clock,
            log,
            revocations,
        } = surroundings;
        let context = Context {
            store: backends.store.clone(),
            presence: backends.presence.clone(),
            log,
            revocations: revocations.clone(),
            clock: clock.clone(),
            keys: keys.clone(),
            limits: config.limits,
            auth: config.auth.clone(),
            deployment: backends.meta.deployment,
            epoch: backends.meta.epoch,
            partitions: config.bus.partitions,
            realtime_url: config.ws.public_url.clone(),
        };
        let passwords = Arc::new(Passwords::new(&config.auth)?);
        let default_groups = DefaultGroups::new(context.clone(), config.default_groups.clone());
        let (store, applied) = (backends.store.clone(), context.log.applied().clone());
        let sync = Sync::new(store, applied, backends.meta.epoch);
        let presence = WhoIsThere::new(context.clone(), backends.presence.clone());
        Ok(Self {
            state: Data::new(ApiState::new(
                &context,
                &passwords,
                default_groups,
                presence,
                sync,
            )),
            authenticator: Data::new(Authenticator::new(keys, clock.clone(), revocations)),
            body_limit: BodyLimit(config.limits.body_bytes),
            openapi: Arc::new(openapi::document()),
            store: backends.store.clone(),
            bus: backends.bus.clone(),
            clock: clock.clone(),
        })
    }

    /// Mounts `/v1/…` (but the realtime routes), `/openapi.json` and `/docs`.
    pub fn routes(&self) -> impl Fn(&mut ServiceConfig) + Clone + Send + use<> {
        let api = self.clone();
        move |config| {
            config
                .app_data(api.state.clone())
                .app_data(api.authenticator.clone())
                .app_data(api.body_limit);
            router::mount(config, &api.openapi);
        }
    }

    /// Adds what the API needs to take work: a store that can be written. Without the bus it
    /// commits all the same, and the relay announces later.
    #[must_use]
    pub fn checks(&self, readiness: Readiness) -> Readiness {
        readiness
            .with_store(self.store.clone(), self.clock.clone())
            .reporting_bus(self.bus.clone())
    }

    /// The description of the API, as `/openapi.json` has it.
    #[must_use]
    pub fn openapi() -> OpenApi {
        openapi::document()
    }
}

impl ApiState {
    fn new(
        context: &Context,
        passwords: &Arc<Passwords>,
        default_groups: DefaultGroups,
        presence: WhoIsThere,
        sync: Sync,
    ) -> Self {
        let context = || context.clone();
        Self {
            accounts: Accounts::new(context(), passwords.clone(), default_groups.clone()),
            sessions: Sessions::new(context(), passwords.clone(), default_groups),
            groups: Groups::new(context()),
            edit_leases: EditLeases::new(context()),
            members: Members::new(context()),
            mutes: Mutes::new(context()),
            bans: Bans::new(context()),
            invites: Invites::new(context()),
            channels: Channels::new(context()),
            messages: Messages::new(context()),
            buckets: Buckets::new(context()),
            pins: Pins::new(context()),
            reactions: Reactions::new(context()),
            marks: Marks::new(context()),
            presence,
            sync,
            tickets: Tickets::new(context()),
            typing: Typing::new(context()),
        }
    }
}

/// Serves the API until the process is told to stop, then finishes what is in flight.
///
/// # Errors
///
/// If the store cannot be read, or the server cannot be started.
pub async fn run(process: Process) -> anyhow::Result<()> {
    let log = process.start_log();
    let surroundings = Surroundings {
        keys: process.keys()?,
        clock: process.clock.clone(),
        log: log.clone(),
        revocations: process.follow_revocations().await?,
    };
    let api = Api::new(&process.config, &process.backends, surroundings)?;
    let readiness = api.checks(Readiness::default());
    let shutdown = process.tasks.shutdown().clone();
    let served = process.serve(readiness, 0, api.routes(), shutdown).await;
    log.stop().await;
    served
}
