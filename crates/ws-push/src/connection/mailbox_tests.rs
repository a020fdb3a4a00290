//! What a mailbox holds, gives up and hands over.

use std::task::Waker;

use tidings_common::wire::ErrorCode;

use super::*;

const LIMITS: MailboxLimits = MailboxLimits {
    bytes: 100,
    deltas: 5,
};
const SLOW: Outgoing = Outgoing::Frame(ServerFrame::Resume {
    reason: ResumeReason::Slow,
    after_ms: 0,
});

fn opened() -> Mailbox {
    let mailbox = Mailbox::new(LIMITS);
    mailbox.open(ServerFrame::Pong);
    assert_eq!(take(&mailbox), Some(Outgoing::Frame(ServerFrame::Pong)));
    mailbox
}

fn take(mailbox: &Mailbox) -> Option<Outgoing> {
    match mailbox.poll_take(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outgoing) => Some(outgoing),
        Poll::Pending => None,
    }
}

fn offer(mailbox: &Mailbox, text: &str) -> Offered {
    mailbox.offer(delta(text, false))
}

fn offer_ephemeral(mailbox: &Mailbox, text: &str) -> Offered {
    mailbox.offer(delta(text, true))
}

fn delta(text: &str, ephemeral: bool) -> Delta {
    Delta {
        frame: Bytes::copy_from_slice(text.as_bytes()),
        ephemeral,
        committed: Timestamp::default(),
        span: None,
    }
}

fn deltas(texts: &[&str]) -> Option<Outgoing> {
    Some(Outgoing::Deltas(
        texts
            .iter()
            .map(|text| {
                (
                    Bytes::copy_from_slice(text.as_bytes()),
                    Timestamp::default(),
                )
            })
            .collect(),
    ))
}

#[test]
fn nothing_is_written_before_hello_and_what_came_earlier_follows_it() {
    let mailbox = Mailbox::new(LIMITS);
    offer(&mailbox, "early");
    mailbox.ping();
    assert_eq!(take(&mailbox), None);
    assert_eq!(mailbox.stuck_for(Instant::now()), Duration::ZERO);
    mailbox.open(ServerFrame::Pong);
    assert_eq!(take(&mailbox), Some(Outgoing::Ping));
    assert_eq!(take(&mailbox), Some(Outgoing::Frame(ServerFrame::Pong)));
    assert_eq!(take(&mailbox), deltas(&["early"]));
}

#[test]
fn ready_deltas_are_gathered_in_order() {
    let mailbox = opened();
    for text in ["1", "2", "3"] {
        assert_eq!(offer(&mailbox, text), Offered::Queued);
    }
    mailbox.instruct(ServerFrame::Pong);
    offer(&mailbox, "4");
    assert_eq!(take(&mailbox), deltas(&["1", "2", "3"]));
    assert_eq!(take(&mailbox), Some(Outgoing::Frame(ServerFrame::Pong)));
    assert_eq!(take(&mailbox), deltas(&["4"]));
    assert_eq!(take(&mailbox), None);
}

#[test]
fn a_write_gathers_no_more_than_64_kib() {
    let mailbox = Mailbox::new(MailboxLimits {
        bytes: 1 << 20,
        deltas: 100,
    });
    mailbox.open(ServerFrame::Pong);
    take(&mailbox);
    let frame = "x".repeat(30 * 1024);
    for _ in 0..3 {
        offer(&mailbox, &frame);
    }
    assert_eq!(take(&mailbox), deltas(&[&frame, &frame]));
    assert_eq!(take(&mailbox), deltas(&[&frame]));
    let huge = "x".repeat(100 * 1024);
    offer(&mailbox, &huge);
    assert_eq!(take(&mailbox), deltas(&[&huge]));
}

#[test]
fn a_full_mailbox_first_loses_ephemerals() {
    let mailbox = opened();
    offer(&mailbox, "1");
    for _ in 0..4 {
        offer_ephemeral(&mailbox, "typing");
    }
    assert_eq!(offer(&mailbox, "2"), Offered::Queued);
    assert_eq!(take(&mailbox), deltas(&["1", "2"]));
    for text in ["3", "4", "5", "6", "7"] {
        offer(&mailbox, text);
    }
    assert_eq!(offer_ephemeral(&mailbox, "typing"), Offered::Dropped);
    assert_eq!(take(&mailbox), deltas(&["3", "4", "5", "6", "7"]));
}

#[test]
fn then_its_backlog_becomes_one_resume() {
    let mailbox = opened();
    for text in ["1", "2", "3", "4", "5"] {
        offer(&mailbox, text);
    }
    mailbox.instruct(ServerFrame::Pong);
    assert_eq!(offer(&mailbox, "6"), Offered::Replaced);
    assert_eq!(offer(&mailbox, "7"), Offered::Queued);
    assert_eq!(take(&mailbox), Some(Outgoing::Frame(ServerFrame::Pong)));
    assert_eq!(take(&mailbox), Some(SLOW));
    assert_eq!(take(&mailbox), deltas(&["7"]));
}

#[test]
fn then_it_is_closed() {
    let mailbox = opened();
    for text in ["1", "2", "3", "4", "5", "6"] {
        offer(&mailbox, text);
    }
    for text in ["1", "2", "3", "4", "5"] {
        assert_eq!(offer(&mailbox, text), Offered::Queued);
    }
    assert_eq!(offer(&mailbox, "6"), Offered::TooSlow);
    assert_eq!(offer(&mailbox, "7"), Offered::Ended);
    assert_eq!(mailbox.closing(), Some(Close::Slow));
    assert_eq!(take(&mailbox), Some(SLOW));
    assert_eq!(take(&mailbox), Some(Outgoing::Close(Close::Slow)));
    assert_eq!(take(&mailbox), Some(Outgoing::End));
}

#[test]
fn a_client_that_has_caught_up_starts_anew() {
    let mailbox = opened();
    for _ in 0..3 {
        for text in ["1", "2", "3", "4", "5"] {
            assert_eq!(offer(&mailbox, text), Offered::Queued);
        }
        assert_eq!(offer(&mailbox, "6"), Offered::Replaced);
        assert_eq!(take(&mailbox), Some(SLOW));
    }
}

#[test]
fn bytes_are_bounded_as_well() {
    let mailbox = opened();
    let half = "x".repeat(50);
    offer(&mailbox, &half);
    offer(&mailbox, &half);
    assert_eq!(offer(&mailbox, "x"), Offered::Replaced);
    take(&mailbox);
    assert_eq!(offer(&mailbox, &"x".repeat(1000)), Offered::Queued);
    assert_eq!(offer(&mailbox, "x"), Offered::Replaced);
}

#[test]
fn one_waiting_resume_is_enough() {
    let mailbox = opened();
    mailbox.resume(ResumeReason::Missed, 40);
    mailbox.resume(ResumeReason::Missed, 50);
    let missed = ServerFrame::Resume {
        reason: ResumeReason::Missed,
        after_ms: 40,
    };
    assert_eq!(take(&mailbox), Some(Outgoing::Frame(missed)));
    assert_eq!(take(&mailbox), None);
}

#[test]
fn a_client_that_asks_without_reading_is_closed() {
    let mailbox = opened();
    for _ in 0..=MAX_INSTRUCTIONS {
        mailbox.instruct(ServerFrame::Pong);
    }
    assert_eq!(mailbox.closing(), Some(Close::Slow));
}

#[test]
fn pings_and_pongs_do_not_pile_up() {
    let mailbox = opened();
    for payload in ["a", "b", "c"] {
        mailbox.ping();
        mailbox.pong(Bytes::from(payload));
    }
    assert_eq!(take(&mailbox), Some(Outgoing::Pong(Bytes::from("c"))));
    assert_eq!(take(&mailbox), Some(Outgoing::Ping));
    assert_eq!(take(&mailbox), None);
}

#[test]
fn closing_says_what_was_to_be_said_and_drops_deltas() {
    let mailbox = opened();
    offer(&mailbox, "1");
    let error = ServerFrame::Error {
        code: ErrorCode::InvalidFrame,
    };
    mailbox.instruct(error.clone());
    mailbox.close(Close::Policy);
    mailbox.close(Close::Normal);
    mailbox.instruct(ServerFrame::Pong);
    assert_eq!(take(&mailbox), Some(Outgoing::Frame(error)));
    assert_eq!(take(&mailbox), Some(Outgoing::Close(Close::Policy)));
    assert_eq!(take(&mailbox), Some(Outgoing::End));
    assert_eq!(take(&mailbox), Some(Outgoing::End));
}

#[test]
fn a_connection_can_be_closed_before_hello() {
    let mailbox = Mailbox::new(LIMITS);
    offer(&mailbox, "1");
    mailbox.close(Close::TryLater);
    assert_eq!(take(&mailbox), Some(Outgoing::Close(Close::TryLater)));
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_takes_nothing_is_stuck() {
    let mailbox = opened();
    offer(&mailbox, "1");
    tokio::time::advance(Duration::from_secs(3)).await;
    offer(&mailbox, "2");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(mailbox.stuck_for(Instant::now()), Duration::from_secs(5));
    take(&mailbox);
    assert_eq!(mailbox.stuck_for(Instant::now()), Duration::ZERO);
}

#[tokio::test]
async fn the_task_hears_of_the_end_and_of_the_transport() {
    let mailbox = opened();
    mailbox.close(Close::Normal);
    mailbox.ended().await;
    mailbox.detach();
    mailbox.detached().await;
}
