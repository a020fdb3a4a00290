use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Person, Server, check_problem, is_replay};

/// A channel with a message by the first of these people, and the way to its reactions.
async fn conversation(people: &[&Person]) -> (String, String) {
    let (_, channel) = people[0].group(&people[1..]).await;
    people[0].say(&channel, "Lunch?").await;
    let message = format!("/v1/channels/{channel}/messages/1");
    (channel, message)
}

async fn head(who: &Person, channel: &str) -> u64 {
    let channel = who.get(&format!("/v1/channels/{channel}")).await;
    channel["head"].as_u64().unwrap()
}

fn count(emoji: &str, people: &[&Person]) -> Value {
    let users: Vec<&str> = people.iter().map(|one| one.id.as_str()).collect();
    json!({"emoji": emoji, "count": users.len(), "users": users})
}

#[tokio::test(flavor = "multi_thread")]
async fn members_react_and_take_it_back() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let eve = server.person("eve").await;
    let (channel, message) = conversation(&[&ada, &bob]).await;
    let thumb = format!("{message}/reactions/👍");
    let heart = format!("{message}/reactions/%E2%9D%A4%EF%B8%8F");

    let shown = bob.call("PUT", &thumb, 200).await;
    assert_eq!(shown["reactions"], json!([count("👍", &[&bob])]));
    assert_eq!(ada.get(&message).await, shown);
    ada.call("PUT", &heart, 200).await;
    let shown = ada.call("PUT", &thumb, 200).await;
    let both = json!([count("👍", &[&bob, &ada]), count("❤️", &[&ada])]);
    assert_eq!(shown["reactions"], both);

    // Who reacts so already goes on, and nothing is committed for it.
    let before = head(&ada, &channel).await;
    let again = ada.call("PUT", &thumb, 200).await;
    assert_eq!(again, shown);
    bob.call("DELETE", &heart, 204).await;
    assert_eq!(head(&ada, &channel).await, before);

    // Everybody takes back their own alone.
    bob.call("DELETE", &thumb, 204).await;
    let shown = ada.get(&message).await;
    let hers = json!([count("👍", &[&ada]), count("❤️", &[&ada])]);
    assert_eq!(shown["reactions"], hers);
    ada.call("DELETE", &thumb, 204).await;
    let shown = ada.get(&message).await;
    assert_eq!(shown["reactions"], json!([count("❤️", &[&ada])]));

    // Strangers learn nothing, and what is not there cannot be reacted to.
    for (who, path) in [
        (&eve, heart.clone()),
        (
            &ada,
            format!("/v1/channels/{channel}/messages/99/reactions/👍"),
        ),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            who.call(method, &path, 404).await;
        }
    }
    for bad in ["A", "👍👍", "a%20b", "%FF", "%E2%80%8D"] {
        let path = format!("{message}/reactions/{bad}");
        for method in ["GET", "PUT", "DELETE"] {
            let problem = ada.call(method, &path, 422).await;
            check_problem(&problem, "invalid_request", "{emoji}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_message_its_reactions_go() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (_, message) = conversation(&[&ada, &bob]).await;
    let thumb = format!("{message}/reactions/👍");
    bob.call("PUT", &thumb, 200).await;
    ada.call("DELETE", &message, 204).await;
    assert_eq!(ada.get(&message).await["reactions"], json!([]));
    assert_eq!(ada.get(&thumb).await, json!({"items": [], "more": false}));
    for method in ["PUT", "DELETE"] {
        bob.call(method, &thumb, 404).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_one_reaction() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (channel, message) = conversation(&[&ada, &bob]).await;
    let thumb = format!("{message}/reactions/👍");
    let puts = (0..8).map(|_| async {
        let request = bob.request("PUT", &thumb).header("Idempotency-Key", "k1");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        is_replay(&response)
    });
    let replays = join_all(puts).await;
    assert_eq!(replays.iter().filter(|replayed| !**replayed).count(), 1);
    assert_eq!(head(&ada, &channel).await, 2);

    // Another key is another wish: it is known from then on, though it changes nothing.
    let (_, replayed) = bob.keyed("k2", "PUT", &thumb, Value::Null, 200).await;
    assert!(!replayed);
    bob.call("DELETE", &thumb, 204).await;
    let (shown, replayed) = bob.keyed("k2", "PUT", &thumb, Value::Null, 200).await;
    assert_eq!((&shown["reactions"], replayed), (&json!([]), true));
    // Nor does a deletion undo what came after it.
    let (_, replayed) = bob.keyed("k3", "DELETE", &thumb, Value::Null, 204).await;
    assert!(!replayed);
    bob.call("PUT", &thumb, 200).await;
    let (_, replayed) = bob.keyed("k3", "DELETE", &thumb, Value::Null, 204).await;
    assert!(replayed);
    let shown = ada.get(&message).await;
    assert_eq!(shown["reactions"], json!([count("👍", &[&bob])]));

    let other = format!("{message}/reactions/🎉");
    for (key, method, path) in [("k1", "PUT", &other), ("k1", "DELETE", &thumb)] {
        let (problem, _) = bob.keyed(key, method, path, Value::Null, 409).await;
        check_problem(&problem, "idempotency_mismatch", "");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_carries_so_many_different_emoji() {
    let settings = [("TIDINGS__LIMITS__EMOJI_PER_MESSAGE", "3")];
    let server = Server::with(&settings).await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (_, message) = conversation(&[&ada, &bob]).await;
    let reaction = |emoji: &str| format!("{message}/reactions/{emoji}");
    for emoji in ["one", "two", "three"] {
        ada.call("PUT", &reaction(emoji), 200).await;
    }
    let problem = bob.call("PUT", &reaction("four"), 409).await;
    check_problem(&problem, "conflict", "");
    // Those that are there may be joined, and one that goes makes room.
    bob.call("PUT", &reaction("two"), 200).await;
    ada.call("DELETE", &reaction("one"), 204).await;
    bob.call("PUT", &reaction("four"), 200).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reacts_is_told_in_pages() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let mut people = Vec::new();
    for name in ["bob", "cleo", "dan", "eve"] {
        people.push(server.person(name).await);
    }
    let everybody: Vec<&Person> = std::iter::once(&ada).chain(&people).collect();
    let (_, message) = conversation(&everybody).await;
    let thumb = format!("{message}/reactions/👍");
    for person in everybody.iter().rev() {
        person.call("PUT", &thumb, 200).await;
    }
    let shown = ada.get(&message).await;
    assert_eq!(shown["reactions"][0]["count"], 5);
    let last = json!([people[3].id, people[2].id, people[1].id]);
    assert_eq!(shown["reactions"][0]["users"], last);
    crate::lists::check(&ada, &thumb, "user").await;
    let nobody = ada.get(&format!("{message}/reactions/🎉")).await;
    assert_eq!(nobody, json!({"items": [], "more": false}));
    server.stop().await;
}
