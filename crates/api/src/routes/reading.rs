//! How far users have read.

use actix_web::web::Data;
use actix_web::{HttpResponse, get, put};
use tidings_common::domain::{ChannelId, Seq, UserId};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Path, Problem, Query};

use super::messages::{LAST, position};
use super::{KeyHeader, PageQuery};
use crate::ApiState;
use crate::answer::Answer;
use crate::extract::{IdempotencyKey, in_time};
use crate::fields::Fields;

/// Says how far the caller has read a channel: through `seq`. A mark never falls; a lower `seq`
/// changes nothing. All of the user's devices are told. A mark is moved at most every 3 seconds:
/// a request that comes sooner is answered when the mark is there, and shares the move with others
/// that wait for it.
#[utoipa::path(
    tag = "reading",
    params(("channel" = Uuid, Path), KeyHeader),
    responses(
        (status = 200, description = "How the channel stands now", body = wire::ChannelReading),
        (status = 429, description = "More than 32 requests wait for this mark"),
    ),
)]
#[put("/v1/channels/{channel}/read")]
pub(crate) async fn mark_read(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    key: IdempotencyKey,
    Path(channel): Path<ChannelId>,
    Json(body): Json<wire::MarkRead>,
) -> Result<HttpResponse, Problem> {
    let mut fields = Fields::default();
    if body.seq > LAST {
        fields.refuse("/seq", format!("must be at most {LAST}"));
    }
    let seq = fields.finish(Some(body.seq))?;
    let done = in_time(state.marks.set(who.user, channel, seq, key.as_ref())).await?;
    Ok(Answer::ok()
        .replayed(done.replayed)
        .json(wire::ChannelReading::of(channel, done.value)))
}

/// The members who have read a message, without its author; in groups of at most 100 members.
#[utoipa::path(
    tag = "reading",
    params(("channel" = Uuid, Path), ("seq" = u64, Path), PageQuery),
    responses(
        (status = 200, description = "Readers", body = wire::List<wire::Reader>),
        (status = 409, description = "The group has more than 100 members"),
    ),
)]
#[get("/v1/channels/{channel}/messages/{seq}/readers")]
pub(crate) async fn list_readers(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path((channel, seq)): Path<(ChannelId, Seq)>,
    Query(page): Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (seq, page) = (position(seq)?, page.check::<UserId>()?);
    let found = in_time(state.marks.readers(who.user, channel, seq, page)).await?;
    Ok(Answer::ok().json(wire::List::<wire::Reader>::of(found.items, found.more)))
}
