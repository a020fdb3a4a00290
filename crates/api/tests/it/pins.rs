use serde_json::{Value, json};

use crate::harness::{Person, Server, check_problem};

async fn pinned(who: &Person, channel: &str, query: &str) -> (Vec<u64>, bool) {
    let page = who
        .get(&format!("/v1/channels/{channel}/pins{query}"))
        .await;
    let items = page["items"].as_array().unwrap().iter();
    let items = items.inspect(|item| assert_eq!(item["pinned"], true));
    let seqs = items.map(|item| item["seq"].as_u64().unwrap()).collect();
    (seqs, page["more"].as_bool().unwrap())
}

async fn head(who: &Person, channel: &str) -> u64 {
    let channel = who.get(&format!("/v1/channels/{channel}")).await;
    channel["head"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_pin_what_the_channel_keeps_in_view() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let cleo = server.person("cleo").await;
    let eve = server.person("eve").await;
    let (group, channel) = ada.group(&[&bob, &cleo]).await;
    let role = format!("/v1/groups/{group}/members/{}", bob.id);
    ada.send("PATCH", &role, json!({"role": "admin"}), 200)
        .await;
    for number in 1..=4 {
        cleo.say(&channel, &number.to_string()).await;
    }
    // The fence of the change of role came first.
    let [one, two, _, four] =
        std::array::from_fn(|n| format!("/v1/channels/{channel}/messages/{}/pin", n + 2));

    let shown = bob.call("PUT", &four, 200).await;
    assert_eq!(shown["pinned"], true);
    ada.call("PUT", &one, 200).await;
    assert_eq!(pinned(&cleo, &channel, "").await, (vec![2, 5], false));
    assert_eq!(pinned(&cleo, &channel, "?limit=1").await, (vec![5], true));
    assert_eq!(
        pinned(&cleo, &channel, "?before=5&limit=1").await,
        (vec![2], false)
    );
    assert_eq!(pinned(&cleo, &channel, "?after=2").await, (vec![5], false));
    assert_eq!(
        pinned(&cleo, &channel, "?around=5").await,
        (vec![2, 5], false)
    );

    // What is so already changes nothing.
    let before = head(&ada, &channel).await;
    ada.call("PUT", &four, 200).await;
    ada.call("DELETE", &two, 204).await;
    assert_eq!(head(&ada, &channel).await, before);

    // Members who are no admins may not, whose message ever it is; strangers learn nothing.
    for method in ["PUT", "DELETE"] {
        for path in [&one, &two] {
            let problem = cleo.call(method, path, 403).await;
            check_problem(&problem, "forbidden", "");
            eve.call(method, path, 404).await;
        }
        let nothing = format!("/v1/channels/{channel}/messages/99/pin");
        ada.call(method, &nothing, 404).await;
    }
    eve.call("GET", &format!("/v1/channels/{channel}/pins"), 404)
        .await;
    let bad = ada
        .call(
            "GET",
            &format!("/v1/channels/{channel}/pins?limit=101"),
            422,
        )
        .await;
    check_problem(&bad, "invalid_request", "?limit");

    // Whoever pinned it, another admin may unpin it; with the message it goes.
    ada.call("DELETE", &four, 204).await;
    assert_eq!(pinned(&cleo, &channel, "").await, (vec![2], false));
    cleo.call("DELETE", &format!("/v1/channels/{channel}/messages/2"), 204)
        .await;
    assert_eq!(pinned(&cleo, &channel, "").await, (vec![], false));
    let tombstone = cleo
        .get(&format!("/v1/channels/{channel}/messages/2"))
        .await;
    assert_eq!(tombstone["pinned"], false);
    ada.call("PUT", &one, 404).await;

    // Who is no admin any more may not.
    ada.send("PATCH", &role, json!({"role": "member"}), 200)
        .await;
    bob.call("PUT", &two, 403).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_pin_in_a_direct_conversation() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let direct = format!("/v1/direct/{}", bob.id);
    let direct = ada.send("PUT", &direct, json!({}), 201).await;
    let channel = direct["channels"][0]["id"].as_str().unwrap();
    ada.say(channel, "hello").await;
    let pin = format!("/v1/channels/{channel}/messages/1/pin");
    bob.call("PUT", &pin, 200).await;
    assert_eq!(pinned(&ada, channel, "").await, (vec![1], false));
    ada.call("DELETE", &pin, 204).await;
    assert_eq!(pinned(&bob, channel, "").await, (vec![], false));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_has_so_many_pins_and_a_key_makes_one() {
    let settings = [("TIDINGS__LIMITS__PINS_PER_CHANNEL", "2")];
    let server = Server::with(&settings).await;
    let ada = server.person("ada").await;
    let (_, channel) = ada.group(&[]).await;
    for number in 1..=3 {
        ada.say(&channel, &number.to_string()).await;
    }
    let pin = |seq: u64| format!("/v1/channels/{channel}/messages/{seq}/pin");
    ada.call("PUT", &pin(1), 200).await;
    let (first, replayed) = ada.keyed("k1", "PUT", &pin(2), Value::Null, 200).await;
    assert!(!replayed && first["pinned"] == true);
    let problem = ada.call("PUT", &pin(3), 409).await;
    check_problem(&problem, "conflict", "");
    // One of those that are there is none more.
    ada.call("PUT", &pin(1), 200).await;
    ada.keyed("k2", "PUT", &pin(1), Value::Null, 200).await;

    ada.call("DELETE", &pin(2), 204).await;
    let (again, replayed) = ada.keyed("k1", "PUT", &pin(2), Value::Null, 200).await;
    assert!(replayed && again["pinned"] == false);
    ada.call("PUT", &pin(3), 200).await;
    assert_eq!(pinned(&ada, &channel, "").await, (vec![1, 3], false));
    let (problem, _) = ada.keyed("k1", "PUT", &pin(3), Value::Null, 409).await;
    check_problem(&problem, "idempotency_mismatch", "");
    server.stop().await;
}
