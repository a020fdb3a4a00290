use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Person, Server, answer, check_problem};

fn read(channel: &str) -> String {
    format!("/v1/channels/{channel}/read")
}

async fn mark(who: &Person, channel: &str, seq: u64) -> Value {
    who.send("PUT", &read(channel), json!({"seq": seq}), 200)
        .await
}

/// Of a channel as its group's lists, the group, the channel itself and an answer name it:
/// head, read, unread, mentions.
async fn check(who: &Person, group: &str, channel: &str, expected: [u64; 4]) {
    let [head, read, unread, mentions] = expected;
    let expected = json!([head, read, unread, mentions]);
    let shown = |of: &Value| json!([of["head"], of["read"], of["unread"], of["mentions"]]);
    let in_group = |group: &Value| -> Value {
        let channels = group["channels"].as_array().unwrap().iter();
        let mut found = channels.filter(|one| one["id"] == channel);
        shown(found.next_back().unwrap())
    };
    let alone = who.get(&format!("/v1/groups/{group}")).await;
    assert_eq!(in_group(&alone), expected, "the group");
    let listed = who.get("/v1/groups").await;
    let groups = listed["items"].as_array().unwrap().iter();
    let mut found = groups.filter(|one| one["id"] == group);
    assert_eq!(in_group(found.next_back().unwrap()), expected, "the list");
    let itself = who.get(&format!("/v1/channels/{channel}")).await;
    assert_eq!(shown(&itself), expected, "the channel");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unread_follows_from_marks_and_own_messages() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (group, channel) = ada.group(&[&bob]).await;
    check(&bob, &group, &channel, [0, 0, 0, 0]).await;
    for n in 1..=4 {
        ada.say(&channel, &n.to_string()).await;
    }
    check(&bob, &group, &channel, [4, 0, 4, 0]).await;
    // Who writes has read what stands before.
    check(&ada, &group, &channel, [4, 4, 0, 0]).await;

    let marked = mark(&bob, &channel, 3).await;
    let expected = json!({"channel": channel, "head": 4, "read": 3, "unread": 1, "mentions": 0});
    assert_eq!(marked, expected);
    check(&bob, &group, &channel, [4, 3, 1, 0]).await;
    // A lower one changes nothing, and need not wait.
    assert_eq!(mark(&bob, &channel, 1).await, expected);
    assert_eq!(mark(&bob, &channel, 0).await, expected);

    // A deleted message is still one; what happens to messages is none.
    let third = format!("/v1/channels/{channel}/messages/3");
    ada.send("PATCH", &third, json!({"content": "new"}), 200)
        .await;
    let fourth = format!("/v1/channels/{channel}/messages/4");
    ada.call("DELETE", &fourth, 204).await;
    check(&bob, &group, &channel, [6, 3, 1, 0]).await;
    bob.say(&channel, "mine").await;
    check(&bob, &group, &channel, [7, 7, 0, 0]).await;
    check(&ada, &group, &channel, [7, 4, 1, 0]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_is_refused_where_there_is_nothing_to_read() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let eve = server.person("eve").await;
    let (group, channel) = ada.group(&[]).await;
    ada.say(&channel, "hello").await;
    let path = read(&channel);
    for seq in [2, u64::MAX] {
        let problem = ada.send("PUT", &path, json!({"seq": seq}), 422).await;
        check_problem(&problem, "invalid_request", "/seq");
    }
    for body in [
        json!({}),
        json!({"seq": -1}),
        json!({"seq": "1"}),
        json!({"seq": 1, "at": 1}),
    ] {
        ada.send("PUT", &path, body, 422).await;
    }
    let unknown = read("01970000-0000-7000-8000-000000000000");
    ada.send("PUT", &unknown, json!({"seq": 0}), 404).await;
    ada.send("PUT", &read("x"), json!({"seq": 0}), 404).await;
    // Whatever the seq is: it must not be learnt where the channel ends.
    for seq in [0, 1, 2] {
        eve.send("PUT", &path, json!({"seq": seq}), 404).await;
    }
    let anonymous = server.request("PUT", &path).json(&json!({"seq": 1}));
    answer(anonymous.send().await.unwrap(), 401).await;
    check(&ada, &group, &channel, [1, 1, 0, 0]).await;
    ada.call("DELETE", &format!("/v1/groups/{group}"), 204)
        .await;
    ada.send("PUT", &path, json!({"seq": 1}), 404).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_answered_with_its_mark() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (group, channel) = ada.group(&[&bob]).await;
    for _ in 0..3 {
        ada.say(&channel, "hello").await;
    }
    let path = read(&channel);
    let body = |seq: u64| json!({"seq": seq});
    let (first, replayed) = bob.keyed("k", "PUT", &path, body(2), 200).await;
    assert_eq!((&first["read"], replayed), (&json!(2), false));
    let again = bob.keyed("k", "PUT", &path, body(2), 200).await;
    assert_eq!(again, (first, true));
    let (problem, _) = bob.keyed("k", "PUT", &path, body(1), 409).await;
    check_problem(&problem, "idempotency_mismatch", "");
    // What changed nothing is no entry, so there is nothing to repeat.
    let (lower, replayed) = bob.keyed("l", "PUT", &path, body(1), 200).await;
    assert_eq!((&lower["read"], replayed), (&json!(2), false));
    // Who has left still gets the first result, and learns nothing new.
    let member = format!("/v1/groups/{group}/members/{}", bob.id);
    bob.call("DELETE", &member, 204).await;
    ada.say(&channel, "later").await;
    let (late, replayed) = bob.keyed("k", "PUT", &path, body(2), 200).await;
    let expected = json!({"channel": channel, "head": 2, "read": 2, "unread": 0, "mentions": 0});
    assert_eq!((late, replayed), (expected, true));
    bob.send("PUT", &path, body(2), 404).await;
    server.stop().await;
}

/// Its own stream has one entry for all that wait, and the next mark waits for its time.
#[tokio::test(flavor = "multi_thread")]
async fn marks_that_come_soon_after_each_other_share_an_entry() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (group, channel) = ada.group(&[&bob]).await;
    for _ in 0..20 {
        ada.say(&channel, "hello").await;
    }
    mark(&bob, &channel, 1).await;
    let began = Instant::now();
    let marks = [5, 17, 9, 12, 3].map(|seq| mark(&bob, &channel, seq));
    for (marked, asked) in join_all(marks).await.iter().zip([5, 17, 9, 12, 3]) {
        assert!(marked["read"].as_u64().unwrap() >= asked, "{marked}");
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "{began:?}");
    check(&bob, &group, &channel, [20, 17, 3, 0]).await;
    let stream = format!("u:{}", bob.id);
    let sync = json!({"cursor": {&stream: 0}, "only": true});
    let page = bob.send("POST", "/v1/sync", sync, 200).await;
    let deltas = page["deltas"].as_array().unwrap().iter();
    let moved: Vec<&Value> = deltas
        .filter(|delta| delta["kind"] == "read.moved")
        .map(|delta| &delta["data"])
        .collect();
    let to = |seq: u64| json!({"channel": channel, "seq": seq});
    assert_eq!(moved, [&to(1), &to(17)]);
    // Another channel's mark is another.
    let body = json!({"name": "random"});
    let random = ada
        .send("POST", &format!("/v1/groups/{group}/channels"), body, 201)
        .await;
    let random = random["id"].as_str().unwrap();
    ada.say(random, "hello").await;
    let marked = mark(&bob, random, 1).await;
    assert_eq!((&marked["read"], &marked["unread"]), (&json!(1), &json!(0)));
    server.clock.advance(3000);
    assert_eq!(mark(&bob, &channel, 18).await["read"], 18);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_one_too_many_is_told_when_to_come_again() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (_, channel) = ada.group(&[&bob]).await;
    for _ in 0..3 {
        ada.say(&channel, "hello").await;
    }
    mark(&bob, &channel, 1).await;
    let asking = (0..40).map(|_| {
        let request = bob.request("PUT", &read(&channel));
        request.json(&json!({"seq": 2})).send()
    });
    let (mut marked, mut refused) = (0, 0);
    for response in join_all(asking).await {
        let response = response.unwrap();
        if response.status() == 429 {
            refused += 1;
            let after = response.headers()["retry-after"].clone();
            assert_eq!(after, "3");
            check_problem(&answer(response, 429).await, "rate_limited", "");
        } else {
            marked += 1;
            assert_eq!(answer(response, 200).await["read"], 2);
        }
    }
    assert_eq!((marked, refused), (32, 8));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_has_unread_what_came_since() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (group, channel) = ada.group(&[]).await;
    for _ in 0..5 {
        ada.say(&channel, "before").await;
    }
    let member = format!("/v1/groups/{group}/members/{}", bob.id);
    ada.call("PUT", &member, 201).await;
    // With the fence of his coming.
    check(&bob, &group, &channel, [6, 0, 0, 0]).await;
    ada.say(&channel, "welcome").await;
    check(&bob, &group, &channel, [7, 0, 1, 0]).await;
    mark(&bob, &channel, 2).await;
    check(&bob, &group, &channel, [7, 2, 1, 0]).await;
    server.clock.advance(3000);
    mark(&bob, &channel, 7).await;
    check(&bob, &group, &channel, [7, 7, 0, 0]).await;

    bob.say(&channel, "mine").await;
    ada.call("DELETE", &member, 204).await;
    for _ in 0..3 {
        ada.say(&channel, "in between").await;
    }
    ada.call("PUT", &member, 201).await;
    check(&bob, &group, &channel, [13, 8, 0, 0]).await;
    ada.say(&channel, "again").await;
    check(&bob, &group, &channel, [14, 8, 1, 0]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mentions_are_counted_up_to_a_hundred() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let cy = server.person("cy").await;
    let (group, channel) = ada.group(&[&bob, &cy]).await;
    ada.say(&channel, "@bob").await;
    ada.say(&channel, "@cy @bob").await;
    ada.say(&channel, "@cy").await;
    check(&bob, &group, &channel, [3, 0, 3, 2]).await;
    check(&cy, &group, &channel, [3, 0, 3, 2]).await;
    mark(&bob, &channel, 1).await;
    check(&bob, &group, &channel, [3, 1, 2, 1]).await;
    // Who is mentioned in what is gone is not mentioned.
    let second = format!("/v1/channels/{channel}/messages/2");
    ada.call("DELETE", &second, 204).await;
    check(&bob, &group, &channel, [4, 1, 2, 0]).await;
    check(&cy, &group, &channel, [4, 0, 3, 1]).await;
    // By name and with everybody is once.
    ada.say(&channel, "@everyone, above all @bob").await;
    check(&bob, &group, &channel, [5, 1, 3, 1]).await;
    check(&cy, &group, &channel, [5, 0, 4, 2]).await;

    let (other, crowded) = ada.group(&[&bob]).await;
    for _ in 0..99 {
        ada.say(&crowded, "@bob").await;
    }
    check(&bob, &other, &crowded, [99, 0, 99, 99]).await;
    for _ in 0..2 {
        ada.say(&crowded, "@bob").await;
    }
    check(&bob, &other, &crowded, [101, 0, 101, 100]).await;
    check(&bob, &group, &channel, [5, 1, 3, 1]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_see_who_has_read_a_message() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let mut others = Vec::new();
    for name in ["bob", "cy", "dan", "eli"] {
        others.push(server.person(name).await);
    }
    let eve = server.person("eve").await;
    let (group, channel) = ada.group(&others.iter().collect::<Vec<_>>()).await;
    ada.say(&channel, "first").await;
    ada.say(&channel, "second").await;
    let readers = |seq: u64| format!("/v1/channels/{channel}/messages/{seq}/readers");
    let shown = |page: &Value| -> Vec<(String, u64)> {
        let items = page["items"].as_array().unwrap().iter();
        let one = |it: &Value| {
            let user = it["user"].as_str().unwrap().to_owned();
            (user, it["read"].as_u64().unwrap())
        };
        items.map(one).collect()
    };
    assert_eq!(shown(&ada.get(&readers(1)).await), []);
    mark(&others[0], &channel, 1).await;
    mark(&others[1], &channel, 2).await;
    others[2].say(&channel, "I have").await;
    let of = |who: &[(usize, u64)]| {
        let mut expected: Vec<_> = who
            .iter()
            .map(|(index, read)| (others[*index].id.clone(), *read))
            .collect();
        expected.sort_unstable();
        expected
    };
    let all = of(&[(0, 1), (1, 2), (2, 3)]);
    assert_eq!(shown(&ada.get(&readers(1)).await), all);
    let second = of(&[(1, 2), (2, 3)]);
    // Anybody in the group may ask, who has not read it too.
    assert_eq!(shown(&others[3].get(&readers(2)).await), second);
    // The author of the third is not among its readers.
    assert_eq!(shown(&ada.get(&readers(3)).await), []);

    let page = ada.get(&format!("{}?limit=2", readers(1))).await;
    assert_eq!(
        (shown(&page), &page["more"]),
        (all[..2].to_vec(), &json!(true))
    );
    let after = format!("{}?limit=2&after={}", readers(1), all[1].0);
    let page = ada.get(&after).await;
    assert_eq!(
        (shown(&page), &page["more"]),
        (all[2..].to_vec(), &json!(false))
    );
    let before = format!("{}?limit=1&before={}", readers(1), all[2].0);
    let page = ada.get(&before).await;
    assert_eq!(
        (shown(&page), &page["more"]),
        (all[1..2].to_vec(), &json!(true))
    );
    for bad in ["?limit=0", "?limit=101", "?after=x", "?seq=1"] {
        ada.call("GET", &format!("{}{bad}", readers(1)), 422).await;
    }
    for seq in [0, 9, u64::MAX] {
        ada.call("GET", &readers(seq), 404).await;
    }
    eve.call("GET", &readers(1), 404).await;

    // What somebody who has left has read is nobody's business any more.
    let member = |who: &Person| format!("/v1/groups/{group}/members/{}", who.id);
    others[1].call("DELETE", &member(&others[1]), 204).await;
    assert_eq!(shown(&ada.get(&readers(1)).await), of(&[(0, 1), (2, 3)]));
    others[1].call("GET", &readers(1), 404).await;
    ada.call("PUT", &member(&others[1]), 201).await;
    assert_eq!(shown(&ada.get(&readers(1)).await), all);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_group_does_not_tell_who_has_read() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let mut people = Vec::new();
    for n in 0..100 {
        people.push(server.register(&format!("user{n}")).await);
    }
    let ids: Vec<&Value> = people[..99].iter().map(|user| &user["id"]).collect();
    let body = json!({"name": "crowd", "members": ids});
    let group = ada.send("POST", "/v1/groups", body, 201).await;
    let channel = group["channels"][0]["id"].as_str().unwrap();
    ada.say(channel, "hello").await;
    let readers = format!("/v1/channels/{channel}/messages/1/readers");
    ada.call("GET", &readers, 200).await;
    let last = people[99]["id"].as_str().unwrap();
    let (id, name) = (group["id"].as_str().unwrap(), "members");
    ada.call("PUT", &format!("/v1/groups/{id}/{name}/{last}"), 201)
        .await;
    let problem = ada.call("GET", &readers, 409).await;
    check_problem(&problem, "group_too_large", "");
    server.stop().await;
}
