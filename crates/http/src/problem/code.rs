//! The table of problem codes: what is promised to clients about each.

use actix_web::http::StatusCode;

/// What went wrong, as clients tell it apart. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    BadRequest,
    MalformedJson,
    Unauthenticated,
    TokenExpired,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    GroupTooLarge,
    UsernameTaken,
    IdempotencyMismatch,
    PreconditionFailed,
    PayloadTooLarge,
    UnsupportedMediaType,
    InvalidRequest,
    Locked,
    RateLimited,
    Internal,
    Unavailable,
}

impl Code {
    /// All codes, in the order of their status.
    pub const ALL: &'static [Self] = &[
        Self::BadRequest,
        Self::MalformedJson,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::Conflict,
        Self::GroupTooLarge,
        Self::UsernameTaken,
        Self::IdempotencyMismatch,
        Self::PreconditionFailed,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidRequest,
        Self::Locked,
        Self::RateLimited,
        Self::Internal,
        Self::Unavailable,
    ];

    #[must_use]
    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// The value of the member `code`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// One sentence that is the same for every problem of this code.
    #[must_use]
    pub fn title(self) -> &'static str {
        self.row().2
    }

    fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::BadRequest => (
                S::BAD_REQUEST,
                "bad_request",
                "The request is not valid HTTP",
            ),
            Self::MalformedJson => (
                S::BAD_REQUEST,
                "malformed_json",
                "The body is not valid JSON",
            ),
            Self::Unauthenticated => (
                S::UNAUTHORIZED,
                "unauthenticated",
                "What was given does not prove who is asking",
            ),
            Self::TokenExpired => (S::UNAUTHORIZED, "token_expired", "The token has expired"),
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "You may not do this"),
            Self::NotFound => (
                S::NOT_FOUND,
                "not_found",
                "There is no such thing, or it is not yours to see",
            ),
            Self::MethodNotAllowed => (
                S::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "The method is not allowed here",
            ),
            Self::RequestTimeout => (
                S::REQUEST_TIMEOUT,
                "request_timeout",
                "The request took too long to arrive",
            ),
            Self::Conflict => (
                S::CONFLICT,
                "conflict",
                "The request conflicts with the current state",
            ),
            Self::GroupTooLarge => (
                S::CONFLICT,
                "group_too_large",
                "The group is too large for this",
            ),
            Self::UsernameTaken => (S::CONFLICT, "username_taken", "The username is taken"),
            Self::IdempotencyMismatch => (
                S::CONFLICT,
                "idempotency_mismatch",
                "The key was used for another request",
            ),
            Self::PreconditionFailed => (
                S::PRECONDITION_FAILED,
                "precondition_failed",
                "The resource has changed",
            ),
            Self::PayloadTooLarge => (
                S::PAYLOAD_TOO_LARGE,
                "payload_too_large",
                "The body is too large",
            ),
            Self::UnsupportedMediaType => (
                S::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body is of an unsupported type",
            ),
            Self::InvalidRequest => (
                S::UNPROCESSABLE_ENTITY,
                "invalid_request",
                "The request is not valid",
            ),
            Self::Locked => (S::LOCKED, "locked", "Someone else is editing this"),
            Self::RateLimited => (S::TOO_MANY_REQUESTS, "rate_limited", "Too many requests"),
            Self::Internal => (
                S::INTERNAL_SERVER_ERROR,
                "internal",
                "Something went wrong on our side",
            ),
            Self::Unavailable => (
                S::SERVICE_UNAVAILABLE,
                "unavailable",
                "The service is unavailable for the moment",
            ),
        }
    }

    /// The code that says most about a status the framework chose.
    pub(super) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout,
            StatusCode::CONFLICT => Self::Conflict,
            StatusCode::PRECONDITION_FAILED => Self::PreconditionFailed,
            StatusCode::PAYLOAD_TOO_LARGE => Self::PayloadTooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => Self::InvalidRequest,
            StatusCode::LOCKED => Self::Locked,
            StatusCode::TOO_MANY_REQUESTS => Self::RateLimited,
            StatusCode::SERVICE_UNAVAILABLE => Self::Unavailable,
            status if status.is_server_error() => Self::Internal,
            _ => Self::BadRequest,
        }
    }
}
