use serde_json::{Map, Value, json};
use tidings_common::domain::StreamId;

use crate::harness::{Person, Server, check_problem};

async fn sync(who: &Person, body: Value) -> Value {
    who.send("POST", "/v1/sync", body, 200).await
}

fn cursor(positions: &[(&str, u64)]) -> Value {
    let map: Map<String, Value> = positions
        .iter()
        .map(|(stream, seq)| ((*stream).to_owned(), json!(seq)))
        .collect();
    json!({ "cursor": map })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_cursor_gets_heads_and_a_cursor_what_it_lacks() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (group, channel) = ada.group(&[&bob]).await;
    let (u, g, c) = (
        format!("u:{}", bob.id),
        format!("g:{group}"),
        format!("c:{channel}"),
    );
    let first = sync(&bob, json!({})).await;
    assert_eq!(
        first["heads"],
        cursor(&[(&u, 1), (&g, 1), (&c, 0)])["cursor"]
    );
    assert_eq!(first["deltas"], json!([]));
    assert_eq!(first["more"], false);

    let message = ada.say(&channel, "one").await;
    ada.say(&channel, "two").await;
    let answer = sync(&bob, cursor(&[(&u, 1), (&g, 1), (&c, 0)])).await;
    assert_eq!(answer["deltas"].as_array().unwrap().len(), 2);
    let expected = json!({
        "stream": c, "seq": 1, "kind": "message.created", "at": message["created_at"],
        "actor": ada.id,
        "data": {"id": message["id"], "content": "one", "reply_to": null, "mentions": [], "mentions_everyone": false},
    });
    assert_eq!(answer["deltas"][0], expected);
    assert_eq!(answer["heads"], json!({ (c.as_str()): 2 }));
    assert_eq!(
        answer["cursor"],
        cursor(&[(&u, 1), (&g, 1), (&c, 2)])["cursor"]
    );
    let nothing = sync(&bob, json!({"cursor": answer["cursor"]})).await;
    assert_eq!(
        (&nothing["deltas"], &nothing["heads"]),
        (&json!([]), &json!({}))
    );

    let mut paged = cursor(&[(&c, 0)]);
    paged["limit"] = json!(1);
    let page = sync(&bob, paged).await;
    assert_eq!(
        (&page["more"], &page["deltas"][0]["seq"]),
        (&json!(true), &json!(1))
    );
    assert_eq!(page["cursor"], json!({ (c.as_str()): 1 }));
    assert_eq!(
        page["heads"],
        cursor(&[(&u, 1), (&g, 1), (&c, 2)])["cursor"]
    );

    let mut only = cursor(&[(&c, 1)]);
    only["only"] = json!(true);
    assert_eq!(sync(&bob, only).await["heads"], json!({ (c.as_str()): 2 }));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_continued_is_reset() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let bob = server.person("bob").await;
    let (group, channel) = ada.group(&[&bob]).await;
    let (g, c) = (format!("g:{group}"), format!("c:{channel}"));
    ada.say(&channel, "one").await;
    let unknown = "c:01970000-0000-7000-8000-000000000000";
    let reset = |stream: &str, head: u64, reason: &str| json!({"stream": stream, "head": head, "reason": reason});

    let positions = [
        (c.as_str(), u64::MAX),
        (unknown, 3),
        ("x:sessions", 0),
        (g.as_str(), 1),
    ];
    let answer = sync(&bob, cursor(&positions)).await;
    let expected = [
        reset(unknown, 0, "gone"),
        reset(&c, 1, "ahead"),
        reset("x:sessions", 0, "gone"),
    ];
    let mut actual = answer["resets"].as_array().unwrap().clone();
    actual.sort_by_key(|one| one["stream"] != unknown);
    actual.sort_by_key(|one| one["stream"] == "x:sessions");
    assert_eq!(actual, expected);
    assert_eq!(answer["cursor"], json!({ (g.as_str()): 1 }));

    let mut restored = cursor(&[(&c, 1)]);
    restored["epoch"] = json!(answer["epoch"].as_u64().unwrap() + 1);
    let restored = sync(&bob, restored).await;
    assert_eq!(restored["resets"], json!([reset(&c, 1, "restored")]));

    // An edit is a delta; under the floor only messages remain.
    let path = format!("/v1/channels/{channel}/messages/1");
    ada.send("PATCH", &path, json!({"content": "ONE"}), 200)
        .await;
    let edit = sync(&bob, cursor(&[(&c, 1)])).await;
    assert_eq!(edit["deltas"][0]["data"]["content"], "ONE");
    ada.say(&channel, "three").await;
    trim(&server, &c, 2).await;
    let expired = sync(&bob, cursor(&[(&c, 0)])).await;
    assert_eq!(expired["resets"], json!([reset(&c, 3, "expired")]));
    assert_eq!(expired["deltas"], json!([]));

    ada.call(
        "DELETE",
        &format!("/v1/groups/{group}/members/{}", bob.id),
        204,
    )
    .await;
    let gone = sync(&bob, cursor(&[(&c, 3)])).await;
    assert_eq!(gone["resets"], json!([reset(&c, 0, "gone")]));
    assert_eq!(gone["heads"].as_object().unwrap().len(), 1);
    server.stop().await;
}

/// Waits until nothing up to `through` is pending, then trims.
async fn trim(server: &Server, stream: &str, through: u64) {
    let stream: StreamId = stream.parse().unwrap();
    let store = &server.backends.store;
    for _ in 0..100 {
        if store.pending_in(stream, 0, 1).await.unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(store.trim(stream, through).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_sync_requests_are_refused() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    for (body, pointer) in [
        (json!({"cursor": {"nonsense": 1}}), "/cursor/nonsense"),
        (json!({"cursor": {"x:sessions": -1}}), "/cursor/x:sessions"),
        (json!({"limit": 0}), "/limit"),
        (json!({"limit": 501}), "/limit"),
        (json!({"limit": -1}), "/limit"),
        (json!({"unknown": 1}), "/unknown"),
    ] {
        let problem = ada.send("POST", "/v1/sync", body, 422).await;
        check_problem(&problem, "invalid_request", pointer);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_says_where_to_connect() {
    let server = Server::with(&[("TIDINGS__WS__PUBLIC_URL", "https://chat.example.org")]).await;
    let ada = server.person("ada").await;
    let ticket = ada.call("POST", "/v1/realtime/tickets", 201).await;
    let expected = format!(
        "wss://chat.example.org/v1/ws?p={}&ticket={}",
        ticket["p"],
        ticket["ticket"].as_str().unwrap()
    );
    assert_eq!(ticket["url"], expected);
    assert_eq!(ticket["expires_in"], 30);
    let base = "https://chat.example.org/v1";
    let (p, token) = (&ticket["p"], ticket["ticket"].as_str().unwrap());
    let events = format!("{base}/events?p={p}&ticket={token}");
    assert_eq!(ticket["events_url"], events);
    assert_eq!(ticket["poll_url"], format!("{base}/poll?p={p}"));
    server.clock.advance(890_000);
    let short = ada.call("POST", "/v1/realtime/tickets", 201).await;
    assert_eq!(short["expires_in"], 10);
    server.stop().await;
}
