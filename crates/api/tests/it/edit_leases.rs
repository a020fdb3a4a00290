//! One session at a time changes a group's settings, and no change is overwritten unseen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::harness::{Person, Server, answer, check_problem, is_replay};
use crate::moody_presence::MoodyPresence;
use crate::moody_store::{Mood, MoodyStore};

/// Milliseconds after which a lease that was not renewed is over.
const LIFETIME: i64 = 30_000;

/// A group with an owner and an admin, the owner at two devices.
struct World {
    server: Server,
    presence: Arc<MoodyPresence>,
    mood: watch::Sender<Mood>,
    ada: Person,
    ada_elsewhere: Person,
    bob: Person,
    group: String,
    channel: String,
}

impl World {
    async fn new() -> Self {
        let (mood, felt) = watch::channel(Mood::Works);
        let mut presence = None;
        let server = Server::over(&[], |backends| {
            let moody = Arc::new(MoodyPresence::new(backends.presence.clone()));
            backends.presence = moody.clone();
            presence = Some(moody);
            backends.store = Arc::new(MoodyStore::new(backends.store.clone(), felt));
        })
        .await;
        let ada = server.person("ada").await;
        let ada_elsewhere = server.log_in("ada").await;
        let bob = server.person("bob").await;
        let (group, channel) = ada.group(&[&bob]).await;
        let world = Self {
            server,
            presence: presence.unwrap(),
            mood,
            ada,
            ada_elsewhere,
            bob,
            group: format!("/v1/groups/{group}"),
            channel: format!("/v1/channels/{channel}"),
        };
        let bob = format!("{}/members/{}", world.group, world.bob.id);
        let admin = json!({"role": "admin"});
        world.ada.send("PATCH", &bob, admin, 200).await;
        world
    }

    fn lease(&self) -> String {
        format!("{}/edit-lease", self.group)
    }

    async fn take(&self, who: &Person, status: u16) -> Value {
        who.call("PUT", &self.lease(), status).await
    }

    async fn steal(&self, who: &Person, status: u16) -> Value {
        let path = format!("{}?steal=true", self.lease());
        who.call("PUT", &path, status).await
    }

    async fn give_back(&self, who: &Person, status: u16) -> Value {
        who.call("DELETE", &self.lease(), status).await
    }

    async fn rename(&self, who: &Person, token: Option<&Value>, status: u16) -> Value {
        self.patch(&self.group, who, token, status).await
    }

    async fn patch(&self, path: &str, who: &Person, token: Option<&Value>, status: u16) -> Value {
        let mut request = who.request("PATCH", path).json(&json!({"name": "Bridge"}));
        if let Some(token) = token {
            request = request.header("Edit-Lease", token.to_string());
        }
        answer(request.send().await.unwrap(), status).await
    }

    async fn shown(&self) -> Value {
        self.bob.get(&self.group).await["lease"].clone()
    }

    /// The kinds of the group's deltas so far, from the third on (it is made, bob is promoted).
    async fn log(&self) -> Vec<String> {
        let id = self.group.trim_start_matches("/v1/groups/");
        let body = json!({"cursor": {format!("g:{id}"): 2}, "only": true});
        let found = self.bob.send("POST", "/v1/sync", body, 200).await;
        let deltas = found["deltas"].as_array().unwrap().iter();
        deltas
            .map(|delta| delta["kind"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn check_locked(problem: &Value, holder: &Person) {
    check_problem(problem, "locked", "");
    let shown = &problem["holder"];
    assert_eq!(shown["user"], holder.id, "{problem}");
    assert_eq!(shown["session"], holder.session, "{problem}");
    for field in ["display_name", "since", "expires_at"] {
        assert!(shown[field].is_string(), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_session_edits_others_are_told_who_does() {
    let world = World::new().await;
    let World {
        ada,
        ada_elsewhere,
        bob,
        ..
    } = &world;
    world.bob.call("GET", &world.lease(), 404).await;
    let lease = world.take(ada, 201).await;
    assert_eq!(
        lease,
        json!({
            "user": ada.id, "display_name": "ada", "session": ada.session, "token": 3,
            "since": "2026-11-21T12:00:00.000Z", "expires_at": "2026-11-21T12:00:30.000Z",
        })
    );
    assert_eq!(bob.get(&world.lease()).await, lease);
    let shown = json!({
        "token": 3, "session": ada.session, "user": ada.id, "since": lease["since"],
    });
    assert_eq!(world.shown().await, shown);
    // Another session of the same user is somebody else.
    for other in [bob, ada_elsewhere] {
        check_locked(&world.take(other, 423).await, ada);
        check_locked(&world.rename(other, None, 423).await, ada);
        check_locked(&world.patch(&world.channel, other, None, 423).await, ada);
        check_locked(&world.give_back(other, 423).await, ada);
        let problem = world.rename(other, Some(&lease["token"]), 412).await;
        check_problem(&problem, "precondition_failed", "");
    }
    // What is no setting goes on.
    let muted = json!({"until": "2026-11-22T12:00:00Z"});
    let path = format!("{}/members/{}/mute", world.group, bob.id);
    ada_elsewhere.send("PUT", &path, muted, 200).await;
    let path = format!("{}/channels", world.group);
    bob.send("POST", &path, json!({"name": "Deck"}), 201).await;

    // The holder says so with every change, or another part of the same app might be at it.
    check_locked(&world.rename(ada, None, 423).await, ada);
    let token = Some(&lease["token"]);
    world.rename(ada, token, 200).await;
    world.patch(&world.channel, ada, token, 200).await;
    assert_eq!(world.shown().await, shown);
    world.give_back(ada, 204).await;
    assert_eq!(world.shown().await, Value::Null);
    bob.call("GET", &world.lease(), 404).await;
    world.rename(ada, token, 412).await;
    world.rename(bob, None, 200).await;
    world.take(bob, 201).await;
    world.give_back(bob, 204).await;
    world.give_back(bob, 404).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_renewed_without_a_word_and_ends_by_itself() {
    let world = World::new().await;
    let World {
        ada, bob, server, ..
    } = &world;
    let first = world.take(ada, 201).await;
    server.clock.advance(LIFETIME - 1);
    let renewed = world.take(ada, 200).await;
    assert_eq!(renewed["token"], first["token"]);
    assert_eq!(renewed["since"], first["since"]);
    assert_eq!(renewed["expires_at"], "2026-11-21T12:00:59.999Z");
    server.clock.advance(LIFETIME - 1);
    check_locked(&world.take(bob, 423).await, ada);
    assert_eq!(world.log().await, ["lease.acquired"]);
    server.clock.advance(1);
    bob.call("GET", &world.lease(), 404).await;
    // Nobody has done anything since, so what the holder changes overwrites nobody.
    world.rename(ada, Some(&first["token"]), 200).await;
    // To be seen again, it is taken anew.
    let again = world.take(ada, 201).await;
    assert_eq!(again["token"], 5);
    world.rename(ada, Some(&first["token"]), 412).await;
    world.rename(ada, Some(&again["token"]), 200).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_who_was_asleep_overwrites_nobody() {
    let world = World::new().await;
    let World {
        ada,
        ada_elsewhere,
        bob,
        server,
        ..
    } = &world;
    let late = world.take(ada, 201).await;
    server.clock.advance(LIFETIME);
    let other = world.take(ada_elsewhere, 201).await;
    world.rename(ada, Some(&late["token"]), 412).await;
    check_locked(&world.rename(ada, None, 423).await, ada_elsewhere);
    world
        .rename(ada_elsewhere, Some(&other["token"]), 200)
        .await;
    world.give_back(ada_elsewhere, 204).await;
    world.rename(ada, Some(&late["token"]), 412).await;

    // Nor does it overwrite a change that was made without a lease, when nobody held one.
    for path in [&world.group, &world.channel] {
        let late = world.take(ada, 201).await;
        server.clock.advance(LIFETIME);
        world.patch(path, bob, None, 200).await;
        assert_eq!(world.shown().await, Value::Null);
        world.rename(ada, Some(&late["token"]), 412).await;
    }
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_take_a_lease_over() {
    let world = World::new().await;
    let World { ada, bob, .. } = &world;
    let his = world.take(bob, 201).await;
    let hers = world.steal(ada, 201).await;
    assert_eq!(hers["user"], ada.id);
    world.rename(bob, Some(&his["token"]), 412).await;
    check_locked(&world.take(bob, 423).await, ada);
    check_problem(&world.steal(bob, 403).await, "forbidden", "");
    assert_eq!(world.steal(ada, 200).await["token"], hers["token"]);
    world.rename(ada, Some(&hers["token"]), 200).await;
    let kinds = ["lease.acquired", "lease.acquired", "group.updated"];
    assert_eq!(world.log().await, kinds);
    // What is free is taken as well.
    world.give_back(ada, 204).await;
    world.steal(ada, 201).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_change_the_group_takes_no_lease() {
    let world = World::new().await;
    let cleo = world.server.person("cleo").await;
    let eve = world.server.person("eve").await;
    let path = format!("{}/members/{}", world.group, cleo.id);
    world.ada.send("PUT", &path, json!({}), 201).await;
    check_problem(&world.take(&cleo, 403).await, "forbidden", "");
    check_problem(&world.steal(&cleo, 403).await, "forbidden", "");
    world.give_back(&cleo, 404).await;
    world.take(&world.ada, 201).await;
    assert_eq!(cleo.get(&world.lease()).await["user"], world.ada.id);
    check_locked(&world.give_back(&cleo, 423).await, &world.ada);
    check_problem(&world.rename(&cleo, None, 403).await, "forbidden", "");
    for method in ["GET", "PUT", "DELETE"] {
        check_problem(
            &eve.call(method, &world.lease(), 404).await,
            "not_found",
            "",
        );
    }
    world.rename(&eve, None, 404).await;
    // Who no longer may is not heard either, and it ends by itself.
    world.give_back(&world.ada, 204).await;
    let his = world.take(&world.bob, 201).await;
    let path = format!("{}/members/{}", world.group, world.bob.id);
    world
        .ada
        .send("PATCH", &path, json!({"role": "member"}), 200)
        .await;
    world.rename(&world.bob, Some(&his["token"]), 403).await;
    world.take(&world.bob, 403).await;
    check_locked(&world.take(&world.ada, 423).await, &world.bob);
    world.server.clock.advance(LIFETIME);
    world.take(&world.ada, 201).await;
    let to_eve = format!("/v1/direct/{}", eve.id);
    let direct = world.ada.call("PUT", &to_eve, 201).await;
    let direct = format!("/v1/groups/{}/edit-lease", direct["id"].as_str().unwrap());
    world.ada.call("PUT", &direct, 403).await;
    world.ada.call("GET", &direct, 404).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lease_of_a_session_that_ended_runs_out() {
    let world = World::new().await;
    let World {
        ada,
        ada_elsewhere,
        bob,
        server,
        ..
    } = &world;
    let lost = world.take(ada, 201).await;
    let path = format!("/v1/sessions/{}", ada.session);
    ada_elsewhere.call("DELETE", &path, 204).await;
    // Revocations follow at a hint, so within moments.
    let began = Instant::now();
    while ada
        .request("GET", &world.group)
        .send()
        .await
        .unwrap()
        .status()
        != 401
    {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.take(ada, 401).await;
    world.rename(ada, Some(&lost["token"]), 401).await;
    check_locked(&world.take(bob, 423).await, ada);
    server.clock.advance(LIFETIME);
    world.take(bob, 201).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_ask_at_once_one_gets_it() {
    let world = World::new().await;
    let mut sessions = vec![];
    for n in 0..6 {
        let name = if n % 2 == 0 { "ada" } else { "bob" };
        sessions.push(world.server.log_in(name).await);
    }
    for _ in 0..5 {
        let path = world.lease();
        let asked = sessions.iter().map(|who| who.request("PUT", &path).send());
        let mut tokens = Vec::new();
        let mut holders = Vec::new();
        for (who, response) in sessions.iter().zip(join_all(asked).await) {
            let response = response.unwrap();
            match response.status().as_u16() {
                201 => tokens.push((who, answer(response, 201).await["token"].clone())),
                _ => holders.push(answer(response, 423).await["holder"]["session"].clone()),
            }
        }
        assert_eq!(tokens.len(), 1);
        let (who, token) = &tokens[0];
        assert!(holders.iter().all(|holder| *holder == who.session));
        world.rename(who, Some(token), 200).await;
        world.give_back(who, 204).await;
    }
    let kinds = ["lease.acquired", "group.updated", "lease.released"];
    assert_eq!(world.log().await, kinds.repeat(5));
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_stood_still_behind_its_grant_does_not_end_anothers_lease() {
    let world = World::new().await;
    let World {
        ada,
        bob,
        server,
        presence,
        ..
    } = &world;
    let gate = presence.hold_next_claim();
    let slow = world.take(ada, 423);
    let meanwhile = async {
        gate.reached().await;
        server.clock.advance(LIFETIME);
        let his = world.take(bob, 201).await;
        gate.open();
        his
    };
    let (problem, his) = tokio::join!(slow, meanwhile);
    check_locked(&problem, bob);
    world.rename(bob, Some(&his["token"]), 200).await;
    assert_eq!(world.log().await, ["lease.acquired", "group.updated"]);
    // Over when nobody else has come: it may ask again.
    world.give_back(bob, 204).await;
    let gate = presence.hold_next_claim();
    let slow = world.take(ada, 503);
    let meanwhile = async {
        gate.reached().await;
        server.clock.advance(LIFETIME);
        gate.open();
    };
    tokio::join!(slow, meanwhile);
    world.take(ada, 201).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_whose_entry_was_not_written_gives_no_token() {
    let world = World::new().await;
    let World {
        ada,
        bob,
        presence,
        mood,
        ..
    } = &world;
    let gate = presence.hold_next_claim();
    let broken = world.take(ada, 503);
    let meanwhile = async {
        gate.reached().await;
        mood.send_replace(Mood::Unavailable);
        gate.open();
    };
    tokio::join!(broken, meanwhile);
    mood.send_replace(Mood::Works);
    assert_eq!(world.log().await, Vec::<String>::new());
    assert_eq!(world.shown().await, Value::Null);
    bob.call("GET", &world.lease(), 404).await;
    check_locked(&world.take(bob, 423).await, ada);
    // Nobody edits under it, so others change what they like.
    world.rename(bob, None, 200).await;
    let lease = world.take(ada, 201).await;
    world.rename(ada, Some(&lease["token"]), 200).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_outlives_what_presence_forgets_until_somebody_else_comes() {
    let world = World::new().await;
    let World {
        ada, bob, presence, ..
    } = &world;
    let lease = world.take(ada, 201).await;
    let token = Some(&lease["token"]);
    presence.forget().await;
    world.rename(ada, token, 200).await;
    let his = world.take(bob, 201).await;
    world.rename(ada, token, 412).await;
    check_locked(&world.take(ada, 423).await, bob);
    world.rename(bob, Some(&his["token"]), 200).await;

    presence.forget().await;
    world.rename(ada, None, 200).await;
    world.rename(bob, Some(&his["token"]), 412).await;

    let lease = world.take(ada, 201).await;
    presence.forget().await;
    world.server.clock.advance(1);
    let again = world.take(ada, 201).await;
    assert_ne!(again["token"], lease["token"]);
    world.rename(ada, Some(&again["token"]), 200).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_presence_no_lease_is_given_and_none_is_broken() {
    let world = World::new().await;
    let World {
        ada, bob, presence, ..
    } = &world;
    presence.set_away(true);
    for problem in [world.take(ada, 503).await, world.steal(ada, 503).await] {
        check_problem(&problem, "unavailable", "");
    }
    // Nobody has ever taken one, says the log.
    bob.call("GET", &world.lease(), 404).await;
    world.rename(bob, None, 200).await;
    world.give_back(ada, 404).await;

    presence.set_away(false);
    let lease = world.take(ada, 201).await;
    presence.set_away(true);
    bob.call("GET", &world.lease(), 503).await;
    world.take(ada, 503).await;
    world.give_back(bob, 503).await;
    // Whether she still holds it is not known: the safe answer.
    world.rename(bob, None, 503).await;
    world.patch(&world.channel, bob, None, 503).await;
    // Her own changes are validated by the log alone.
    world.rename(ada, Some(&lease["token"]), 200).await;
    world.give_back(ada, 204).await;
    world.rename(bob, None, 200).await;
    // Presence has not heard of it: until the grant runs out nobody else gets the lease.
    presence.set_away(false);
    check_locked(&world.take(bob, 423).await, ada);
    world.server.clock.advance(LIFETIME);
    world.take(bob, 201).await;
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_gets_the_first_lease_and_takes_nothing() {
    let world = World::new().await;
    let World {
        ada,
        ada_elsewhere,
        bob,
        server,
        ..
    } = &world;
    let path = world.lease();
    let take = async |who: &Person, key: &str, path: &str, status: u16| {
        let request = who.request("PUT", path).header("Idempotency-Key", key);
        let response = request.send().await.unwrap();
        let replayed = is_replay(&response);
        (answer(response, status).await, replayed)
    };
    let (first, replayed) = take(ada, "k", &path, 201).await;
    assert!(!replayed);
    assert_eq!(take(ada, "k", &path, 201).await, (first.clone(), true));
    // Somebody else's session, and another request.
    let (problem, _) = take(ada_elsewhere, "k", &path, 409).await;
    check_problem(&problem, "idempotency_mismatch", "");
    let (problem, _) = take(ada, "k", &format!("{path}?steal=true"), 409).await;
    check_problem(&problem, "idempotency_mismatch", "");
    // A renewal writes nothing, so its key stands for nothing.
    let (renewed, replayed) = take(ada, "r", &path, 200).await;
    assert_eq!((&renewed["token"], replayed), (&first["token"], false));

    server.clock.advance(LIFETIME);
    let (again, replayed) = take(ada, "k", &path, 201).await;
    assert!(replayed);
    assert_eq!(again["token"], first["token"]);
    assert_eq!(again["expires_at"], Value::Null);
    bob.call("GET", &path, 404).await;
    let his = world.take(bob, 201).await;
    let (again, replayed) = take(ada, "k", &path, 201).await;
    assert_eq!((&again["token"], replayed), (&first["token"], true));
    world.rename(bob, Some(&his["token"]), 200).await;

    let back = async || {
        let (_, replayed) = bob.keyed("b", "DELETE", &path, Value::Null, 204).await;
        replayed
    };
    assert!(!back().await);
    let his = world.take(bob, 201).await;
    assert!(back().await, "and does not give the second one back");
    world.rename(bob, Some(&his["token"]), 200).await;
    assert_eq!(bob.get(&path).await["token"], his["token"]);

    let change = async || {
        let request = bob
            .request("PATCH", &world.group)
            .json(&json!({"name": "Deck"}));
        let request = request.header("Idempotency-Key", "p");
        let request = request.header("Edit-Lease", his["token"].to_string());
        let response = request.send().await.unwrap();
        let replayed = is_replay(&response);
        answer(response, 200).await;
        replayed
    };
    assert!(!change().await);
    world.steal(ada, 201).await;
    assert!(change().await);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_with_one_key_are_one_lease() {
    let world = World::new().await;
    let path = world.lease();
    let ask = || world.ada.keyed("k", "PUT", &path, Value::Null, 201);
    let answers = join_all((0..8).map(|_| ask())).await;
    assert!(answers.iter().all(|(lease, _)| lease["token"] == 3));
    let first = answers.iter().filter(|(_, replayed)| !replayed);
    assert_eq!(first.count(), 1);
    assert_eq!(world.log().await, ["lease.acquired"]);
    world.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_tokens_and_queries_are_refused() {
    let world = World::new().await;
    for token in ["", "0", "x", "-1", "03", "\"3\"", "1.5"] {
        let request = world.ada.request("PATCH", &world.group);
        let request = request
            .json(&json!({"name": "x"}))
            .header("Edit-Lease", token);
        let problem = answer(request.send().await.unwrap(), 422).await;
        check_problem(&problem, "invalid_request", "Edit-Lease");
    }
    world.rename(&world.ada, Some(&json!(99)), 412).await;
    for query in ["steal=yes", "steal=", "force=true", "steal=true&steal=true"] {
        let path = format!("{}?{query}", world.lease());
        let problem = world.ada.call("PUT", &path, 422).await;
        check_problem(&problem, "invalid_request", "");
    }
    let body = json!({"steal": true});
    world.ada.send("PUT", &world.lease(), body, 422).await;
    assert_eq!(world.log().await, Vec::<String>::new());
    world.server.stop().await;
}
