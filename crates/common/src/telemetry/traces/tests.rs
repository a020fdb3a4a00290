use std::sync::{Arc, Mutex};

use opentelemetry::trace::{SpanId, TraceId, TracerProvider as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter};
use tracing::{Span, info_span};
use tracing_subscriber::layer::SubscriberExt as _;

use super::{TARGET, follow, is_recorded, rename, shared, traceparent};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[derive(Debug, Clone, Default)]
struct Finished(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Finished {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

impl Finished {
    fn named(&self, name: &str) -> SpanData {
        let all = self.0.lock().unwrap();
        all.iter().find(|span| span.name == name).unwrap().clone()
    }
}

/// Runs `act` with every span recorded, but those whose parent says that it is not.
fn traced(act: impl FnOnce()) -> Finished {
    let finished = Finished::default();
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
        .with_simple_exporter(finished.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, act);
    finished
}

fn span() -> Span {
    info_span!(target: TARGET, "work")
}

#[test]
fn a_span_follows_its_parent_in_another_process() {
    let finished = traced(|| {
        let work = span();
        follow(&work, &format!("00-{TRACE}-b7ad6b7169203331-01"));
        let onward = traceparent(&work).unwrap();
        assert!(onward.starts_with(&format!("00-{TRACE}-")), "{onward}");
        assert!(onward.ends_with("-01") && !onward.contains("b7ad6b7169203331"));
        rename(&work, "renamed".to_owned());
    });
    let work = finished.named("renamed");
    assert_eq!(
        work.parent_span_id,
        SpanId::from_hex("b7ad6b7169203331").unwrap()
    );
    assert_eq!(
        work.span_context.trace_id(),
        TraceId::from_hex(TRACE).unwrap()
    );
}

#[test]
fn what_the_parent_does_not_record_is_not_recorded() {
    traced(|| {
        let work = span();
        follow(&work, &format!("00-{TRACE}-b7ad6b7169203331-00"));
        assert!(!is_recorded(&work));
        assert_eq!(traceparent(&work), None);
    });
}

#[test]
fn a_parent_that_is_none_begins_a_trace() {
    for wrong in [
        "",
        "junk",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
    ] {
        let finished = traced(|| {
            let work = span();
            follow(&work, wrong);
            assert!(is_recorded(&work), "{wrong}");
        });
        let work = finished.named("work");
        assert_eq!(work.parent_span_id, SpanId::INVALID, "{wrong}");
        assert_ne!(
            work.span_context.trace_id(),
            TraceId::from_hex(TRACE).unwrap()
        );
    }
}

#[test]
fn work_for_several_is_the_first_ones_child_and_linked_from_the_others() {
    let finished = traced(|| {
        let unrecorded = span();
        follow(&unrecorded, &format!("00-{TRACE}-b7ad6b7169203331-00"));
        let first = info_span!(target: TARGET, "first");
        let second = info_span!(target: TARGET, "second");
        let batch = shared(
            [&unrecorded, &first, &second],
            |parent| info_span!(target: TARGET, parent: parent, "batch"),
        );
        assert!(is_recorded(&batch));
        assert!(shared([&unrecorded], Clone::clone).is_disabled());
    });
    let (first, batch) = (finished.named("first"), finished.named("batch"));
    assert_eq!(batch.parent_span_id, first.span_context.span_id());
    let links = finished.named("second").links.links;
    assert_eq!(links.len(), 1);
    assert_eq!(
        links[0].span_context.span_id(),
        batch.span_context.span_id()
    );
    assert!(first.links.links.is_empty());
}

#[test]
fn without_a_receiver_nothing_is_recorded() {
    let work = span();
    follow(&work, &format!("00-{TRACE}-b7ad6b7169203331-01"));
    rename(&work, "renamed".to_owned());
    assert!(!is_recorded(&work));
    assert_eq!(traceparent(&work), None);
    assert!(shared([&work], |_| span()).is_disabled());
}
