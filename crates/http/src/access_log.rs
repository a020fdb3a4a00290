//! One span and one event for each request, and the histogram of their durations. Neither
//! holds query strings, headers or bodies: tokens and tickets travel there.

use std::time::Instant;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use prometheus_client::encoding::EncodeLabelSet;
use tidings_common::auth::Principal;
use tidings_common::telemetry::{HistogramFamily, Metrics, SECONDS};
use tracing::{Instrument as _, Span, field};

/// Labels are bounded: by the routes, by the known methods, by the status codes in use.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    route: String,
    method: &'static str,
    status: u16,
}

/// Counts and times requests. Made once for a process and shared by its workers.
#[derive(Debug, Clone)]
pub struct AccessLog {
    requests: HistogramFamily<Labels>,
}

impl AccessLog {
    /// Registers `tidings_http_request_seconds`.
    pub fn new(metrics: &Metrics) -> Self {
        let help = "From the request's head to the answer's";
        Self {
            requests: metrics.histograms("http_request_seconds", help, SECONDS),
        }
    }

    pub(crate) async fn record(
        self,
        request: ServiceRequest,
        next: Next<BoxBody>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        let method = method_label(request.method());
        // The route and the user are known only once the request has been through.
        let span = tracing::info_span!(
            "request",
            http.method = method,
            http.route = field::Empty,
            http.status = field::Empty,
            user.id = field::Empty,
        );
        let started = Instant::now();
        let result = next.call(request).instrument(span.clone()).await;
        let (route, status) = match &result {
            Ok(response) => {
                record_user(&span, response);
                (route_label(response), response.status())
            }
            Err(error) => (
                "unknown".to_owned(),
                error.as_response_error().status_code(),
            ),
        };
        let status = status.as_u16();
        let elapsed = started.elapsed();
        span.record("http.route", route.as_str());
        span.record("http.status", status);
        let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        // Not at info: the histogram counts requests, and a line for each would drown the rest.
        tracing::debug!(parent: &span, duration_ms, "request answered");
        let labels = Labels {
            route,
            method,
            status,
        };
        let seconds = elapsed.as_secs_f64();
        self.requests.get_or_create(&labels).observe(seconds);
        result
    }
}

fn record_user(span: &Span, response: &ServiceResponse) {
    if let Some(principal) = response.request().extensions().get::<Principal>() {
        span.record("user.id", field::display(principal.user));
    }
}

/// The pattern, never the path: paths hold ids, and anyone can invent paths.
fn route_label(response: &ServiceResponse) -> String {
    let pattern = response.request().match_pattern();
    pattern.unwrap_or_else(|| "unknown".to_owned())
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
