use serde_json::{Value, json};

use crate::harness::{Person, Server, answer, check_problem};

struct Channel<'a> {
    who: &'a Person,
    id: String,
}

impl Channel<'_> {
    fn path(&self, rest: &str) -> String {
        format!("/v1/channels/{}/{rest}", self.id)
    }

    async fn bucket(&self, number: u64) -> Value {
        self.who.get(&self.path(&format!("buckets/{number}"))).await
    }

    async fn digest(&self, number: u64) -> String {
        self.bucket(number).await["digest"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    async fn differ(&self, digests: Value) -> Value {
        let body = json!({"digests": digests});
        let path = self.path("buckets/compare");
        self.who.send("POST", &path, body, 200).await["differ"].clone()
    }
}

fn seqs(bucket: &Value) -> Vec<u64> {
    let items = bucket["items"].as_array().unwrap().iter();
    items.map(|item| item["seq"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_cut_into_buckets_of_256_positions() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (_, id) = ada.group(&[]).await;
    let channel = Channel { who: &ada, id };
    for number in 1..=258 {
        ada.say(&channel.id, &number.to_string()).await;
    }
    let first = channel.bucket(0).await;
    assert_eq!(seqs(&first), (1..=256).collect::<Vec<u64>>());
    let page = ada.get(&channel.path("messages?after=0&limit=100")).await;
    let items = page["items"].as_array().unwrap();
    assert_eq!(first["items"].as_array().unwrap()[..100], items[..]);
    assert_eq!(
        (&first["bucket"], &first["channel"]),
        (&json!(0), &json!(channel.id))
    );
    assert_eq!(seqs(&channel.bucket(1).await), [257, 258]);
    assert_eq!(seqs(&channel.bucket(2).await), [0; 0]);
    for unknown in ["-1", "x", "36028797018963968", "18446744073709551616"] {
        ada.call("GET", &channel.path(&format!("buckets/{unknown}")), 404)
            .await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_changes_with_all_that_happens_to_a_message() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (_, id) = ada.group(&[]).await;
    let channel = Channel { who: &ada, id };
    let mut seen = vec![channel.digest(0).await];
    let one = channel.path("messages/1");
    let reaction = format!("{one}/reactions/👍");
    let pin = format!("{one}/pin");
    ada.say(&channel.id, "one").await;
    seen.push(channel.digest(0).await);
    for (method, path, body) in [
        ("PATCH", &one, json!({"content": "two"})),
        ("PUT", &reaction, Value::Null),
        ("DELETE", &reaction, Value::Null),
        ("PUT", &pin, Value::Null),
        ("DELETE", &pin, Value::Null),
        ("DELETE", &one, Value::Null),
    ] {
        let mut request = ada.request(method, path);
        if !body.is_null() {
            request = request.json(&body);
        }
        assert!(
            request.send().await.unwrap().status().is_success(),
            "{method} {path}"
        );
        let digest = channel.digest(0).await;
        assert_eq!(
            digest,
            channel.digest(0).await,
            "it is the same while nothing happens"
        );
        assert!(!seen.contains(&digest), "{method} {path}");
        seen.push(digest);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_changes_the_buckets_that_quote_the_message() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (_, id) = ada.group(&[]).await;
    let channel = Channel { who: &ada, id };
    for number in 1..=256 {
        ada.say(&channel.id, &format!("secret {number}")).await;
    }
    let reply = json!({"content": "Really?", "reply_to": 1});
    ada.send("POST", &channel.path("messages"), reply, 201)
        .await;
    let before = channel.bucket(1).await;
    assert_eq!(before["items"][0]["quoted"]["content"], "secret 1");
    ada.call("DELETE", &channel.path("messages/1"), 204).await;
    let differ = channel.differ(json!({"1": before["digest"]})).await;
    let after = channel.bucket(1).await;
    assert_eq!(differ, json!({"1": after["digest"]}));
    assert_eq!(after["items"][0]["quoted"]["content"], "");
    // What happens to a message that nobody there quotes leaves it as it is.
    ada.call("DELETE", &channel.path("messages/2"), 204).await;
    assert_eq!(channel.bucket(1).await, after);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_a_bucket_is_not_sent_it_again() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let eve = server.person("eve").await;
    let (group, id) = ada.group(&[&bob]).await;
    let channel = Channel { who: &bob, id };
    ada.say(&channel.id, "one").await;
    let path = channel.path("buckets/0");
    let response = bob.request("GET", &path).send().await.unwrap();
    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(response.headers()["cache-control"], "private, no-cache");
    let bucket = answer(response, 200).await;
    assert_eq!(etag, format!("\"{}\"", bucket["digest"].as_str().unwrap()));

    let again = async |who: &Person, tag: &str, status: u16| {
        let request = who.request("GET", &path).header("If-None-Match", tag);
        let response = request.send().await.unwrap();
        let now = response.headers().get("etag").cloned();
        (answer(response, status).await, now)
    };
    let (body, now) = again(&bob, &etag, 304).await;
    assert_eq!(
        (body, now.unwrap()),
        (Value::Null, etag.as_str().try_into().unwrap())
    );
    again(&bob, &format!("\"x\", W/{etag}"), 304).await;
    let (body, _) = again(&bob, "\"x\"", 200).await;
    assert_eq!(body, bucket);
    // Whoever may not read it learns nothing of what they hold.
    again(&eve, &etag, 404).await;
    eve.send(
        "POST",
        &channel.path("buckets/compare"),
        json!({"digests": {"0": "x"}}),
        404,
    )
    .await;
    ada.call(
        "DELETE",
        &format!("/v1/groups/{group}/members/{}", bob.id),
        204,
    )
    .await;
    again(&bob, &etag, 404).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_digests_are_compared_at_once() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (_, id) = ada.group(&[]).await;
    let channel = Channel { who: &ada, id };
    ada.say(&channel.id, "one").await;
    let (own, empty) = (channel.digest(0).await, channel.digest(7).await);
    let differ = channel
        .differ(json!({"0": own, "1": empty, "7": empty, "9": own}))
        .await;
    assert_eq!(differ, json!({"9": empty}));
    let full: serde_json::Map<String, Value> = (0..100)
        .map(|number| (number.to_string(), json!("stale")))
        .collect();
    let differ = channel.differ(Value::Object(full.clone())).await;
    assert_eq!(differ.as_object().unwrap().len(), 100);
    let mut more = full;
    more.insert("100".to_owned(), json!("stale"));
    for (digests, pointer) in [
        (json!({}), "/digests"),
        (Value::Object(more), "/digests"),
        (json!({"x": "y"}), "/digests/x"),
        (json!({"01": "y"}), "/digests/01"),
        (json!({"-1": "y"}), "/digests/-1"),
        (json!({"a/b": "y"}), "/digests/a~1b"),
        (json!({"0": 1}), "/digests/0"),
        (json!([]), "/digests"),
    ] {
        let body = json!({"digests": digests});
        let problem = ada
            .send("POST", &channel.path("buckets/compare"), body, 422)
            .await;
        check_problem(&problem, "invalid_request", pointer);
    }
    server.stop().await;
}
