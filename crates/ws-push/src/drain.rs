//! How a server empties itself: everyone is told when to move, and moved then.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::connection::Close;
use crate::hub::Hub;

/// What connections get to end after the last slot.
const GRACE: Duration = Duration::from_secs(5);
/// Between looks whether they have.
const LOOK: Duration = Duration::from_millis(20);

/// Takes nobody in any more, spreads those who are here over `over`, and returns when they have
/// gone.
pub(crate) async fn drain(hub: &Hub, over: Duration) {
    let clients = hub.drain();
    let started = Instant::now();
    let count = u32::try_from(clients.len()).unwrap_or(u32::MAX).max(1);
    tracing::info!(connections = clients.len(), "draining");
    let slot = |place: u32| over * place / count;
    for (place, client) in (1..).zip(&clients) {
        let after_ms = u64::try_from(slot(place).as_millis()).unwrap_or(u64::MAX);
        client.recipient.move_over(after_ms);
    }
    for (place, client) in (1..).zip(&clients) {
        sleep_until(started + slot(place)).await;
        client.recipient.close(Close::Restarting);
    }
    let gone = timeout(GRACE, async {
        while hub.connections() > 0 {
            sleep(LOOK).await;
        }
    });
    if gone.await.is_err() {
        tracing::warn!(
            connections = hub.connections(),
            "connections are cut that did not end in time"
        );
    }
}
