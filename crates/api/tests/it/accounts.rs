use serde_json::json;

use crate::harness::{PASSWORD, Server, answer, check_problem, is_replay};

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_created_found_and_changed() {
    let server = Server::start().await;
    let body = json!({"username": "Ada", "password": PASSWORD, "display_name": "Ada L."});
    let request = server.request("POST", "/v1/users").json(&body);
    let user = answer(request.send().await.unwrap(), 201).await;
    assert_eq!(user["username"], "ada");
    assert_eq!(user["display_name"], "Ada L.");
    let ada = server.log_in("ada").await;
    assert_eq!(user["id"], ada.id.as_str());

    assert_eq!(ada.get("/v1/users/me").await, user);
    assert_eq!(ada.get(&format!("/v1/users/{}", ada.id)).await, user);
    let found = ada.get("/v1/users?username=ADA").await;
    assert_eq!(found, json!({"items": [user], "more": false}));
    let none = ada.get("/v1/users?username=nobody").await;
    assert_eq!(none, json!({"items": [], "more": false}));

    let body = json!({"display_name": "Countess"});
    let changed = ada.send("PATCH", "/v1/users/me", body, 200).await;
    assert_eq!(changed["display_name"], "Countess");
    assert_eq!(ada.get("/v1/users/me").await, changed);

    let body = json!({"display_name": "Ada again"});
    let path = "/v1/users/me";
    let (first, replayed) = ada.keyed("k1", "PATCH", path, body.clone(), 200).await;
    assert!(!replayed);
    assert_eq!(
        ada.keyed("k1", "PATCH", path, body, 200).await,
        (first, true)
    );
    let other = json!({"display_name": "Other"});
    let (problem, _) = ada.keyed("k1", "PATCH", path, other, 409).await;
    check_problem(&problem, "idempotency_mismatch", "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_given_once_and_a_repetition_is_known_by_key_and_password() {
    let server = Server::start().await;
    let create = async |key: Option<&str>, password: &str, status: u16| {
        let body = json!({"username": "ada", "password": password});
        let mut request = server.request("POST", "/v1/users").json(&body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let response = request.send().await.unwrap();
        let replayed = is_replay(&response);
        (answer(response, status).await, replayed)
    };
    let (first, replayed) = create(Some("one"), PASSWORD, 201).await;
    assert!(!replayed);
    assert_eq!(create(Some("one"), PASSWORD, 201).await, (first, true));
    for (key, password) in [
        (Some("two"), PASSWORD),
        (Some("one"), "another password"),
        (None, PASSWORD),
    ] {
        let (problem, _) = create(key, password, 409).await;
        check_problem(&problem, "username_taken", "");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_wanted_by_many_at_once_is_given_to_one() {
    let server = Server::start().await;
    let body = json!({"username": "ada", "password": PASSWORD});
    let requests = (0..8).map(|_| server.request("POST", "/v1/users").json(&body).send());
    let responses = futures_util::future::join_all(requests).await;
    let created = responses
        .iter()
        .filter(|response| response.as_ref().unwrap().status() == 201);
    assert_eq!(created.count(), 1);
    server.stop().await;
}
