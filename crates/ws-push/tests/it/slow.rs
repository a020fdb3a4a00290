//! What a client that does not read gets, and what it does not do to others.

use serde_json::Value;
use tidings_common::bus::{Announcement, Audience, Bus as _, Payload};
use tidings_common::domain::{ChannelId, Ephemeral, UserId};

use crate::clients::RawClient;
use crate::harness::{Server, now, until};

const SMALL: [(&str, &str); 2] = [("WS__MAILBOX_BYTES", "16384"), ("WS__MAILBOX_DELTAS", "50")];
const RESUMES: &str = r#"tidings_ws_resumes_total{reason="slow"}"#;
const TOO_SLOW: &str = r#"tidings_ws_closes_total{code="4008"}"#;

#[tokio::test]
async fn a_client_that_does_not_read_is_told_to_resume_and_then_closed() {
    let server = Server::with(&SMALL).await;
    let who = server.login();
    let mut slow = RawClient::connect(&server, &who, Some(4096)).await;
    let mut fast = server.connect(&server.login_of(who.user)).await;
    let channel = ChannelId::generate();
    let mut published = 0;
    while server.metric(TOO_SLOW) != Some(1.0) {
        server
            .publish(channel, published + 1, 20, &[who.user])
            .await;
        let expected: Vec<_> = (published + 1..=published + 20).collect();
        assert_eq!(fast.seqs(20).await, expected, "others notice nothing");
        published += 20;
        assert!(published < 100_000, "something must be bounded");
    }
    // More than one if the kernel took a backlog in between.
    assert!(server.metric(RESUMES) >= Some(1.0));
    let (texts, code) = slow.read_to_end().await;
    assert_eq!(code, 4008);
    let frames: Vec<Value> = texts.iter().flat_map(|text| frames(text)).collect();
    assert_eq!(frames[0]["type"], "hello");
    let last = frames.last().unwrap();
    assert_eq!(
        (&last["type"], &last["reason"]),
        (&"resume".into(), &"slow".into())
    );
    let until_resume = frames[1..].split(|frame| frame["type"] == "resume").next();
    let before: Vec<u64> = seqs_of(until_resume.unwrap());
    assert!(
        before.iter().copied().eq(1..=before.len() as u64),
        "{before:?}"
    );
    let all = seqs_of(&frames);
    assert!(
        all.is_sorted_by(|a, b| a < b),
        "what did arrive is in order"
    );
    server.metric_becomes("tidings_ws_connections", 1.0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_whose_socket_is_stuck_is_closed_at_the_write_deadline() {
    let server = Server::with(&[("WS__WRITE_DEADLINE_MS", "1000")]).await;
    let who = server.login();
    let _stuck = RawClient::connect(&server, &who, Some(4096)).await;
    let channel = ChannelId::generate();
    let mut published = 0;
    // Until the kernel takes no more, and something stays in the mailbox for too long.
    while written(&server, published).await {
        server.publish(channel, published + 1, 1, &[who.user]).await;
        published += 1;
        until("it is in the mailbox", || async {
            server.metric("tidings_ws_deliveries_total") == Some(published as f64)
        })
        .await;
    }
    server.metric_becomes(TOO_SLOW, 1.0).await;
    server.metric_becomes("tidings_ws_connections", 0.0).await;
    server.stop().await;
}

/// Who types is told as long as there is room, and is no reason to tell anybody to sync.
#[tokio::test]
async fn a_client_that_does_not_read_loses_who_types_and_nothing_else() {
    let patient = ("WS__WRITE_DEADLINE_MS", "120000");
    let server = Server::with(&[SMALL[0], SMALL[1], patient]).await;
    let who = server.login();
    let mut slow = RawClient::connect(&server, &who, Some(4096)).await;
    let channel = ChannelId::generate();
    let typing = Announcement {
        payload: Payload::Ephemeral {
            at: now(),
            actor: None,
            what: Ephemeral::Typing {
                channel,
                user: UserId::generate(),
            },
        },
        audience: Audience::Users(vec![who.user]),
        trace: None,
    };
    // More than what the kernel takes of it, which is some megabytes.
    let all_at_once = vec![typing; 1_000];
    for published in 1..=60 {
        server.bus.publish(&all_at_once).await;
        until("the hub has them", || async {
            server.metric("tidings_ws_deliveries_total") == Some(f64::from(published) * 1_000.0)
        })
        .await;
    }
    server.publish(channel, 1, 1, &[who.user]).await;
    let (mut typed, mut others) = (0, Vec::new());
    while others.last().is_none_or(|frame: &Value| frame["seq"] != 1) {
        let (opcode, payload) = slow.read_frame().await.unwrap();
        if opcode != 1 {
            continue;
        }
        for frame in frames(std::str::from_utf8(&payload).unwrap()) {
            if frame["kind"] == "typing" {
                assert!(frame["seq"].is_null(), "{frame}");
                typed += 1;
            } else {
                others.push(frame);
            }
        }
    }
    assert!((1..60_000).contains(&typed), "{typed}");
    let kinds: Vec<_> = others.iter().map(|frame| &frame["type"]).collect();
    assert_eq!(kinds, ["hello", "delta"]);
    assert_eq!(server.metric(RESUMES), Some(0.0));
    server.stop().await;
}

/// False: the client was closed with something in its mailbox.
async fn written(server: &Server, published: u64) -> bool {
    let written = || server.metric("tidings_delivery_seconds_count") == Some(published as f64);
    until("it is written, or too late", || async {
        written() || server.metric(TOO_SLOW) == Some(1.0)
    })
    .await;
    written()
}

fn seqs_of(frames: &[Value]) -> Vec<u64> {
    let seqs = frames.iter().filter_map(|frame| frame["seq"].as_u64());
    seqs.collect()
}

fn frames(text: &str) -> Vec<Value> {
    match serde_json::from_str(text).unwrap() {
        Value::Array(frames) => frames,
        frame => vec![frame],
    }
}
