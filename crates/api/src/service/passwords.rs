//! Hashing and checking passwords with argon2id, off the threads that serve requests.
//!
//! Each run takes a core and `auth.argon2_memory_kib` of memory, so there is at most one per
//! core at a time; 256 more may wait, and who comes then is told to come again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use tidings_common::config::AuthConfig;
use tidings_common::domain::Password;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::ServiceError;

/// How many may wait for a core. At some 50 ms a run this is a wait of seconds.
const QUEUE_LIMIT: usize = 256;
/// When to try again once the queue is full.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(crate) struct Passwords {
    argon2: Argon2<'static>,
    cores: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Of nobody's password, made with the same parameters: checked where there is no account,
    /// so that the answer takes as long.
    nobody: String,
}

/// `auth.argon2_memory_kib` and `auth.argon2_passes` do not fit argon2.
#[derive(Debug, thiserror::Error)]
#[error("the parameters of argon2 are unusable: {0}")]
pub struct BadParameters(String);

impl Passwords {
    pub(crate) fn new(config: &AuthConfig) -> Result<Self, BadParameters> {
        let params = Params::new(config.argon2_memory_kib, config.argon2_passes, 1, None)
            .map_err(|error| BadParameters(error.to_string()))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = hash(&argon2, Uuid::new_v4().as_bytes())
            .map_err(|error| BadParameters(error.to_string()))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            argon2,
            cores: Arc::new(Semaphore::new(cores)),
            waiting: AtomicUsize::new(0),
            nobody,
        })
    }

    /// The PHC string to keep.
    pub(super) async fn hash(&self, password: &Password) -> Result<String, ServiceError> {
        let (argon2, password) = (self.argon2.clone(), password.clone());
        self.run(move || hash(&argon2, password.as_str().as_bytes()))
            .await?
            .map_err(|error| ServiceError::Internal(Box::new(HashFailed(error.to_string()))))
    }

    /// Whether `password` is the one behind `phc`; takes as long, and is false, without one.
    pub(super) async fn verify(
        &self,
        password: &Password,
        phc: Option<&str>,
    ) -> Result<bool, ServiceError> {
        let known = phc.is_some();
        let phc = phc.unwrap_or(&self.nobody).to_owned();
        let (argon2, password) = (self.argon2.clone(), password.clone());
        let matches = self
            .run(move || {
                argon2
                    .verify_password(password.as_str().as_bytes(), phc.as_str())
                    .is_ok()
            })
            .await?;
        Ok(matches && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let permit = {
            let _place = Place::take(&self.waiting)?;
            let cores = self.cores.clone();
            let permit = cores.acquire_owned().await;
            permit.map_err(|error| ServiceError::Internal(Box::new(error)))?
        };
        // The permit goes with the work, which goes on if the request does not.
        let run = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        run.await
            .map_err(|error| ServiceError::Internal(Box::new(error)))
    }
}

/// A place in the queue, given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, ServiceError> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::SeqCst) >= QUEUE_LIMIT {
            return Err(ServiceError::RateLimited {
                why: "too many passwords wait to be checked",
                retry_after: RETRY_AFTER,
            });
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a password could not be hashed: {0}")]
struct HashFailed(String);

fn hash(argon2: &Argon2<'_>, password: &[u8]) -> argon2::password_hash::Result<String> {
    // A salt must be unique, not secret: 122 random bits are.
    let salt = Uuid::new_v4();
    let hash = argon2.hash_password_with_salt(password, salt.as_bytes())?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        let config = AuthConfig {
            secret: None,
            access_ttl: Duration::from_secs(900),
            refresh_ttl: Duration::from_secs(900),
            argon2_memory_kib: 8,
            argon2_passes: 1,
        };
        Passwords::new(&config).unwrap()
    }

    #[tokio::test]
    async fn a_password_is_known_by_its_hash_alone() {
        let passwords = passwords();
        let right = Password::parse("correct horse").unwrap();
        let wrong = Password::parse("battery staple").unwrap();
        let phc = passwords.hash(&right).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{phc}");
        assert_ne!(phc, passwords.hash(&right).await.unwrap());
        assert!(passwords.verify(&right, Some(&phc)).await.unwrap());
        assert!(!passwords.verify(&wrong, Some(&phc)).await.unwrap());
        assert!(!passwords.verify(&right, None).await.unwrap());
    }

    #[tokio::test]
    async fn who_comes_when_the_queue_is_full_is_sent_away_and_others_are_not() {
        let passwords = passwords();
        let places: Vec<_> = (0..QUEUE_LIMIT)
            .map(|_| Place::take(&passwords.waiting).unwrap())
            .collect();
        let password = Password::parse("correct horse").unwrap();
        let refused = passwords.hash(&password).await;
        assert!(matches!(refused, Err(ServiceError::RateLimited { .. })));
        drop(places);
        assert!(passwords.hash(&password).await.is_ok());
        assert_eq!(passwords.waiting.load(Ordering::SeqCst), 0);
    }
}
