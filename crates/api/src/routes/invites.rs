//! Ways into a group for whoever has a code.

use std::time::Duration;

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, post};
use secrecy::ExposeSecret as _;
use tidings_common::domain::{GroupId, InviteId};
use tidings_common::wire;
use tidings_http::{Authenticated, Path, Problem, Query};

use super::{KeyHeader, PageQuery, groups};
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{IdempotencyKey, OptionalJson, in_time};
use crate::fields::{Fields, whole};
use crate::service::{NewInvite, Preview, WithCode};

const MOST_USES: u32 = 100_000;
/// A year.
const LONGEST_SECS: u32 = 31_536_000;

fn shown(found: WithCode) -> wire::Invite {
    let code = found.code.expose_secret().to_owned();
    wire::Invite::with_code(found.invite, code)
}

/// Makes an invite; admins and the owner may.
#[utoipa::path(
    tag = "invites",
    params(("group" = Uuid, Path), KeyHeader),
    request_body(content = Option<wire::CreateInvite>),
    responses((status = 201, description = "The invite, with its code", body = wire::Invite)),
)]
#[post("/v1/groups/{group}/invites")]
pub(crate) async fn create_invite(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path(group): Path<GroupId>,
    OptionalJson(body): OptionalJson<wire::CreateInvite>,
) -> Result<HttpResponse, Problem> {
    let new = new_invite(&body)?;
    let done = in_time(state.invites.create(who.user, group, new, key.as_ref())).await?;
    Ok(Answer::created()
        .replayed(done.replayed)
        .secret()
        .json(shown(done.value)))
}

fn new_invite(body: &wire::CreateInvite) -> Result<NewInvite, Problem> {
    let mut fields = Fields::default();
    let max_uses = body.max_uses.map(|uses| whole(uses, 1, MOST_USES));
    let max_uses = fields.read("/max_uses", max_uses.transpose());
    let expires_in = body.expires_in.map(|secs| whole(secs, 1, LONGEST_SECS));
    let expires_in = fields.read("/expires_in", expires_in.transpose());
    let new = max_uses.zip(expires_in);
    fields.finish(new.map(|(max_uses, secs)| NewInvite {
        max_uses,
        expires_in: secs.map(|secs| Duration::from_secs(secs.into())),
    }))
}

/// A group's invites that were not withdrawn, used up and expired ones included; admins and the
/// owner may see them.
#[utoipa::path(
    tag = "invites",
    params(("group" = Uuid, Path), PageQuery),
    responses(
        (status = 200, description = "Invites, with their codes", body = wire::List<wire::Invite>),
        (status = 403, description = "A member, but one who may not see this"),
    ),
)]
#[get("/v1/groups/{group}/invites")]
pub(crate) async fn list_invites(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(group): Path<GroupId>,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.check()?;
    let found = in_time(state.invites.list(who.user, group, page)).await?;
    let items = found.items.into_iter().map(shown).collect();
    let more = found.more;
    Ok(Answer::ok().secret().json(wire::List { items, more }))
}

/// Withdraws an invite; admins and the owner may.
#[utoipa::path(
    tag = "invites",
    params(("group" = Uuid, Path), ("invite" = Uuid, Path), KeyHeader),
    responses((status = 204, description = "Nobody can join by it any more")),
)]
#[delete("/v1/groups/{group}/invites/{invite}")]
pub(crate) async fn delete_invite(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((group, invite)): Path<(GroupId, InviteId)>,
) -> Result<HttpResponse, Problem> {
    let delete = state.invites.delete(who.user, group, invite, key.as_ref());
    let done = in_time(delete).await?;
    Ok(no_content(done.replayed))
}

/// What an invite leads to. 404 if the code is none, if the invite is withdrawn, expired or used
/// up, and to those who are banned: there is no difference.
#[utoipa::path(
    tag = "invites",
    params(("code" = String, Path)),
    responses((status = 200, description = "The group", body = wire::InvitePreview)),
)]
#[get("/v1/invites/{code}")]
pub(crate) async fn preview_invite(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(code): Path<String>,
) -> Result<HttpResponse, Problem> {
    let Preview {
        invite,
        name,
        member_count,
        member,
    } = in_time(state.invites.preview(who.user, &code)).await?;
    Ok(Answer::ok().json(wire::InvitePreview {
        group: invite.group,
        name,
        member_count,
        member,
        expires_at: invite.expires_at.map(|at| at.to_string()),
    }))
}

/// Makes the caller a member of the group. 404 as for the preview.
#[utoipa::path(
    tag = "invites",
    params(("code" = String, Path), KeyHeader),
    request_body(content = Option<wire::Empty>),
    responses(
        (status = 200, description = "The caller was a member", body = wire::Group),
        (status = 201, description = "The caller is a member now", body = wire::Group),
    ),
)]
#[post("/v1/invites/{code}")]
pub(crate) async fn join_by_invite(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path(code): Path<String>,
    _: OptionalJson<wire::Empty>,
) -> Result<HttpResponse, Problem> {
    let put = in_time(state.invites.join(who.user, &code, key.as_ref())).await?;
    let group = groups::shown(put.value);
    Ok(Answer::created_if(put.created)
        .replayed(put.replayed)
        .version(group.version)
        .json(group))
}
