//! Where tests find the services that `tests/services` started.

use anyhow::{Result, bail};

pub const MONGODB: &str = "TIDINGS_TEST_MONGODB_URL";
pub const RABBITMQ: &str = "TIDINGS_TEST_RABBITMQ_URL";
pub const REDIS: &str = "TIDINGS_TEST_REDIS_URL";
pub const NGINX: &str = "TIDINGS_TEST_NGINX";
/// Programs for services of a test's own.
pub const MONGOD: &str = "TIDINGS_TEST_MONGOD";
pub const RABBITMQCTL: &str = "TIDINGS_TEST_RABBITMQCTL";

/// A service that is not there, outside of CI: the test is skipped.
#[derive(Debug)]
pub struct Missing(&'static str);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not set", self.0)
    }
}

impl std::error::Error for Missing {}

/// The value of a variable that names a service.
///
/// # Errors
/// It is not set: [`Missing`], which [`started`](crate::started) makes a skipped test; with
/// `CI=true` a failure.
pub fn address(variable: &'static str) -> Result<String> {
    match std::env::var_os(variable) {
        Some(value) if !value.is_empty() => Ok(value.to_string_lossy().into_owned()),
        _ if std::env::var_os("CI").is_some_and(|ci| ci == "true") => {
            bail!("{variable} is not set: see tests/services")
        }
        _ => Err(Missing(variable).into()),
    }
}

/// What an expression of type `Result` yields. Where it needs a service that is not there, the
/// test says that it was skipped and passes.
#[macro_export]
macro_rules! started {
    ($start:expr) => {
        match $start {
            Ok(started) => started,
            Err(error) if error.is::<$crate::services::Missing>() => {
                eprintln!("skipped: {error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    };
}
