//! Whatever comes in gets a clear problem, and nothing half-done.

use serde_json::{Value, json};

use crate::harness::{Person, Server, answer, check_problem};

/// Sends `body` as it stands and checks the problem.
async fn check(
    who: &Person,
    request: (&str, &str),
    body: Vec<u8>,
    status: u16,
    code: &str,
    pointer: &str,
) {
    let (method, path) = request;
    let request = who.request(method, path);
    let request = request
        .header("Content-Type", "application/json")
        .body(body);
    let problem = answer(request.send().await.unwrap(), status).await;
    check_problem(&problem, code, pointer);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_with_the_place() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (group, channel) = ada.group(&[]).await;
    let messages = format!("/v1/channels/{channel}/messages");
    let send = ("POST", messages.as_str());
    let long = json!({"content": "x".repeat(4001)}).to_string();
    let huge = json!({"content": "x".repeat(10 * 1024 * 1024)}).to_string();
    let table: [(&[u8], u16, &str, &str); 16] = [
        (b"", 400, "malformed_json", ""),
        (b"{\"content\":", 400, "malformed_json", ""),
        (b"{\"content\":\"x\"} trailing", 400, "malformed_json", ""),
        (b"{\"content\":\"\xff\"}", 400, "malformed_json", ""),
        (b"[]", 422, "invalid_request", ""),
        (b"{}", 422, "invalid_request", ""),
        (b"{\"content\":1}", 422, "invalid_request", "/content"),
        (b"{\"content\":null}", 422, "invalid_request", "/content"),
        (
            b"{\"content\":\"x\",\"colour\":1}",
            422,
            "invalid_request",
            "/colour",
        ),
        (b"{\"content\":\"\"}", 422, "invalid_request", "/content"),
        (
            b"{\"content\":\" \\n\\t\"}",
            422,
            "invalid_request",
            "/content",
        ),
        (
            b"{\"content\":\"x\",\"nonce\":\"\"}",
            422,
            "invalid_request",
            "/nonce",
        ),
        (
            b"{\"content\":\"x\",\"nonce\":\"a b\"}",
            422,
            "invalid_request",
            "/nonce",
        ),
        (
            b"{\"content\":\"x\",\"reply_to\":-1}",
            422,
            "invalid_request",
            "/reply_to",
        ),
        (long.as_bytes(), 422, "invalid_request", "/content"),
        (huge.as_bytes(), 413, "payload_too_large", ""),
    ];
    for (body, status, code, pointer) in table {
        check(&ada, send, body.to_vec(), status, code, pointer).await;
    }
    let huge_reply = json!({"content": "x", "reply_to": u64::MAX}).to_string();
    check(
        &ada,
        send,
        huge_reply.into(),
        422,
        "invalid_request",
        "/reply_to",
    )
    .await;

    let text = ada.request("POST", &messages).body("{\"content\":\"x\"}");
    answer(text.send().await.unwrap(), 415).await;
    assert_eq!(ada.get(&messages).await["items"], json!([]));

    let path = format!("/v1/groups/{group}");
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": "x".repeat(101)}),
        json!({"name": 1}),
    ] {
        ada.send("PATCH", &path, body, 422).await;
    }
    ada.send(
        "PUT",
        &format!("{path}/members/{}", ada.id),
        json!({"a": 1}),
        422,
    )
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_wrong_with_an_account_is_said_at_once() {
    let server = Server::start().await;
    let body = json!({"username": "a b", "password": "short", "display_name": " "});
    let request = server.request("POST", "/v1/users").json(&body);
    let problem = answer(request.send().await.unwrap(), 422).await;
    let pointers: Vec<&Value> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["pointer"])
        .collect();
    assert_eq!(pointers, ["/username", "/password", "/display_name"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_queries_paths_and_headers_are_refused() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (_, channel) = ada.group(&[]).await;
    let messages = format!("/v1/channels/{channel}/messages");
    for (query, pointer) in [
        ("?limit=0", "?limit"),
        ("?limit=101", "?limit"),
        ("?limit=-1", "?limit"),
        ("?limit=99999999999999999999", "?limit"),
        ("?limit=ten", "?limit"),
        ("?before=-1", "?before"),
        ("?before=18446744073709551615", "?before"),
        ("?after=1&before=2", "?"),
        ("?offset=3", "?offset"),
    ] {
        let problem = ada.call("GET", &format!("{messages}{query}"), 422).await;
        check_problem(&problem, "invalid_request", pointer);
    }
    for path in [
        "/v1/groups?after=x",
        "/v1/groups?limit=0",
        "/v1/users",
        "/v1/users?username=a%20b",
    ] {
        ada.call("GET", path, 422).await;
    }
    for path in [
        "/v1/groups/1",
        "/v1/groups/01970000-0000-7000-8000-000000000000",
        "/v1/channels/01970000-0000-7000-8000-000000000000",
        "/v1/channels/x/messages",
        "/v1/users/x",
        "/v1/nothing",
        &format!("{messages}/-1"),
        &format!("{messages}/0"),
        &format!("{messages}/18446744073709551615"),
        &format!("{messages}/18446744073709551616"),
    ] {
        check_problem(&ada.call("GET", path, 404).await, "not_found", "");
    }
    let long = "k".repeat(65);
    for key in ["", "a b", long.as_str()] {
        let request = ada
            .request("POST", &messages)
            .header("Idempotency-Key", key);
        let request = request.json(&json!({"content": "x"}));
        let problem = answer(request.send().await.unwrap(), 422).await;
        check_problem(&problem, "invalid_request", "Idempotency-Key");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_and_strangers_are_refused_everywhere() {
    let server = Server::start().await;
    let response = server.request("DELETE", "/v1/groups").send().await.unwrap();
    assert_eq!(response.headers()["allow"], "GET, POST");
    check_problem(&answer(response, 405).await, "method_not_allowed", "");
    let openapi = serde_json::to_value(tidings_api::Api::openapi()).unwrap();
    let id = "01970000-0000-7000-8000-000000000000";
    for (path, item) in openapi["paths"].as_object().unwrap() {
        let mut concrete = path.replace("{seq}", "1");
        for name in ["user", "session", "group", "channel"] {
            concrete = concrete.replace(&format!("{{{name}}}"), id);
        }
        for (method, operation) in item.as_object().unwrap() {
            if operation["security"].is_null() {
                let method = method.to_uppercase();
                let request = server.request(&method, &concrete).json(&json!({}));
                let response = request.send().await.unwrap();
                check_problem(&answer(response, 401).await, "unauthenticated", "");
            }
        }
    }
    server.stop().await;
}
