use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::harness::{TestServer, problem};

async fn post(
    server: &TestServer,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> reqwest::Response {
    server
        .post("/drafts")
        .header("content-type", content_type)
        .body(body)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_good_body_is_accepted() {
    let server = TestServer::start();
    let response = post(&server, "application/json", r#"{"content":"hi"}"#).await;
    assert_eq!(response.status(), 201);
    server.stop().await;
}

#[tokio::test]
async fn bodies_that_do_not_fit_are_refused_as_problems() {
    let server = TestServer::start();
    let json = "application/json";
    problem(post(&server, json, "{").await, 400, "malformed_json").await;
    problem(post(&server, json, "").await, 400, "malformed_json").await;
    let invalid_utf8 = b"{\"content\":\"\xff\"}".to_vec();
    problem(
        post(&server, json, invalid_utf8).await,
        400,
        "malformed_json",
    )
    .await;

    let body = problem(
        post(&server, json, r#"{"content":5}"#).await,
        422,
        "invalid_request",
    )
    .await;
    assert_eq!(body["errors"][0]["pointer"], "/content");
    let body = r#"{"content":"a","role":"owner"}"#;
    let body = problem(post(&server, json, body).await, 422, "invalid_request").await;
    assert_eq!(body["errors"][0]["pointer"], "/role");
    server.stop().await;
}

#[tokio::test]
async fn bodies_of_another_type_are_refused() {
    let server = TestServer::start();
    let code = "unsupported_media_type";
    problem(post(&server, "text/plain", "{}").await, 415, code).await;
    let response = server.post("/drafts").body("{}").send().await.unwrap();
    problem(response, 415, code).await;
    let response = server
        .post("/drafts")
        .header("content-type", "application/json")
        .header("content-encoding", "gzip")
        .body(vec![0x1f, 0x8b]);
    problem(response.send().await.unwrap(), 415, code).await;
    server.stop().await;
}

#[tokio::test]
async fn a_body_of_ten_megabytes_is_answered_and_not_reset() {
    let server = TestServer::start();
    let huge = vec![b' '; 10 * 1024 * 1024];
    let response = post(&server, "application/json", huge.clone()).await;
    problem(response, 413, "payload_too_large").await;

    // The same without a length: only reading shows how much comes.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /drafts HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in huge.chunks(64 * 1024) {
        let size = format!("{:x}\r\n", chunk.len());
        stream.write_all(size.as_bytes()).await.unwrap();
        stream.write_all(chunk).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("payload_too_large"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods_are_problems() {
    let server = TestServer::start();
    problem(
        server.get("/nowhere").send().await.unwrap(),
        404,
        "not_found",
    )
    .await;
    let response = server.get("/drafts").send().await.unwrap();
    let allow = response.headers()["allow"].to_str().unwrap().to_owned();
    assert!(allow.contains("POST") && allow.contains("PUT"), "{allow}");
    problem(response, 405, "method_not_allowed").await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_an_id_names_nothing() {
    let server = TestServer::start();
    problem(
        server.get("/users/ada").send().await.unwrap(),
        404,
        "not_found",
    )
    .await;
    server.stop().await;
}

#[tokio::test]
async fn a_bad_query_is_invalid_and_named() {
    let server = TestServer::start();
    let user = "/users/01970000-0000-7000-8000-000000000000";
    let good = server.get(&format!("{user}?limit=5")).send().await.unwrap();
    assert_eq!(good.status(), 200);
    for (query, pointer) in [("limit=x", "?limit"), ("offset=1", "?offset")] {
        let response = server.get(&format!("{user}?{query}")).send().await.unwrap();
        let body = problem(response, 422, "invalid_request").await;
        assert_eq!(body["errors"][0]["pointer"], pointer);
    }
    server.stop().await;
}

#[tokio::test]
async fn an_error_of_the_framework_names_an_instance_and_no_cause() {
    let server = TestServer::start();
    let response = server.get("/broken").send().await.unwrap();
    let body = problem(response, 500, "internal").await;
    assert!(body["instance"].as_str().unwrap().starts_with("urn:uuid:"));
    assert!(!body.to_string().contains("secret cause"));
    server.stop().await;
}

#[tokio::test]
async fn an_oversized_header_is_answered_431() {
    let server = TestServer::start();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    // The server may answer and close before it has read everything.
    let written = stream.write_all(head.as_bytes()).await;
    let mut answer = [0; 12];
    let read = stream.read_exact(&mut answer).await;
    assert!(written.is_err() || read.is_ok());
    if read.is_ok() {
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    server.stop().await;
}
