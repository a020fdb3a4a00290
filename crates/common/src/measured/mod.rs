//! The store, the bus and presence with their calls counted and timed, whatever stands behind
//! the traits; and what the system says of the process. The drivers know nothing of it.

mod bus;
mod presence;
mod process;
mod store;

pub use bus::{MeasuredBus, register_rabbitmq};
pub use presence::MeasuredPresence;
pub use process::register_process;
pub use store::MeasuredStore;

use std::future::Future;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::telemetry::{HistogramFamily, Metrics, SECONDS};

/// What calls of one trait cost, by method, and how they fail. A call whose future is dropped is
/// not in it.
#[derive(Debug)]
struct Calls {
    seconds: HistogramFamily<Operation>,
    errors: Family<Failed, Counter>,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Operation {
    operation: &'static str,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Failed {
    kind: &'static str,
}

impl Calls {
    /// Registers `<area>_call_seconds` and `<area>_errors`. What is counted by these labels is
    /// there from the start: a counter that begins at one has not risen.
    fn register(
        metrics: &Metrics,
        area: &str,
        operations: &[&'static str],
        kinds: &[&'static str],
    ) -> Self {
        let help = "Calls that have returned, failed ones included";
        let seconds = metrics.histograms(&format!("{area}_call_seconds"), help, SECONDS);
        for operation in operations {
            drop(seconds.get_or_create(&Operation { operation }));
        }
        let errors = metrics.counters(&format!("{area}_errors"), "Calls that failed");
        for kind in kinds {
            drop(errors.get_or_create(&Failed { kind }));
        }
        Self { seconds, errors }
    }

    async fn measure<T, E>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, E>>,
        kind: fn(&E) -> &'static str,
    ) -> Result<T, E> {
        let started = Instant::now();
        let outcome = call.await;
        let seconds = self.seconds.get_or_create(&Operation { operation });
        seconds.observe(started.elapsed().as_secs_f64());
        if let Err(error) = &outcome {
            let kind = kind(error);
            self.errors.get_or_create(&Failed { kind }).inc();
        }
        outcome
    }
}
