//! From plain values to typed settings. Every rule across keys stands here; a broken one adds
//! a line to the problems and the rest is still checked.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use secrecy::SecretString;

use super::layers::Layers;
use super::types::{
    AuthConfig, Binary, BusBackend, BusConfig, Config, DefaultGroups, Limits, LogConfig, LogFormat,
    PresenceConfig, StoreConfig, TelemetryConfig, WsConfig,
};
use super::{Problems, address, raw};
use crate::domain::{Name, Username};

/// All recipients of a delta must fit into one AMQP header frame.
const MAX_FANOUT_LIMIT: u32 = 4000;
const MIN_SECRET_BYTES: usize = 32;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Idempotency keys must live for 24 hours, with room for the trimmer and for clocks.
const MIN_RETENTION: Duration = Duration::from_secs(25 * 60 * 60);
/// Below this argon2 has no room for one lane.
const MIN_ARGON2_KIB: u32 = 8;
/// Each is an append for everybody who registers.
const MAX_DEFAULT_GROUPS: usize = 20;

pub(super) fn config(binary: Binary, layers: &Layers, problems: &mut Problems) -> Option<Config> {
    let listen = listen(binary, layers, problems);
    let given_url = layers
        .find::<String>("public_url", problems)
        .and_then(|url| checked("public_url", address::base_url(&url), problems));
    let default_groups = default_groups(layers, problems);
    // Every section is looked at before the first missing one ends it.
    let store = store(binary, layers, problems);
    let bus = bus(binary, layers, problems);
    let presence = presence(binary, layers, problems);
    let auth = auth(binary, layers, store.as_ref(), problems);
    let log = log(layers, problems);
    let limits = limits(layers, problems);
    let telemetry = telemetry(layers, problems);
    let public_url_is_default = given_url.is_none();
    let public_url = given_url.unwrap_or_else(|| format!("http://{listen}"));
    let ws = ws(layers, &public_url, problems);
    Some(Config {
        listen,
        public_url,
        public_url_is_default,
        store: store?,
        bus: bus?,
        presence: presence?,
        auth: auth?,
        log: log?,
        ws: ws?,
        limits: limits?,
        default_groups: default_groups?,
        telemetry: telemetry?,
    })
}

fn listen(binary: Binary, layers: &Layers, problems: &mut Problems) -> SocketAddr {
    let Some(text) = layers.find::<String>("listen", problems) else {
        return binary.default_listen();
    };
    let address = text
        .parse()
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:8080".to_owned());
    checked("listen", address, problems).unwrap_or_else(|| binary.default_listen())
}

fn default_groups(layers: &Layers, problems: &mut Problems) -> Option<DefaultGroups> {
    let names: Vec<String> = layers.get("default_groups", problems)?;
    if names.len() > MAX_DEFAULT_GROUPS {
        problems.add(format!("default_groups: at most {MAX_DEFAULT_GROUPS}"));
    }
    let mut checked = Vec::new();
    for name in names {
        match Name::parse(name) {
            Ok(name) if checked.contains(&name) => {
                problems.add("default_groups: each name once".to_owned());
            }
            Ok(name) => checked.push(name),
            Err(error) => problems.add(format!("default_groups: {error}")),
        }
    }
    let owner = layers.find::<String>("default_groups_owner", problems);
    let owner = owner.and_then(|owner| match Username::parse(owner) {
        Ok(owner) => Some(owner),
        Err(error) => {
            problems.add(format!("default_groups_owner: {error}"));
            None
        }
    });
    Some(DefaultGroups {
        names: checked,
        owner,
    })
}

fn store(binary: Binary, layers: &Layers, problems: &mut Problems) -> Option<StoreConfig> {
    let raw: raw::Store = layers.get("store", problems)?;
    match raw.kind.as_str() {
        "sqlite" => {
            refuse_foreign(layers, "store", "sqlite", &["url"], problems);
            single_process_only(binary, "store", "sqlite", "mongodb", problems);
            if raw.path.as_os_str().is_empty() {
                problems.add("store.path: must not be empty".to_owned());
            }
            Some(StoreConfig::Sqlite { path: raw.path })
        }
        "mongodb" => {
            refuse_foreign(layers, "store", "mongodb", &["path"], problems);
            let schemes = ["mongodb://"];
            let url = required("store.url", "mongodb", raw.url, &schemes, problems)?;
            Some(StoreConfig::MongoDb { url })
        }
        _ => unknown_kind("store", "sqlite or mongodb", problems),
    }
}

fn bus(binary: Binary, layers: &Layers, problems: &mut Problems) -> Option<BusConfig> {
    let raw: raw::Bus = layers.get("bus", problems)?;
    let partitions = NonZeroU16::new(raw.partitions);
    if partitions.is_none() {
        problems.add("bus.partitions: must be at least 1".to_owned());
    }
    check_prefix("bus.prefix", &raw.prefix, problems);
    let backend = match raw.kind.as_str() {
        "memory" => {
            refuse_foreign(layers, "bus", "memory", &["urls", "exchanges"], problems);
            single_process_only(binary, "bus", "memory", "rabbitmq", problems);
            BusBackend::Memory
        }
        "rabbitmq" => rabbitmq(raw.urls, raw.exchanges, raw.partitions, problems)?,
        _ => return unknown_kind("bus", "memory or rabbitmq", problems),
    };
    Some(BusConfig {
        backend,
        partitions: partitions?,
        prefix: raw.prefix,
    })
}

fn rabbitmq(
    urls: Vec<String>,
    exchanges: u16,
    partitions: u16,
    problems: &mut Problems,
) -> Option<BusBackend> {
    let schemes = ["amqp://", "amqps://"];
    if urls.is_empty() {
        problems.add("bus.urls: is required by bus.kind = \"rabbitmq\"".to_owned());
    }
    let urls: Vec<SecretString> = urls
        .into_iter()
        .filter_map(|url| required("bus.urls", "rabbitmq", Some(url), &schemes, problems))
        .collect();
    let exchanges = NonZeroU16::new(exchanges).filter(|count| count.get() <= partitions);
    if exchanges.is_none() {
        problems.add("bus.exchanges: must be between 1 and bus.partitions".to_owned());
    }
    Some(BusBackend::RabbitMq {
        urls,
        exchanges: exchanges?,
    })
}

fn presence(binary: Binary, layers: &Layers, problems: &mut Problems) -> Option<PresenceConfig> {
    let raw: raw::Presence = layers.get("presence", problems)?;
    check_prefix("presence.prefix", &raw.prefix, problems);
    match raw.kind.as_str() {
        "memory" => {
            refuse_foreign(layers, "presence", "memory", &["url", "prefix"], problems);
            single_process_only(binary, "presence", "memory", "redis", problems);
            Some(PresenceConfig::Memory)
        }
        "redis" => {
            let schemes = ["redis://", "rediss://"];
            let url = required("presence.url", "redis", raw.url, &schemes, problems)?;
            let prefix = raw.prefix;
            Some(PresenceConfig::Redis { url, prefix })
        }
        _ => unknown_kind("presence", "memory or redis", problems),
    }
}

fn auth(
    binary: Binary,
    layers: &Layers,
    store: Option<&StoreConfig>,
    problems: &mut Problems,
) -> Option<AuthConfig> {
    let raw: raw::Auth = layers.get("auth", problems)?;
    if let Some(secret) = &raw.secret
        && secret.len() < MIN_SECRET_BYTES
    {
        problems.add("auth.secret: must have at least 32 bytes".to_owned());
    }
    let makes_its_own =
        binary == Binary::Standalone && matches!(store, None | Some(StoreConfig::Sqlite { .. }));
    if raw.secret.is_none() && !makes_its_own {
        problems.add(format!(
            "auth.secret: is required by {} (only `tidings` on SQLite can make its own)",
            binary.name()
        ));
    }
    at_least("auth.access_ttl_secs", raw.access_ttl_secs, 1, problems);
    at_least("auth.refresh_ttl_days", raw.refresh_ttl_days, 1, problems);
    let memory_kib = raw.argon2_memory_kib;
    at_least(
        "auth.argon2_memory_kib",
        memory_kib,
        MIN_ARGON2_KIB,
        problems,
    );
    at_least("auth.argon2_passes", raw.argon2_passes, 1, problems);
    Some(AuthConfig {
        secret: raw.secret.map(SecretString::from),
        access_ttl: Duration::from_secs(raw.access_ttl_secs.into()),
        refresh_ttl: DAY * u32::from(raw.refresh_ttl_days),
        argon2_memory_kib: raw.argon2_memory_kib,
        argon2_passes: raw.argon2_passes,
    })
}

fn log(layers: &Layers, problems: &mut Problems) -> Option<LogConfig> {
    let raw: raw::Log = layers.get("log", problems)?;
    let retention = DAY * u32::from(raw.retention_days);
    if retention < MIN_RETENTION {
        problems.add(
            "log.retention_days: less than 25 hours is refused, because idempotency keys \
             must live for a day; the least is 2"
                .to_owned(),
        );
    }
    Some(LogConfig { retention })
}

fn ws(layers: &Layers, public_url: &str, problems: &mut Problems) -> Option<WsConfig> {
    let raw: raw::Ws = layers.get("ws", problems)?;
    let given = raw
        .public_url
        .and_then(|url| checked("ws.public_url", address::base_url(&url), problems));
    let origins = raw.origins.iter();
    let origins = origins
        .filter_map(|text| checked("ws.origins", address::origin(text), problems))
        .collect();
    at_least("ws.max_connections", raw.max_connections, 1, problems);
    let per_user = raw.max_connections_per_user;
    at_least("ws.max_connections_per_user", per_user, 1, problems);
    at_least("ws.heartbeat_ms", raw.heartbeat_ms, 10, problems);
    at_least("ws.mailbox_bytes", raw.mailbox_bytes, 1024, problems);
    at_least("ws.mailbox_deltas", raw.mailbox_deltas, 1, problems);
    at_least("ws.write_deadline_ms", raw.write_deadline_ms, 1, problems);
    Some(WsConfig {
        public_url_is_default: given.is_none(),
        public_url: given.unwrap_or_else(|| public_url.to_owned()),
        max_connections: raw.max_connections,
        max_connections_per_user: raw.max_connections_per_user,
        origins,
        drain: Duration::from_secs(raw.drain_secs.into()),
        heartbeat: Duration::from_millis(raw.heartbeat_ms.into()),
        mailbox_bytes: raw.mailbox_bytes,
        mailbox_deltas: raw.mailbox_deltas,
        write_deadline: Duration::from_millis(raw.write_deadline_ms.into()),
    })
}

fn limits(layers: &Layers, problems: &mut Problems) -> Option<Limits> {
    let fanout_limit: Option<u32> = layers.get("fanout_limit", problems);
    if fanout_limit.is_some_and(|limit| !(2..=MAX_FANOUT_LIMIT).contains(&limit)) {
        problems.add(format!(
            "fanout_limit: must be between 2 and {MAX_FANOUT_LIMIT}"
        ));
    }
    let raw: raw::Limits = layers.get("limits", problems)?;
    for (key, value) in [
        ("limits.channels_per_group", raw.channels_per_group),
        ("limits.members_per_group", raw.members_per_group),
        ("limits.bans_per_group", raw.bans_per_group),
        ("limits.invites_per_group", raw.invites_per_group),
        ("limits.groups_per_user", raw.groups_per_user),
        ("limits.sessions_per_user", raw.sessions_per_user),
        ("limits.devices_per_user", raw.devices_per_user),
    ] {
        at_least(key, value, 1, problems);
    }
    at_least("limits.entry_bytes", raw.entry_bytes, 1024, problems);
    at_least("limits.body_bytes", raw.body_bytes, 1024, problems);
    at_least("limits.document_bytes", raw.document_bytes, 1024, problems);
    Some(Limits {
        fanout_limit: fanout_limit?,
        channels_per_group: raw.channels_per_group,
        members_per_group: raw.members_per_group,
        bans_per_group: raw.bans_per_group,
        invites_per_group: raw.invites_per_group,
        groups_per_user: raw.groups_per_user,
        sessions_per_user: raw.sessions_per_user,
        devices_per_user: raw.devices_per_user,
        documents_per_channel: raw.documents_per_channel,
        emoji_per_message: raw.emoji_per_message,
        pins_per_channel: raw.pins_per_channel,
        entry_bytes: raw.entry_bytes,
        body_bytes: raw.body_bytes,
        document_bytes: raw.document_bytes,
    })
}

fn telemetry(layers: &Layers, problems: &mut Problems) -> Option<TelemetryConfig> {
    let raw: raw::Telemetry = layers.get("telemetry", problems)?;
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&raw.log_filter) {
        problems.add(format!("telemetry.log_filter: {error}"));
    }
    let log_format = match raw.log_format.as_str() {
        "json" => LogFormat::Json,
        "pretty" => LogFormat::Pretty,
        _ => {
            problems.add("telemetry.log_format: must be json or pretty".to_owned());
            return None;
        }
    };
    if !(0.0..=1.0).contains(&raw.trace_ratio) {
        problems.add("telemetry.trace_ratio: must be between 0 and 1".to_owned());
    }
    let key = "telemetry.otlp_endpoint";
    let otlp_endpoint = raw
        .otlp_endpoint
        .and_then(|url| checked(key, address::plain_base_url(&url), problems));
    Some(TelemetryConfig {
        log_format,
        log_filter: raw.log_filter,
        otlp_endpoint,
        trace_ratio: raw.trace_ratio,
    })
}

fn checked<T>(key: &str, result: Result<T, String>, problems: &mut Problems) -> Option<T> {
    result
        .map_err(|problem| problems.add(format!("{key}: {problem}")))
        .ok()
}

fn at_least<T>(key: &str, value: T, least: T, problems: &mut Problems)
where
    T: PartialOrd + std::fmt::Display,
{
    if value < least {
        problems.add(format!("{key}: must be at least {least}"));
    }
}

/// A prefix becomes part of names on brokers, which allow 255 bytes.
fn check_prefix(key: &str, prefix: &str, problems: &mut Problems) {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if prefix.is_empty() || prefix.len() > 64 || !prefix.chars().all(allowed) {
        problems.add(format!(
            "{key}: must be 1 to 64 of letters, digits, dot, hyphen and underscore"
        ));
    }
}

/// An address that its kind cannot do without. It is never quoted: it holds a password.
fn required(
    key: &str,
    kind: &str,
    url: Option<String>,
    schemes: &[&str],
    problems: &mut Problems,
) -> Option<SecretString> {
    let Some(url) = url else {
        problems.add(format!("{key}: is required by kind = \"{kind}\""));
        return None;
    };
    if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        problems.add(format!("{key}: must begin with {}", schemes.join(" or ")));
    }
    Some(SecretString::from(url))
}

/// A key that only another kind uses says that the kind was forgotten.
fn refuse_foreign(
    layers: &Layers,
    section: &str,
    kind: &str,
    keys: &[&str],
    problems: &mut Problems,
) {
    for name in keys {
        let key = format!("{section}.{name}");
        if let Some(writer) = layers.writer(&key) {
            problems.add(format!(
                "{key}: has no meaning with {section}.kind = \"{kind}\" (from {writer})"
            ));
        }
    }
}

fn single_process_only(
    binary: Binary,
    section: &str,
    kind: &str,
    instead: &str,
    problems: &mut Problems,
) {
    if binary != Binary::Standalone {
        problems.add(format!(
            "{section}.kind: \"{kind}\" works within one process only; {} needs \"{instead}\"",
            binary.name()
        ));
    }
}

fn unknown_kind<T>(section: &str, kinds: &str, problems: &mut Problems) -> Option<T> {
    problems.add(format!("{section}.kind: must be {kinds}"));
    None
}
