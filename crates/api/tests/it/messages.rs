use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Server, answer, check_problem};

fn seqs(page: &Value) -> Vec<u64> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|one| one["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_sent_read_edited_and_deleted() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let eve = server.person("eve").await;
    let (_, channel) = ada.group(&[&bob]).await;
    let messages = format!("/v1/channels/{channel}/messages");
    let content = |text: &str| json!({"content": text});

    let sent = bob.say(&channel, "Hello, world!").await;
    assert_eq!(sent["seq"], 1);
    assert_eq!(sent["author"], bob.id.as_str());
    assert_eq!(sent["reply_to"], Value::Null);
    let one = format!("{messages}/1");
    assert_eq!(ada.get(&one).await, sent);
    eve.send("POST", &messages, content("x"), 404).await;
    eve.call("GET", &messages, 404).await;
    eve.call("GET", &one, 404).await;
    ada.call("GET", &format!("{messages}/2"), 404).await;

    let reply = json!({"content": "Hi", "reply_to": 1});
    let reply = ada.send("POST", &messages, reply, 201).await;
    assert_eq!(reply["reply_to"], 1);
    let bad = json!({"content": "Hi", "reply_to": 9});
    let problem = ada.send("POST", &messages, bad, 422).await;
    check_problem(&problem, "invalid_request", "/reply_to");

    ada.send("PATCH", &one, content("mine"), 403).await;
    eve.send("PATCH", &one, content("mine"), 404).await;
    server.clock.advance(1000);
    let edited = bob.send("PATCH", &one, content("Hello!"), 200).await;
    assert_eq!(edited["content"], "Hello!");
    assert_eq!(edited["edited_at"], "2026-11-21T12:00:01.000Z");
    assert_eq!(ada.get(&one).await, edited);

    bob.call("DELETE", &format!("{messages}/2"), 403).await;
    ada.call("DELETE", &one, 204).await;
    let tombstone = ada.get(&one).await;
    assert_eq!(
        (&tombstone["content"], &tombstone["deleted"]),
        (&json!(""), &json!(true))
    );
    ada.call("DELETE", &one, 404).await;
    bob.send("PATCH", &one, content("back"), 404).await;
    let late = json!({"content": "Hi", "reply_to": 1});
    ada.send("POST", &messages, late, 422).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_paged_both_ways_and_around() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (_, channel) = ada.group(&[]).await;
    for number in 1..=6 {
        ada.say(&channel, &format!("{number}")).await;
    }
    let check = async |query: &str, expected: &[u64], more: bool| {
        let page = ada
            .get(&format!("/v1/channels/{channel}/messages{query}"))
            .await;
        assert_eq!(
            (seqs(&page).as_slice(), &page["more"]),
            (expected, &json!(more)),
            "{query}"
        );
    };
    check("", &[1, 2, 3, 4, 5, 6], false).await;
    check("?limit=2", &[5, 6], true).await;
    check("?before=3&limit=2", &[1, 2], false).await;
    check("?before=4&limit=2", &[2, 3], true).await;
    check("?after=4", &[5, 6], false).await;
    check("?after=0&limit=2", &[1, 2], true).await;
    check("?around=3&limit=2", &[2, 3], true).await;
    check("?after=9223372036854775807", &[], false).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_nonce_at_once_is_one_message_and_one_answer() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let (_, channel) = ada.group(&[]).await;
    let path = format!("/v1/channels/{channel}/messages");
    let body = json!({"content": "once", "nonce": "7f3a"});
    let sends = (0..16).map(|_| async {
        let response = ada.request("POST", &path).json(&body).send().await.unwrap();
        let replayed = crate::harness::is_replay(&response);
        (answer(response, 201).await, replayed)
    });
    let answers = join_all(sends).await;
    assert!(answers.iter().all(|(message, _)| *message == answers[0].0));
    assert_eq!(answers.iter().filter(|(_, replayed)| !replayed).count(), 1);
    assert_eq!(seqs(&ada.get(&path).await), [1]);

    // The header is the same thing as the nonce.
    let unkeyed = json!({"content": "once"});
    let (again, replayed) = ada.keyed("7f3a", "POST", &path, unkeyed, 201).await;
    assert_eq!((&again, replayed), (&answers[0].0, true));
    let (_, replayed) = ada.keyed("7f3a", "POST", &path, body.clone(), 201).await;
    assert!(replayed);
    let (problem, _) = ada.keyed("other", "POST", &path, body, 422).await;
    check_problem(&problem, "invalid_request", "/nonce");
    let other = json!({"content": "twice", "nonce": "7f3a"});
    let problem = ada.send("POST", &path, other, 409).await;
    check_problem(&problem, "idempotency_mismatch", "");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_answered_even_to_somebody_who_was_removed_since() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (group, channel) = ada.group(&[&bob]).await;
    let path = format!("/v1/channels/{channel}/messages");
    let body = json!({"content": "I was here"});
    let (first, _) = bob.keyed("k", "POST", &path, body.clone(), 201).await;
    ada.call(
        "DELETE",
        &format!("/v1/groups/{group}/members/{}", bob.id),
        204,
    )
    .await;
    let again = bob.keyed("k", "POST", &path, body.clone(), 201).await;
    assert_eq!(again, (first, true));
    bob.keyed("new", "POST", &path, body, 404).await;
    bob.call("GET", &path, 404).await;
    assert_eq!(seqs(&ada.get(&path).await), [1]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_shows_nothing_later_to_somebody_who_was_removed_since() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (group, channel) = ada.group(&[&bob]).await;
    let path = format!("/v1/channels/{channel}/messages");
    ada.say(&channel, "before").await;
    let reply = json!({"content": "I was here", "reply_to": 1});
    bob.keyed("reply", "POST", &path, reply.clone(), 201).await;
    let reaction = format!("{path}/1/reactions/ok");
    bob.keyed("react", "PUT", &reaction, json!({}), 200).await;
    let edit = json!({"content": "I am here"});
    let own = format!("{path}/2");
    bob.keyed("edit", "PATCH", &own, edit.clone(), 200).await;
    let member = format!("/v1/groups/{group}/members/{}", bob.id);
    ada.call("DELETE", &member, 204).await;
    let after = json!({"content": "after"});
    ada.send("PATCH", &format!("{path}/1"), after, 200).await;
    ada.call("PUT", &format!("{path}/2/pin"), 200).await;
    ada.call("PUT", &format!("{path}/2/reactions/ok"), 200)
        .await;

    bob.keyed("react", "PUT", &reaction, json!({}), 404).await;
    bob.keyed("edit", "PATCH", &own, edit, 404).await;
    let (told, replayed) = bob.keyed("reply", "POST", &path, reply, 201).await;
    assert!(replayed);
    assert_eq!((&told["seq"], &told["reply_to"]), (&json!(2), &json!(1)));
    assert_eq!(told["quoted"], Value::Null, "{told}");
    assert_eq!(told["reactions"], json!([]), "{told}");
    assert_eq!(told["pinned"], false, "{told}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_senders_at_once_leave_no_hole() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (_, channel) = ada.group(&[&bob]).await;
    let sends = (0..40).map(|number| {
        let who = if number % 2 == 0 { &ada } else { &bob };
        let channel = channel.clone();
        async move { who.say(&channel, &format!("{number}")).await["seq"].as_u64() }
    });
    let mut seqs: Vec<u64> = join_all(sends)
        .await
        .into_iter()
        .map(Option::unwrap)
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
    server.stop().await;
}
