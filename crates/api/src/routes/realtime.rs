//! Catching up, and tickets for realtime connections.

use std::collections::BTreeMap;

use actix_web::web::Data;
use actix_web::{HttpResponse, post};
use secrecy::ExposeSecret as _;
use tidings_common::domain::{BadStream, Cursor, Seq, StreamId};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Problem};

use crate::ApiState;
use crate::answer::Answer;
use crate::extract::{OptionalJson, in_time, limit_of};
use crate::fields::Fields;
use crate::service::{Encoded, IssuedTicket, ResetReason, Shown, SyncFrom, Synced};

/// Most deltas in an answer, and how many without `limit`.
const MOST_DELTAS: usize = 500;

/// Everything that a device lacks. With an empty cursor: the ends of all of the caller's
/// streams, and no deltas.
#[utoipa::path(
    tag = "sync",
    responses((status = 200, description = "What the device lacks", body = wire::SyncAnswer)),
)]
#[post("/v1/sync")]
pub(crate) async fn sync(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Json(body): Json<wire::SyncRequest>,
) -> Result<HttpResponse, Problem> {
    let from = sync_from(body)?;
    let synced = in_time(state.sync.sync(who.user, from, encode)).await?;
    Ok(Answer::ok().json(sync_answer(synced)))
}

fn sync_from(body: wire::SyncRequest) -> Result<SyncFrom, Problem> {
    let limit = limit_of(body.limit, MOST_DELTAS, MOST_DELTAS, "/limit")?;
    let mut fields = Fields::default();
    let mut cursor = Cursor::new();
    for (name, at) in body.cursor {
        let stream: Result<StreamId, BadStream> = name.parse();
        if let Some(stream) = fields.read(format!("/cursor/{}", escaped(&name)), stream) {
            cursor.insert(stream, at);
        }
    }
    fields.finish(Some(SyncFrom {
        cursor,
        limit,
        only: body.only,
        epoch: body.epoch,
    }))
}

/// As JSON Pointer has it, and not longer than an error should be.
fn escaped(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    short.replace('~', "~0").replace('/', "~1")
}

fn encode(shown: &Shown<'_>) -> Option<Encoded<wire::Delta>> {
    let mut delta = if shown.whole {
        wire::Delta::of_entry(shown.entry)?
    } else {
        wire::Delta::concealed(shown.entry)?
    };
    delta.first = (shown.first < shown.entry.seq).then_some(shown.first);
    let bytes = delta.to_frame().len();
    Some(Encoded { delta, bytes })
}

fn sync_answer(synced: Synced<wire::Delta>) -> wire::SyncAnswer {
    let resets = synced.resets.into_iter();
    wire::SyncAnswer {
        deltas: synced.deltas,
        cursor: named(synced.cursor),
        more: synced.more,
        resets: resets
            .map(|(stream, (head, reason))| wire::Reset {
                stream: stream.to_string(),
                head,
                reason: shown(reason),
            })
            .collect(),
        heads: named(synced.heads),
        epoch: synced.epoch,
    }
}

fn named(positions: BTreeMap<StreamId, Seq>) -> BTreeMap<String, Seq> {
    let named = positions.into_iter();
    named
        .map(|(stream, seq)| (stream.to_string(), seq))
        .collect()
}

fn shown(reason: ResetReason) -> wire::ResetReason {
    match reason {
        ResetReason::Expired => wire::ResetReason::Expired,
        ResetReason::Gone => wire::ResetReason::Gone,
        ResetReason::Ahead => wire::ResetReason::Ahead,
        ResetReason::Restored => wire::ResetReason::Restored,
        ResetReason::Behind => wire::ResetReason::Behind,
    }
}

/// A ticket for one realtime connection, so that no long-lived token appears in an address.
/// `events_url` and `poll_url` are null until this server offers Server-Sent Events and long
/// polling.
#[utoipa::path(
    tag = "sync",
    request_body(content = Option<wire::Empty>),
    responses((status = 201, description = "The ticket", body = wire::RealtimeTicket)),
)]
#[post("/v1/realtime/tickets")]
pub(crate) async fn create_ticket(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    _: OptionalJson<wire::Empty>,
) -> Result<HttpResponse, Problem> {
    let ticket = state.tickets.issue(&who);
    Ok(Answer::created().secret().json(shown_ticket(&ticket)))
}

fn shown_ticket(issued: &IssuedTicket) -> wire::RealtimeTicket {
    // http → ws, https → wss.
    let base = issued.base_url.strip_prefix("http").unwrap_or_default();
    let (p, ticket) = (issued.partition, issued.ticket.expose_secret());
    wire::RealtimeTicket {
        url: format!("ws{base}/v1/ws?p={p}&ticket={ticket}"),
        events_url: None,
        poll_url: None,
        ticket: ticket.to_owned(),
        p,
        expires_in: issued.expires_in_secs,
    }
}
