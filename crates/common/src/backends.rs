//! From settings to the store, the bus and presence: the only place that asks which kind.

use std::sync::Arc;

use crate::bus::{Bus, MemoryBus};
use crate::clock::Clock;
use crate::config::{BusBackend, Config, PresenceConfig, StoreConfig};
use crate::presence::{MemoryPresence, Presence};
use crate::store::{OpenError, SqliteStore, Store};

/// What stands behind the traits in this process.
#[derive(Clone)]
pub struct Backends {
    pub store: Arc<dyn Store>,
    pub bus: Arc<dyn Bus>,
    pub presence: Arc<dyn Presence>,
}

/// Why the process cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    #[error("the database cannot be opened")]
    Store(#[from] OpenError),
    /// The settings name it, this version does not have it.
    #[error("{0} is not available in this version of Tidings")]
    NotAvailable(&'static str),
}

impl Backends {
    /// Opens what `config` names.
    ///
    /// # Errors
    ///
    /// [`BackendError`]; nothing stays open.
    pub fn open(config: &Config, clock: &Arc<dyn Clock>) -> Result<Self, BackendError> {
        let bus: Arc<dyn Bus> = match &config.bus.backend {
            BusBackend::Memory => Arc::new(MemoryBus::new(config.bus.partitions)),
            BusBackend::RabbitMq { .. } => {
                return Err(BackendError::NotAvailable("bus.kind \"rabbitmq\""));
            }
        };
        let presence: Arc<dyn Presence> = match &config.presence {
            PresenceConfig::Memory => Arc::new(MemoryPresence::new(clock.clone())),
            PresenceConfig::Redis { .. } => {
                return Err(BackendError::NotAvailable("presence.kind \"redis\""));
            }
        };
        let store: Arc<dyn Store> = match &config.store {
            StoreConfig::Sqlite { path } => Arc::new(SqliteStore::open(path)?),
            StoreConfig::MongoDb { .. } => {
                return Err(BackendError::NotAvailable("store.kind \"mongodb\""));
            }
        };
        Ok(Self {
            store,
            bus,
            presence,
        })
    }
}
