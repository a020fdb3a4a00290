//! What clients are told while the store does not do its work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tidings_api::Api;
use tokio::sync::watch;

use crate::harness::{PASSWORD, Person, Server, answer};
use crate::moody_store::{Mood, MoodyStore};

/// What a request may take, and what a busy machine adds.
const DEADLINE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(5);

const BUCKET: &str = "/v1/channels/{channel}/buckets/{bucket}";
const COMPARE: &str = "/v1/channels/{channel}/buckets/compare";
const READERS: &str = "/v1/channels/{channel}/messages/{seq}/readers";
const LEASE: &str = "/v1/groups/{group}/edit-lease";
const PIN: &str = "/v1/channels/{channel}/messages/{seq}/pin";
const REACTION: &str = "/v1/channels/{channel}/messages/{seq}/reactions/{emoji}";

/// Somebody's things, on a server whose store fails when it is told to.
struct World {
    server: Server,
    mood: watch::Sender<Mood>,
    ada: Person,
    bob: Person,
    group: String,
    channel: String,
    invite: Value,
}

impl World {
    async fn new() -> Self {
        let (mood, felt) = watch::channel(Mood::Works);
        let server = Server::over(&[], |backends| {
            backends.store = Arc::new(MoodyStore::new(backends.store.clone(), felt));
        })
        .await;
        let ada = server.person("ada").await;
        let bob = server.person("bob").await;
        let (group, channel) = ada.group(&[&bob]).await;
        ada.say(&channel, "hello").await;
        let path = format!("/v1/groups/{group}/invites");
        let invite = ada.send("POST", &path, json!({}), 201).await;
        Self {
            server,
            mood,
            ada,
            bob,
            group,
            channel,
            invite,
        }
    }

    /// Every operation that needs the store, as the API describes it, with a request for it.
    fn requests(&self) -> Vec<(&'static str, &'static str, String, Value)> {
        let (group, channel, bob) = (&self.group, &self.channel, &self.bob.id);
        let login = json!({"username": "ada", "password": PASSWORD});
        let new = json!({"username": "cleo", "password": PASSWORD});
        let refresh = json!({"refresh_token": self.ada.refresh_token});
        let at = |template: &'static str| {
            template
                .replace("{group}", group)
                .replace("{channel}", channel)
                .replace("{user}", bob)
                .replace("{session}", &self.bob.session)
                .replace("{invite}", self.invite["id"].as_str().unwrap())
                .replace("{code}", self.invite["code"].as_str().unwrap())
                .replace("{seq}", "1")
                .replace("{emoji}", "+1")
                .replace("{bucket}", "0")
        };
        let name = json!({"name": "Bridge"});
        let content = json!({"content": "again"});
        let role = json!({"role": "admin"});
        let until = json!({"until": "2099-01-01T00:00:00Z"});
        let none = Value::Null;
        let users = json!({"users": [bob]});
        [
            ("GET", "/v1/channels/{channel}", &none),
            ("DELETE", "/v1/channels/{channel}", &none),
            ("PATCH", "/v1/channels/{channel}", &name),
            ("GET", "/v1/channels/{channel}/messages", &none),
            ("POST", "/v1/channels/{channel}/messages", &content),
            ("GET", "/v1/channels/{channel}/messages/{seq}", &none),
            ("DELETE", "/v1/channels/{channel}/messages/{seq}", &none),
            ("PATCH", "/v1/channels/{channel}/messages/{seq}", &content),
            ("GET", BUCKET, &none),
            ("POST", COMPARE, &json!({"digests": {"0": "held"}})),
            ("GET", REACTION, &none),
            ("PUT", REACTION, &none),
            ("DELETE", REACTION, &none),
            ("PUT", PIN, &none),
            ("DELETE", PIN, &none),
            ("GET", "/v1/channels/{channel}/pins", &none),
            ("POST", "/v1/channels/{channel}/typing", &none),
            ("POST", "/v1/presence/query", &users),
            ("GET", "/v1/groups/{group}/presence", &none),
            ("PUT", "/v1/channels/{channel}/read", &json!({"seq": 1})),
            ("GET", READERS, &none),
            ("PUT", "/v1/direct/{user}", &none),
            ("GET", "/v1/groups", &none),
            ("POST", "/v1/groups", &name),
            ("GET", "/v1/groups/{group}", &none),
            ("DELETE", "/v1/groups/{group}", &none),
            ("PATCH", "/v1/groups/{group}", &name),
            ("GET", LEASE, &none),
            ("PUT", LEASE, &none),
            ("DELETE", LEASE, &none),
            ("GET", "/v1/groups/{group}/bans", &none),
            ("GET", "/v1/groups/{group}/bans/{user}", &none),
            ("PUT", "/v1/groups/{group}/bans/{user}", &none),
            ("DELETE", "/v1/groups/{group}/bans/{user}", &none),
            ("POST", "/v1/groups/{group}/channels", &name),
            ("GET", "/v1/groups/{group}/invites", &none),
            ("POST", "/v1/groups/{group}/invites", &none),
            ("DELETE", "/v1/groups/{group}/invites/{invite}", &none),
            ("GET", "/v1/invites/{code}", &none),
            ("POST", "/v1/invites/{code}", &none),
            ("PUT", "/v1/groups/{group}/members/{user}/mute", &until),
            ("DELETE", "/v1/groups/{group}/members/{user}/mute", &none),
            ("GET", "/v1/groups/{group}/members", &none),
            ("PUT", "/v1/groups/{group}/members/{user}", &none),
            ("DELETE", "/v1/groups/{group}/members/{user}", &none),
            ("PATCH", "/v1/groups/{group}/members/{user}", &role),
            ("GET", "/v1/sessions", &none),
            ("POST", "/v1/sessions", &login),
            ("POST", "/v1/sessions/refresh", &refresh),
            ("DELETE", "/v1/sessions/{session}", &none),
            ("POST", "/v1/sync", &json!({})),
            ("GET", "/v1/users", &none),
            ("POST", "/v1/users", &new),
            ("GET", "/v1/users/me", &none),
            ("PATCH", "/v1/users/me", &json!({"display_name": "Ada"})),
            ("GET", "/v1/users/{user}", &none),
        ]
        .into_iter()
        .map(|(method, template, body)| {
            let query = match (method, template) {
                ("GET", "/v1/users") => "?username=bob",
                _ => "",
            };
            (method, template, at(template) + query, body.clone())
        })
        .collect()
    }

    /// Asks for everything at once. Each answer is 503 and says when to come again.
    async fn check_all_unavailable(&self) {
        let asked = self
            .requests()
            .into_iter()
            .map(async |(method, _, path, body)| {
                let began = Instant::now();
                let mut request = self.ada.request(method, &path);
                if !body.is_null() {
                    request = request.json(&body);
                }
                let response = request.send().await.unwrap();
                let took = began.elapsed();
                assert!(took < DEADLINE + SLACK, "{method} {path}: {took:?}");
                let again = response.headers().get("Retry-After").cloned();
                eprintln!("{method} {path}: {} after {took:?}", response.status());
                let problem = answer(response, 503).await;
                assert_eq!(problem["code"], "unavailable", "{method} {path}");
                let seconds: u64 = again.unwrap().to_str().unwrap().parse().unwrap();
                assert!((1..=60).contains(&seconds), "{method} {path}: {seconds}");
            });
        join_all(asked).await;
    }

    async fn readiness(&self) -> (u16, Value) {
        let response = self.server.request("GET", "/readyz").send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap())
    }

    async fn check_working_again(self) {
        self.mood.send_replace(Mood::Works);
        let began = Instant::now();
        while self.readiness().await.0 != 200 {
            assert!(began.elapsed() < SLACK, "not ready again");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Nothing of what was refused has been done in part, so far as it can be seen.
        self.ada.say(&self.channel, "there again").await;
        self.server.stop().await;
    }
}

#[tokio::test]
async fn every_operation_is_asked_for() {
    let world = World::new().await;
    let asked: BTreeSet<_> = world
        .requests()
        .into_iter()
        .map(|(method, template, ..)| format!("{method} {template}"))
        .collect();
    let description = serde_json::to_value(Api::openapi()).unwrap();
    let mut described = BTreeSet::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in ["get", "post", "put", "patch", "delete"] {
            if item.get(method).is_some() {
                described.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    // It is signed and handed out, nothing is read or written.
    assert!(described.remove("POST /v1/realtime/tickets"));
    assert_eq!(asked, described);
    world.server.stop().await;
}

#[tokio::test]
async fn a_store_that_never_answers_makes_every_answer_503_in_time() {
    let world = World::new().await;
    world.mood.send_replace(Mood::Silent);
    world.check_all_unavailable().await;
    let (status, report) = world.readiness().await;
    assert_eq!((status, &report["checks"]["store"]), (503, &json!("down")));
    // What needs no store goes on.
    world.ada.call("POST", "/v1/realtime/tickets", 201).await;
    world.check_working_again().await;
}

#[tokio::test]
async fn a_store_that_fails_makes_every_answer_503() {
    let world = World::new().await;
    for mood in [Mood::Unavailable, Mood::Uncertain] {
        world.mood.send_replace(mood);
        world.check_all_unavailable().await;
        let (status, report) = world.readiness().await;
        assert_eq!((status, &report["checks"]["store"]), (503, &json!("down")));
    }
    world.check_working_again().await;
}
