//! Answers to mutations.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use tidings_common::domain::Seq;

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// An answer in the making.
pub(crate) struct Answer(HttpResponseBuilder);

impl Answer {
    pub(crate) fn ok() -> Self {
        Self(HttpResponse::Ok())
    }

    pub(crate) fn created() -> Self {
        Self(HttpResponse::Created())
    }

    pub(crate) fn created_if(created: bool) -> Self {
        let status = if created {
            StatusCode::CREATED
        } else {
            StatusCode::OK
        };
        Self(HttpResponse::build(status))
    }

    /// Marks the result of an earlier request with the same key.
    pub(crate) fn replayed(mut self, replayed: bool) -> Self {
        if replayed {
            let yes = HeaderValue::from_static("true");
            self.0.insert_header((IDEMPOTENCY_REPLAYED, yes));
        }
        self
    }

    pub(crate) fn version(mut self, version: Seq) -> Self {
        self.0
            .insert_header((header::ETAG, format!("\"{version}\"")));
        self
    }

    /// For whoever caches it: to be asked for again each time, with this tag.
    pub(crate) fn tag(mut self, digest: &str) -> Self {
        self.0
            .insert_header((header::ETAG, format!("\"{digest}\"")))
            .insert_header((header::CACHE_CONTROL, "private, no-cache"));
        self
    }

    /// Keeps secrets out of caches on the way.
    pub(crate) fn secret(mut self) -> Self {
        self.0.insert_header((header::CACHE_CONTROL, "no-store"));
        self
    }

    pub(crate) fn json(mut self, value: impl Serialize) -> HttpResponse {
        self.0.json(value)
    }
}

/// 304.
pub(crate) fn cached(digest: &str) -> HttpResponse {
    Answer(HttpResponse::NotModified()).tag(digest).0.finish()
}

/// 204.
pub(crate) fn no_content(replayed: bool) -> HttpResponse {
    Answer(HttpResponse::NoContent())
        .replayed(replayed)
        .0
        .finish()
}
