//! The settings as they are written: plain structs, one a section, that know no rules. A kind
//! and its address are separate keys here; `validate` brings them together.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct Store {
    pub(super) kind: String,
    pub(super) path: PathBuf,
    pub(super) url: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Bus {
    pub(super) kind: String,
    #[serde(default)]
    pub(super) urls: Vec<String>,
    pub(super) exchanges: u16,
    pub(super) partitions: u16,
    pub(super) prefix: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Presence {
    pub(super) kind: String,
    pub(super) url: Option<String>,
    pub(super) prefix: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Auth {
    pub(super) secret: Option<String>,
    pub(super) access_ttl_secs: u32,
    pub(super) refresh_ttl_days: u16,
    pub(super) argon2_memory_kib: u32,
    pub(super) argon2_passes: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct Log {
    pub(super) retention_days: u16,
}

#[derive(Debug, Deserialize)]
pub(super) struct Ws {
    pub(super) public_url: Option<String>,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_user: usize,
    pub(super) origins: Vec<String>,
    pub(super) drain_secs: u32,
    pub(super) heartbeat_ms: u32,
    pub(super) mailbox_bytes: usize,
    pub(super) mailbox_deltas: usize,
    pub(super) write_deadline_ms: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct Limits {
    pub(super) channels_per_group: u32,
    pub(super) members_per_group: u32,
    pub(super) bans_per_group: u32,
    pub(super) invites_per_group: u32,
    pub(super) groups_per_user: u32,
    pub(super) sessions_per_user: u32,
    pub(super) devices_per_user: u32,
    pub(super) documents_per_channel: u32,
    pub(super) emoji_per_message: u32,
    pub(super) pins_per_channel: u32,
    pub(super) entry_bytes: usize,
    pub(super) body_bytes: usize,
    pub(super) document_bytes: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct Telemetry {
    pub(super) log_format: String,
    pub(super) log_filter: String,
    pub(super) otlp_endpoint: Option<String>,
    pub(super) trace_ratio: f64,
}
