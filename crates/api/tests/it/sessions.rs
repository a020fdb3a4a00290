use serde_json::{Value, json};

use crate::harness::{PASSWORD, Server, answer, check_problem, is_replay};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_unknown_and_who_is_wrong_get_the_same_answer() {
    let server = Server::start().await;
    server.register("ada").await;
    let mut bodies = Vec::new();
    for (username, password) in [
        ("ada", "wrong password"),
        ("nobody", PASSWORD),
        ("ada", "short"),
        ("not a name!", PASSWORD),
    ] {
        let body = json!({"username": username, "password": password});
        let request = server.request("POST", "/v1/sessions").json(&body);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        bodies.push(answer(response, 401).await);
    }
    check_problem(&bodies[0], "unauthenticated", "");
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_and_end_when_deleted() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let phone = server.log_in("ada").await;
    let bob = server.person("bob").await;
    let list = ada.get("/v1/sessions").await;
    let current: Vec<(&Value, &Value)> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (&item["id"], &item["current"]))
        .collect();
    let expected = [
        (&json!(ada.session), &json!(true)),
        (&json!(phone.session), &json!(false)),
    ];
    assert_eq!(current, expected);
    let page = ada.get("/v1/sessions?limit=1").await;
    assert_eq!(page["more"], true);
    let rest = ada
        .get(&format!("/v1/sessions?after={}", ada.session))
        .await;
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);

    let path = format!("/v1/sessions/{}", phone.session);
    bob.call("DELETE", &path, 404).await;
    let (_, replayed) = ada.keyed("k", "DELETE", &path, Value::Null, 204).await;
    assert!(!replayed);
    let (_, replayed) = ada.keyed("k", "DELETE", &path, Value::Null, 204).await;
    assert!(replayed);
    ada.call("DELETE", &path, 404).await;
    // Revocations follow at a hint, so within moments.
    let mut refused = false;
    for _ in 0..100 {
        let response = phone.request("GET", "/v1/users/me").send().await.unwrap();
        if response.status() == 401 {
            refused = true;
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(refused, "a revoked session is still let in");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_limit_the_least_recently_used_session_ends() {
    let server = Server::with(&[("TIDINGS__LIMITS__SESSIONS_PER_USER", "2")]).await;
    let first = server.person("ada").await;
    server.clock.advance(1000);
    let second = server.log_in("ada").await;
    server.clock.advance(1000);
    refresh(&server, &first.refresh_token, None, 200).await;
    server.clock.advance(1000);
    let third = server.log_in("ada").await;
    let list = third.get("/v1/sessions").await;
    let left: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    assert_eq!(left, [&first.session, &third.session]);
    refresh(&server, &second.refresh_token, None, 401).await;
    server.stop().await;
}

async fn refresh(server: &Server, token: &str, key: Option<&str>, status: u16) -> (Value, bool) {
    let body = json!({"refresh_token": token});
    let mut request = server.request("POST", "/v1/sessions/refresh").json(&body);
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    let response = request.send().await.unwrap();
    let replayed = is_replay(&response);
    (answer(response, status).await, replayed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_works_once_and_its_reuse_ends_the_session() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (pair, _) = refresh(&server, &ada.refresh_token, None, 200).await;
    assert_eq!(pair["session"], ada.session.as_str());
    assert_eq!(pair["token_type"], "Bearer");
    let second = pair["refresh_token"].as_str().unwrap();
    assert_ne!(second, ada.refresh_token);
    let (problem, _) = refresh(&server, &ada.refresh_token, None, 401).await;
    check_problem(&problem, "unauthenticated", "");
    refresh(&server, second, None, 401).await;
    refresh(&server, "not a token", None, 401).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_exchange_repeated_within_a_minute_gets_the_same_pair() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (pair, replayed) = refresh(&server, &ada.refresh_token, Some("k"), 200).await;
    assert!(!replayed);
    server.clock.advance(30_000);
    let (mut again, replayed) = refresh(&server, &ada.refresh_token, Some("k"), 200).await;
    assert!(replayed);
    assert_eq!(again["expires_in"], 870);
    again["expires_in"] = pair["expires_in"].clone();
    assert_eq!(again, pair);
    server.clock.advance(31_000);
    refresh(&server, &ada.refresh_token, Some("k"), 401).await;
    refresh(&server, pair["refresh_token"].as_str().unwrap(), None, 401).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_end() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    server.clock.advance(900_000);
    let problem = ada.call("GET", "/v1/users/me", 401).await;
    check_problem(&problem, "token_expired", "");
    server.clock.advance(31 * 86_400_000);
    refresh(&server, &ada.refresh_token, None, 401).await;
    server.stop().await;
}
