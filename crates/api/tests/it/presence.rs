//! Who is there, for whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use serde_json::{Value, json};
use tidings_common::domain::{
    Activity, Change, ChannelId, Entry, EntryId, GroupId, GroupKind, Key, Role, ServerId,
    Timestamp, UserId,
};
use tidings_common::presence::{Hold, RedisPresence};
use tidings_common::store::project;
use uuid::Uuid;

use crate::harness::{Person, Server, check_problem};

fn id(person: &Person) -> UserId {
    person.id.parse().unwrap()
}

/// A ws-push server that holds connections of these.
async fn connect(server: &Server, people: &[(UserId, Activity)]) {
    let presence = &server.backends.presence;
    let id = ServerId::generate();
    presence.begin(id, Duration::from_secs(3600)).await.unwrap();
    let holds = people.iter().map(|(user, activity)| Hold {
        user: *user,
        activity: Some(*activity),
        left_ago: Duration::ZERO,
    });
    let holds: Vec<Hold> = holds.collect();
    presence.hold(id, &holds).await.unwrap().unwrap();
}

async fn query(who: &Person, users: &[&str]) -> BTreeMap<String, Value> {
    let body = json!({ "users": users });
    let answer = who.send("POST", "/v1/presence/query", body, 200).await;
    let items = answer["items"].as_array().unwrap().iter();
    let by_user = items.map(|item| (item["user"].as_str().unwrap().to_owned(), item.clone()));
    let found: BTreeMap<_, _> = by_user.collect();
    assert_eq!(found.len(), answer["items"].as_array().unwrap().len());
    found
}

#[tokio::test]
async fn those_who_share_a_group_see_each_other_and_others_nothing() {
    let server = Server::start().await;
    let [ada, bob, cleo, dan] = [
        server.person("ada").await,
        server.person("bob").await,
        server.person("cleo").await,
        server.person("dan").await,
    ];
    ada.group(&[&bob]).await;
    let path = format!("/v1/direct/{}", cleo.id);
    ada.send("PUT", &path, json!({}), 201).await;
    let active = Activity::Active;
    connect(&server, &[(id(&bob), Activity::Away), (id(&dan), active)]).await;
    connect(&server, &[(id(&cleo), active), (id(&ada), active)]).await;

    let unknown = Uuid::now_v7().to_string();
    let everybody = [&bob.id, &cleo.id, &dan.id, &unknown, &bob.id, &ada.id];
    let everybody = everybody.map(String::as_str);
    let state = |user: &str, state| {
        let item = json!({"user": user, "state": state, "last_seen": null});
        (user.to_owned(), item)
    };
    let expected = [
        state(&bob.id, "away"),
        state(&cleo.id, "online"),
        state(&ada.id, "online"),
    ];
    assert_eq!(query(&ada, &everybody).await, BTreeMap::from(expected));
    let of_bob = query(&bob, &everybody).await;
    let seen: Vec<&String> = of_bob.keys().collect();
    let mut both = [&ada.id, &bob.id];
    both.sort();
    assert_eq!(seen, both);
    assert_eq!(query(&dan, &everybody).await, BTreeMap::new());
    server.stop().await;
}

#[tokio::test]
async fn who_left_is_offline_since_then() {
    let server = Server::start().await;
    let [ada, bob] = [server.person("ada").await, server.person("bob").await];
    let (group, _) = ada.group(&[&bob]).await;
    let presence = &server.backends.presence;
    let push = ServerId::generate();
    presence.begin(push, Duration::from_secs(60)).await.unwrap();
    let hold = |activity, ago| Hold {
        user: id(&bob),
        activity,
        left_ago: Duration::from_secs(ago),
    };
    let there = hold(Some(Activity::Active), 0);
    presence.hold(push, &[there]).await.unwrap().unwrap();
    presence
        .hold(push, &[hold(None, 10)])
        .await
        .unwrap()
        .unwrap();
    let expected = json!({
        "user": bob.id,
        "state": "offline",
        // The clock of the tests, ten seconds ago.
        "last_seen": "2026-11-21T11:59:50.000Z",
    });
    assert_eq!(query(&ada, &[&bob.id]).await[&bob.id], expected);
    // Who leaves the group is nobody to the others any more.
    let path = format!("/v1/groups/{group}/members/{}", bob.id);
    bob.call("DELETE", &path, 204).await;
    assert_eq!(query(&ada, &[&bob.id]).await, BTreeMap::new());
    let of_group = format!("/v1/groups/{group}/presence");
    check_problem(&bob.call("GET", &of_group, 404).await, "not_found", "");
    server.stop().await;
}

#[tokio::test]
async fn a_query_names_1_to_200_users() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let many = |count| vec![Uuid::now_v7().to_string(); count];
    let path = "/v1/presence/query";
    ada.send("POST", path, json!({"users": many(200)}), 200)
        .await;
    for (users, pointer) in [
        (json!([]), "/users"),
        (json!(many(201)), "/users"),
        (json!([ada.id, "ada"]), "/users/1"),
        (json!([1]), "/users/0"),
        (json!("ada"), "/users"),
        (Value::Null, "/users"),
    ] {
        let body = json!({ "users": users });
        let problem = ada.send("POST", path, body, 422).await;
        check_problem(&problem, "invalid_request", pointer);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_group_is_shown_page_by_page_to_members_alone() {
    let server = Server::start().await;
    let [ada, bob, cleo, eve] = [
        server.person("ada").await,
        server.person("bob").await,
        server.person("cleo").await,
        server.person("eve").await,
    ];
    let (group, _) = ada.group(&[&bob, &cleo]).await;
    connect(
        &server,
        &[(id(&bob), Activity::Away), (id(&eve), Activity::Active)],
    )
    .await;
    let path = format!("/v1/groups/{group}/presence");
    let first = ada.get(&format!("{path}?limit=2")).await;
    let state =
        |person: &Person, state| json!({"user": person.id, "state": state, "last_seen": null});
    assert_eq!(
        first,
        json!({
            "members": 3,
            "online": 1,
            "items": [state(&ada, "offline"), state(&bob, "away")],
            "more": true,
            "sample": null,
        })
    );
    let rest = cleo.get(&format!("{path}?after={}", bob.id)).await;
    assert_eq!(rest["items"], json!([state(&cleo, "offline")]));
    assert_eq!(rest["more"], false);
    let problem = ada.call("GET", &format!("{path}?limit=101"), 422).await;
    check_problem(&problem, "invalid_request", "?limit");
    check_problem(&eve.call("GET", &path, 404).await, "not_found", "");
    server.stop().await;
}

/// A group that is large from its beginning, as nobody makes one: others join one by one.
async fn large_group(server: &Server, owner: UserId, members: &[UserId]) -> GroupId {
    let group = GroupId::generate();
    let others = members.iter().map(|user| (*user, Role::Member));
    let entry = Entry {
        id: EntryId::generate(),
        stream: group.into(),
        seq: 1,
        at: Timestamp::from_millis(0),
        actor: Some(owner),
        key: Key::unique(),
        request: None,
        gv: 0,
        ord: 0,
        change: Change::GroupCreated {
            kind: GroupKind::Group,
            name: Some("Everybody".to_owned()),
            members: [(owner, Role::Owner)].into_iter().chain(others).collect(),
            channels: vec![(ChannelId::generate(), "general".to_owned())],
        },
    };
    let (store, changes) = (&server.backends.store, project(&entry, 1000));
    let stream = entry.stream;
    store.append(vec![entry]).await.unwrap();
    store.apply(stream, 1, changes).await.unwrap();
    group
}

#[tokio::test]
async fn a_large_group_is_a_count_with_a_sample() {
    let server = Server::with(&[("TIDINGS__FANOUT_LIMIT", "500")]).await;
    let ada = server.person("ada").await;
    // More than are asked about at once.
    let members: Vec<UserId> = (0..1_200).map(|_| UserId::generate()).collect();
    let group = large_group(&server, id(&ada), &members).await;
    for chunk in members[..700].chunks(350) {
        let there: Vec<_> = chunk.iter().map(|user| (*user, Activity::Active)).collect();
        connect(&server, &there).await;
    }
    connect(&server, &[(UserId::generate(), Activity::Active)]).await;
    let path = format!("/v1/groups/{group}/presence");
    let shown = ada.get(&path).await;
    let counts = (
        &shown["members"],
        &shown["online"],
        &shown["items"],
        &shown["more"],
    );
    assert_eq!(
        counts,
        (&json!(1201), &json!(700), &Value::Null, &json!(false))
    );
    let sample = shown["sample"].as_array().unwrap();
    assert_eq!(sample.len(), 20);
    for one in sample {
        let user = one["user"].as_str().unwrap().parse().unwrap();
        assert!(members[..700].contains(&user));
        assert_eq!(one["state"], "online");
    }
    // What was counted is used for some seconds.
    connect(&server, &[(members[1_000], Activity::Active)]).await;
    assert_eq!(ada.get(&path).await["online"], 700);
    let eve = server.person("eve").await;
    eve.call("GET", &path, 404).await;
    server.stop().await;
}

#[tokio::test]
async fn while_presence_is_away_states_are_unknown() {
    let server = Server::over(&[], |backends| {
        // Nobody listens there.
        let url = SecretString::from("redis://127.0.0.1:1");
        let presence = RedisPresence::open(&url, "tidings").unwrap();
        backends.presence = Arc::new(presence);
    })
    .await;
    let [ada, bob] = [server.person("ada").await, server.person("bob").await];
    let (group, channel) = ada.group(&[&bob]).await;
    let unknown = json!({"user": bob.id, "state": "unknown", "last_seen": null});
    assert_eq!(query(&ada, &[&bob.id]).await[&bob.id], unknown);
    let shown = ada.get(&format!("/v1/groups/{group}/presence")).await;
    assert_eq!(
        (&shown["members"], &shown["online"]),
        (&json!(2), &Value::Null)
    );
    assert_eq!(shown["items"][1], unknown);
    ada.say(&channel, "it goes on").await;
    let eve = server.person("eve").await;
    assert_eq!(query(&eve, &[&bob.id]).await, BTreeMap::new());
    server.stop().await;
}
