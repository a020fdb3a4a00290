//! One file per resource: extract, call a service, respond.

pub(crate) mod channels;
pub(crate) mod groups;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod realtime;
pub(crate) mod sessions;
pub(crate) mod users;

use std::str::FromStr;

use serde::Deserialize;
use tidings_http::Problem;
use utoipa::IntoParams;

use crate::extract::page_limit;

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
pub(crate) struct PageQuery {
    /// The id after which to go on (exclusive).
    #[param(value_type = Option<Uuid>)]
    after: Option<String>,
    /// 1 to 100; 50 if left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
}

/// Part of a list of things that have ids.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) after: Option<T>,
    pub(crate) limit: usize,
}

impl PageQuery {
    /// # Errors
    ///
    /// 422 for what is not an id, and for a limit out of range.
    pub(crate) fn check<T: FromStr>(self) -> Result<Page<T>, Problem> {
        let after = self.after.map(|id| id.parse()).transpose();
        let after = after.map_err(|_| Problem::violation("?after", "must be an id"))?;
        let limit = page_limit(self.limit)?;
        Ok(Page { after, limit })
    }
}
