//! One file per resource: extract, call a service, respond.

pub(crate) mod bans;
pub(crate) mod buckets;
pub(crate) mod channels;
pub(crate) mod edit_leases;
pub(crate) mod groups;
pub(crate) mod invites;
pub(crate) mod members;
pub(crate) mod messages;
pub(crate) mod pins;
pub(crate) mod presence;
pub(crate) mod reactions;
pub(crate) mod reading;
pub(crate) mod realtime;
pub(crate) mod sessions;
pub(crate) mod users;

use std::str::FromStr;

use serde::Deserialize;
use tidings_http::Problem;
use utoipa::IntoParams;

use crate::extract::page_limit;
use crate::fields::Fields;
use crate::service::{IdPage, IdWindow};

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

/// Headers of changes to a group's settings.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "stands in the API's description only")]
pub(crate) struct LeaseHeader {
    /// The token of the edit lease that the caller's session holds. While one is held, a change
    /// without it is refused with 423; one that has been lost, with 412.
    #[param(rename = "Edit-Lease", minimum = 1)]
    edit_lease: Option<u64>,
}

/// Which part of a list of things that have ids; at most one of `after` and `before`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// The id after which the page begins (exclusive).
    #[param(value_type = Option<Uuid>)]
    after: Option<String>,
    /// The id before which the page ends (exclusive).
    #[param(value_type = Option<Uuid>)]
    before: Option<String>,
    /// 1 to 100; 50 if left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u64>,
}

impl PageQuery {
    /// # Errors
    ///
    /// 422 for what is not an id, for two bounds, and for a limit out of range.
    pub(crate) fn check<T: FromStr>(self) -> Result<IdPage<T>, Problem> {
        let mut fields = Fields::default();
        let mut read = |pointer, id: Option<String>| {
            let id = id.map(|id| id.parse().map_err(|_| "must be an id"));
            fields.read(pointer, id.transpose())
        };
        let bounds = read("?after", self.after).zip(read("?before", self.before));
        let window = match bounds {
            None => None,
            Some((None, None)) => Some(IdWindow::First),
            Some((Some(id), None)) => Some(IdWindow::After(id)),
            Some((None, Some(id))) => Some(IdWindow::Before(id)),
            Some((Some(_), Some(_))) => {
                fields.refuse("?", "before and after exclude each other");
                None
            }
        };
        let window = fields.finish(window)?;
        let limit = page_limit(self.limit)?;
        Ok(IdPage { window, limit })
    }
}
