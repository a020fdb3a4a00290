//! Members of groups.

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, patch, put};
use tidings_common::domain::{GroupId, Timestamp, UserId};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Path, Problem, Query};

use super::{KeyHeader, PageQuery};
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{IdempotencyKey, OptionalJson, in_time};
use crate::fields::{any_role, assignable_role, only};

/// A group's members, ascending by user id.
#[utoipa::path(
    tag = "members",
    params(("group" = Uuid, Path), PageQuery),
    responses((status = 200, description = "Members", body = wire::List<wire::Member>)),
)]
#[get("/v1/groups/{group}/members")]
pub(crate) async fn list_members(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(group): Path<GroupId>,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.check()?;
    let found = in_time(state.members.list(who.user, group, page)).await?;
    Ok(Answer::ok().json(wire::List::<wire::Member>::of(found.items, found.more)))
}

/// Makes a user a member, or gives a member another role. Admins and the owner may add
/// members; only the owner gives roles.
#[utoipa::path(
    tag = "members",
    params(("group" = Uuid, Path), ("user" = Uuid, Path), KeyHeader),
    request_body(content = Option<wire::PutMember>),
    responses(
        (status = 200, description = "The user was a member", body = wire::Member),
        (status = 201, description = "The user is a member now", body = wire::Member),
    ),
)]
#[put("/v1/groups/{group}/members/{user}")]
pub(crate) async fn put_member(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((group, user)): Path<(GroupId, UserId)>,
    OptionalJson(body): OptionalJson<wire::PutMember>,
) -> Result<HttpResponse, Problem> {
    let role = body.role.as_deref().map(assignable_role).transpose();
    let role = only("/role", role)?;
    let put = state.members.put(who.user, group, user, role, key.as_ref());
    let put = in_time(put).await?;
    Ok(Answer::created_if(put.created)
        .replayed(put.replayed)
        .json(wire::Member::from(put.value)))
}

/// Gives a member another role; the owner may. With `owner` the caller passes ownership on, and
/// is an admin from then on.
#[utoipa::path(
    tag = "members",
    params(("group" = Uuid, Path), ("user" = Uuid, Path), KeyHeader),
    responses((status = 200, description = "The member", body = wire::Member)),
)]
#[patch("/v1/groups/{group}/members/{user}")]
pub(crate) async fn update_member(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((group, user)): Path<(GroupId, UserId)>,
    Json(body): Json<wire::UpdateMember>,
) -> Result<HttpResponse, Problem> {
    let role = only("/role", any_role(&body.role))?;
    let update = state
        .members
        .update(who.user, group, user, role, key.as_ref());
    let done = in_time(update).await?;
    Ok(Answer::ok()
        .replayed(done.replayed)
        .json(wire::Member::from(done.value)))
}

/// Removes a member with a lower role than the caller's, or leaves the group.
#[utoipa::path(
    tag = "members",
    params(("group" = Uuid, Path), ("user" = Uuid, Path), KeyHeader),
    responses((status = 204, description = "The user is no member any more")),
)]
#[delete("/v1/groups/{group}/members/{user}")]
pub(crate) async fn delete_member(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((group, user)): Path<(GroupId, UserId)>,
) -> Result<HttpResponse, Problem> {
    let done = in_time(state.members.remove(who.user, group, user, key.as_ref())).await?;
    Ok(no_content(done.replayed))
}

/// Takes a member's right to write for a time. Takes a higher role than theirs, and at least
/// admin.
#[utoipa::path(
    tag = "members",
    params(("group" = Uuid, Path), ("user" = Uuid, Path), KeyHeader),
    responses((status = 200, description = "The member", body = wire::Member)),
)]
#[put("/v1/groups/{group}/members/{user}/mute")]
pub(crate) async fn mute_member(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((group, user)): Path<(GroupId, UserId)>,
    Json(body): Json<wire::MuteMember>,
) -> Result<HttpResponse, Problem> {
    let until = only("/until", Timestamp::parse(&body.until))?;
    let mute = state.mutes.put(who.user, group, user, until, key.as_ref());
    let done = in_time(mute).await?;
    Ok(Answer::ok()
        .replayed(done.replayed)
        .json(wire::Member::from(done.value)))
}

/// Lets a member write again.
#[utoipa::path(
    tag = "members",
    params(("group" = Uuid, Path), ("user" = Uuid, Path), KeyHeader),
    responses((status = 204, description = "The member may write")),
)]
#[delete("/v1/groups/{group}/members/{user}/mute")]
pub(crate) async fn unmute_member(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((group, user)): Path<(GroupId, UserId)>,
) -> Result<HttpResponse, Problem> {
    let done = in_time(state.mutes.delete(who.user, group, user, key.as_ref())).await?;
    Ok(no_content(done.replayed))
}
