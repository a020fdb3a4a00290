use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Server, answer, check_problem};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_created_read_changed_and_deleted() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let eve = server.person("eve").await;
    let body = json!({"name": "Engine room", "members": [bob.id, bob.id, ada.id]});
    let group = ada.send("POST", "/v1/groups", body, 201).await;
    assert_eq!(group["kind"], "group");
    assert_eq!(group["version"], 1);
    assert_eq!(group["role"], "owner");
    assert_eq!(group["member_count"], 2);
    assert_eq!(group["channels"][0]["name"], "general");
    let path = format!("/v1/groups/{}", group["id"].as_str().unwrap());
    assert_eq!(ada.get(&path).await, group);
    assert_eq!(bob.get(&path).await["role"], "member");
    check_problem(&eve.call("GET", &path, 404).await, "not_found", "");
    assert_eq!(bob.get("/v1/groups").await["items"][0]["id"], group["id"]);
    assert_eq!(
        eve.get("/v1/groups").await,
        json!({"items": [], "more": false})
    );

    let name = |name: &str| json!({"name": name});
    bob.send("PATCH", &path, name("Mine"), 403).await;
    eve.send("PATCH", &path, name("Mine"), 404).await;
    let renamed = ada.send("PATCH", &path, name("Bridge"), 200).await;
    assert_eq!(
        (&renamed["name"], &renamed["version"]),
        (&json!("Bridge"), &json!(2))
    );

    bob.call("DELETE", &path, 403).await;
    let (_, replayed) = ada.keyed("d", "DELETE", &path, Value::Null, 204).await;
    assert!(!replayed);
    let (_, replayed) = ada.keyed("d", "DELETE", &path, Value::Null, 204).await;
    assert!(replayed);
    ada.call("DELETE", &path, 404).await;
    bob.call("GET", &path, 404).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_asked_for_twice_with_one_key_is_one_group() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let body = json!({"name": "Engine room"});
    let ask = || ada.keyed("k", "POST", "/v1/groups", body.clone(), 201);
    let answers = join_all((0..8).map(|_| ask())).await;
    assert!(answers.iter().all(|(group, _)| *group == answers[0].0));
    let first = answers.iter().filter(|(_, replayed)| !replayed);
    assert_eq!(first.count(), 1);
    let other = json!({"name": "Bridge"});
    let (problem, _) = ada.keyed("k", "POST", "/v1/groups", other, 409).await;
    check_problem(&problem, "idempotency_mismatch", "");
    assert_eq!(
        ada.get("/v1/groups").await["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    // The first answer stays the answer when the group has gone.
    let path = format!("/v1/groups/{}", answers[0].0["id"].as_str().unwrap());
    ada.call("DELETE", &path, 204).await;
    assert_eq!(ask().await, (answers[0].0.clone(), true));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_new_group_must_exist_and_fit() {
    let server = Server::with(&[
        ("TIDINGS__LIMITS__MEMBERS_PER_GROUP", "2"),
        ("TIDINGS__LIMITS__GROUPS_PER_USER", "1"),
    ])
    .await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let eve = server.person("eve").await;
    let unknown = "01970000-0000-7000-8000-000000000000";
    let check = async |members: Value, status: u16, code: &str, pointer: &str| {
        let body = json!({"name": "x", "members": members});
        let problem = ada.send("POST", "/v1/groups", body, status).await;
        check_problem(&problem, code, pointer);
    };
    check(json!([unknown]), 422, "invalid_request", "/members/0").await;
    check(json!(["bob"]), 422, "invalid_request", "/members/0").await;
    check(json!([bob.id, eve.id]), 422, "invalid_request", "/members").await;
    check(
        json!(vec![unknown; 1001]),
        422,
        "invalid_request",
        "/members",
    )
    .await;
    bob.group(&[]).await;
    check(json!([bob.id]), 409, "conflict", "").await;
    ada.group(&[]).await;
    check(json!([]), 409, "conflict", "").await;
    ada.call("PUT", &format!("/v1/direct/{}", eve.id), 409)
        .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn if_match_lets_only_the_version_pass_and_without_it_every_change_lands() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (group, _) = ada.group(&[]).await;
    let path = format!("/v1/groups/{group}");
    let response = ada.request("GET", &path).send().await.unwrap();
    assert_eq!(response.headers()["etag"], "\"1\"");
    let change = async |tag: &str, status: u16| {
        let request = ada.request("PATCH", &path).json(&json!({"name": "x"}));
        let response = request.header("If-Match", tag).send().await.unwrap();
        let etag = response.headers().get("etag").cloned();
        (answer(response, status).await, etag)
    };
    let (_, etag) = change("\"1\"", 200).await;
    assert_eq!(etag.unwrap(), "\"2\"");
    let (problem, _) = change("\"1\"", 412).await;
    check_problem(&problem, "precondition_failed", "");
    assert_eq!(problem["version"], 2);
    change("*", 200).await;
    change("W/\"3\"", 412).await;

    let changes = (0..8).map(|n| ada.send("PATCH", &path, json!({"name": format!("n{n}")}), 200));
    let mut versions: Vec<u64> = join_all(changes)
        .await
        .iter()
        .map(|group| group["version"].as_u64().unwrap())
        .collect();
    versions.sort_unstable();
    // Answers show the group as it is, which may be later than one's own change.
    assert_eq!(versions.last(), Some(&11));
    assert_eq!(ada.get(&path).await["version"], 11);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_conversation_is_the_same_for_both_and_made_once() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (to_bob, to_ada) = (
        format!("/v1/direct/{}", bob.id),
        format!("/v1/direct/{}", ada.id),
    );
    let both = (0..8).map(|n| {
        let (who, path) = if n % 2 == 0 {
            (&ada, &to_bob)
        } else {
            (&bob, &to_ada)
        };
        who.request("PUT", path).send()
    });
    let mut created = 0;
    let mut ids = Vec::new();
    for response in join_all(both).await {
        let response = response.unwrap();
        let status = response.status().as_u16();
        created += u32::from(status == 201);
        let group = answer(response, status).await;
        assert_eq!(group["kind"], "direct");
        assert_eq!(group["name"], Value::Null);
        ids.push(group["id"].clone());
    }
    assert_eq!(created, 1);
    assert!(ids.iter().all(|id| *id == ids[0]));
    ada.call("PUT", &to_ada, 422).await;
    ada.call(
        "PUT",
        "/v1/direct/01970000-0000-7000-8000-000000000000",
        404,
    )
    .await;
    let eve = server.person("eve").await;
    let path = format!("/v1/direct/{}", eve.id);
    let (first, replayed) = ada.keyed("k", "PUT", &path, Value::Null, 201).await;
    assert!(!replayed);
    let again = ada.keyed("k", "PUT", &path, Value::Null, 201).await;
    assert_eq!(again, (first, true));
    let group = format!("/v1/groups/{}", ids[0].as_str().unwrap());
    ada.send("PATCH", &group, json!({"name": "x"}), 403).await;
    ada.call("DELETE", &group, 403).await;
    server.stop().await;
}
