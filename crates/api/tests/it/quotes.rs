use serde_json::{Value, json};

use crate::harness::{Person, Server, check_problem};

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_shows_the_message_that_it_answers_as_that_is_now() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (_, channel) = ada.group(&[&bob]).await;
    let messages = format!("/v1/channels/{channel}/messages");
    let long = "é".repeat(300);
    let sent = ada.say(&channel, &long).await;
    assert_eq!(sent["quoted"], Value::Null);

    let quote = |content: &str, deleted: bool| json!({"seq": 1, "author": ada.id, "content": content, "deleted": deleted});
    let body = json!({"content": "Yes", "reply_to": 1});
    let (reply, _) = bob.keyed("k1", "POST", &messages, body.clone(), 201).await;
    assert_eq!(reply["quoted"], quote(&"é".repeat(200), false));
    // Of a page that holds the original, and of one that does not.
    let shows = async |expected: &Value| {
        for path in [
            messages.clone(),
            format!("{messages}?limit=1"),
            format!("{messages}?around=2&limit=1"),
        ] {
            let page = bob.get(&path).await;
            let items = page["items"].as_array().unwrap();
            assert_eq!(items.last().unwrap()["quoted"], *expected, "{path}");
        }
        let one = bob.get(&format!("{messages}/2")).await;
        assert_eq!(one["quoted"], *expected);
    };
    shows(&quote(&"é".repeat(200), false)).await;

    let edit = json!({"content": "Lunch?"});
    ada.send("PATCH", &format!("{messages}/1"), edit, 200).await;
    shows(&quote("Lunch?", false)).await;
    // So do the answers to changes of the reply.
    let edit = json!({"content": "No"});
    let reply = format!("{messages}/2");
    for shown in [
        bob.send("PATCH", &reply, edit, 200).await,
        bob.call("PUT", &format!("{reply}/reactions/👍"), 200).await,
        ada.call("PUT", &format!("{reply}/pin"), 200).await,
        ada.get(&format!("/v1/channels/{channel}/pins")).await["items"][0].clone(),
    ] {
        assert_eq!(shown["quoted"], quote("Lunch?", false), "{shown}");
    }

    ada.call("DELETE", &format!("{messages}/1"), 204).await;
    shows(&quote("", true)).await;
    let (again, replayed) = bob.keyed("k1", "POST", &messages, body, 201).await;
    assert_eq!((&again["quoted"], replayed), (&quote("", true), true));
    // A reply that is deleted still says what it answered.
    bob.call("DELETE", &reply, 204).await;
    shows(&quote("", true)).await;
    server.stop().await;
}

async fn refused(who: &Person, channel: &str, reply_to: Value) {
    let body = json!({"content": "Yes", "reply_to": reply_to});
    let path = format!("/v1/channels/{channel}/messages");
    let problem = who.send("POST", &path, body, 422).await;
    check_problem(&problem, "invalid_request", "/reply_to");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_messages_of_the_channel_can_be_answered() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (group, channel) = ada.group(&[&bob]).await;
    let (_, other) = ada.group(&[]).await;
    for _ in 0..5 {
        ada.say(&other, "elsewhere").await;
    }
    ada.say(&channel, "one").await;
    // A reaction and a fence are entries, but no messages.
    ada.call(
        "PUT",
        &format!("/v1/channels/{channel}/messages/1/reactions/👍"),
        200,
    )
    .await;
    let role = format!("/v1/groups/{group}/members/{}", bob.id);
    ada.send("PATCH", &role, json!({"role": "admin"}), 200)
        .await;
    for reply_to in [
        json!(0),
        json!(2),
        json!(3),
        json!(4),
        json!(-1),
        json!("1"),
    ] {
        refused(&bob, &channel, reply_to).await;
    }
    ada.call("DELETE", &format!("/v1/channels/{channel}/messages/1"), 204)
        .await;
    refused(&bob, &channel, json!(1)).await;
    server.stop().await;
}
