//! Logging in and out.

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, post};
use secrecy::ExposeSecret as _;
use tidings_common::domain::{DeviceName, SessionId};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Path, Problem, Query};

use super::{KeyHeader, PageQuery};
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{IdempotencyKey, in_time};
use crate::fields::only;
use crate::service::Login;

/// What a device is called that did not say.
const UNNAMED_DEVICE: &str = "unnamed device";

/// Logs in.
#[utoipa::path(
    tag = "sessions",
    security(()),
    responses(
        (status = 201, description = "The session's tokens", body = wire::Tokens),
        (status = 401, description = "The username or the password is wrong"),
        (status = 429, description = "Too many passwords are being checked"),
    ),
)]
#[post("/v1/sessions")]
pub(crate) async fn create_session(
    state: Data<ApiState>,
    Json(body): Json<wire::CreateSession>,
) -> Result<HttpResponse, Problem> {
    let device = body
        .device_name
        .unwrap_or_else(|| UNNAMED_DEVICE.to_owned());
    let device = only("/device_name", DeviceName::parse(device))?;
    let login = in_time(state.sessions.create(body.username, body.password, device)).await?;
    Ok(Answer::created().secret().json(tokens(login)))
}

/// Exchanges a refresh token for a new pair. Each token works once; using one again ends its
/// session, unless it is the same exchange repeated within 60 seconds with the same key.
#[utoipa::path(
    tag = "sessions",
    security(()),
    params(KeyHeader),
    responses(
        (status = 200, description = "The session's new tokens", body = wire::Tokens),
        (status = 401, description = "The refresh token is not valid, or no longer"),
    ),
)]
#[post("/v1/sessions/refresh")]
pub(crate) async fn refresh_session(
    state: Data<ApiState>,
    key: IdempotencyKey,
    Json(body): Json<wire::RefreshSession>,
) -> Result<HttpResponse, Problem> {
    let done = in_time(state.sessions.refresh(&body.refresh_token, key.as_ref())).await?;
    Ok(Answer::ok()
        .replayed(done.replayed)
        .secret()
        .json(tokens(done.value)))
}

fn tokens(login: Login) -> wire::Tokens {
    wire::Tokens {
        access_token: login.access_token.expose_secret().to_owned(),
        token_type: "Bearer",
        expires_in: login.expires_in.as_secs(),
        refresh_token: login.refresh_token.expose_secret().to_owned(),
        session: login.session,
        user: login.user.into(),
    }
}

/// The caller's sessions.
#[utoipa::path(
    tag = "sessions",
    params(PageQuery),
    responses((status = 200, description = "Sessions", body = wire::List<wire::Session>)),
)]
#[get("/v1/sessions")]
pub(crate) async fn list_sessions(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.check()?;
    let found = in_time(state.sessions.list(who.user, page)).await?;
    let items = found.items.into_iter();
    let items = items.map(|session| wire::Session::seen_from(who.session, session));
    Ok(Answer::ok().json(wire::List::<wire::Session>::of(items, found.more)))
}

/// Ends one of the caller's sessions: its tokens are refused and its connections closed.
#[utoipa::path(
    tag = "sessions",
    params(("session" = Uuid, Path), KeyHeader),
    responses((status = 204, description = "It has ended")),
)]
#[delete("/v1/sessions/{session}")]
pub(crate) async fn delete_session(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path(session): Path<SessionId>,
) -> Result<HttpResponse, Problem> {
    let done = in_time(state.sessions.delete(who.user, session, key.as_ref())).await?;
    Ok(no_content(done.replayed))
}
