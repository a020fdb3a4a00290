//! Who is there, in Redis: each call is one script, and so happens as a whole. What the scripts
//! keep is said in `look.lua`.

use std::time::Duration;

use async_trait::async_trait;
use deadpool_redis::redis::{Cmd, cmd};

use super::{RedisPresence, millis, unavailable};
use crate::domain::{Activity, PresenceState, ServerId, Timestamp, UserId, UserPresence};
use crate::presence::{Buried, Hold, Liveness, PresenceError, Recorded, SEEN_KEPT};

const RENEW: &str = concat!(include_str!("look.lua"), include_str!("renew.lua"));
const HOLD: &str = concat!(include_str!("look.lua"), include_str!("hold.lua"));
const STATES: &str = concat!(include_str!("look.lua"), include_str!("states.lua"));
const BURY: &str = concat!(include_str!("look.lua"), include_str!("bury.lua"));

/// The time, and what each is: the state, when seen, and whether it has changed.
type Held = (i64, Vec<(String, i64, bool)>);
type States = (i64, Vec<(String, i64)>);
type Dead = (i64, bool, Vec<(String, String, i64)>);

/// Redis answered what no script of ours does.
#[derive(Debug, thiserror::Error)]
#[error("Redis holds something else about who is there: {0}")]
struct Strange(String);

impl RedisPresence {
    fn script(&self, script: &str) -> Cmd {
        let mut command = cmd("EVAL");
        command.arg(script).arg(0);
        command.arg(&self.prefix).arg(millis(SEEN_KEPT));
        command
    }

    async fn give_life(
        &self,
        server: ServerId,
        lifetime: Duration,
        how: &str,
    ) -> Result<bool, PresenceError> {
        let mut command = self.script(RENEW);
        command.arg(server.to_string()).arg(millis(lifetime));
        command.arg(how);
        self.call(command).await
    }
}

fn presence(
    user: UserId,
    state: &str,
    seen: i64,
    at: Timestamp,
) -> Result<UserPresence, PresenceError> {
    let state: PresenceState = state.parse().map_err(unavailable)?;
    Ok(UserPresence {
        user,
        state,
        last_seen: (seen >= 0).then(|| Timestamp::from_millis(seen)),
        at,
    })
}

/// There is an answer for each that was asked.
fn all<T>(asked: usize, answers: Vec<T>) -> Result<Vec<T>, PresenceError> {
    if answers.len() == asked {
        return Ok(answers);
    }
    let strange = format!("{} answers to {asked} questions", answers.len());
    Err(unavailable(Strange(strange)))
}

#[async_trait]
impl Liveness for RedisPresence {
    async fn begin(&self, server: ServerId, lifetime: Duration) -> Result<(), PresenceError> {
        self.give_life(server, lifetime, "begin").await.map(drop)
    }

    async fn renew(&self, server: ServerId, lifetime: Duration) -> Result<bool, PresenceError> {
        self.give_life(server, lifetime, "renew").await
    }

    async fn hold(
        &self,
        server: ServerId,
        holds: &[Hold],
    ) -> Result<Option<Vec<Recorded>>, PresenceError> {
        let mut command = self.script(HOLD);
        command.arg(server.to_string());
        for hold in holds {
            let state = match hold.activity {
                Some(Activity::Active) => "active",
                Some(Activity::Away) => "away",
                None => "gone",
            };
            command.arg(hold.user.to_string()).arg(state);
            command.arg(millis(hold.left_ago));
        }
        let held: Option<Held> = self.call(command).await?;
        let Some((at, held)) = held else {
            return Ok(None);
        };
        let held = all(holds.len(), held)?;
        let at = Timestamp::from_millis(at);
        let recorded = holds
            .iter()
            .zip(held)
            .map(|(hold, (state, seen, changed))| {
                let now = presence(hold.user, &state, seen, at)?;
                Ok(Recorded { now, changed })
            });
        recorded.collect::<Result<_, _>>().map(Some)
    }

    async fn states(&self, users: &[UserId]) -> Result<Vec<UserPresence>, PresenceError> {
        let mut command = self.script(STATES);
        for user in users {
            command.arg(user.to_string());
        }
        let (at, states): States = self.call(command).await?;
        let states = all(users.len(), states)?;
        let at = Timestamp::from_millis(at);
        let states = users.iter().zip(states);
        states
            .map(|(user, (state, seen))| presence(*user, &state, seen, at))
            .collect()
    }

    async fn bury(&self, limit: usize) -> Result<Buried, PresenceError> {
        let mut command = self.script(BURY);
        command.arg(limit);
        let (at, more, changed): Dead = self.call(command).await?;
        let at = Timestamp::from_millis(at);
        let changed = changed.into_iter().map(|(user, state, seen)| {
            let user = user.parse().map_err(|_| unavailable(Strange(user)))?;
            presence(user, &state, seen, at)
        });
        Ok(Buried {
            changed: changed.collect::<Result<_, _>>()?,
            more,
        })
    }
}
