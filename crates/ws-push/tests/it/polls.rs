//! Long polling: answered from the log, woken by what is pushed, registered in between.

use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tidings_common::auth::Principal;
use tidings_common::domain::{ChannelId, UserId};

use crate::harness::{Server, until};

const POLLING: &str = r#"tidings_ws_transport_connections{transport="poll"}"#;
const SOMETHING: &str = r#"tidings_ws_polls_total{answer="something"}"#;
const NOTHING: &str = r#"tidings_ws_polls_total{answer="nothing"}"#;
const REFUSED: &str = r#"tidings_ws_polls_total{answer="refused"}"#;

fn request(server: &Server, who: &Principal, body: &Value) -> RequestBuilder {
    let token = server.access_token(who, Duration::from_secs(900));
    let url = format!("http://{}/v1/poll?p=1", server.address);
    reqwest::Client::new()
        .post(url)
        .bearer_auth(token)
        .json(body)
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    if status != 200 {
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    (
        status,
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(),
    )
}

/// A poll of somebody who holds the own stream up to `seq`.
fn body(who: &Principal, seq: u64, timeout: u64) -> Value {
    json!({"cursor": {format!("u:{}", who.user): seq}, "timeout": timeout})
}

async fn poll(server: &Server, who: &Principal, seq: u64, timeout: u64) -> (u16, Value) {
    answer(request(server, who, &body(who, seq, timeout))).await
}

type Waiting = tokio::task::JoinHandle<(u16, Value)>;

/// A poll that waits for as long as it may, and is registered.
async fn waiting(server: &Server, who: &Principal, seq: u64) -> Waiting {
    let registered = server.metric(POLLING).unwrap();
    let poll = tokio::spawn(answer(request(server, who, &body(who, seq, 25))));
    server.metric_becomes(POLLING, registered + 1.0).await;
    poll
}

fn seqs(answer: &Value) -> Vec<u64> {
    let deltas = answer["deltas"].as_array().unwrap();
    deltas
        .iter()
        .map(|delta| delta["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_poll_is_answered_at_once_if_the_cursor_lacks_something() {
    let server = Server::start().await;
    let who = server.login();
    let (status, lacking) = answer(request(&server, &who, &json!({"timeout": 25}))).await;
    let own = format!("u:{}", who.user);
    assert_eq!(status, 200);
    let expected = json!({"deltas": [], "cursor": {}, "more": false, "resets": [],
        "heads": {own.as_str(): 0}, "epoch": 1});
    assert_eq!(lacking, expected);
    server.commit(who.user, 1).await;
    let (_, behind) = poll(&server, &who, 0, 25).await;
    assert_eq!(seqs(&behind), [1]);
    assert_eq!(behind["cursor"], json!({own.as_str(): 1}));
    let (_, ahead) = poll(&server, &who, 2, 25).await;
    assert_eq!(ahead["resets"][0]["reason"], "ahead");
    let restored = json!({"cursor": {own.as_str(): 1}, "epoch": 7});
    let (_, restored) = answer(request(&server, &who, &restored)).await;
    assert_eq!(restored["resets"][0]["reason"], "restored");
    assert_eq!(
        (server.metric(SOMETHING), server.metric(NOTHING)),
        (Some(4.0), Some(0.0))
    );
    server.stop().await;
}

#[tokio::test]
async fn a_poll_without_news_waits_for_its_timeout_and_is_empty() {
    let server = Server::start().await;
    let who = server.login();
    for timeout in [0, 1] {
        let started = Instant::now();
        let (status, nothing) = poll(&server, &who, 0, timeout).await;
        assert_eq!(status, 200);
        assert!(started.elapsed() >= Duration::from_secs(timeout));
        let own = format!("u:{}", who.user);
        let expected = json!({"deltas": [], "cursor": {own: 0}, "more": false, "resets": [],
            "heads": {}, "epoch": 1});
        assert_eq!(nothing, expected);
    }
    assert_eq!(server.metric(NOTHING), Some(2.0));
    server.stop().await;
}

#[tokio::test]
async fn a_poll_wakes_for_what_is_committed_and_misses_nothing_in_between() {
    let server = Server::start().await;
    let who = server.login();
    let first = waiting(&server, &who, 0).await;
    let started = Instant::now();
    server.commit(who.user, 1).await;
    let (_, woken) = first.await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "before its timeout"
    );
    assert_eq!(seqs(&woken), [1]);
    for seq in (2..60).step_by(2) {
        // One between two polls, one at about the time of a poll.
        server.commit(who.user, seq).await;
        let polled = poll(&server, &who, seq - 1, 25).await;
        assert_eq!(seqs(&polled.1), [seq]);
        let (_, (_, polled)) = tokio::join!(
            server.commit(who.user, seq + 1),
            poll(&server, &who, seq, 25)
        );
        assert_eq!(seqs(&polled), [seq + 1]);
    }
    assert_eq!(
        server.metric(POLLING),
        Some(1.0),
        "one registration for all of them"
    );
    assert_eq!(server.metric("tidings_ws_connections"), Some(1.0));
    server.stop().await;
}

/// A ring is not an answer: what was pushed is looked for in the log, and only that counts.
#[tokio::test]
async fn what_is_not_in_the_log_wakes_nobody() {
    let server = Server::start().await;
    let who = server.login();
    let poll = waiting(&server, &who, 0).await;
    server
        .publish(ChannelId::generate(), 1, 5, &[who.user])
        .await;
    let mut socket = server.connect(&server.login()).await;
    server
        .bus
        .sever(socket.hello["server"].as_str().unwrap().parse().unwrap());
    assert_eq!(
        socket.frame().await["type"],
        "resume",
        "the poll was told so too"
    );
    server.commit(who.user, 1).await;
    let (_, woken) = poll.await.unwrap();
    assert_eq!(seqs(&woken), [1]);
    server.stop().await;
}

#[tokio::test]
async fn a_poll_takes_a_good_token_and_a_request_that_makes_sense() {
    let server = Server::start().await;
    let who = server.login();
    let client = reqwest::Client::new();
    let url = format!("http://{}/v1/poll", server.address);
    let with_ticket = format!("{url}?ticket={}", server.ticket(&who));
    for url in [&url, &with_ticket] {
        let refused = answer(client.post(url).json(&body(&who, 0, 0))).await;
        assert_eq!(refused.0, 401);
    }
    let nonsense = client.post(&url).bearer_auth("nonsense").json(&json!({}));
    assert_eq!(answer(nonsense).await.0, 401);
    for (bad, pointer) in [
        (json!({"timeout": 26}), "/timeout"),
        (json!({"timeout": -1}), "/timeout"),
        (json!({"limit": 501}), "/limit"),
        (json!({"cursor": {"nonsense": 1}}), "/cursor/nonsense"),
        (json!({"only": true}), "/only"),
    ] {
        let (status, problem) = answer(request(&server, &who, &bad)).await;
        assert_eq!(
            (status, &problem["errors"][0]["pointer"]),
            (422, &json!(pointer)),
            "{problem}"
        );
    }
    let foreign = request(&server, &who, &body(&who, 0, 0)).header("origin", "https://evil.test");
    assert_eq!(answer(foreign).await.0, 403);
    let large = json!({"cursor": {"x".repeat(300 * 1024): 1}});
    assert_eq!(answer(request(&server, &who, &large)).await.0, 413);
    assert_eq!(
        server.metric(POLLING),
        Some(0.0),
        "none of these is registered"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_poll_ends_with_its_session_and_with_its_token() {
    let server = Server::start().await;
    let who = server.login();
    let polled = waiting(&server, &who, 0).await;
    let started = Instant::now();
    server.revoke(&who).await;
    let (status, problem) = polled.await.unwrap();
    assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(poll(&server, &who, 0, 0).await.0, 401);

    let short = server.login_for(UserId::generate(), Duration::from_secs(900));
    let token = server.access_token(&short, Duration::from_secs(2));
    let url = format!("http://{}/v1/poll", server.address);
    let expiring = reqwest::Client::new().post(url).bearer_auth(token);
    let (status, problem) = answer(expiring.json(&body(&short, 0, 25))).await;
    assert_eq!((status, &problem["code"]), (401, &json!("token_expired")));
    assert_eq!(server.metric(REFUSED), Some(2.0));
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_polls_is_one_of_its_users_connections() {
    let server = Server::with(&[("WS__MAX_CONNECTIONS_PER_USER", "2")]).await;
    let user = UserId::generate();
    let (first, second) = (server.login_of(user), server.login_of(user));
    let mut socket = server.connect(&server.login_of(user)).await;
    let oldest = waiting(&server, &first, 0).await;
    let newer = waiting(&server, &second, 0).await;
    assert_eq!(socket.close_code().await, 4010);
    let _socket = server.connect(&server.login_of(user)).await;
    let (status, problem) = oldest.await.unwrap();
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")));
    server.commit(user, 1).await;
    assert_eq!(seqs(&newer.await.unwrap().1), [1]);
    server.stop().await;
}

#[tokio::test]
async fn a_full_server_takes_no_new_poller_and_keeps_those_it_has() {
    let server = Server::with(&[("WS__MAX_CONNECTIONS", "1")]).await;
    let who = server.login();
    assert_eq!(poll(&server, &who, 0, 0).await.0, 200);
    let (status, problem) = poll(&server, &server.login(), 0, 0).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
    let refused = server
        .open(&server.path(&server.ticket(&server.login())), &[])
        .await;
    assert_eq!(refused.unwrap_err(), 503, "it lingers");
    assert_eq!(
        poll(&server, &who, 0, 0).await.0,
        200,
        "the place is its own"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_draining_server_answers_each_poll_in_its_slot_and_takes_none() {
    let server = Server::with(&[("WS__DRAIN_SECS", "1")]).await;
    let (ada, bob) = (server.login(), server.login());
    let polls = [
        waiting(&server, &ada, 0).await,
        waiting(&server, &bob, 0).await,
    ];
    let started = Instant::now();
    server.tasks.shutdown().cancel();
    until("it is draining", || async {
        poll(&server, &ada, 0, 0).await.0 == 503
    })
    .await;
    for poll in polls {
        let (status, nothing) = poll.await.unwrap();
        assert_eq!((status, seqs(&nothing)), (200, vec![]));
    }
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "before their timeouts"
    );
    server.stop().await;
}

#[tokio::test]
async fn nobody_polls_what_is_not_theirs() {
    let server = Server::start().await;
    let who = server.login();
    let other = UserId::generate();
    server.commit(other, 1).await;
    let stranger = json!({"cursor": {format!("u:{other}"): 0}, "timeout": 25});
    let (status, gone) = answer(request(&server, &who, &stranger)).await;
    assert_eq!(status, 200);
    assert_eq!(gone["resets"][0]["reason"], "gone");
    assert_eq!(seqs(&gone), Vec::<u64>::new(), "nothing of others");
    server.stop().await;
}
