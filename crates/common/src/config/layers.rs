//! Brings the layers together: compiled-in defaults < file < environment. Knows which keys
//! exist and who wrote them, and nothing of what they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use config::{FileFormat, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::Problems;

/// The annotated reference of all settings.
pub(super) const DEFAULTS: &str = include_str!("default.toml");

const VARIABLE_PREFIX: &str = "TIDINGS__";

/// Keys that `default.toml` shows as comments only.
pub(super) const WITHOUT_DEFAULT: &[&str] = &[
    "listen",
    "public_url",
    "store.url",
    "bus.urls",
    "presence.url",
    "auth.secret",
    "ws.public_url",
    "telemetry.otlp_endpoint",
    "default_groups_owner",
];

/// Keys that may be given as `KEY_file` instead.
const SECRETS: &[&str] = &["store.url", "bus.urls", "presence.url", "auth.secret"];

/// Keys whose value is a list.
const LISTS: &[&str] = &["bus.urls", "ws.origins", "default_groups"];

/// A file that holds a secret is no longer than this.
const SECRET_FILE_BYTES: u64 = 64 * 1024;

/// Who set a key.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    File(PathBuf),
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// All layers, merged.
pub(super) struct Layers {
    merged: config::Config,
    written: BTreeMap<String, Origin>,
}

impl Layers {
    /// Merges `file` and `environment` over the defaults. What is wrong is added to
    /// `problems` and left out, so that the rest can still be checked.
    pub(super) fn read(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        problems: &mut Problems,
    ) -> Self {
        let mut written = BTreeMap::new();
        let mut values = BTreeMap::new();
        if let Some(path) = file {
            for (key, value) in read_file(path, problems) {
                written.insert(key.clone(), Origin::File(path.to_owned()));
                values.insert(key, value);
            }
        }
        for (name, text) in environment {
            let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            let key = rest.to_ascii_lowercase().replace("__", ".");
            written.insert(key.clone(), Origin::Variable(name));
            values.insert(key, Value::new(None, text));
        }
        refuse_unknown(&mut values, &written, problems);
        read_secret_files(&mut values, &mut written, problems);
        split_lists(&mut values);
        Self {
            merged: merge(values, problems),
            written,
        }
    }

    /// Reads one section, or one top-level key, into `T`.
    pub(super) fn get<T: DeserializeOwned>(&self, key: &str, problems: &mut Problems) -> Option<T> {
        self.read_key(key)
            .map_err(|problem| problems.add(problem))
            .ok()?
            .or_else(|| {
                problems.add(format!("{key}: is missing"));
                None
            })
    }

    /// Like `get`, for a key that need not be there.
    pub(super) fn find<T: DeserializeOwned>(
        &self,
        key: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        self.read_key(key)
            .map_err(|problem| problems.add(problem))
            .ok()?
    }

    /// `None` if nothing gave `key` a value. An error names the key within a section.
    fn read_key<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, String> {
        let value: Value = match self.merged.get(key) {
            Ok(value) => value,
            Err(config::ConfigError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(format!("{key}: {error}")),
        };
        serde_path_to_error::deserialize(value)
            .map(Some)
            .map_err(|error| match error.path().iter().next() {
                Some(_) => format!("{key}.{}: {}", error.path(), error.inner()),
                None => format!("{key}: {}", error.inner()),
            })
    }

    /// Who wrote `key`; `None` if its value, if any, is the default.
    pub(super) fn writer(&self, key: &str) -> Option<&Origin> {
        self.written.get(key)
    }
}

fn merge(values: BTreeMap<String, Value>, problems: &mut Problems) -> config::Config {
    let defaults = || config::File::from_str(DEFAULTS, FileFormat::Toml);
    let mut builder = config::Config::builder().add_source(defaults());
    for (key, value) in values {
        builder = match builder.clone().set_override(&key, value) {
            Ok(builder) => builder,
            Err(error) => {
                problems.add(format!("{key}: {error}"));
                builder
            }
        };
    }
    builder.build().unwrap_or_else(|error| {
        problems.add(error.to_string());
        config::Config::default()
    })
}

fn read_file(path: &Path, problems: &mut Problems) -> Vec<(String, Value)> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.add(format!("cannot read {}: {error}", path.display()));
            return Vec::new();
        }
    };
    match text.parse::<toml::Table>() {
        Ok(table) => flatten(table),
        // The error's own text spans lines and quotes the file, which may hold secrets.
        Err(error) => {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            let path = path.display();
            problems.add(format!("{path}, line {line}: {}", error.message()));
            Vec::new()
        }
    }
}

/// The leaves of `table` under their dotted names.
fn flatten(table: toml::Table) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    let mut waiting = vec![(String::new(), table)];
    while let Some((prefix, table)) = waiting.pop() {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                toml::Value::Table(inner) => waiting.push((format!("{key}."), inner)),
                leaf => leaves.push((key, to_value(leaf))),
            }
        }
    }
    leaves
}

fn to_value(value: toml::Value) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(flag) => ValueKind::Boolean(flag),
        toml::Value::Datetime(moment) => ValueKind::String(moment.to_string()),
        toml::Value::Array(items) => ValueKind::Array(items.into_iter().map(to_value).collect()),
        // No setting is a list of tables; as text it fails where the list is read.
        toml::Value::Table(_) => ValueKind::Nil,
    };
    Value::new(None, kind)
}

/// Every key that a user may write, `KEY_file` aside.
pub(super) fn known_keys() -> BTreeSet<String> {
    let defaults = DEFAULTS
        .parse::<toml::Table>()
        .expect("a test parses the compiled-in defaults");
    let keys = flatten(defaults).into_iter().map(|(key, _)| key);
    keys.chain(WITHOUT_DEFAULT.iter().map(ToString::to_string))
        .collect()
}

fn refuse_unknown(
    values: &mut BTreeMap<String, Value>,
    written: &BTreeMap<String, Origin>,
    problems: &mut Problems,
) {
    let known = known_keys();
    values.retain(|key, _| {
        let secret = key.strip_suffix("_file");
        let is_known = known.contains(key) || secret.is_some_and(|key| SECRETS.contains(&key));
        if !is_known {
            let writer = written.get(key).map(ToString::to_string);
            problems.add(format!(
                "{key}: there is no such setting (from {})",
                writer.unwrap_or_default()
            ));
        }
        is_known
    });
}

fn read_secret_files(
    values: &mut BTreeMap<String, Value>,
    written: &mut BTreeMap<String, Origin>,
    problems: &mut Problems,
) {
    for key in SECRETS {
        let file_key = format!("{key}_file");
        let Some(path) = values.remove(&file_key) else {
            continue;
        };
        if values.contains_key(*key) {
            problems.add(format!("{key} and {file_key}: only one can be given"));
            continue;
        }
        let path = path.into_string().unwrap_or_default();
        match read_secret(Path::new(&path)) {
            Ok(secret) => {
                values.insert((*key).to_owned(), Value::new(None, secret));
                if let Some(origin) = written.remove(&file_key) {
                    written.insert((*key).to_owned(), origin);
                }
            }
            Err(error) => problems.add(format!("{file_key}: cannot read {path}: {error}")),
        }
    }
}

/// The file's text without the line end that editors and `echo` put there.
pub(super) fn read_secret(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(SECRET_FILE_BYTES)
        .read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Where text stands for a list, its commas separate the items.
fn split_lists(values: &mut BTreeMap<String, Value>) {
    for key in LISTS {
        if let Some(value) = values.get_mut(*key)
            && let ValueKind::String(text) = &value.kind
        {
            let items = text.split(',').map(str::trim);
            let items = items.filter(|item| !item.is_empty());
            value.kind = ValueKind::Array(items.map(|item| Value::new(None, item)).collect());
        }
    }
}
