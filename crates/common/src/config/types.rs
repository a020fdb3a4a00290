//! The settings as the program uses them: every value checked, every kind with its address.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::domain::{Name, Username};

/// Which program is being configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binary {
    /// `tidings`: everything in one process.
    Standalone,
    Api,
    WsPush,
    Worker,
}

impl Binary {
    /// The program's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Standalone => "tidings",
            Self::Api => "tidings-api",
            Self::WsPush => "tidings-ws-push",
            Self::Worker => "tidings-worker",
        }
    }

    pub(super) fn default_listen(self) -> SocketAddr {
        let port = match self {
            Self::Standalone | Self::Api => 8080,
            Self::WsPush => 8081,
            Self::Worker => 8082,
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

/// All settings of one process.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// Without a trailing slash.
    pub public_url: String,
    pub(super) public_url_is_default: bool,
    pub store: StoreConfig,
    pub bus: BusConfig,
    pub presence: PresenceConfig,
    pub auth: AuthConfig,
    pub log: LogConfig,
    pub ws: WsConfig,
    pub limits: Limits,
    pub default_groups: DefaultGroups,
    pub telemetry: TelemetryConfig,
}

/// Groups that every user joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DefaultGroups {
    /// Each once; at most 20.
    pub names: Vec<Name>,
    /// Who joins them as their owner.
    pub owner: Option<Username>,
}

/// Where entries and state are kept.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    Sqlite { path: PathBuf },
    MongoDb { url: SecretString },
}

/// How deltas travel between processes.
#[derive(Debug, Clone)]
pub struct BusConfig {
    pub backend: BusBackend,
    pub partitions: NonZeroU16,
    pub prefix: String,
}

/// What carries the deltas.
#[derive(Debug, Clone)]
pub enum BusBackend {
    Memory,
    RabbitMq {
        /// Not empty.
        urls: Vec<SecretString>,
        /// At most `partitions`.
        exchanges: NonZeroU16,
    },
}

/// Where presence, tickets, edit leases and counters are kept.
#[derive(Debug, Clone)]
pub enum PresenceConfig {
    Memory,
    Redis { url: SecretString, prefix: String },
}

#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// At least 32 bytes. `None` only for `tidings` on SQLite, which keeps one beside its
    /// database ([`super::secret_beside`]).
    pub secret: Option<SecretString>,
    pub access_ttl: Duration,
    pub refresh_ttl: Duration,
    pub argon2_memory_kib: u32,
    pub argon2_passes: u32,
}

/// The append-only log of deltas (not the program's log: that is [`TelemetryConfig`]).
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// How long entries other than messages are kept; more than 25 hours.
    pub retention: Duration,
}

#[derive(Debug, Clone)]
pub struct WsConfig {
    /// Without a trailing slash; http or https.
    pub public_url: String,
    pub(super) public_url_is_default: bool,
    pub max_connections: usize,
    pub max_connections_per_user: usize,
    /// As browsers send them: scheme, host and port.
    pub origins: Vec<String>,
    pub drain: Duration,
    pub heartbeat: Duration,
    pub mailbox_bytes: usize,
    pub mailbox_deltas: usize,
    pub write_deadline: Duration,
}

/// How much there may be of everything. What is beyond a limit is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A group with more members is large; at most 4,000.
    pub fanout_limit: u32,
    pub channels_per_group: u32,
    pub members_per_group: u32,
    pub bans_per_group: u32,
    pub invites_per_group: u32,
    pub groups_per_user: u32,
    pub sessions_per_user: u32,
    pub devices_per_user: u32,
    pub documents_per_channel: u32,
    pub emoji_per_message: u32,
    pub pins_per_channel: u32,
    pub entry_bytes: usize,
    pub body_bytes: usize,
    pub document_bytes: usize,
}

#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    pub log_format: LogFormat,
    /// Directives of `tracing_subscriber::EnvFilter`, known to parse.
    pub log_filter: String,
    /// The base address of the OTLP receiver, http, without a trailing slash. None: nothing is
    /// traced.
    pub otlp_endpoint: Option<String>,
    /// The part of traces that is recorded, of those that begin here; from 0 to 1.
    pub trace_ratio: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Json,
    Pretty,
}
