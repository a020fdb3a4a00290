use serde_json::{Value, json};

use crate::harness::{Server, answer, check_problem};

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_created_read_changed_and_deleted() {
    let server = Server::with(&[("TIDINGS__LIMITS__CHANNELS_PER_GROUP", "2")]).await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let eve = server.person("eve").await;
    let (group, _) = ada.group(&[&bob]).await;
    let channels = format!("/v1/groups/{group}/channels");
    let name = |name: &str| json!({"name": name});

    bob.send("POST", &channels, name("random"), 403).await;
    eve.send("POST", &channels, name("random"), 404).await;
    let (channel, _) = ada.keyed("c", "POST", &channels, name("random"), 201).await;
    let again = ada.keyed("c", "POST", &channels, name("random"), 201).await;
    assert_eq!(again, (channel.clone(), true));
    let problem = ada.send("POST", &channels, name("more"), 409).await;
    check_problem(&problem, "conflict", "");

    let id = channel["id"].as_str().unwrap();
    let path = format!("/v1/channels/{id}");
    assert_eq!(channel["head"], 0);
    bob.say(id, "hello").await;
    let mut expected = channel.clone();
    (expected["head"], expected["read"]) = (json!(1), json!(1));
    assert_eq!(bob.get(&path).await, expected);
    eve.call("GET", &path, 404).await;

    bob.send("PATCH", &path, name("mine"), 403).await;
    eve.send("PATCH", &path, name("mine"), 404).await;
    let request = ada.request("PATCH", &path).json(&name("stale"));
    let stale = request.header("If-Match", "\"1\"").send().await.unwrap();
    answer(stale, 412).await;
    let renamed = ada.send("PATCH", &path, name("chat"), 200).await;
    assert_eq!(
        (&renamed["name"], &renamed["version"]),
        (&json!("chat"), &json!(3))
    );

    bob.call("DELETE", &path, 403).await;
    let (_, replayed) = ada.keyed("d", "DELETE", &path, Value::Null, 204).await;
    assert!(!replayed);
    let (_, replayed) = ada.keyed("d", "DELETE", &path, Value::Null, 204).await;
    assert!(replayed);
    ada.call("GET", &path, 404).await;
    ada.call("DELETE", &path, 404).await;
    let messages = format!("{path}/messages");
    ada.send("POST", &messages, json!({"content": "late"}), 404)
        .await;
    ada.call("GET", &messages, 404).await;
    server.stop().await;
}
