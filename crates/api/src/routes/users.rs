//! Accounts.

use actix_web::web::Data;
use actix_web::{HttpResponse, get, patch, post};
use serde::Deserialize;
use tidings_common::domain::{DisplayName, Password, UserId, Username};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Path, Problem, Query};
use utoipa::IntoParams;

use super::KeyHeader;
use crate::ApiState;
use crate::answer::Answer;
use crate::extract::{IdempotencyKey, in_time};
use crate::fields::{Fields, only};
use crate::service::Registration;

/// Creates an account.
#[utoipa::path(
    tag = "accounts",
    security(()),
    params(KeyHeader),
    responses(
        (status = 201, description = "The account", body = wire::User),
        (status = 429, description = "Too many passwords are being checked"),
    ),
)]
#[post("/v1/users")]
pub(crate) async fn create_user(
    state: Data<ApiState>,
    key: IdempotencyKey,
    Json(body): Json<wire::CreateUser>,
) -> Result<HttpResponse, Problem> {
    let wanted = registration(body)?;
    let done = in_time(state.accounts.create(wanted, key.as_ref())).await?;
    Ok(Answer::created()
        .replayed(done.replayed)
        .json(wire::User::from(done.value)))
}

fn registration(body: wire::CreateUser) -> Result<Registration, Problem> {
    let mut fields = Fields::default();
    let username = fields.read("/username", Username::parse(body.username));
    let password = fields.read("/password", Password::parse(body.password));
    let name = body.display_name.or_else(|| {
        let username = username.as_ref()?;
        Some(username.as_str().to_owned())
    });
    let name = name.and_then(|name| fields.read("/display_name", DisplayName::parse(name)));
    let whole = username.zip(password).zip(name);
    fields.finish(
        whole.map(|((username, password), display_name)| Registration {
            username,
            password,
            display_name,
        }),
    )
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserQuery {
    /// The whole name.
    username: String,
}

/// Finds an account by its name: a list of one, or of none.
#[utoipa::path(
    tag = "accounts",
    params(UserQuery),
    responses((status = 200, description = "Who has the name", body = wire::List<wire::User>)),
)]
#[get("/v1/users")]
pub(crate) async fn find_user(
    state: Data<ApiState>,
    _: Authenticated,
    Query(query): Query<UserQuery>,
) -> Result<HttpResponse, Problem> {
    let username = only("?username", Username::parse(query.username))?;
    let found = in_time(state.accounts.find(&username)).await?;
    Ok(Answer::ok().json(wire::List::<wire::User>::of(found, false)))
}

/// The caller's own account.
#[utoipa::path(
    tag = "accounts",
    responses((status = 200, description = "The account", body = wire::User)),
)]
#[get("/v1/users/me")]
pub(crate) async fn get_me(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
) -> Result<HttpResponse, Problem> {
    let user = in_time(state.accounts.get(who.user)).await?;
    Ok(Answer::ok().json(wire::User::from(user)))
}

/// Changes the caller's own profile.
#[utoipa::path(
    tag = "accounts",
    params(KeyHeader),
    responses((status = 200, description = "The account", body = wire::User)),
)]
#[patch("/v1/users/me")]
pub(crate) async fn update_me(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Json(body): Json<wire::UpdateUser>,
) -> Result<HttpResponse, Problem> {
    let name = only("/display_name", DisplayName::parse(body.display_name))?;
    let done = in_time(state.accounts.update(who.user, name, key.as_ref())).await?;
    Ok(Answer::ok()
        .replayed(done.replayed)
        .json(wire::User::from(done.value)))
}

/// An account.
#[utoipa::path(
    tag = "accounts",
    params(("user" = Uuid, Path)),
    responses((status = 200, description = "The account", body = wire::User)),
)]
#[get("/v1/users/{user}")]
pub(crate) async fn get_user(
    state: Data<ApiState>,
    _: Authenticated,
    Path(user): Path<UserId>,
) -> Result<HttpResponse, Problem> {
    let user = in_time(state.accounts.get(user)).await?;
    Ok(Answer::ok().json(wire::User::from(user)))
}
