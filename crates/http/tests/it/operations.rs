use std::io::Write as _;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tidings_http::probe::ask_health;
use tidings_http::server::bind;

use super::harness::TestServer;

#[tokio::test]
async fn readiness_depends_on_what_is_required_only() {
    let server = TestServer::start();
    let response = server.get("/readyz").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.unwrap();
    let checks = json!({"store": "ok", "bus": "down"});
    assert_eq!(body, json!({"status": "ready", "checks": checks}));

    server.world.store_is_down.store(true, Ordering::SeqCst);
    let response = server.get("/readyz").send().await.unwrap();
    assert_eq!(response.status(), 503);
    let body: Value = response.json().await.unwrap();
    let checks = json!({"store": "down", "bus": "down"});
    assert_eq!(body, json!({"status": "not_ready", "checks": checks}));

    let response = server.get("/healthz").send().await.unwrap();
    assert_eq!(response.status(), 200);
    server.stop().await;
}

#[tokio::test]
async fn the_health_command_asks_the_running_server() {
    let ask = |address| tokio::task::spawn_blocking(move || ask_health(address));
    let server = TestServer::start();
    let address = server.address;
    server.world.store_is_down.store(true, Ordering::SeqCst);
    ask(address).await.unwrap().unwrap();
    server.stop().await;
    ask(address).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn the_health_command_takes_no_other_answer_for_health() {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    listener.set_nonblocking(false).unwrap();
    let address = listener.local_addr().unwrap();
    let asked = tokio::task::spawn_blocking(move || ask_health(address));
    let (mut connection, _) = listener.accept().unwrap();
    connection
        .write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        .unwrap();
    let error = asked.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
}

#[tokio::test]
async fn requests_are_counted_by_route_and_not_by_path() {
    let server = TestServer::start();
    for path in ["/users/ada?secret=1", "/nowhere/1", "/nowhere/2"] {
        server.get(path).send().await.unwrap();
    }
    let response = server.get("/metrics").send().await.unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap();
    assert!(content_type.starts_with("application/openmetrics-text"));
    let text = response.text().await.unwrap();
    for labels in [
        r#"route="/users/{user}",method="GET",status="404""#,
        r#"route="unknown",method="GET",status="404""#,
    ] {
        let line = format!("tidings_http_request_seconds_count{{{labels}}}");
        assert!(text.contains(&line), "{line} is not in:\n{text}");
    }
    assert!(!text.contains("nowhere") && !text.contains("ada"), "{text}");
    server.stop().await;
}
