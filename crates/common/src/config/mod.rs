//! Settings: compiled-in defaults (`default.toml`, the reference) < file < environment. They
//! are loaded once, validated across fields, and then shared. Nothing else in the workspace
//! reads the environment.
//!
//! Keys are read into plain structs (`raw`) and then validated into the types below, where a
//! kind cannot lack its address.

mod address;
mod effective;
mod layers;
mod raw;
mod secret;
mod types;
mod validate;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

pub use secret::{SecretFileError, secret_beside};
pub use types::{
    AuthConfig, Binary, BusBackend, BusConfig, Config, DefaultGroups, Limits, LogConfig, LogFormat,
    PresenceConfig, StoreConfig, TelemetryConfig, WsConfig,
};

/// The file that is read if none is named and it exists.
const DEFAULT_FILE: &str = "tidings.toml";

impl Config {
    /// Loads the settings of `binary` from the defaults, `file` (else `tidings.toml` in the
    /// working directory, if there is one) and this process's environment.
    ///
    /// # Errors
    ///
    /// Names every problem found, not just the first.
    pub fn load(binary: Binary, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut problems = Problems::default();
        let environment = environment(&mut problems);
        let in_working_directory = Path::new(DEFAULT_FILE);
        let file = file.or_else(|| {
            in_working_directory
                .exists()
                .then_some(in_working_directory)
        });
        Self::validated(binary, file, environment, problems)
    }

    /// Like [`Config::load`], with `environment` in the place of the process's, and without
    /// looking for a file that is not named.
    ///
    /// # Errors
    ///
    /// Names every problem found, not just the first.
    pub fn load_from(
        binary: Binary,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        Self::validated(binary, file, environment, Problems::default())
    }

    fn validated(
        binary: Binary,
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        mut problems: Problems,
    ) -> Result<Self, ConfigError> {
        let layers = layers::Layers::read(file, environment, &mut problems);
        let config = validate::config(binary, &layers, &mut problems);
        match config {
            Some(config) if problems.0.is_empty() => Ok(config),
            _ => Err(ConfigError {
                problems: problems.0,
            }),
        }
    }

    /// These settings once the listener is bound to `address`: where `listen` asked for any
    /// free port, the addresses that default to it name the real one.
    #[must_use]
    pub fn with_bound_address(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        if self.public_url_is_default {
            self.public_url = format!("http://{address}");
        }
        if self.ws.public_url_is_default {
            self.ws.public_url.clone_from(&self.public_url);
        }
        self
    }

    /// The settings in effect as TOML, secrets masked, keys of kinds not chosen left out.
    #[must_use]
    pub fn effective(&self) -> String {
        effective::render(self)
    }
}

/// The process's variables that are meant for us.
fn environment(problems: &mut Problems) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if !name.starts_with("TIDINGS__") {
            continue;
        }
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_) => problems.add(format!("{name}: is not valid UTF-8")),
        }
    }
    variables
}

/// What is wrong with the settings, one line each.
#[derive(Debug, Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, problem: String) {
        self.0.push(problem);
    }
}

/// The settings are invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one; each is one line and names its key.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}
