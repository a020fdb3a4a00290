//! How spans leave the process: in batches, over OTLP (HTTP with protobuf), from a thread of its
//! own. Nothing ever waits for it: what there is no room for is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use opentelemetry::trace::SpanKind;
use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{
    Protocol, RetryPolicy, SpanExporter as OtlpExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData,
    SpanExporter,
};
use uuid::Uuid;

use super::TelemetryError;
use crate::config::{Binary, BusBackend, Config, StoreConfig};

/// Finished spans that wait to be sent, of about a kilobyte each. One more is dropped.
const QUEUE: usize = 4096;
/// Spans in one request, and how long the first of them waits for others.
const BATCH: usize = 512;
const INTERVAL: Duration = Duration::from_secs(1);
/// A request that takes longer has failed; its spans are lost.
const REQUEST: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the last spans to be sent.
const FLUSH: Duration = Duration::from_secs(3);

/// Sends spans to the receiver at `endpoint`, until it is stopped.
pub(super) struct Exporting(SdkTracerProvider);

impl Exporting {
    pub(super) fn start(
        binary: Binary,
        config: &Config,
        endpoint: &str,
    ) -> Result<Self, TelemetryError> {
        let exporter = OtlpExporter::builder()
            .with_http()
            .with_http_client(http_client()?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .with_timeout(REQUEST)
            // The next batch is the next try; waiting would only fill the queue.
            .with_retry_policy(RetryPolicy::default().with_max_retries(0))
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(INTERVAL)
            .build();
        let processor = BatchSpanProcessor::builder(Exporter::new(exporter, config))
            .with_batch_config(batches)
            .build();
        let ratio = Sampler::TraceIdRatioBased(config.telemetry.trace_ratio);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(resource(binary))
            .with_span_processor(processor)
            .build();
        Ok(Self(provider))
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.0.tracer(env!("CARGO_PKG_NAME"))
    }
}

impl Drop for Exporting {
    /// Sends what waits, for at most [`FLUSH`].
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(FLUSH) {
            tracing::debug!(%error, "the last spans were not sent");
        }
    }
}

fn resource(binary: Binary) -> Resource {
    Resource::builder_empty()
        .with_service_name(binary.name())
        .with_attributes([
            KeyValue::new("service.namespace", "tidings"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::new_v4().to_string()),
        ])
        .build()
}

/// The client blocks, because the thread that it is called from has no runtime; for the same
/// reason it cannot be made on a thread that has one. Proxies that the environment names are for
/// the way to the outside.
fn http_client() -> Result<reqwest::blocking::Client, TelemetryError> {
    let build = || {
        reqwest::blocking::Client::builder()
            .timeout(REQUEST)
            .no_proxy()
            .build()
    };
    let built = thread::spawn(build).join();
    Ok(built.expect("building an HTTP client does not panic")?)
}

/// Adds what is the same for every call of this process, and says when the receiver fails.
#[derive(Debug)]
struct Exporter<E> {
    to: E,
    store: KeyValue,
    bus: [KeyValue; 2],
    failing: AtomicBool,
}

impl<E> Exporter<E> {
    fn new(to: E, config: &Config) -> Self {
        let store = match config.store {
            StoreConfig::Sqlite { .. } => "sqlite",
            StoreConfig::MongoDb { .. } => "mongodb",
        };
        let bus = match config.bus.backend {
            BusBackend::Memory => "memory",
            BusBackend::RabbitMq { .. } => "rabbitmq",
        };
        Self {
            to,
            store: KeyValue::new("db.system.name", store),
            bus: [
                KeyValue::new("messaging.system", bus),
                KeyValue::new("messaging.destination.name", config.bus.prefix.clone()),
            ],
            failing: AtomicBool::new(false),
        }
    }

    fn complete(&self, span: &mut SpanData) {
        match span.span_kind {
            SpanKind::Client => span.attributes.push(self.store.clone()),
            SpanKind::Producer | SpanKind::Consumer => span.attributes.extend(self.bus.clone()),
            SpanKind::Server | SpanKind::Internal => {}
        }
    }

    /// One line when it begins to fail and one when it works again, not one a second.
    fn report(&self, outcome: &OTelSdkResult) {
        let failed = self.failing.swap(outcome.is_err(), Ordering::Relaxed);
        match outcome {
            Err(error) if !failed => {
                tracing::warn!(%error, "spans cannot be sent; until they can, they are lost");
            }
            Ok(()) if failed => tracing::info!("spans are being sent again"),
            Ok(()) | Err(_) => {}
        }
    }
}

impl<E: SpanExporter> SpanExporter for Exporter<E> {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        for span in &mut batch {
            self.complete(span);
        }
        let outcome = self.to.export(batch).await;
        self.report(&outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.to.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.to.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.to.set_resource(resource);
    }
}
