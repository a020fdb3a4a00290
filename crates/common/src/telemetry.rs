//! What the outside sees of a running process: its log, its metrics and its traces.
//!
//! Metrics are named `tidings_<area>_<noun>_<unit>`; counters end in `_total`.

mod export;
mod log_lines;
pub mod traces;

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{fmt, registry};

use crate::config::{Binary, Config, LogFormat};
use export::Exporting;
use log_lines::Traced;

/// Logging or tracing could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("the log filter is invalid")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("spans cannot be exported")]
    Export(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("the client that would export spans cannot be made")]
    Client(#[from] reqwest::Error),
    #[error("this process has a subscriber already")]
    AlreadySet(#[from] TryInitError),
}

/// Keeps telemetry running; what is still buffered is sent when it is dropped, which may take
/// 3 s if spans are exported.
#[must_use = "telemetry ends when this is dropped"]
pub struct TelemetryGuard(
    #[expect(dead_code, reason = "it is there to be dropped")] Option<Exporting>,
);

/// Sends log events of this process to standard error and, if there is an OTLP receiver, the
/// spans of [`traces`] there.
///
/// # Errors
///
/// If the process has a subscriber already, the filter does not parse, or the endpoint is no
/// address. Whether there is a receiver is not looked at.
pub fn init(binary: Binary, config: &Config) -> Result<TelemetryGuard, TelemetryError> {
    let filter = EnvFilter::try_new(&config.telemetry.log_filter)?;
    let not_spans = format!("{}=off", traces::TARGET).parse()?;
    let filter = filter.add_directive(not_spans);
    let log = log_layer(config.telemetry.log_format);
    let Some(endpoint) = &config.telemetry.otlp_endpoint else {
        // One filter for all: what it refuses costs nothing.
        registry().with(log).with(filter).try_init()?;
        return Ok(TelemetryGuard(None));
    };
    let exporting = Exporting::start(binary, config, endpoint)?;
    let spans = tracing_opentelemetry::layer()
        .with_tracer(exporting.tracer())
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(|metadata| {
            metadata.is_span() && metadata.target() == traces::TARGET
        }));
    registry()
        .with(log.with_filter(filter))
        .with(spans)
        .try_init()?;
    Ok(TelemetryGuard(Some(exporting)))
}

fn log_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let lines = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .map_event_format(Traced)
            .boxed(),
        LogFormat::Pretty => lines.with_ansi(false).boxed(),
    }
}

/// A histogram with labels.
pub type HistogramFamily<L> = Family<L, Histogram, Buckets>;

/// The upper bounds of a histogram's buckets.
#[derive(Debug, Clone)]
pub struct Buckets(&'static [f64]);

/// From half a millisecond to ten seconds: requests, store calls, deliveries.
pub const SECONDS: Buckets = Buckets(&[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
]);

impl Buckets {
    /// Bounds must ascend.
    #[must_use]
    pub const fn new(bounds: &'static [f64]) -> Self {
        Self(bounds)
    }
}

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// What a set of labels must be: derive `Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet`.
pub trait Labels: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static {}

impl<T> Labels for T where T: EncodeLabelSet + Clone + Debug + Hash + Eq + Send + Sync + 'static {}

/// The metrics of one process. Names are given without `tidings_` and, for counters, without
/// `_total`; both are added. Every name is registered once: the handle returned is cheap to
/// clone and share.
#[derive(Debug)]
pub struct Metrics(Mutex<Registry>);

impl Default for Metrics {
    fn default() -> Self {
        Self(Mutex::new(Registry::with_prefix("tidings")))
    }
}

impl Metrics {
    /// The content type of [`Metrics::encode`].
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    pub fn counters<L: Labels>(&self, name: &str, help: &str) -> Family<L, Counter> {
        self.register(name, help, Family::default())
    }

    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    pub fn gauges<L: Labels>(&self, name: &str, help: &str) -> Family<L, Gauge> {
        self.register(name, help, Family::default())
    }

    pub fn histogram(&self, name: &str, help: &str, buckets: Buckets) -> Histogram {
        self.register(name, help, buckets.new_metric())
    }

    pub fn histograms<L: Labels>(
        &self,
        name: &str,
        help: &str,
        buckets: Buckets,
    ) -> HistogramFamily<L> {
        self.register(name, help, Family::new_with_constructor(buckets))
    }

    /// Registers a metric of any type of `prometheus_client` and gives it back.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(name, help, metric.clone());
        metric
    }

    /// Adds metrics that are read when they are asked for.
    pub fn collect(&self, collector: impl Collector) {
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(collector));
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a `String` does not fail.
        encode(&mut text, &registry).unwrap_or_default();
        text
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::EncodeLabelSet;

    use super::{Metrics, SECONDS};

    #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
    struct Route {
        route: &'static str,
    }

    #[test]
    fn metrics_are_named_for_their_process_and_unit() {
        let metrics = Metrics::default();
        let published = metrics.counter("bus_publishes", "Envelopes confirmed");
        let requests = metrics.histograms("http_request_seconds", "Requests", SECONDS);
        published.inc();
        requests
            .get_or_create(&Route { route: "/v1/sync" })
            .observe(0.2);
        let text = metrics.encode();
        assert!(text.contains("\ntidings_bus_publishes_total 1\n"), "{text}");
        let bucket = "tidings_http_request_seconds_bucket{le=\"0.25\",route=\"/v1/sync\"} 1";
        assert!(text.contains(bucket), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
