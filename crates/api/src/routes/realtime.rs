//! Catching up, and tickets for realtime connections.

use actix_web::web::Data;
use actix_web::{HttpResponse, post};
use secrecy::ExposeSecret as _;
use tidings_common::sync::SyncFrom;
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Problem};

use crate::ApiState;
use crate::answer::Answer;
use crate::extract::{OptionalJson, in_time, problem};
use crate::service::{IssuedTicket, ServiceError};

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
    let from = SyncFrom::parse(body).map_err(|wrong| problem(ServiceError::Invalid(wrong)))?;
    let answer = async { Ok(state.sync.answer(who.user, &from).await?) };
    Ok(Answer::ok().json(in_time(answer).await?))
}

/// A ticket for one realtime connection, so that no long-lived token appears in an address: good
/// for `url` or `events_url`, once. Polls take the access token.
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
    let base = &issued.base_url;
    // http → ws, https → wss.
    let after_http = base.strip_prefix("http").unwrap_or_default();
    let (p, ticket) = (issued.partition, issued.ticket.expose_secret());
    wire::RealtimeTicket {
        url: format!("ws{after_http}/v1/ws?p={p}&ticket={ticket}"),
        events_url: format!("{base}/v1/events?p={p}&ticket={ticket}"),
        poll_url: format!("{base}/v1/poll?p={p}"),
        ticket: ticket.to_owned(),
        p,
        expires_in: issued.expires_in_secs,
    }
}
