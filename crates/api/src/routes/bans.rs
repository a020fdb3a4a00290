//! Who is shut out of a group.

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, put};
use tidings_common::domain::{GroupId, UserId};
use tidings_common::wire;
use tidings_http::{Authenticated, Path, Problem, Query};

use super::{KeyHeader, PageQuery};
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{IdempotencyKey, OptionalJson, in_time};

/// Who is banned from a group, ascending by user id; admins and the owner may see it.
#[utoipa::path(
    tag = "bans",
    params(("group" = Uuid, Path), PageQuery),
    responses(
        (status = 200, description = "Bans", body = wire::List<wire::Ban>),
        (status = 403, description = "A member, but one who may not see this"),
    ),
)]
#[get("/v1/groups/{group}/bans")]
pub(crate) async fn list_bans(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(group): Path<GroupId>,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.check()?;
    let found = in_time(state.bans.list(who.user, group, page)).await?;
    Ok(Answer::ok().json(wire::List::<wire::Ban>::of(found.items, found.more)))
}

/// A user's ban; 404 if there is none.
#[utoipa::path(
    tag = "bans",
    params(("group" = Uuid, Path), ("user" = Uuid, Path)),
    responses(
        (status = 200, description = "The ban", body = wire::Ban),
        (status = 403, description = "A member, but one who may not see this"),
    ),
)]
#[get("/v1/groups/{group}/bans/{user}")]
pub(crate) async fn get_ban(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path((group, user)): Path<(GroupId, UserId)>,
) -> Result<HttpResponse, Problem> {
    let ban = in_time(state.bans.get(who.user, group, user)).await?;
    Ok(Answer::ok().json(wire::Ban::from(ban)))
}

/// Shuts a user out of a group. A member (of a lower role than the caller's) is removed with it.
/// Who is banned can neither be added nor join by an invite.
#[utoipa::path(
    tag = "bans",
    params(("group" = Uuid, Path), ("user" = Uuid, Path), KeyHeader),
    request_body(content = Option<wire::Empty>),
    responses(
        (status = 200, description = "The user was banned already", body = wire::Ban),
        (status = 201, description = "The user is banned now", body = wire::Ban),
    ),
)]
#[put("/v1/groups/{group}/bans/{user}")]
pub(crate) async fn put_ban(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((group, user)): Path<(GroupId, UserId)>,
    _: OptionalJson<wire::Empty>,
) -> Result<HttpResponse, Problem> {
    let put = in_time(state.bans.put(who.user, group, user, key.as_ref())).await?;
    Ok(Answer::created_if(put.created)
        .replayed(put.replayed)
        .json(wire::Ban::from(put.value)))
}

/// Takes a ban back. The user is no member by that.
#[utoipa::path(
    tag = "bans",
    params(("group" = Uuid, Path), ("user" = Uuid, Path), KeyHeader),
    responses((status = 204, description = "The user is not banned any more")),
)]
#[delete("/v1/groups/{group}/bans/{user}")]
pub(crate) async fn delete_ban(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((group, user)): Path<(GroupId, UserId)>,
) -> Result<HttpResponse, Problem> {
    let done = in_time(state.bans.delete(who.user, group, user, key.as_ref())).await?;
    Ok(no_content(done.replayed))
}
