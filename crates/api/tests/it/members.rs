use serde_json::{Value, json};

use crate::harness::{Server, check_problem};

#[tokio::test(flavor = "multi_thread")]
async fn members_come_change_and_go() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let eve = server.person("eve").await;
    let (group, channel) = ada.group(&[]).await;
    let members = format!("/v1/groups/{group}/members");
    let of = |id: &str| format!("{members}/{id}");
    let role = |role: &str| json!({"role": role});

    let added = ada.call("PUT", &of(&bob.id), 201).await;
    assert_eq!(
        (&added["user"], &added["role"]),
        (&json!(bob.id), &json!("member"))
    );
    ada.call("PUT", &of(&bob.id), 200).await;
    assert_eq!(
        ada.send("PUT", &of(&bob.id), role("admin"), 200).await["role"],
        "admin"
    );
    let body = role("member");
    assert_eq!(
        ada.send("PATCH", &of(&bob.id), body, 200).await["role"],
        "member"
    );

    bob.call("PUT", &of(&eve.id), 403).await;
    eve.call("PUT", &of(&eve.id), 404).await;
    bob.send("PATCH", &of(&ada.id), role("member"), 403).await;
    ada.send("PATCH", &of(&ada.id), role("member"), 409).await;
    ada.send("PATCH", &of(&eve.id), role("admin"), 404).await;
    let problem = ada.send("PUT", &of(&bob.id), role("owner"), 422).await;
    check_problem(&problem, "invalid_request", "/role");
    ada.send("PUT", &of(&bob.id), role("king"), 422).await;
    ada.call("PUT", &of("01970000-0000-7000-8000-000000000000"), 404)
        .await;

    let page = ada.get(&format!("{members}?limit=1")).await;
    assert_eq!(page["more"], true);
    let after = page["items"][0]["user"].as_str().unwrap();
    let rest = ada.get(&format!("{members}?after={after}")).await;
    assert_eq!(
        (rest["items"].as_array().unwrap().len(), &rest["more"]),
        (1, &json!(false))
    );
    eve.call("GET", &members, 404).await;

    ada.call("DELETE", &of(&ada.id), 409).await;
    bob.call("DELETE", &of(&ada.id), 403).await;
    let (_, replayed) = bob
        .keyed("l", "DELETE", &of(&bob.id), Value::Null, 204)
        .await;
    assert!(!replayed);
    let (_, replayed) = bob
        .keyed("l", "DELETE", &of(&bob.id), Value::Null, 204)
        .await;
    assert!(replayed);
    bob.call("DELETE", &of(&bob.id), 404).await;
    bob.call("GET", &format!("/v1/channels/{channel}"), 404)
        .await;
    bob.call("GET", &format!("/v1/channels/{channel}/messages"), 404)
        .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_addition_says_created_even_after_the_member_has_gone() {
    let server = Server::with(&[("TIDINGS__LIMITS__MEMBERS_PER_GROUP", "2")]).await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let eve = server.person("eve").await;
    let (group, _) = ada.group(&[]).await;
    let of = |id: &str| format!("/v1/groups/{group}/members/{id}");
    let (first, _) = ada.keyed("k", "PUT", &of(&bob.id), Value::Null, 201).await;
    ada.call("PUT", &of(&eve.id), 409).await;
    ada.call("DELETE", &of(&bob.id), 204).await;
    let again = ada.keyed("k", "PUT", &of(&bob.id), Value::Null, 201).await;
    assert_eq!(again, (first, true));
    let path = format!("/v1/groups/{group}/members");
    assert_eq!(ada.get(&path).await["items"].as_array().unwrap().len(), 1);
    server.stop().await;
}
