//! What clients may not send.

use std::time::Instant;

use futures_util::SinkExt as _;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::clients::RawClient;
use crate::harness::{DEADLINE, Server};

const LAST_TEXT: u8 = 0x81;

#[tokio::test]
async fn a_frame_that_is_not_understood_is_answered_with_an_error() {
    let server = Server::start().await;
    let mut client = server.connect(&server.login()).await;
    client.say(r#"{"type":"send","content":"hi"}"#).await;
    let error = json!({"type": "error", "code": "invalid_frame"});
    assert_eq!(client.frame().await, error);
    client.say(r#"{"type":"ping"}"#).await;
    assert_eq!(client.frame().await, json!({"type": "pong"}));
    server.stop().await;
}

#[tokio::test]
async fn binary_frames_close_with_1003() {
    let server = Server::start().await;
    let mut client = server.connect(&server.login()).await;
    client.socket.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(client.close_code().await, 1003);
    server.stop().await;
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_with_1007() {
    let server = Server::start().await;
    let mut client = RawClient::connect(&server, &server.login(), None).await;
    client.frame(LAST_TEXT, &[0xff, 0xfe]).await;
    assert_eq!(client.read_to_end().await.1, 1007);
    server.stop().await;
}

#[tokio::test]
async fn too_many_errors_close_with_1008() {
    let server = Server::start().await;
    let mut client = server.connect(&server.login()).await;
    for _ in 0..25 {
        client.socket.feed(Message::text("?")).await.unwrap();
    }
    client.socket.flush().await.unwrap();
    for place in 0..10 {
        let frame = client.frame().await;
        assert_eq!(frame["type"], "error", "{place}: {frame}");
    }
    assert_eq!(client.close_code().await, 1008);
    server.stop().await;
}

#[tokio::test]
async fn large_frames_close_with_1009() {
    let server = Server::start().await;
    let mut client = server.connect(&server.login()).await;
    let largest = format!(r#"{{"type":"ping","filling":"{}"}}"#, "x".repeat(8192 - 28));
    assert_eq!(largest.len(), 8192);
    client.say(&largest).await;
    assert_eq!(client.frame().await, json!({"type": "pong"}));
    client.say(&format!("{largest} ")).await;
    assert_eq!(client.close_code().await, 1009);
    server.stop().await;
}

#[tokio::test]
async fn fragments_make_one_message() {
    let server = Server::start().await;
    let mut client = RawClient::connect(&server, &server.login(), None).await;
    let (_, hello) = client.read_frame().await.unwrap();
    assert!(hello.starts_with(b"{\"type\":\"hello\""));
    client.frame(0x01, b"{\"type\"").await;
    client.frame(0x89, b"in between").await;
    client.frame(0x00, b":\"pi").await;
    client.frame(0x80, b"ng\"}").await;
    assert_eq!(
        client.read_frame().await,
        Some((10, b"in between".to_vec()))
    );
    assert_eq!(
        client.read_frame().await,
        Some((1, b"{\"type\":\"pong\"}".to_vec()))
    );
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_valid_frame_closes_with_1002() {
    let server = Server::start().await;
    for bytes in [
        &[0x81, 0x01, b'x'][..],
        &[0xc1, 0x81, 0, 0, 0, 0, b'x'],
        &[0x09, 0x80, 0, 0, 0, 0],
        &[0x80, 0x80, 0, 0, 0, 0],
        &[0x83, 0x80, 0, 0, 0, 0],
        &[0x88, 0x81, 0, 0, 0, 0, b'x'],
    ] {
        let mut client = RawClient::connect(&server, &server.login(), None).await;
        client.stream.write_all(bytes).await.unwrap();
        assert_eq!(client.read_to_end().await.1, 1002, "{bytes:x?}");
    }
    server.metric_becomes("tidings_ws_connections", 0.0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_close_frame_is_answered() {
    let server = Server::start().await;
    let mut client = RawClient::connect(&server, &server.login(), None).await;
    client.frame(0x88, &1001_u16.to_be_bytes()).await;
    assert_eq!(client.read_to_end().await.1, 1000);
    let mut rest = Vec::new();
    let ended = timeout(DEADLINE, client.stream.read_to_end(&mut rest)).await;
    assert_eq!(ended.unwrap().unwrap(), 0, "and the connection ends");
    server.stop().await;
}

#[tokio::test]
async fn a_huge_declared_frame_costs_no_memory() {
    const DECLARED: u64 = 1 << 62;
    let server = Server::start().await;
    let mut client = RawClient::connect(&server, &server.login(), None).await;
    let (_, hello) = client.read_frame().await.unwrap();
    assert!(!hello.is_empty());
    let chunk = vec![b'x'; 64 * 1024];
    let before = resident_bytes();
    let mut header = vec![LAST_TEXT, 0x80 | 127];
    header.extend(DECLARED.to_be_bytes());
    header.extend([0; 4]);
    client.stream.write_all(&header).await.unwrap();
    let started = Instant::now();
    // For a second the server reads and throws away, so that the close frame is not lost to a
    // reset; then it ends the connection. Without the guard, this would go on until one of us
    // is out of memory.
    loop {
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 2 << 20, "grew by {grown} bytes");
        assert!(started.elapsed() < DEADLINE, "the connection should end");
        match timeout(DEADLINE, client.stream.write_all(&chunk)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => break,
        }
    }
    server.metric_becomes("tidings_ws_connections", 0.0).await;
    server
        .metric_becomes(r#"tidings_ws_closes_total{code="1009"}"#, 1.0)
        .await;
    server.stop().await;
}

/// Of this process, which the server shares with the test.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
