//! From settings to the store, the bus and presence: the only place that asks which kind.

use std::sync::Arc;

use crate::bus::{
    BadAddress, Bus, ConsumerLimits, MemoryBus, RabbitMqBus, RabbitMqConfig, RabbitMqCounters,
};
use crate::clock::Clock;
use crate::config::{BusBackend, BusConfig, Config, PresenceConfig, StoreConfig};
use crate::measured::{MeasuredBus, MeasuredPresence, MeasuredStore, register_rabbitmq};
use crate::presence::{MemoryPresence, Presence, RedisOpenError, RedisPresence};
use crate::store::{
    BusLayout, Meta, MongoOpenError, MongoStore, SqliteOpenError, SqliteStore, StateStore as _,
    Store, StoreError,
};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

/// What stands behind the traits in this process.
#[derive(Clone)]
pub struct Backends {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub presence: Arc<dyn Presence>,
    /// Which installation this is, as of the start of the process.
    pub meta: Meta,
}

/// Why the process cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("the database cannot be opened")]
    Sqlite(#[from] SqliteOpenError),
    #[error("the database cannot be opened")]
    MongoDb(#[from] MongoOpenError),
    #[error("presence cannot be opened")]
    Redis(#[from] RedisOpenError),
    #[error("the installation's record cannot be read")]
    Store(#[from] StoreError),
    #[error("the broker cannot be addressed")]
    Broker(#[from] BadAddress),
    /// A process with other settings would publish where nobody listens.
    #[error(
        "{setting} is {configured}, but this installation runs with {recorded}: it cannot be \
         changed while there are data"
    )]
    OtherLayout {
        setting: &'static str,
        configured: String,
        recorded: String,
    },
    /// The settings name it, this version does not have it.
    #[error("{0} is not available in this version of Tidings")]
    NotAvailable(&'static str),
}

impl Backends {
    /// Opens what `config` names; calls are counted in `metrics`, and what runs in the
    /// background are `tasks`. The bus and presence may be away: they are reached when they are
    /// back. The store must be there.
    ///
    /// # Errors
    ///
    /// [`BackendError`]; nothing stays open.
    pub async fn open(
        config: &Config,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
        tasks: &Tasks,
    ) -> Result<Self, BackendError> {
        let store = open_store(&config.store, tasks).await?;
        let store = Arc::new(MeasuredStore::new(store, metrics));
        let bus = open_bus(&config.bus, &*store, metrics, tasks).await?;
        let presence = open_presence(&config.presence, clock)?;
        Ok(Self {
            meta: store.meta().await?,
            bus: Arc::new(MeasuredBus::new(bus, metrics)),
            presence: Arc::new(MeasuredPresence::new(presence, metrics)),
            store,
        })
    }
}

/// Opens the store alone, for commands that need nothing else.
///
/// # Errors
///
/// [`BackendError`]
pub async fn open_store(
    config: &StoreConfig,
    tasks: &Tasks,
) -> Result<Arc<dyn Store>, BackendError> {
    match config {
        StoreConfig::Sqlite { path } => Ok(Arc::new(SqliteStore::open(path)?)),
        StoreConfig::MongoDb { url } => Ok(Arc::new(MongoStore::open(url, tasks).await?)),
    }
}

async fn open_bus(
    config: &BusConfig,
    store: &dyn Store,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<Arc<dyn Bus>, BackendError> {
    match &config.backend {
        BusBackend::Memory => {
            register_rabbitmq(&RabbitMqCounters::default(), metrics);
            Ok(Arc::new(MemoryBus::new(config.partitions)))
        }
        BusBackend::RabbitMq { urls, exchanges } => {
            agree(config, exchanges.get(), store).await?;
            let rabbitmq = RabbitMqConfig {
                urls: urls.clone(),
                prefix: config.prefix.clone(),
                partitions: config.partitions,
                exchanges: *exchanges,
                deployment: store.meta().await?.deployment,
                limits: ConsumerLimits::default(),
            };
            let bus = RabbitMqBus::start(rabbitmq, tasks)?;
            register_rabbitmq(bus.counters(), metrics);
            Ok(Arc::new(bus))
        }
    }
}

fn open_presence(
    config: &PresenceConfig,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<dyn Presence>, BackendError> {
    match config {
        PresenceConfig::Memory => Ok(Arc::new(MemoryPresence::new(clock.clone()))),
        PresenceConfig::Redis { url, prefix } => Ok(Arc::new(RedisPresence::open(url, prefix)?)),
    }
}

/// The first process of an installation decides how its processes meet; the others must not
/// differ. A bus within one process has nothing to agree on.
async fn agree(config: &BusConfig, exchanges: u16, store: &dyn Store) -> Result<(), BackendError> {
    let ours = BusLayout {
        prefix: config.prefix.clone(),
        partitions: config.partitions.get(),
        exchanges,
    };
    let recorded = store.agree(ours.clone()).await?;
    let settings = [
        ("bus.prefix", ours.prefix, recorded.prefix),
        (
            "bus.partitions",
            ours.partitions.to_string(),
            recorded.partitions.to_string(),
        ),
        (
            "bus.exchanges",
            ours.exchanges.to_string(),
            recorded.exchanges.to_string(),
        ),
    ];
    for (setting, configured, recorded) in settings {
        if configured != recorded {
            return Err(BackendError::OtherLayout {
                setting,
                configured,
                recorded,
            });
        }
    }
    Ok(())
}
