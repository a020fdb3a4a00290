//! Problems (RFC 9457): the one shape in which every refusal leaves the process.
//!
//! A 5xx names no cause. The full chain of errors is logged once, here, under the id that the
//! client is given as `instance`.

mod code;
mod middleware;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde_json::{Map, Value};
use tidings_common::domain;
use utoipa::ToSchema;
use uuid::Uuid;

pub use code::Code;
pub use middleware::render_all;

/// The content type of every problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// One thing that is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Violation {
    /// Where: a JSON pointer into the body (`/members/0`, empty for all of it), `?name` for a
    /// query parameter, or the name of a header.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

impl Violation {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

impl From<domain::Violation> for Violation {
    fn from(violation: domain::Violation) -> Self {
        Self::new(violation.pointer, violation.detail)
    }
}

/// A refusal on its way to the client. Handlers and extractors return it as their error.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: Code,
    status: StatusCode,
    detail: Option<String>,
    instance: Option<Uuid>,
    errors: Vec<Violation>,
    members: Map<String, Value>,
    retry_after: Option<Duration>,
    allow: Option<String>,
}

/// The body of a problem. `locked` and others may carry further members.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    /// Stable and meant for programs.
    code: String,
    /// What is special about this occurrence.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Names this occurrence in our logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Violation>,
    #[serde(flatten)]
    #[schema(ignore)]
    members: Map<String, Value>,
}

impl Problem {
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self(Box::new(Parts {
            code,
            status: code.status(),
            detail: None,
            instance: None,
            errors: Vec::new(),
            members: Map::new(),
            retry_after: None,
            allow: None,
        }))
    }

    /// Says what is special about this occurrence. Never a cause of a 5xx, never a secret.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds a member of its own, such as the holder of a lock.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.members.insert(name.to_owned(), value.into());
        self
    }

    /// When to try again; rounded up to whole seconds.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// 422: the request reads well and asks for what cannot be.
    #[must_use]
    pub fn invalid(errors: Vec<Violation>) -> Self {
        let mut problem = Self::new(Code::InvalidRequest);
        problem.0.errors = errors;
        problem
    }

    /// 422 for one thing.
    #[must_use]
    pub fn violation(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![Violation::new(pointer, detail)])
    }

    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Code::NotFound)
    }

    #[must_use]
    pub fn forbidden() -> Self {
        Self::new(Code::Forbidden)
    }

    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(Code::Unauthenticated)
    }

    #[must_use]
    pub fn token_expired() -> Self {
        Self::new(Code::TokenExpired)
    }

    /// 405 with the methods that are allowed, separated by commas.
    #[must_use]
    pub fn method_not_allowed(allow: impl Into<String>) -> Self {
        let mut problem = Self::new(Code::MethodNotAllowed);
        problem.0.allow = Some(allow.into());
        problem
    }

    #[must_use]
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self::new(Code::RateLimited).retry_after(retry_after)
    }

    /// 503. With `cause`, its chain is logged here.
    #[must_use]
    pub fn unavailable(retry_after: Duration, cause: Option<&(dyn Error + 'static)>) -> Self {
        let mut problem = Self::new(Code::Unavailable).retry_after(retry_after);
        if let Some(cause) = cause {
            let instance = Uuid::new_v4();
            let error = chain(cause);
            tracing::warn!(%instance, error, "a request failed because a service is unavailable");
            problem.0.instance = Some(instance);
        }
        problem
    }

    /// 500. The chain of `cause` is logged here, and nowhere else.
    #[must_use]
    pub fn internal(cause: &(dyn Error + 'static)) -> Self {
        Self::internal_because(&chain(cause))
    }

    fn internal_because(cause: &str) -> Self {
        let instance = Uuid::new_v4();
        tracing::error!(%instance, error = cause, "a request failed");
        let mut problem = Self::new(Code::Internal);
        problem.0.instance = Some(instance);
        problem
    }

    /// A refusal by the framework, which chose only a status.
    fn of_status(status: StatusCode, cause: Option<String>) -> Self {
        let mut problem = match Code::of_status(status) {
            Code::Internal => Self::internal_because(&cause.unwrap_or_default()),
            code => Self::new(code),
        };
        problem.0.status = status;
        problem
    }

    fn body(&self) -> ProblemBody {
        let Parts { code, status, .. } = *self.0;
        ProblemBody {
            kind: format!("urn:tidings:problem:{}", code.name()),
            title: code.title().to_owned(),
            status: status.as_u16(),
            code: code.name().to_owned(),
            detail: self.0.detail.clone(),
            instance: self.0.instance.map(|id| id.urn().to_string()),
            errors: self.0.errors.clone(),
            members: self.0.members.clone(),
        }
    }

    /// One second where the code demands a `Retry-After` and nobody knows better.
    fn retry_after_secs(&self) -> Option<u64> {
        let needs_one = matches!(self.0.code, Code::RateLimited | Code::Unavailable);
        let default = needs_one.then_some(Duration::from_secs(1));
        let after = self.0.retry_after.or(default)?;
        Some(after.as_secs() + u64::from(after.subsec_nanos() > 0))
    }

    fn challenge(&self) -> Option<&'static str> {
        if self.0.code == Code::TokenExpired {
            Some("Bearer error=\"invalid_token\"")
        } else {
            (self.0.status == StatusCode::UNAUTHORIZED).then_some("Bearer")
        }
    }
}

/// An error and its sources on one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code.name())
    }
}

impl Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.0.status);
        response.content_type(CONTENT_TYPE);
        if let Some(challenge) = self.challenge() {
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if let Some(secs) = self.retry_after_secs() {
            response.insert_header((header::RETRY_AFTER, secs));
        }
        if let Some(allow) = &self.0.allow {
            response.insert_header((header::ALLOW, allow.as_str()));
        }
        // A body of strings and numbers serialises; an empty one is still the right status.
        response.body(serde_json::to_string(&self.body()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
