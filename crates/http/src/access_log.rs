//! One span and one event for each request, the histogram of their durations, and where traces
//! begin. None holds paths, query strings, headers or bodies: tokens and tickets travel there.

use std::time::Instant;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::HeaderValue;
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _};
use prometheus_client::encoding::EncodeLabelSet;
use tidings_common::auth::Principal;
use tidings_common::telemetry::{HistogramFamily, Metrics, SECONDS, traces};
use tracing::{Instrument as _, Span, field};

/// The route of requests that fit none.
const UNKNOWN: &str = "unknown";
/// Asked for so often by machines that their traces would bury the others.
const UNTRACED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

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
        let trace = trace_span(&request, method);
        let started = Instant::now();
        let handling = next.call(request).instrument(trace.clone());
        let result = handling.instrument(span.clone()).await;
        let (route, status) = match &result {
            Ok(response) => {
                record_user(&span, response);
                record_user(&trace, response);
                (route_label(response), response.status())
            }
            Err(error) => (UNKNOWN.to_owned(), error.as_response_error().status_code()),
        };
        let status = status.as_u16();
        let elapsed = started.elapsed();
        span.record("http.route", route.as_str());
        span.record("http.status", status);
        let duration_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        record_outcome(&trace, method, &route, status);
        // Not at info: the histogram counts requests, and a line for each would drown the rest.
        trace.in_scope(|| tracing::debug!(parent: &span, duration_ms, "request answered"));
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
    pattern.unwrap_or_else(|| UNKNOWN.to_owned())
}

/// Begins a trace, or goes on with the one that the request names.
fn trace_span(request: &ServiceRequest, method: &'static str) -> Span {
    if UNTRACED.contains(&request.path()) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: traces::TARGET,
        parent: None,
        "request",
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = method,
        http.response.status_code = field::Empty,
        http.route = field::Empty,
        url.scheme = scheme(request),
        user.id = field::Empty,
        error.type = field::Empty,
    );
    // Two headers could be read differently by a proxy and by us, so they count as none.
    let mut sent = request.headers().get_all("traceparent");
    if let (Some(Ok(parent)), None) = (sent.next().map(HeaderValue::to_str), sent.next()) {
        traces::follow(&span, parent);
    }
    span
}

/// As the proxy says; a client may say anything.
fn scheme(request: &ServiceRequest) -> &'static str {
    match request.connection_info().scheme() {
        "https" => "https",
        _ => "http",
    }
}

/// What is known of a request only at its end, as OpenTelemetry's conventions for HTTP have it.
fn record_outcome(trace: &Span, method: &str, route: &str, status: u16) {
    if trace.is_disabled() {
        return;
    }
    if route == UNKNOWN {
        traces::rename(trace, method.to_owned());
    } else {
        trace.record("http.route", route);
        traces::rename(trace, format!("{method} {route}"));
    }
    trace.record("http.response.status_code", status);
    // What the client did wrong is no error of the server's.
    if status >= 500 {
        trace.record("otel.status_code", "ERROR");
        trace.record("error.type", status);
    }
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
