//! One file per resource: extract, call a service, respond.

pub(crate) mod channels;
pub(crate) mod groups;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod realtime;
pub(crate) mod sessions;
pub(crate) mod users;

use serde::Deserialize;
use utoipa::IntoParams;

/// Headers of mutations.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "stands in the API's description only")]
pub(crate) struct KeyHeader {
    /// 1 to 64 visible ASCII characters. A repetition with the same key has no second effect
    /// and gets the first result, with the header `Idempotency-Replayed: true`.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 64)]
    idempotency_key: Option<String>,
}

/// Headers of changes to what has a version.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "stands in the API's description only")]
pub(crate) struct VersionHeader {
    /// The `ETag` that the resource must still have; else 412.
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// Where a list begins and how long it may be.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery<T> {
    /// The id after which to go on (exclusive).
    #[param(value_type = Option<Uuid>)]
    pub(crate) after: Option<T>,
    /// 1 to 100; 50 if left out.
    #[param(minimum = 1, maximum = 100)]
    pub(crate) limit: Option<u64>,
}
