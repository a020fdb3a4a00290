//! Messages that a channel keeps in view.

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, put};
use tidings_common::domain::{ChannelId, Seq};
use tidings_common::wire;
use tidings_http::{Authenticated, Path, Problem, Query};

use super::KeyHeader;
use super::messages::{MessagesQuery, position};
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{IdempotencyKey, in_time, page_limit};

/// Pins a message, or keeps it pinned. In a group admins and the owner may, in a direct
/// conversation both. A channel has at most 50 pinned messages (a setting); one more is 409.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), ("seq" = u64, Path), KeyHeader),
    responses((status = 200, description = "The message", body = wire::Message)),
)]
#[put("/v1/channels/{channel}/messages/{seq}/pin")]
pub(crate) async fn put_pin(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((channel, seq)): Path<(ChannelId, Seq)>,
) -> Result<HttpResponse, Problem> {
    let seq = position(seq)?;
    let done = in_time(state.pins.add(who.user, channel, seq, key.as_ref())).await?;
    Ok(Answer::ok()
        .replayed(done.replayed)
        .json(wire::Message::from(done.value)))
}

/// Unpins a message, whoever pinned it. Who may pin may unpin.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), ("seq" = u64, Path), KeyHeader),
    responses((status = 204, description = "It is not pinned")),
)]
#[delete("/v1/channels/{channel}/messages/{seq}/pin")]
pub(crate) async fn delete_pin(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((channel, seq)): Path<(ChannelId, Seq)>,
) -> Result<HttpResponse, Problem> {
    let seq = position(seq)?;
    let done = in_time(state.pins.remove(who.user, channel, seq, key.as_ref())).await?;
    Ok(no_content(done.replayed))
}

/// A page of a channel's pinned messages, in the order of the messages; the newest if no
/// position is given.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), MessagesQuery),
    responses((status = 200, description = "Messages", body = wire::List<wire::Message>)),
)]
#[get("/v1/channels/{channel}/pins")]
pub(crate) async fn list_pins(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(channel): Path<ChannelId>,
    Query(query): Query<MessagesQuery>,
) -> Result<HttpResponse, Problem> {
    let (window, limit) = (query.window()?, page_limit(query.limit)?);
    let found = in_time(state.pins.list(who.user, channel, window, limit)).await?;
    Ok(Answer::ok().json(wire::List::<wire::Message>::of(found.items, found.more)))
}
