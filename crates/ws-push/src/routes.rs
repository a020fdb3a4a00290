//! The endpoints that clients connect to: who is asking is known before anything is opened.

use std::sync::Arc;
use std::time::Duration;

use actix_http::ws::handshake;
use actix_web::body::{BodyStream, BoxBody, MessageBody as _};
use actix_web::http::header;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Deserialize;
use tidings_common::auth::{Principal, TokenError};
use tidings_http::{Code, Problem, Query};

use crate::connection::{self, Admitted, Link, Mailbox, Transport};
use crate::poll::poll;
use crate::state::State;

/// When a client that was refused for want of room tries again.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Mounts the endpoints. The application's data must hold the [`State`].
pub(crate) fn mount(config: &mut ServiceConfig) {
    config
        .service(web::resource("/v1/ws").route(web::get().to(open_websocket)))
        .service(web::resource("/v1/events").route(web::get().to(open_events)))
        .service(web::resource("/v1/poll").route(web::post().to(poll)));
}

#[derive(Deserialize)]
struct Admission {
    ticket: Option<String>,
    /// The user's partition, for balancers. Any server may serve any user.
    #[serde(rename = "p")]
    _partition: Option<String>,
}

async fn open_websocket(
    request: HttpRequest,
    payload: web::Payload,
    admission: Query<Admission>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let state = state.into_inner();
    meet(&state, &request)?;
    // Before the ticket is used up: it would be no good at the next server.
    let mut response = handshake(request.head())
        .map_err(|error| Problem::new(Code::BadRequest).detail(error.to_string()))?;
    let admitted = admit(&state, &request, admission, Transport::WebSocket).await?;
    let link = Link::WebSocket(payload.into_inner());
    let frames = connection::open(state, admitted, link);
    let body: BoxBody = BodyStream::new(frames).boxed();
    response
        .message_body(body)
        .map(HttpResponse::from)
        .map_err(|error| Problem::internal(&BadResponse(error.to_string())))
}

async fn open_events(
    request: HttpRequest,
    admission: Query<Admission>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let state = state.into_inner();
    meet(&state, &request)?;
    let admitted = admit(&state, &request, admission, Transport::Events).await?;
    let frames = connection::open(state, admitted, Link::Events);
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx and others pass each event on when it comes.
        .insert_header(("x-accel-buffering", "no"))
        .body(BodyStream::new(frames)))
}

/// What is refused whoever asks. Whether there is room shows when a place is taken.
pub(crate) fn meet(state: &State, request: &HttpRequest) -> Result<(), Problem> {
    if state.standstill().is_some() {
        return Err(no_room());
    }
    if !state.origins.allow(request.headers()) {
        return Err(Problem::forbidden().detail("this origin may not connect"));
    }
    Ok(())
}

/// Lets in who has a ticket or a token, if there is room.
async fn admit(
    state: &State,
    request: &HttpRequest,
    admission: Query<Admission>,
    transport: Transport,
) -> Result<Admitted, Problem> {
    // Before the ticket is used up.
    let place = state.hub.reserve().map_err(|_| no_room())?;
    let principal = authenticate(state, request, admission.into_inner()).await?;
    let mailbox = Arc::new(Mailbox::new(state.mailbox_limits));
    let registration = state
        .hub
        .register(
            principal.user,
            principal.session,
            transport,
            mailbox.clone(),
        )
        .map_err(|_| no_room())?;
    // Asked again: a revocation between authentication and registration found nobody to close.
    if state.revocations.is_ended(principal.session) {
        return Err(revoked());
    }
    Ok(Admitted {
        principal,
        registration,
        place,
        mailbox,
    })
}

async fn authenticate(
    state: &State,
    request: &HttpRequest,
    admission: Admission,
) -> Result<Principal, Problem> {
    let Some(ticket) = admission.ticket else {
        return state.authenticator.principal(request.headers());
    };
    let now = state.clock.now();
    let ticket = state
        .keys
        .verify_ticket(&ticket, now)
        .map_err(|error| match error {
            TokenError::Expired => Problem::token_expired().detail("the ticket has expired"),
            TokenError::Invalid => Problem::unauthenticated().detail("the ticket is not valid"),
        })?;
    if state.revocations.is_ended(ticket.principal.session) {
        return Err(revoked());
    }
    let lifetime = Duration::from_millis(ticket.expires_at.millis_since(now));
    match state.presence.redeem(ticket.id, lifetime).await {
        Ok(true) => Ok(ticket.principal),
        Ok(false) => Err(Problem::unauthenticated().detail("the ticket has been used")),
        // Its signature and its 30 s still hold; messaging goes on without presence.
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "single use of a ticket was waived"
            );
            Ok(ticket.principal)
        }
    }
}

pub(crate) fn revoked() -> Problem {
    Problem::unauthenticated().detail("the session has been revoked")
}

pub(crate) fn no_room() -> Problem {
    Problem::unavailable(RETRY_AFTER, None).detail("the server takes no connections now")
}

#[derive(Debug, thiserror::Error)]
#[error("the answer to an upgrade could not be built: {0}")]
struct BadResponse(String);
