//! Groups and direct conversations.

use std::collections::BTreeSet;

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, patch, post, put};
use tidings_common::domain::{GroupId, Name, UserId};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Path, Problem, Query};

use super::{KeyHeader, PageQuery, VersionHeader};
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{IdempotencyKey, IfMatch, OptionalJson, in_time};
use crate::fields::{Fields, only, user_id};
use crate::service::{Invited, NewGroup, SeenGroup};

/// Most ids in `members`.
const MOST_MEMBERS: usize = 1000;

pub(super) fn shown(seen: SeenGroup) -> wire::Group {
    wire::Group::shown(seen.membership, &seen.readings)
}

/// Creates a group with the caller as its owner and one channel, `general`.
#[utoipa::path(
    tag = "groups",
    params(KeyHeader),
    responses((status = 201, description = "The group", body = wire::Group)),
)]
#[post("/v1/groups")]
pub(crate) async fn create_group(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Json(body): Json<wire::CreateGroup>,
) -> Result<HttpResponse, Problem> {
    let new = new_group(who.user, body)?;
    let done = in_time(state.groups.create(who.user, new, key.as_ref())).await?;
    let group = shown(done.value);
    Ok(Answer::created()
        .replayed(done.replayed)
        .version(group.version)
        .json(group))
}

/// Who is named twice, or is the creator, counts once.
fn new_group(creator: UserId, body: wire::CreateGroup) -> Result<NewGroup, Problem> {
    let mut fields = Fields::default();
    let name = fields.read("/name", Name::parse(body.name));
    if body.members.len() > MOST_MEMBERS {
        fields.refuse("/members", format!("must be at most {MOST_MEMBERS}"));
        return fields.finish(None);
    }
    let mut seen = BTreeSet::from([creator]);
    let mut members = Vec::with_capacity(body.members.len());
    for (index, id) in body.members.iter().enumerate() {
        let Some(user) = fields.read(format!("/members/{index}"), user_id(id)) else {
            continue;
        };
        if seen.insert(user) {
            members.push(Invited { user, index });
        }
    }
    fields.finish(name.map(|name| NewGroup { name, members }))
}

/// The caller's groups, direct conversations included.
#[utoipa::path(
    tag = "groups",
    params(PageQuery),
    responses((status = 200, description = "Groups", body = wire::List<wire::Group>)),
)]
#[get("/v1/groups")]
pub(crate) async fn list_groups(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.check()?;
    let found = in_time(state.groups.list(who.user, page)).await?;
    let items = found.items.into_iter().map(shown);
    Ok(Answer::ok().json(wire::List::<wire::Group>::of(items, found.more)))
}

/// A group.
#[utoipa::path(
    tag = "groups",
    params(("group" = Uuid, Path)),
    responses((status = 200, description = "The group, with its `ETag`", body = wire::Group)),
)]
#[get("/v1/groups/{group}")]
pub(crate) async fn get_group(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(group): Path<GroupId>,
) -> Result<HttpResponse, Problem> {
    let group = shown(in_time(state.groups.get(who.user, group)).await?);
    Ok(Answer::ok().version(group.version).json(group))
}

/// Changes the settings of a group; admins and the owner may.
#[utoipa::path(
    tag = "groups",
    params(("group" = Uuid, Path), KeyHeader, VersionHeader),
    responses((status = 200, description = "The group, with its `ETag`", body = wire::Group)),
)]
#[patch("/v1/groups/{group}")]
pub(crate) async fn update_group(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    IfMatch(precondition): IfMatch,
    Path(group): Path<GroupId>,
    Json(body): Json<wire::UpdateGroup>,
) -> Result<HttpResponse, Problem> {
    let name = only("/name", Name::parse(body.name))?;
    let rename = state
        .groups
        .rename(who.user, group, name, precondition, key.as_ref());
    let done = in_time(rename).await?;
    let group = shown(done.value);
    Ok(Answer::ok()
        .replayed(done.replayed)
        .version(group.version)
        .json(group))
}

/// Deletes a group for everybody; its owner may.
#[utoipa::path(
    tag = "groups",
    params(("group" = Uuid, Path), KeyHeader, VersionHeader),
    responses((status = 204, description = "It is gone")),
)]
#[delete("/v1/groups/{group}")]
pub(crate) async fn delete_group(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    IfMatch(precondition): IfMatch,
    Path(group): Path<GroupId>,
) -> Result<HttpResponse, Problem> {
    let delete = state
        .groups
        .delete(who.user, group, precondition, key.as_ref());
    let done = in_time(delete).await?;
    Ok(no_content(done.replayed))
}

/// The direct conversation with a user, which is made if there is none.
#[utoipa::path(
    tag = "groups",
    params(("user" = Uuid, Path), KeyHeader),
    request_body(content = Option<wire::Empty>),
    responses(
        (status = 200, description = "It was there", body = wire::Group),
        (status = 201, description = "It was made", body = wire::Group),
    ),
)]
#[put("/v1/direct/{user}")]
pub(crate) async fn put_direct(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path(user): Path<UserId>,
    _: OptionalJson<wire::Empty>,
) -> Result<HttpResponse, Problem> {
    let put = in_time(state.groups.put_direct(who.user, user, key.as_ref())).await?;
    let group = shown(put.value);
    Ok(Answer::created_if(put.created)
        .replayed(put.replayed)
        .version(group.version)
        .json(group))
}
