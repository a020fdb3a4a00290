//! Messages.

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, patch, post};
use serde::Deserialize;
use tidings_common::domain::{self, ChannelId, Content, Seq};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Path, Problem, Query};
use utoipa::IntoParams;

use super::KeyHeader;
use crate::ApiState;
use crate::answer::{Answer, no_content};
use crate::extract::{IdempotencyKey, in_time, page_limit};
use crate::fields::{Fields, only};
use crate::service::{NewMessage, Window};

/// Beyond every position that can be: streams count in 63 bits.
pub(super) const LAST: Seq = i64::MAX.unsigned_abs();

/// Sends a message. `nonce` and the header `Idempotency-Key` are the same thing.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), KeyHeader),
    responses(
        (status = 201, description = "The message", body = wire::Message),
        (status = 429, description = "The channel is in slow mode; see `Retry-After`"),
    ),
)]
#[post("/v1/channels/{channel}/messages")]
pub(crate) async fn send_message(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path(channel): Path<ChannelId>,
    Json(body): Json<wire::SendMessage>,
) -> Result<HttpResponse, Problem> {
    let (new, key) = new_message(body, key)?;
    let done = in_time(state.messages.send(who.user, channel, new, key.as_ref())).await?;
    Ok(Answer::created()
        .replayed(done.replayed)
        .json(wire::Message::from(done.value)))
}

type Keyed = (NewMessage, Option<domain::IdempotencyKey>);

fn new_message(body: wire::SendMessage, header: IdempotencyKey) -> Result<Keyed, Problem> {
    let mut fields = Fields::default();
    let content = fields.read("/content", Content::parse(body.content));
    let nonce = body.nonce.map(domain::IdempotencyKey::parse).transpose();
    let nonce = fields.read("/nonce", nonce).flatten();
    if let (Some(header), Some(nonce)) = (header.as_ref(), &nonce)
        && header != nonce
    {
        fields.refuse("/nonce", "differs from the header Idempotency-Key");
    }
    if body.reply_to.is_some_and(|seq| seq > LAST) {
        fields.refuse("/reply_to", "there is no such message in this channel");
    }
    let reply_to = body.reply_to;
    let new = fields.finish(content.map(|content| NewMessage { content, reply_to }))?;
    Ok((new, nonce.or(header.0)))
}

/// Which messages; at most one of `before`, `after` and `around`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct MessagesQuery {
    /// The `seq` before which the page ends (exclusive).
    before: Option<Seq>,
    /// The `seq` after which the page begins (exclusive).
    after: Option<Seq>,
    /// The `seq` in the middle of the page.
    around: Option<Seq>,
    /// 1 to 100; 50 if left out.
    #[param(minimum = 1, maximum = 100)]
    pub(super) limit: Option<u64>,
}

impl MessagesQuery {
    pub(super) fn window(&self) -> Result<Window, Problem> {
        let positions = [
            ("?before", self.before),
            ("?after", self.after),
            ("?around", self.around),
        ];
        let mut fields = Fields::default();
        for (pointer, _) in positions
            .iter()
            .filter(|(_, position)| position.is_some_and(|seq| seq > LAST))
        {
            fields.refuse(*pointer, format!("must be at most {LAST}"));
        }
        let window = match (self.before, self.after, self.around) {
            (None, None, None) => Some(Window::Newest),
            (Some(seq), None, None) => Some(Window::Before(seq)),
            (None, Some(seq), None) => Some(Window::After(seq)),
            (None, None, Some(seq)) => Some(Window::Around(seq)),
            _ => {
                fields.refuse("?", "before, after and around exclude each other");
                None
            }
        };
        fields.finish(window)
    }
}

/// A page of a channel's messages, ascending; the newest if no position is given. Deleted
/// messages are there, without content.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), MessagesQuery),
    responses((status = 200, description = "Messages", body = wire::List<wire::Message>)),
)]
#[get("/v1/channels/{channel}/messages")]
pub(crate) async fn list_messages(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(channel): Path<ChannelId>,
    Query(query): Query<MessagesQuery>,
) -> Result<HttpResponse, Problem> {
    let (window, limit) = (query.window()?, page_limit(query.limit)?);
    let found = in_time(state.messages.list(who.user, channel, window, limit)).await?;
    Ok(Answer::ok().json(wire::List::<wire::Message>::of(found.items, found.more)))
}

/// A position in a path. One that cannot be names nothing.
pub(super) fn position(seq: Seq) -> Result<Seq, Problem> {
    if seq > LAST {
        return Err(Problem::not_found());
    }
    Ok(seq)
}

/// A message.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), ("seq" = u64, Path)),
    responses((status = 200, description = "The message", body = wire::Message)),
)]
#[get("/v1/channels/{channel}/messages/{seq}")]
pub(crate) async fn get_message(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path((channel, seq)): Path<(ChannelId, Seq)>,
) -> Result<HttpResponse, Problem> {
    let message = in_time(state.messages.get(who.user, channel, position(seq)?)).await?;
    Ok(Answer::ok().json(wire::Message::from(message)))
}

/// Changes the content of a message; its author may.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), ("seq" = u64, Path), KeyHeader),
    responses((status = 200, description = "The message", body = wire::Message)),
)]
#[patch("/v1/channels/{channel}/messages/{seq}")]
pub(crate) async fn edit_message(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((channel, seq)): Path<(ChannelId, Seq)>,
    Json(body): Json<wire::EditMessage>,
) -> Result<HttpResponse, Problem> {
    let (seq, content) = (
        position(seq)?,
        only("/content", Content::parse(body.content))?,
    );
    let edit = state
        .messages
        .edit(who.user, channel, seq, content, key.as_ref());
    let done = in_time(edit).await?;
    Ok(Answer::ok()
        .replayed(done.replayed)
        .json(wire::Message::from(done.value)))
}

/// Deletes a message: its content goes, its place stays. Its author may, and in a group
/// admins and the owner.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), ("seq" = u64, Path), KeyHeader),
    responses((status = 204, description = "It is deleted")),
)]
#[delete("/v1/channels/{channel}/messages/{seq}")]
pub(crate) async fn delete_message(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path((channel, seq)): Path<(ChannelId, Seq)>,
) -> Result<HttpResponse, Problem> {
    let seq = position(seq)?;
    let done = in_time(state.messages.delete(who.user, channel, seq, key.as_ref())).await?;
    Ok(no_content(done.replayed))
}
