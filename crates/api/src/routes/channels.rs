//! Channels.

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, patch, post};
use tidings_common::domain::{ChannelId, GroupId, Name};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Path, Problem};

use super::{KeyHeader, LeaseHeader, VersionHeader};
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{EditLeaseToken, IdempotencyKey, IfMatch, OptionalJson, in_time};
use crate::fields::{Fields, only, whole};
use crate::service::{ChannelSettings, Editor, SeenChannel};

/// The longest time between two messages in slow mode: six hours.
const MOST_SLOW_SECS: u32 = 21_600;

fn shown(found: SeenChannel) -> wire::Channel {
    wire::Channel::shown(found.channel, found.reading)
}

/// Creates a channel; admins and the owner may.
#[utoipa::path(
    tag = "channels",
    params(("group" = Uuid, Path), KeyHeader),
    responses((status = 201, description = "The channel", body = wire::Channel)),
)]
#[post("/v1/groups/{group}/channels")]
pub(crate) async fn create_channel(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path(group): Path<GroupId>,
    Json(body): Json<wire::CreateChannel>,
) -> Result<HttpResponse, Problem> {
    let name = only("/name", Name::parse(body.name))?;
    let done = in_time(state.channels.create(who.user, group, name, key.as_ref())).await?;
    let channel = shown(done.value);
    Ok(Answer::created()
        .replayed(done.replayed)
        .version(channel.version)
        .json(channel))
}

/// A channel.
#[utoipa::path(
    tag = "channels",
    params(("channel" = Uuid, Path)),
    responses((status = 200, description = "The channel, with its `ETag`", body = wire::Channel)),
)]
#[get("/v1/channels/{channel}")]
pub(crate) async fn get_channel(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(channel): Path<ChannelId>,
) -> Result<HttpResponse, Problem> {
    let channel = shown(in_time(state.channels.get(who.user, channel)).await?);
    Ok(Answer::ok().version(channel.version).json(channel))
}

/// Changes the settings of a channel; admins and the owner of its group may. They belong to the
/// group's, for which there is an edit lease.
#[utoipa::path(
    tag = "channels",
    params(("channel" = Uuid, Path), KeyHeader, VersionHeader, LeaseHeader),
    responses((status = 200, description = "The channel, with its `ETag`", body = wire::Channel)),
)]
#[patch("/v1/channels/{channel}")]
pub(crate) async fn update_channel(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    IfMatch(precondition): IfMatch,
    EditLeaseToken(token): EditLeaseToken,
    Path(channel): Path<ChannelId>,
    Json(body): Json<wire::UpdateChannel>,
) -> Result<HttpResponse, Problem> {
    let settings = settings(body)?;
    let editor = Editor { who, token };
    let update = state
        .channels
        .update(editor, channel, settings, precondition, key.as_ref());
    let done = in_time(update).await?;
    let channel = shown(done.value);
    Ok(Answer::ok()
        .replayed(done.replayed)
        .version(channel.version)
        .json(channel))
}

fn settings(body: wire::UpdateChannel) -> Result<ChannelSettings, Problem> {
    let mut fields = Fields::default();
    if body.name.is_none() && body.slow_mode_secs.is_none() {
        fields.refuse("", "must have a name or slow_mode_secs");
    }
    let name = body.name.map(Name::parse).transpose();
    let name = fields.read("/name", name).flatten();
    let secs = body
        .slow_mode_secs
        .map(|secs| whole(secs, 0, MOST_SLOW_SECS));
    let secs = fields.read("/slow_mode_secs", secs.transpose());
    fields.finish(secs.map(|slow_mode_secs| ChannelSettings {
        name,
        slow_mode_secs,
    }))
}

/// Deletes a channel for everybody; admins and the owner of its group may.
#[utoipa::path(
    tag = "channels",
    params(("channel" = Uuid, Path), KeyHeader, VersionHeader),
    responses((status = 204, description = "It is gone")),
)]
#[delete("/v1/channels/{channel}")]
pub(crate) async fn delete_channel(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    IfMatch(precondition): IfMatch,
    Path(channel): Path<ChannelId>,
) -> Result<HttpResponse, Problem> {
    let delete = state
        .channels
        .delete(who.user, channel, precondition, key.as_ref());
    let done = in_time(delete).await?;
    Ok(no_content(done.replayed))
}

/// Tells the other members that the caller is about to write: an ephemeral delta `typing`, at most
/// one in 3 seconds (repetitions in between change nothing), and none in large groups. Members who
/// may write may.
#[utoipa::path(
    tag = "channels",
    params(("channel" = Uuid, Path)),
    request_body(content = Option<wire::Empty>),
    responses((status = 204, description = "Others are told, or were lately")),
)]
#[post("/v1/channels/{channel}/typing")]
pub(crate) async fn start_typing(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(channel): Path<ChannelId>,
    _: OptionalJson<wire::Empty>,
) -> Result<HttpResponse, Problem> {
    in_time(state.typing.start(who.user, channel)).await?;
    Ok(no_content(false))
}
