//! This server's queue: opened, kept bound, and read into the hub.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_common::bus::{Bus, Control, Deliveries, Delivery, Recipients, Subscription};
use tidings_common::tasks::Tasks;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::trace;

/// Between attempts to open the queue: doubled from the first to the last, with jitter.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Runs until `stop`. If the bus ends before that, the process does: nobody here would be told
/// anything any more.
pub(crate) async fn run(
    state: Arc<State>,
    bus: Arc<dyn Bus>,
    stop: CancellationToken,
    tasks: Tasks,
) {
    let consume = async {
        let Subscription {
            bindings,
            mut deliveries,
        } = subscribe(&state, &*bus).await;
        state.consuming.store(true, Ordering::SeqCst);
        tokio::select! {
            () = state.partitions.keep_bound(&*bindings) => {}
            () = deliver(&state, &mut *deliveries) => {}
        }
    };
    tokio::select! {
        () = consume => tasks.fail("consumer", "the bus has ended"),
        () = stop.cancelled() => {}
    }
    state.consuming.store(false, Ordering::SeqCst);
}

async fn subscribe(state: &State, bus: &dyn Bus) -> Subscription {
    let mut retry = FIRST_RETRY;
    loop {
        match bus.subscribe(state.server).await {
            Ok(subscription) => return subscription,
            Err(error) => tracing::warn!(
                server.id = %state.server,
                error = &error as &dyn std::error::Error,
                "the server's queue could not be opened; trying again"
            ),
        }
        sleep(retry.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

/// Returns when the bus has ended.
async fn deliver(state: &State, deliveries: &mut dyn Deliveries) {
    loop {
        match deliveries.next().await {
            Delivery::Delta(envelope) => match &envelope.to {
                Recipients::Users(users) => {
                    let span = trace::dispatch(&envelope, state.server);
                    span.in_scope(|| state.hub.dispatch(users, &envelope));
                    state.large.reached(&envelope);
                }
                Recipients::Group(to) => state.large.deliver(envelope.clone(), *to),
                Recipients::Watchers(user) => state.hub.tell_watchers(*user, &envelope),
            },
            Delivery::Interrupted => {
                tracing::warn!("the broker is away; nobody new is taken in until it is back");
                state.consuming.store(false, Ordering::SeqCst);
            }
            Delivery::Missed => {
                state.consuming.store(true, Ordering::SeqCst);
                state.partitions.try_now();
                tracing::warn!(
                    connections = state.hub.connections(),
                    "deltas were missed; every connection is told to sync"
                );
                state.hub.resume_all();
            }
            // Large groups are followed by their deltas.
            Delivery::Control(Control::GroupChanged { group, .. }) => {
                state.hub.watches().doubt(group);
            }
            // `Revocations` follows them itself.
            Delivery::Control(Control::SessionsEnded) => {}
            Delivery::Closed => return,
        }
    }
}
