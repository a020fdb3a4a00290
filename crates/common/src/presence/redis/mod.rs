//! Presence in Redis, shared by the processes of an installation.
//!
//! Connections are made when they are needed and looked at before they are used, so a Redis
//! that was away is reached at the first call after its return. Keys have a life of their own,
//! or that of a server; losing all of them costs a second use of tickets made in the last 30 s, a
//! push notification too many, those who edit their leases, and for some seconds who is there.
//! Nothing outside this module knows Redis.

mod liveness;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisError, cmd};
use deadpool_redis::{BuildError, Manager, Pool};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::{ACKS_KEPT, Acks, Claim, Grant, Holding, Leases, MAX_STREAMS, PresenceError, Tickets};
use crate::domain::{Cursor, SessionId, StreamId, Timestamp};

/// The longest that a call takes, connecting included: upgrades wait for it.
const DEADLINE: Duration = Duration::from_millis(800);
/// Calls under way at the same time; further ones wait for their turn, within their deadline.
const CONNECTIONS: usize = 16;
/// What the clocks of servers may differ by before a ticket that has expired here, and is
/// forgotten, is still good there.
const CLOCK_MARGIN: Duration = Duration::from_secs(30);

const RECORD: &str = include_str!("record.lua");
const TAKE_LEASE: &str = include_str!("take_lease.lua");
const READ_LEASE: &str = include_str!("read_lease.lua");
const END_LEASE: &str = include_str!("end_lease.lua");

/// Presence for several processes. Lives are counted by the clock of Redis.
#[derive(Debug)]
pub struct RedisPresence {
    pool: Pool,
    prefix: String,
    /// Where calls run: not on the caller's, because a connection ends with the runtime that
    /// made it, and a caller may be an HTTP worker.
    runtime: Handle,
}

/// The address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("presence.url is not an address of Redis")]
    Address(#[source] RedisError),
    #[error("connections to Redis cannot be shared")]
    Pool(#[source] BuildError),
}

#[derive(Debug, thiserror::Error)]
#[error("Redis did not answer within {DEADLINE:?}")]
struct NoAnswer;

impl RedisPresence {
    /// Connects to nothing yet. `prefix` begins the names of all keys. To be called on the
    /// runtime that calls will run on.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if `url` is not an address.
    pub fn open(url: &SecretString, prefix: &str) -> Result<Self, OpenError> {
        // The deadline of the call is the only one: the driver's own would be two more.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let manager = Manager::new_with_config(url.expose_secret(), config);
        let pool = Pool::builder(manager.map_err(OpenError::Address)?).max_size(CONNECTIONS);
        Ok(Self {
            pool: pool.build().map_err(OpenError::Pool)?,
            prefix: prefix.to_owned(),
            runtime: Handle::current(),
        })
    }

    fn ticket(&self, ticket: Uuid) -> String {
        format!("{}:ticket:{ticket}", self.prefix)
    }

    fn acks(&self, session: SessionId) -> String {
        format!("{}:acks:{session}", self.prefix)
    }

    fn lease(&self, stream: StreamId) -> String {
        format!("{}:lease:{stream}", self.prefix)
    }

    /// Sends one command. It may take effect though this fails.
    async fn call<T>(&self, command: Cmd) -> Result<T, PresenceError>
    where
        T: FromRedisValue + Send + 'static,
    {
        let pool = self.pool.clone();
        let answer = async move {
            let mut connection = pool.get().await.map_err(unavailable)?;
            let answer = command.query_async(&mut connection).await;
            answer.map_err(unavailable)
        };
        let in_time = tokio::time::timeout(DEADLINE, answer);
        let ended = self.runtime.spawn(in_time).await.map_err(unavailable)?;
        ended.map_err(|_| unavailable(NoAnswer))?
    }
}

fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> PresenceError {
    PresenceError(Box::new(error))
}

#[async_trait]
impl Tickets for RedisPresence {
    async fn redeem(&self, ticket: Uuid, lifetime: Duration) -> Result<bool, PresenceError> {
        let mut command = cmd("SET");
        command.arg(self.ticket(ticket)).arg(1).arg("NX");
        command.arg("PX").arg(millis(lifetime + CLOCK_MARGIN));
        // Nothing: the key is there already.
        let set: Option<String> = self.call(command).await?;
        Ok(set.is_some())
    }
}

#[async_trait]
impl Acks for RedisPresence {
    async fn record(&self, session: SessionId, cursor: &Cursor) -> Result<(), PresenceError> {
        let mut command = cmd("EVAL");
        command.arg(RECORD).arg(1).arg(self.acks(session));
        command.arg(millis(ACKS_KEPT)).arg(MAX_STREAMS);
        for (stream, seq) in cursor {
            command.arg(stream.to_string()).arg(*seq);
        }
        self.call(command).await
    }

    async fn acknowledged(&self, session: SessionId) -> Result<Cursor, PresenceError> {
        let mut command = cmd("HGETALL");
        command.arg(self.acks(session));
        let positions: Vec<(String, u64)> = self.call(command).await?;
        let known = |(stream, seq): (String, u64)| Some((stream.parse().ok()?, seq));
        // After a downgrade there may be streams of a kind that is not known here.
        Ok(positions.into_iter().filter_map(known).collect())
    }
}

#[async_trait]
impl Leases for RedisPresence {
    async fn take(
        &self,
        stream: StreamId,
        claim: Claim,
        lifetime: Duration,
        steal: bool,
    ) -> Result<Grant, PresenceError> {
        let mut command = cmd("EVAL");
        command.arg(TAKE_LEASE).arg(1).arg(self.lease(stream));
        command.arg(claim.session.to_string());
        command.arg(claim.user.to_string());
        command.arg(claim.now.as_millis());
        command.arg(millis(lifetime)).arg(u8::from(steal));
        let (had, held): (Option<bool>, StoredLease) = self.call(command).await?;
        Ok(match had {
            Some(true) => Grant::Renewed,
            Some(false) => Grant::New,
            None => Grant::Refused(read_lease(held)?),
        })
    }

    async fn holding(&self, stream: StreamId) -> Result<Option<Holding>, PresenceError> {
        let mut command = cmd("EVAL");
        command.arg(READ_LEASE).arg(1).arg(self.lease(stream));
        let held: Option<StoredLease> = self.call(command).await?;
        held.map(read_lease).transpose()
    }

    async fn give_back(&self, stream: StreamId, session: SessionId) -> Result<(), PresenceError> {
        let mut command = cmd("EVAL");
        command.arg(END_LEASE).arg(1).arg(self.lease(stream));
        command.arg(session.to_string());
        self.call(command).await
    }
}

/// Session, user, since when, and the rest of its life in milliseconds.
type StoredLease = (String, String, i64, u64);

fn read_lease((session, user, since, rest): StoredLease) -> Result<Holding, PresenceError> {
    Ok(Holding {
        session: session.parse().map_err(unavailable)?,
        user: user.parse().map_err(unavailable)?,
        since: Timestamp::from_millis(since),
        rest: Duration::from_millis(rest),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
