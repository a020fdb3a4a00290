//! An OTLP receiver (HTTP with protobuf) that keeps the spans it is sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::wait::{self, SOON};

pub use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

/// A receiver on a port of its own, until it is dropped.
#[derive(Debug)]
pub struct Receiver {
    /// The setting `telemetry.otlp_endpoint`.
    pub endpoint: String,
    received: Arc<Mutex<Received>>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Span>,
    bodies: Vec<u8>,
}

/// A finished span. Ids are in hexadecimal; `parent` is empty where a trace begins.
#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    /// `service.instance.id`: one process.
    pub instance: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub name: String,
    pub kind: SpanKind,
    pub failed: bool,
    pub start_nanos: u64,
    pub end_nanos: u64,
    pub attributes: BTreeMap<String, String>,
    /// The ids of other spans.
    pub links: Vec<String>,
}

impl Span {
    /// An attribute as text; empty if it is not there.
    #[must_use]
    pub fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

impl Receiver {
    /// # Errors
    /// There is no port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let received = Arc::new(Mutex::default());
        let serving = tokio::spawn(serve(listener, received.clone()));
        Ok(Self {
            endpoint,
            received,
            serving,
        })
    }

    /// All that has come of one trace.
    #[must_use]
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace == trace);
        spans
    }

    /// All spans that have come.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        lock(&self.received).spans.clone()
    }

    /// Whether `text` stands anywhere in what has come.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let received = lock(&self.received);
        let mut windows = received.bodies.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    }

    /// Waits until a trace has spans of all these names, and returns all of its spans.
    ///
    /// # Errors
    /// They do not come in time.
    pub async fn complete(&self, trace: &str, names: &[&str]) -> Result<Vec<Span>> {
        let all_there = wait::until("all spans of the trace", SOON, async || {
            let spans = self.trace(trace);
            let is_there = |name: &&str| spans.iter().any(|span| span.name == *name);
            Ok(names.iter().all(is_there).then_some(spans))
        });
        all_there.await.with_context(|| {
            let spans = self.trace(trace);
            let names: Vec<_> = spans.into_iter().map(|span| span.name).collect();
            format!("there are {names:?}")
        })
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The span of that name; of several the first to have ended.
///
/// # Errors
/// There is none.
pub fn named<'a>(spans: &'a [Span], name: &str) -> Result<&'a Span> {
    let found = spans.iter().find(|span| span.name == name);
    found.with_context(|| format!("no span {name:?} in {spans:#?}"))
}

async fn serve(listener: TcpListener, received: Arc<Mutex<Received>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let received = received.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &received).await {
                eprintln!("the OTLP receiver: {error:#}");
            }
        });
    }
}

/// Answers requests until the client goes.
async fn converse(stream: TcpStream, received: &Mutex<Received>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(length) = head(&mut stream).await? {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        keep(&body, received)?;
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await?;
    }
    Ok(())
}

/// Reads a request's head; returns the length of its body, or None at the end of the connection.
async fn head(stream: &mut BufReader<TcpStream>) -> Result<Option<usize>> {
    let mut length = None;
    let mut protobuf = false;
    let mut first = true;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_ascii_lowercase();
        if std::mem::take(&mut first) && line != "post /v1/traces http/1.1" {
            bail!("asked for {line}");
        }
        match line.split_once(": ") {
            Some(("content-length", text)) => length = Some(text.parse()?),
            Some(("content-type", kind)) => protobuf = kind == "application/x-protobuf",
            _ => {}
        }
        if line.is_empty() {
            anyhow::ensure!(protobuf, "not protobuf");
            return Ok(Some(length.context("a length")?));
        }
    }
}

fn keep(body: &[u8], received: &Mutex<Received>) -> Result<()> {
    let request = ExportTraceServiceRequest::decode(body)?;
    let mut received = lock(received);
    received.bodies.extend_from_slice(body);
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap_or_default();
        let resource = texts(&resource.attributes);
        for span in of_resource.scope_spans.into_iter().flat_map(|of| of.spans) {
            received.spans.push(read(span, &resource));
        }
    }
    Ok(())
}

fn read(span: proto::Span, resource: &BTreeMap<String, String>) -> Span {
    let of_resource = |key: &str| resource.get(key).cloned().unwrap_or_default();
    let failed = span
        .status
        .as_ref()
        .is_some_and(|status| status.code() == proto::status::StatusCode::Error);
    Span {
        service: of_resource("service.name"),
        instance: of_resource("service.instance.id"),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        kind: span.kind(),
        failed,
        start_nanos: span.start_time_unix_nano,
        end_nanos: span.end_time_unix_nano,
        attributes: texts(&span.attributes),
        links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
        name: span.name,
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let pairs = attributes.iter();
    pairs
        .map(|pair| (pair.key.clone(), text(pair.value.as_ref())))
        .collect()
}

fn text(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a `String` does not fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}
