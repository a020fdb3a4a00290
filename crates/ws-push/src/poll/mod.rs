//! Long polling: a request that waits until there is something to read, and is answered with it.
//! The answer is always that of a sync, read from the log after the client was registered;
//! nothing that was pushed is kept for it. See `pollers` for what stays between two polls.

mod pollers;

use std::time::Duration;

use actix_web::http::header;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use tidings_common::auth::Principal;
use tidings_common::domain;
use tidings_common::store::StoreError;
use tidings_common::sync::SyncFrom;
use tidings_common::wire::{PollRequest, SyncAnswer};
use tidings_http::{Authenticated, Code, Json, Problem, Query, Violation};
use tokio::time::{Instant, sleep_until, timeout};

use crate::connection::{BIND_DEADLINE, Close, Rung};
use crate::metrics::PollLabel;
use crate::routes::{RETRY_AFTER, meet, no_room, revoked};
use crate::state::State;

pub(crate) use pollers::Pollers;
use pollers::Turn;

/// Longest time that a poll waits, and how long without `timeout`. With the time for a sync it
/// stays below the 60 s after which proxies cut connections.
const LONGEST_WAIT: Duration = Duration::from_secs(25);
/// A sync that takes longer is answered 503.
const SYNC_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
pub(crate) struct Balanced {
    /// The user's partition, for balancers. Any server may serve any user.
    #[serde(rename = "p")]
    _partition: Option<String>,
}

pub(crate) async fn poll(
    request: HttpRequest,
    Authenticated(who): Authenticated,
    _: Query<Balanced>,
    Json(body): Json<PollRequest>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    meet(&state, &request)?;
    let wait = wait_of(body.timeout)?;
    let from = SyncFrom::parse(body.into()).map_err(invalid)?;
    let turn = state.pollers.join(&who).map_err(|_| no_room())?;
    // Asked again: a revocation between authentication and registration found nobody to close.
    if state.revocations.is_ended(who.session) {
        return Err(revoked());
    }
    let bound = timeout(BIND_DEADLINE, state.receives(who.user, turn.partition()));
    bound.await.map_err(|_| no_room())?;
    let answered = answer(&state, &who, &from, &turn, wait).await;
    state
        .metrics
        .polls
        .get_or_create(&PollLabel::of(&answered))
        .inc();
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(answered?))
}

fn wait_of(secs: Option<u64>) -> Result<Duration, Problem> {
    let wait = secs.map_or(LONGEST_WAIT, Duration::from_secs);
    if wait > LONGEST_WAIT {
        let detail = format!("must be 0 to {}", LONGEST_WAIT.as_secs());
        return Err(Problem::violation("/timeout", detail));
    }
    Ok(wait)
}

/// What the client lacks, as soon as it lacks anything; nothing when the wait is over.
async fn answer(
    state: &State,
    who: &Principal,
    from: &SyncFrom,
    turn: &Turn,
    wait: Duration,
) -> Result<SyncAnswer, Problem> {
    let until = Instant::now() + wait;
    loop {
        // Before it reads, so that what is committed while it does is heard.
        let mut listener = turn.listen();
        let answer = sync(state, who, from).await?;
        if !answer.is_empty() {
            return Ok(answer);
        }
        let left = who.expires_at.millis_since(state.clock.now());
        let expiry = Instant::now() + Duration::from_millis(left);
        let mut look_at = None;
        loop {
            let look = async move {
                match look_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // All branches are cancel-safe.
            tokio::select! {
                rung = listener.next() => match rung {
                    Rung::Something(after) => look_at = Some(Instant::now() + after),
                    Rung::Closed(close) => return ended(close, answer),
                },
                () = turn.displaced() => return ended(Close::Displaced, answer),
                () = look => break,
                () = sleep_until(until) => return Ok(answer),
                () = sleep_until(expiry) => return Err(Problem::token_expired()),
            }
        }
    }
}

/// What the codes with which other connections are closed are to a poll. `empty` is the answer
/// of one that there was nothing for.
fn ended(close: Close, empty: SyncAnswer) -> Result<SyncAnswer, Problem> {
    match close {
        // It comes again, and is taken in by another server.
        Close::Restarting => Ok(empty),
        Close::SessionRevoked => Err(revoked()),
        Close::Displaced => Err(Problem::new(Code::Conflict).detail(close.row().reason)),
        Close::AccountDisabled => Err(Problem::forbidden().detail(close.row().reason)),
        Close::TokenExpired => Err(Problem::token_expired()),
        Close::Normal
        | Close::Protocol
        | Close::BinaryFrame
        | Close::BadText
        | Close::Policy
        | Close::TooLarge
        | Close::TryLater
        | Close::Slow => Err(no_room()),
    }
}

async fn sync(state: &State, who: &Principal, from: &SyncFrom) -> Result<SyncAnswer, Problem> {
    match timeout(SYNC_DEADLINE, state.sync.answer(who.user, from)).await {
        Ok(answer) => answer.map_err(|error| unread(&error)),
        Err(elapsed) => Err(Problem::unavailable(RETRY_AFTER, Some(&elapsed))),
    }
}

fn unread(error: &StoreError) -> Problem {
    match error {
        StoreError::Uncertain(_) | StoreError::Unavailable(_) => {
            Problem::unavailable(RETRY_AFTER, Some(error))
        }
        StoreError::Corrupt(_) => Problem::internal(error),
    }
}

fn invalid(violations: Vec<domain::Violation>) -> Problem {
    Problem::invalid(violations.into_iter().map(Violation::from).collect())
}
