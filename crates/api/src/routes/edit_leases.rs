//! Who edits a group's settings.

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, put};
use serde::Deserialize;
use tidings_common::domain::GroupId;
use tidings_common::wire;
use tidings_http::{Authenticated, Path, Problem, Query};
use utoipa::IntoParams;

use super::KeyHeader;
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{IdempotencyKey, OptionalJson, in_time};
use crate::service::ShownLease;

/// How a lease is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TakingQuery {
    /// `true`: take it from whoever holds it; the owner may.
    steal: Option<bool>,
}

fn shown(found: ShownLease) -> wire::EditLease {
    wire::EditLease {
        user: found.lease.user,
        display_name: found.display_name,
        session: found.lease.session,
        since: found.lease.since.to_string(),
        expires_at: found.expires_at.map(|at| at.to_string()),
        token: found.lease.token,
    }
}

/// Who holds a group's edit lease; 404 if nobody does.
#[utoipa::path(
    tag = "edit leases",
    params(("group" = Uuid, Path)),
    responses((status = 200, description = "The lease", body = wire::EditLease)),
)]
#[get("/v1/groups/{group}/edit-lease")]
pub(crate) async fn get_edit_lease(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(group): Path<GroupId>,
) -> Result<HttpResponse, Problem> {
    let found = in_time(state.edit_leases.get(who.user, group)).await?;
    Ok(Answer::ok().json(shown(found)))
}

/// Gives the caller's session the edit lease of a group for 30 seconds, or renews it. While it
/// runs, settings change under it alone.
#[utoipa::path(
    tag = "edit leases",
    params(("group" = Uuid, Path), TakingQuery, KeyHeader),
    request_body(content = Option<wire::Empty>),
    responses(
        (status = 200, description = "The session had it, and has it longer", body = wire::EditLease),
        (status = 201, description = "The session has it now", body = wire::EditLease),
        (status = 423, description = "Another session holds it: `holder`"),
    ),
)]
#[put("/v1/groups/{group}/edit-lease")]
pub(crate) async fn put_edit_lease(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path(group): Path<GroupId>,
    Query(query): Query<TakingQuery>,
    _: OptionalJson<wire::Empty>,
) -> Result<HttpResponse, Problem> {
    let steal = query.steal.unwrap_or(false);
    let put = in_time(state.edit_leases.put(who, group, steal, key.as_ref())).await?;
    Ok(Answer::created_if(put.created)
        .replayed(put.replayed)
        .json(shown(put.value)))
}

/// Gives the edit lease back that the caller's session holds.
#[utoipa::path(
    tag = "edit leases",
    params(("group" = Uuid, Path), KeyHeader),
    responses(
        (status = 204, description = "The session does not hold it any more"),
        (status = 423, description = "Another session holds it: `holder`"),
    ),
)]
#[delete("/v1/groups/{group}/edit-lease")]
pub(crate) async fn delete_edit_lease(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path(group): Path<GroupId>,
) -> Result<HttpResponse, Problem> {
    let done = in_time(state.edit_leases.delete(who, group, key.as_ref())).await?;
    Ok(no_content(done.replayed))
}
