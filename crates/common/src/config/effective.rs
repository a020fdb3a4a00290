//! The settings in effect, as TOML that would load again but for its masked secrets.

use secrecy::{ExposeSecret as _, SecretString};
use toml::{Table, Value};

use super::address::masked;
use super::types::{BusBackend, Config, LogFormat, PresenceConfig, StoreConfig};

pub(super) fn render(config: &Config) -> String {
    let mut root = Table::new();
    put(&mut root, "listen", config.listen.to_string());
    put(&mut root, "public_url", config.public_url.as_str());
    put(&mut root, "fanout_limit", config.limits.fanout_limit);
    let names = config.default_groups.names.iter();
    let names: Vec<Value> = names.map(|name| name.as_str().into()).collect();
    put(&mut root, "default_groups", names);
    if let Some(owner) = &config.default_groups.owner {
        put(&mut root, "default_groups_owner", owner.as_str());
    }
    put(&mut root, "store", store(&config.store));
    put(&mut root, "bus", bus(config));
    put(&mut root, "presence", presence(&config.presence));
    put(&mut root, "auth", auth(config));
    put(&mut root, "log", log(config));
    put(&mut root, "ws", ws(config));
    put(&mut root, "limits", limits(config));
    put(&mut root, "telemetry", telemetry(config));
    // Serialising a table of plain values cannot fail.
    toml::to_string(&root).unwrap_or_default()
}

fn put(table: &mut Table, key: &str, value: impl Into<Value>) {
    table.insert(key.to_owned(), value.into());
}

/// TOML's numbers are 64 bits with a sign; what does not fit is shown as the largest.
fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn masked_url(url: &SecretString) -> String {
    masked(url.expose_secret())
}

fn store(config: &StoreConfig) -> Table {
    let mut table = Table::new();
    match config {
        StoreConfig::Sqlite { path } => {
            put(&mut table, "kind", "sqlite");
            put(&mut table, "path", path.display().to_string());
        }
        StoreConfig::MongoDb { url } => {
            put(&mut table, "kind", "mongodb");
            put(&mut table, "url", masked_url(url));
        }
    }
    table
}

fn bus(config: &Config) -> Table {
    let mut table = Table::new();
    match &config.bus.backend {
        BusBackend::Memory => put(&mut table, "kind", "memory"),
        BusBackend::RabbitMq { urls, exchanges } => {
            let urls: Vec<Value> = urls.iter().map(|url| masked_url(url).into()).collect();
            put(&mut table, "kind", "rabbitmq");
            put(&mut table, "urls", urls);
            put(&mut table, "exchanges", number(exchanges.get()));
        }
    }
    put(
        &mut table,
        "partitions",
        number(config.bus.partitions.get()),
    );
    put(&mut table, "prefix", config.bus.prefix.as_str());
    table
}

fn presence(config: &PresenceConfig) -> Table {
    let mut table = Table::new();
    match config {
        PresenceConfig::Memory => put(&mut table, "kind", "memory"),
        PresenceConfig::Redis { url, prefix } => {
            put(&mut table, "kind", "redis");
            put(&mut table, "url", masked_url(url));
            put(&mut table, "prefix", prefix.as_str());
        }
    }
    table
}

fn auth(config: &Config) -> Table {
    let auth = &config.auth;
    let mut table = Table::new();
    if auth.secret.is_some() {
        put(&mut table, "secret", "***");
    }
    put(
        &mut table,
        "access_ttl_secs",
        number(auth.access_ttl.as_secs()),
    );
    let days = auth.refresh_ttl.as_secs() / 86_400;
    put(&mut table, "refresh_ttl_days", number(days));
    put(&mut table, "argon2_memory_kib", auth.argon2_memory_kib);
    put(&mut table, "argon2_passes", auth.argon2_passes);
    table
}

fn log(config: &Config) -> Table {
    let mut table = Table::new();
    let days = config.log.retention.as_secs() / 86_400;
    put(&mut table, "retention_days", number(days));
    table
}

fn ws(config: &Config) -> Table {
    let ws = &config.ws;
    let per_user = number(ws.max_connections_per_user);
    let origins: Vec<Value> = ws.origins.iter().map(|o| o.as_str().into()).collect();
    let mut table = Table::new();
    put(&mut table, "public_url", ws.public_url.as_str());
    put(&mut table, "max_connections", number(ws.max_connections));
    put(&mut table, "max_connections_per_user", per_user);
    put(&mut table, "origins", origins);
    put(&mut table, "drain_secs", number(ws.drain.as_secs()));
    put(&mut table, "heartbeat_ms", number(ws.heartbeat.as_millis()));
    put(&mut table, "mailbox_bytes", number(ws.mailbox_bytes));
    put(&mut table, "mailbox_deltas", number(ws.mailbox_deltas));
    let deadline_ms = number(ws.write_deadline.as_millis());
    put(&mut table, "write_deadline_ms", deadline_ms);
    table
}

fn limits(config: &Config) -> Table {
    let limits = &config.limits;
    let mut table = Table::new();
    put(&mut table, "channels_per_group", limits.channels_per_group);
    put(&mut table, "members_per_group", limits.members_per_group);
    put(&mut table, "bans_per_group", limits.bans_per_group);
    put(&mut table, "invites_per_group", limits.invites_per_group);
    put(&mut table, "groups_per_user", limits.groups_per_user);
    put(&mut table, "sessions_per_user", limits.sessions_per_user);
    put(&mut table, "devices_per_user", limits.devices_per_user);
    let documents = limits.documents_per_channel;
    put(&mut table, "documents_per_channel", documents);
    put(&mut table, "emoji_per_message", limits.emoji_per_message);
    put(&mut table, "pins_per_channel", limits.pins_per_channel);
    put(&mut table, "entry_bytes", number(limits.entry_bytes));
    put(&mut table, "body_bytes", number(limits.body_bytes));
    put(&mut table, "document_bytes", number(limits.document_bytes));
    table
}

fn telemetry(config: &Config) -> Table {
    let mut table = Table::new();
    let format = match config.telemetry.log_format {
        LogFormat::Json => "json",
        LogFormat::Pretty => "pretty",
    };
    put(&mut table, "log_format", format);
    put(
        &mut table,
        "log_filter",
        config.telemetry.log_filter.as_str(),
    );
    if let Some(endpoint) = &config.telemetry.otlp_endpoint {
        put(&mut table, "otlp_endpoint", endpoint.as_str());
    }
    put(&mut table, "trace_ratio", config.telemetry.trace_ratio);
    table
}
