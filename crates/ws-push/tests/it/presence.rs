//! Who is there, as this server tells presence and those who watch.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidings_common::auth::Principal;
use tidings_common::domain::{Change, PresenceState, Role, Timestamp, UserId};
use tokio::time::sleep;

use crate::clients::Client;
use crate::harness::{Server, now, until};

/// How long a connection counts after its end.
const LINGER: Duration = Duration::from_secs(10);

async fn watch(client: &mut Client, users: &[UserId]) {
    let frame = json!({"type": "watch", "users": users});
    client.say(&frame.to_string()).await;
}

/// The next frame is that this user is like this now; when last seen.
async fn hears(client: &mut Client, user: UserId, state: &str) -> Value {
    let frame = client.frame().await;
    let expected = (&json!("delta"), &json!("presence.changed"), &json!(user));
    let data = &frame["data"];
    assert_eq!(
        (&frame["type"], &frame["kind"], &data["user"]),
        expected,
        "{frame}"
    );
    assert_eq!(data["state"], state, "{frame}");
    assert!(
        frame["seq"].is_null() && frame["actor"].is_null(),
        "{frame}"
    );
    assert!(state == "offline" || data["last_seen"].is_null(), "{frame}");
    data["last_seen"].clone()
}

/// Nothing has come that was not looked at.
async fn hears_nothing(client: &mut Client) {
    client.say(r#"{"type":"ping"}"#).await;
    assert_eq!(client.frame().await, json!({"type": "pong"}));
}

async fn becomes(server: &Server, who: &Principal, state: PresenceState) {
    until(&format!("{state:?}"), || async {
        server.state_of(who.user).await == state
    })
    .await;
}

#[tokio::test]
async fn watchers_are_told_what_is_and_what_changes() {
    let server = Server::start().await;
    let [ada, bob] = [server.login(), server.login()];
    server.group(&[ada.user, bob.user]).await;
    let mut watcher = server.connect(&bob).await;
    watch(&mut watcher, &[ada.user]).await;
    assert_eq!(hears(&mut watcher, ada.user, "offline").await, Value::Null);
    let mut phone = server.connect(&ada).await;
    hears(&mut watcher, ada.user, "online").await;
    let mut laptop = server.connect(&server.login_of(ada.user)).await;
    phone.say(r#"{"type":"active","value":false}"#).await;
    laptop.say(r#"{"type":"active","value":false}"#).await;
    hears(&mut watcher, ada.user, "away").await;
    laptop.say(r#"{"type":"active","value":true}"#).await;
    hears(&mut watcher, ada.user, "online").await;
    // Asked for again, it is told again.
    watch(&mut watcher, &[ada.user]).await;
    hears(&mut watcher, ada.user, "online").await;
    assert_eq!(server.metric("tidings_ws_watches"), Some(1.0));
    // And no more when it is not asked for any more.
    watch(&mut watcher, &[]).await;
    server.metric_becomes("tidings_ws_watches", 0.0).await;
    laptop.say(r#"{"type":"active","value":false}"#).await;
    becomes(&server, &ada, PresenceState::Away).await;
    hears_nothing(&mut watcher).await;
    watch(&mut watcher, &[ada.user]).await;
    hears(&mut watcher, ada.user, "away").await;
    drop(watcher);
    server.metric_becomes("tidings_ws_watches", 0.0).await;
    server.stop().await;
}

#[tokio::test]
async fn who_comes_back_in_ten_seconds_was_never_gone_and_who_does_not_is_offline() {
    let server = Server::start().await;
    let [ada, bob] = [server.login(), server.login()];
    server.group(&[ada.user, bob.user]).await;
    let first = server.connect(&ada).await;
    becomes(&server, &ada, PresenceState::Online).await;
    let mut watcher = server.connect(&bob).await;
    watch(&mut watcher, &[ada.user]).await;
    hears(&mut watcher, ada.user, "online").await;
    drop(first);
    sleep(LINGER / 2).await;
    let second = server.connect(&ada).await;
    // The first counts no more by now.
    sleep(LINGER).await;
    hears_nothing(&mut watcher).await;
    let (left, left_at) = (Instant::now(), now());
    drop(second);
    let seen = hears(&mut watcher, ada.user, "offline").await;
    assert!(left.elapsed() >= LINGER, "{:?}", left.elapsed());
    let seen = Timestamp::parse(seen.as_str().unwrap()).unwrap();
    // Of then, and not of when it was told.
    assert!(seen.plus_millis(1_000) >= left_at, "{seen}");
    assert!(seen < left_at.plus_millis(5_000), "{seen}");
    server.stop().await;
}

#[tokio::test]
async fn nobody_watches_those_with_whom_they_share_no_group() {
    let server = Server::start().await;
    let [ada, bob, eve] = [server.login(), server.login(), server.login()];
    let group = server.group(&[ada.user, bob.user, eve.user]).await;
    let mut stranger = server.connect(&server.login()).await;
    let mut watcher = server.connect(&bob).await;
    let mut outcast = server.connect(&eve).await;
    let mut there = server.connect(&ada).await;
    becomes(&server, &ada, PresenceState::Online).await;
    for client in [&mut watcher, &mut outcast] {
        watch(client, &[ada.user, UserId::generate()]).await;
        hears(client, ada.user, "online").await;
    }
    watch(&mut stranger, &[ada.user, bob.user]).await;
    assert_eq!(server.metric("tidings_ws_watches"), Some(2.0));

    let removed = Change::MemberRemoved { user: eve.user };
    server.change_group(group, 2, removed).await;
    server.metric_becomes("tidings_ws_watches", 1.0).await;
    there.say(r#"{"type":"active","value":false}"#).await;
    hears(&mut watcher, ada.user, "away").await;
    hears_nothing(&mut outcast).await;
    hears_nothing(&mut stranger).await;

    // Who comes back may watch again.
    let back = Change::member_added(eve.user, Role::Member);
    server.change_group(group, 3, back).await;
    watch(&mut outcast, &[ada.user]).await;
    hears(&mut outcast, ada.user, "away").await;
    server.stop().await;
}

#[tokio::test]
async fn every_transport_is_a_connection() {
    let server = Server::start().await;
    let [poller, listener] = [server.login(), server.login()];
    let token = server.access_token(&poller, Duration::from_secs(900));
    let url = format!("http://{}/v1/poll", server.address);
    let poll = reqwest::Client::new().post(url).bearer_auth(token);
    let answer = poll.json(&json!({"timeout": 0})).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    // It lingers.
    becomes(&server, &poller, PresenceState::Online).await;
    let path = server.events_path(&server.ticket(&listener));
    let url = format!("http://{}{path}", server.address);
    let _events = reqwest::get(url).await.unwrap();
    becomes(&server, &listener, PresenceState::Online).await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_watches_too_many_is_told_so_and_watches_as_before() {
    let server = Server::start().await;
    let [ada, bob] = [server.login(), server.login()];
    server.group(&[ada.user, bob.user]).await;
    let mut watcher = server.connect(&bob).await;
    let mut users = vec![ada.user];
    users.resize_with(200, UserId::generate);
    watch(&mut watcher, &users).await;
    hears(&mut watcher, ada.user, "offline").await;
    users.push(UserId::generate());
    watch(&mut watcher, &users).await;
    let error = json!({"type": "error", "code": "invalid_frame"});
    assert_eq!(watcher.frame().await, error);
    let _there = server.connect(&ada).await;
    hears(&mut watcher, ada.user, "online").await;
    server.stop().await;
}
