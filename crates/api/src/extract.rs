//! What handlers take out of a request beyond path, query and body, and how what services
//! refuse becomes a problem.

use std::future::{Future, Ready, ready};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap, HeaderName};
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use serde::de::DeserializeOwned;
use tidings_common::domain::{self, Seq};
use tidings_http::{Code, Json, Problem, Violation};

use crate::service::{Precondition, ServiceError};

/// How long a request may take once it has been read.
const DEADLINE: Duration = Duration::from_secs(10);
/// When to try again what was unavailable.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Items of a list in one answer, without `limit` and at most.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 100;

const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Runs what a service does, within the deadline. What is under way in the log then goes on
/// without us, and a repetition with the same key finds its result.
///
/// # Errors
///
/// The service's refusal as a problem, or 503.
pub(crate) async fn in_time<T>(
    work: impl Future<Output = Result<T, ServiceError>>,
) -> Result<T, Problem> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(result) => result.map_err(problem),
        Err(elapsed) => Err(Problem::unavailable(RETRY_AFTER, Some(&elapsed))
            .detail("it took too long; repeat with the same key")),
    }
}

/// What the client is told.
pub(crate) fn problem(error: ServiceError) -> Problem {
    match error {
        ServiceError::Invalid(violations) => {
            Problem::invalid(violations.into_iter().map(Violation::from).collect())
        }
        ServiceError::Unauthenticated(why) => Problem::unauthenticated().detail(why),
        ServiceError::NotFound => Problem::not_found(),
        ServiceError::Forbidden(why) => Problem::forbidden().detail(why),
        ServiceError::Muted { until } => Problem::forbidden()
            .detail("you are muted in this group")
            .member("until", until.to_string()),
        ServiceError::Conflict(why) => Problem::new(Code::Conflict).detail(why),
        ServiceError::GroupTooLarge { most } => Problem::new(Code::GroupTooLarge)
            .detail(format!("this is told in groups of at most {most} members")),
        ServiceError::UsernameTaken => Problem::new(Code::UsernameTaken),
        ServiceError::PreconditionFailed { version } => Problem::new(Code::PreconditionFailed)
            .detail(format!("the version is now {version}"))
            .member("version", version),
        ServiceError::KeyReused => Problem::new(Code::IdempotencyMismatch),
        ServiceError::RateLimited { why, retry_after } => {
            Problem::rate_limited(retry_after).detail(why)
        }
        ServiceError::Unavailable(None) => {
            Problem::unavailable(RETRY_AFTER, None).detail("repeat with the same key")
        }
        ServiceError::Unavailable(Some(ref cause)) => {
            Problem::unavailable(RETRY_AFTER, Some(cause.as_ref()))
                .detail("repeat with the same key")
        }
        // A service that lets `Unchanged` through has forgotten to answer it.
        ServiceError::Unchanged | ServiceError::Internal(_) => Problem::internal(&error),
    }
}

/// The header `Idempotency-Key`, if there is one.
#[derive(Debug)]
pub(crate) struct IdempotencyKey(pub(crate) Option<domain::IdempotencyKey>);

impl IdempotencyKey {
    pub(crate) fn as_ref(&self) -> Option<&domain::IdempotencyKey> {
        self.0.as_ref()
    }
}

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read_key(request.headers()).map(Self))
    }
}

fn read_key(headers: &HeaderMap) -> Result<Option<domain::IdempotencyKey>, Problem> {
    let mut values = headers.get_all(HeaderName::from_static("idempotency-key"));
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(Problem::violation(IDEMPOTENCY_KEY, "must be there once"));
    }
    // What is not visible ASCII is no text here, and an empty text is refused.
    let text = value.to_str().unwrap_or_default();
    domain::IdempotencyKey::parse(text)
        .map(Some)
        .map_err(|error| Problem::violation(IDEMPOTENCY_KEY, error.to_string()))
}

/// The header `If-Match`; without it, whatever the version.
#[derive(Debug)]
pub(crate) struct IfMatch(pub(crate) Precondition);

impl FromRequest for IfMatch {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self(read_if_match(request.headers()))))
    }
}

/// Tags that are not versions of ours (weak ones among them, which never match strongly) are
/// passed over: they can match nothing.
fn read_if_match(headers: &HeaderMap) -> Precondition {
    let values = headers.get_all(header::IF_MATCH);
    let lines: Vec<&str> = values.map(|value| value.to_str().unwrap_or("")).collect();
    let tags = lines.iter().flat_map(|line| line.split(',')).map(str::trim);
    if lines.is_empty() || tags.clone().any(|tag| tag == "*") {
        return Precondition::Any;
    }
    let version = |tag: &str| -> Option<Seq> {
        let digits = tag.strip_prefix('"')?.strip_suffix('"')?;
        let version: Seq = digits.parse().ok()?;
        (version.to_string() == digits).then_some(version)
    };
    Precondition::Versions(tags.filter_map(version).collect())
}

/// The header `If-None-Match`: the tags of what the client holds.
#[derive(Debug)]
pub(crate) struct IfNoneMatch(Vec<String>);

impl IfNoneMatch {
    /// Whether the client holds what has this tag. Compared weakly (RFC 9110, 13.1.2).
    pub(crate) fn names(&self, tag: &str) -> bool {
        let tag = format!("\"{tag}\"");
        let mut held = self
            .0
            .iter()
            .flat_map(|line| line.split(','))
            .map(str::trim);
        held.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
    }
}

impl FromRequest for IfNoneMatch {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let lines = request.headers().get_all(header::IF_NONE_MATCH);
        let lines = lines.filter_map(|line| line.to_str().ok());
        ready(Ok(Self(lines.map(str::to_owned).collect())))
    }
}

/// A JSON body that may be left out: without one, every field is.
#[derive(Debug)]
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalJson<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if has_body(request.headers()) {
            let body = Json::<T>::from_request(request, payload);
            return body
                .map(|body| body.map(|Json(value)| Self(value)))
                .boxed_local();
        }
        ready(Ok(Self(T::default()))).boxed_local()
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    headers.contains_key(header::TRANSFER_ENCODING)
        || length.is_some_and(|length| length.as_bytes() != b"0")
}

/// The size of a page of a list.
pub(crate) fn page_limit(limit: Option<u64>) -> Result<usize, Problem> {
    match limit.map(usize::try_from) {
        None => Ok(PAGE),
        Some(Ok(limit)) if (1..=LARGEST_PAGE).contains(&limit) => Ok(limit),
        Some(_) => {
            let detail = format!("must be 1 to {LARGEST_PAGE}");
            Err(Problem::violation("?limit", detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn if_match_names_versions_or_nothing_that_could_match() {
        let check = |lines: &[&str], expected: Precondition| {
            let mut request = TestRequest::default();
            for line in lines {
                request = request.append_header((header::IF_MATCH, *line));
            }
            let request = request.to_http_request();
            assert_eq!(read_if_match(request.headers()), expected, "{lines:?}");
        };
        check(&[], Precondition::Any);
        check(&["*"], Precondition::Any);
        check(&["\"3\""], Precondition::Versions(vec![3]));
        check(&["\"3\", \"4\""], Precondition::Versions(vec![3, 4]));
        check(&["\"3\"", "\"5\""], Precondition::Versions(vec![3, 5]));
        for nothing in ["3", "W/\"3\"", "\"03\"", "\"-3\"", "\"x\"", ""] {
            check(&[nothing], Precondition::Versions(vec![]));
        }
    }

    #[test]
    fn if_none_match_names_what_is_held() {
        let names = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned());
            IfNoneMatch(lines.collect()).names("a1")
        };
        for yes in [
            &["\"a1\""][..],
            &["W/\"a1\""],
            &["\"x\", \"a1\""],
            &["\"x\"", "\"a1\""],
            &["*"],
        ] {
            assert!(names(yes), "{yes:?}");
        }
        for no in [&[][..], &["a1"], &["\"a\""], &["\"a12\""], &[""]] {
            assert!(!names(no), "{no:?}");
        }
    }

    #[test]
    fn a_limit_out_of_range_is_refused_and_never_clamped() {
        assert_eq!(page_limit(None).unwrap(), 50);
        assert_eq!(page_limit(Some(1)).unwrap(), 1);
        assert_eq!(page_limit(Some(100)).unwrap(), 100);
        for bad in [0, 101, u64::MAX] {
            assert!(page_limit(Some(bad)).is_err(), "{bad}");
        }
    }
}
