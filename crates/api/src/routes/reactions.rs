//! Reactions to messages.

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, put};
use tidings_common::domain::{ChannelId, Emoji, Seq};
use tidings_common::wire;
use tidings_http::{Authenticated, Path, Problem, Query};

use super::messages::position;
use super::{KeyHeader, PageQuery};
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{IdempotencyKey, in_time};
use crate::fields::only;
use crate::service::Reaction;

/// The last part of a path. What is none is 422, since it is no name of a thing.
fn emoji(text: String) -> Result<Emoji, Problem> {
    only("{emoji}", Emoji::parse(text))
}

/// Reacts to a message with an emoji (percent-encoded), or goes on doing so. The emoji is one of
/// Unicode's, or a short name of `a-z`, `0-9`, `_`, `-`, `+`. A message carries at most 20
/// different ones (a setting); one more is 409.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), ("seq" = u64, Path), ("emoji" = String, Path), KeyHeader),
    responses((status = 200, description = "The message", body = wire::Message)),
)]
#[put("/v1/channels/{channel}/messages/{seq}/reactions/{emoji}")]
pub(crate) async fn put_reaction(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((channel, seq, text)): Path<(ChannelId, Seq, String)>,
) -> Result<HttpResponse, Problem> {
    let reaction = Reaction {
        who: who.user,
        channel,
        seq: position(seq)?,
        emoji: emoji(text)?,
        key: key.as_ref(),
    };
    let done = in_time(state.reactions.add(reaction)).await?;
    Ok(Answer::ok()
        .replayed(done.replayed)
        .json(wire::Message::from(done.value)))
}

/// Takes the caller's own reaction back; without one nothing happens.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), ("seq" = u64, Path), ("emoji" = String, Path), KeyHeader),
    responses((status = 204, description = "The caller does not react so")),
)]
#[delete("/v1/channels/{channel}/messages/{seq}/reactions/{emoji}")]
pub(crate) async fn delete_reaction(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((channel, seq, text)): Path<(ChannelId, Seq, String)>,
) -> Result<HttpResponse, Problem> {
    let reaction = Reaction {
        who: who.user,
        channel,
        seq: position(seq)?,
        emoji: emoji(text)?,
        key: key.as_ref(),
    };
    let done = in_time(state.reactions.remove(reaction)).await?;
    Ok(no_content(done.replayed))
}

/// Who reacts with an emoji, by the users' ids.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), ("seq" = u64, Path), ("emoji" = String, Path), PageQuery),
    responses((status = 200, description = "Users", body = wire::List<wire::Reactor>)),
)]
#[get("/v1/channels/{channel}/messages/{seq}/reactions/{emoji}")]
pub(crate) async fn list_reactors(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path((channel, seq, text)): Path<(ChannelId, Seq, String)>,
    Query(query): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (to, page) = ((channel, position(seq)?, emoji(text)?), query.check()?);
    let found = in_time(state.reactions.list(who.user, to, page)).await?;
    Ok(Answer::ok().json(wire::List::<wire::Reactor>::of(found.items, found.more)))
}
