//! History by buckets.

use std::collections::BTreeMap;

use actix_web::web::Data;
use actix_web::{HttpResponse, get, post};
use tidings_common::domain::{Bucket, ChannelId};
use tidings_common::wire;
use tidings_http::{Authenticated, Json, Path, Problem};
use utoipa::IntoParams;

use crate::ApiState;
use crate::answer::{Answer, cached};
use crate::extract::{IfNoneMatch, in_time};
use crate::fields::Fields;
use crate::service::Fetched;

/// Buckets compared by one request.
const MOST: usize = 100;

/// Headers of reads that clients cache.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "stands in the API's description only")]
struct CacheHeader {
    /// The `ETag`s that the client holds; if it is one of them still, 304.
    #[param(rename = "If-None-Match")]
    if_none_match: Option<String>,
}

/// The messages with `256 b < seq ≤ 256 (b + 1)`, as they are now, deleted ones included. The
/// `ETag` changes with every change of what is shown.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path), ("bucket" = u64, Path), CacheHeader),
    responses(
        (status = 200, description = "The bucket", body = wire::Bucket),
        (status = 304, description = "It is what the client holds"),
    ),
)]
#[get("/v1/channels/{channel}/buckets/{bucket}")]
pub(crate) async fn get_bucket(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path((channel, number)): Path<(ChannelId, u64)>,
    holds: IfNoneMatch,
) -> Result<HttpResponse, Problem> {
    let bucket = Bucket::new(number).ok_or_else(Problem::not_found)?;
    let holds = |digest: &str| holds.names(digest);
    let fetched = in_time(state.buckets.get(who.user, channel, bucket, holds)).await?;
    Ok(match fetched {
        Fetched::Same { digest } => cached(&digest),
        Fetched::Changed { digest, items } => Answer::ok().tag(&digest).json(wire::Bucket {
            channel,
            bucket: number,
            digest,
            items: items.into_iter().map(Into::into).collect(),
        }),
    })
}

/// Compares the digests of buckets that a client holds with those of now: the answer names
/// the ones to fetch again. Changes nothing.
#[utoipa::path(
    tag = "messages",
    params(("channel" = Uuid, Path)),
    responses((status = 200, description = "Which differ", body = wire::BucketsCompared)),
)]
#[post("/v1/channels/{channel}/buckets/compare")]
pub(crate) async fn compare_buckets(
    state: Data<ApiState>,
    Authenticated(who): Authenticated,
    Path(channel): Path<ChannelId>,
    Json(body): Json<wire::CompareBuckets>,
) -> Result<HttpResponse, Problem> {
    let held = held(body)?;
    let differ = in_time(state.buckets.compare(who.user, channel, held)).await?;
    let differ = differ.into_iter();
    Ok(Answer::ok().json(wire::BucketsCompared {
        differ: differ
            .map(|(bucket, digest)| (bucket.number(), digest))
            .collect(),
    }))
}

fn held(body: wire::CompareBuckets) -> Result<BTreeMap<Bucket, String>, Problem> {
    let mut fields = Fields::default();
    if !(1..=MOST).contains(&body.digests.len()) {
        fields.refuse("/digests", format!("must have 1 to {MOST} buckets"));
    }
    let mut held = BTreeMap::new();
    for (number, digest) in body.digests.into_iter().take(MOST) {
        let bucket = number.parse().ok().and_then(Bucket::new);
        // One way to write each number, so that none stands there twice.
        match bucket.filter(|bucket| bucket.number().to_string() == number) {
            Some(bucket) => drop(held.insert(bucket, digest)),
            None => fields.refuse(
                format!("/digests/{}", number.replace('~', "~0").replace('/', "~1")),
                "must be the number of a bucket",
            ),
        }
    }
    fields.finish(Some(held))
}
