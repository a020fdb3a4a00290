//! Telling others that one is about to write.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};
use tidings_common::bus::{Bus, Deliveries, Delivery, Envelope, Recipients};
use tidings_common::domain::{ServerId, UserId};
use tokio::time::timeout;

use crate::harness::{Person, Server, check_problem};

/// What servers are told, of whatever users.
struct Ear(Box<dyn Deliveries>);

impl Ear {
    async fn at(bus: &dyn Bus) -> Self {
        let subscription = bus.subscribe(ServerId::generate()).await.unwrap();
        for partition in 0..1024 {
            subscription.bindings.bind(partition).await.unwrap();
        }
        Self(subscription.deliveries)
    }

    /// The next delta, with whom it is for.
    async fn next(&mut self) -> (Value, BTreeSet<String>) {
        loop {
            let next = timeout(Duration::from_secs(20), self.0.next());
            if let Delivery::Delta(envelope) = next.await.unwrap() {
                return (
                    serde_json::from_slice(&envelope.body).unwrap(),
                    to(&envelope),
                );
            }
        }
    }

    /// The next delta of a message; whoever typed before it.
    async fn typed_before(&mut self, content: &str) -> Vec<(Value, BTreeSet<String>)> {
        let mut typed = Vec::new();
        loop {
            let (frame, to) = self.next().await;
            if frame["kind"] == "typing" {
                typed.push((frame, to));
            } else if frame["data"]["content"] == content {
                return typed;
            }
        }
    }
}

fn to(envelope: &Envelope) -> BTreeSet<String> {
    let Recipients::Users(users) = &envelope.to else {
        panic!("{envelope:?}");
    };
    users.iter().map(UserId::to_string).collect()
}

fn path(channel: &str) -> String {
    format!("/v1/channels/{channel}/typing")
}

fn ids(people: &[&Person]) -> BTreeSet<String> {
    people.iter().map(|person| person.id.clone()).collect()
}

#[tokio::test]
async fn the_other_members_are_told_once_in_three_seconds() {
    let server = Server::start().await;
    let [ada, bob, cleo] = [
        server.person("ada").await,
        server.person("bob").await,
        server.person("cleo").await,
    ];
    let (_, channel) = ada.group(&[&bob, &cleo]).await;
    let mut ear = Ear::at(&*server.backends.bus).await;
    for _ in 0..5 {
        ada.call("POST", &path(&channel), 204).await;
    }
    bob.send("POST", &path(&channel), json!({}), 204).await;
    ada.say(&channel, "there").await;
    let typed = ear.typed_before("there").await;
    let whom: Vec<_> = typed.iter().map(|(_, to)| to.clone()).collect();
    assert_eq!(whom, [ids(&[&bob, &cleo]), ids(&[&ada, &cleo])]);
    let (frame, _) = &typed[0];
    let expected = json!({
        "type": "delta",
        "stream": format!("c:{channel}"),
        "kind": "typing",
        "at": "2026-11-21T12:00:00.000Z",
        "actor": ada.id,
        "data": {"user": ada.id},
    });
    assert_eq!(*frame, expected);
    // Nothing of it is in the log: the message is behind the entries that made the group.
    let head = ada.get(&format!("/v1/channels/{channel}")).await["head"].clone();
    assert_eq!(head, 1);
    // Alone in a group there is nobody to tell.
    let (_, alone) = ada.group(&[]).await;
    ada.call("POST", &path(&alone), 204).await;
    ada.say(&alone, "nobody").await;
    assert_eq!(ear.typed_before("nobody").await, []);
    server.stop().await;
}

#[tokio::test]
async fn only_who_may_write_types() {
    let server = Server::start().await;
    let [ada, bob, cleo, eve] = [
        server.person("ada").await,
        server.person("bob").await,
        server.person("cleo").await,
        server.person("eve").await,
    ];
    let (group, channel) = ada.group(&[&bob, &cleo]).await;
    let mut ear = Ear::at(&*server.backends.bus).await;
    let refused = eve.call("POST", &path(&channel), 404).await;
    check_problem(&refused, "not_found", "");
    let until = json!({"until": "2026-11-21T12:01:00Z"});
    let member = |person: &Person| format!("/v1/groups/{group}/members/{}", person.id);
    let mute = format!("{}/mute", member(&bob));
    ada.send("PUT", &mute, until.clone(), 200).await;
    let refused = bob.call("POST", &path(&channel), 403).await;
    check_problem(&refused, "forbidden", "");
    assert_eq!(refused["until"], "2026-11-21T12:01:00.000Z");
    // Who typed a moment ago and is removed may no more, although nothing would be told.
    cleo.call("POST", &path(&channel), 204).await;
    ada.call("DELETE", &member(&cleo), 204).await;
    cleo.call("POST", &path(&channel), 404).await;
    server.clock.advance(61_000);
    bob.call("POST", &path(&channel), 204).await;
    ada.say(&channel, "there").await;
    let typed = ear.typed_before("there").await;
    let typed: Vec<_> = typed
        .iter()
        .map(|(frame, to)| (&frame["actor"], to))
        .collect();
    // Bob, as long as he was muted, was told; Cleo, once removed, was not.
    let (first, second) = (ids(&[&ada, &bob]), ids(&[&ada]));
    assert_eq!(
        typed,
        [(&json!(cleo.id), &first), (&json!(bob.id), &second)]
    );

    let another = json!({"name": "another"});
    let another = ada
        .send(
            "POST",
            &format!("/v1/groups/{group}/channels"),
            another,
            201,
        )
        .await;
    let another = another["id"].as_str().unwrap();
    ada.call("POST", &path(another), 204).await;
    ada.call("DELETE", &format!("/v1/channels/{another}"), 204)
        .await;
    ada.call("POST", &path(another), 404).await;
    for nonsense in ["x", &group, "01970000-0000-7000-8000-00000000000c"] {
        ada.call("POST", &path(nonsense), 404).await;
    }
    ada.send("POST", &path(&channel), json!({"a": 1}), 422)
        .await;
    server.stop().await;
}
