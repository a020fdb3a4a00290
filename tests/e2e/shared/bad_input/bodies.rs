//! Bodies: what is no JSON, no text, no object of the right kind, too long or too large.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;
use tidings_tests::client::items;
use tidings_tests::started;

use super::{Case, MESSAGES, System, World};

#[tokio::test]
async fn malformed_bodies() -> Result<()> {
    let world = started!(World::new().await);
    let mut cases = Vec::new();
    for body in [
        &b""[..],
        b"{",
        b"{\"content\":",
        b"{\"content\":\"x\"",
        b"{\"content\":\"x\"} x",
        b"{content:\"x\"}",
        b"{'content':'x'}",
        b"{\"content\":\"a\nb\"}",
        b"{\"content\":\"\\ud800\"}",
        b"{\"content\":\"\xff\"}",
        b"\xff\xfe{\"content\":\"x\"}",
        b"{\"content\":\"\xed\xa0\x80\"}",
    ] {
        cases.push(Case::send(body, 400, "malformed_json"));
    }
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "x",
    ] {
        let case = Case::send(r#"{"content":"x"}"#, 415, "unsupported_media_type");
        cases.push(case.header("content-type", kind));
    }
    let mut without_type = Case::new(Method::POST, MESSAGES, 415, "unsupported_media_type");
    without_type.body = Some(br#"{"content":"x"}"#.to_vec());
    cases.push(without_type);
    world.check(cases).await
}

#[tokio::test]
async fn large_bodies() -> Result<()> {
    let world = started!(World::new().await);
    let padded = |bytes: usize| format!(r#"{{"content":"{}"}}"#, "x".repeat(bytes));
    let mut cases: Vec<Case> = [256 * 1024 + 1, 1 << 20, 10 << 20]
        .map(|bytes| Case::send(padded(bytes), 413, "payload_too_large"))
        .into();
    // Even where nobody may send anything.
    let mut stranger = Case::new(Method::POST, "/v1/users", 413, "payload_too_large");
    stranger = stranger.json(padded(10 << 20));
    cases.push(stranger);
    // Not too large, but too long.
    cases.push(Case::send(padded(200 * 1024), 422, "invalid_request"));
    world.check(cases).await
}

#[tokio::test]
async fn deep_nesting() -> Result<()> {
    let world = started!(World::new().await);
    let deep = |open: &str, close: &str, depth| open.repeat(depth) + "1" + &close.repeat(depth);
    for depth in [100, 1_000, 60_000] {
        let arrays = deep("[", "]", depth);
        let objects = deep("{\"a\":", "}", depth.min(40_000));
        for value in [arrays, objects] {
            for (path, body) in [
                (MESSAGES, value.clone()),
                (MESSAGES, format!(r#"{{"content":{value}}}"#)),
                (MESSAGES, format!(r#"{{"content":"x","other":{value}}}"#)),
                ("/v1/sync", format!(r#"{{"cursor":{value}}}"#)),
            ] {
                // Whether it is too deep to be read or not what was wanted is one to us.
                let case = Case::new(Method::POST, path, 400, "malformed_json").json(body);
                let heads = world.heads().await?;
                let answer = tidings_tests::client::answer(world.request(&case)).await?;
                let code = if answer.status == 422 {
                    "invalid_request"
                } else {
                    "malformed_json"
                };
                let status = if answer.status == 422 { 422 } else { 400 };
                answer.problem(status, code)?;
                ensure!(world.heads().await? == heads, "something was done");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn wrong_messages() -> Result<()> {
    let world = started!(World::new().await);
    let mut cases = Vec::new();
    for body in ["null", "1", "\"x\"", "[]", "[\"x\"]", "true", "{}"] {
        cases.push(Case::invalid(Method::POST, MESSAGES, body));
    }
    for content in [
        "1",
        "null",
        "true",
        "[\"x\"]",
        "{\"$gt\":\"\"}",
        "\"\"",
        "\" \\t\\n\\u3000\"",
    ] {
        let body = format!(r#"{{"content":{content}}}"#);
        cases.push(Case::invalid(Method::POST, MESSAGES, &body).mentions("content"));
    }
    for letter in ["x", "é", "🚀"] {
        let body = json!({"content": letter.repeat(4001)}).to_string();
        cases.push(Case::invalid(Method::POST, MESSAGES, &body).mentions("content"));
    }
    let unknown = r#"{"content":"x","colour":"red"}"#;
    cases.push(Case::invalid(Method::POST, MESSAGES, unknown).mentions("colour"));
    let twice = r#"{"content":"x","content":"y"}"#;
    cases.push(Case::invalid(Method::POST, MESSAGES, twice).mentions("content"));
    for nonce in ["", "a b", "é", "\\u0000", "\\n", &"x".repeat(65)] {
        let body = format!(r#"{{"content":"x","nonce":"{nonce}"}}"#);
        cases.push(Case::invalid(Method::POST, MESSAGES, &body).mentions("nonce"));
    }
    for nonce in ["1", "[]", "{}", "true"] {
        let body = format!(r#"{{"content":"x","nonce":{nonce}}}"#);
        cases.push(Case::invalid(Method::POST, MESSAGES, &body));
    }
    let max = u64::MAX.to_string();
    for reply in [
        "-1",
        "0",
        "1.5",
        "\"1\"",
        "1e30",
        "99999",
        "18446744073709551616",
        &max,
    ] {
        let body = format!(r#"{{"content":"x","reply_to":{reply}}}"#);
        cases.push(Case::invalid(Method::POST, MESSAGES, &body));
    }
    for key in ["", "a b", &"x".repeat(65)] {
        // To nginx an empty header is none.
        if key.is_empty() && System::PROXIED {
            continue;
        }
        let case = Case::invalid(Method::POST, MESSAGES, r#"{"content":"x"}"#);
        cases.push(case.header("idempotency-key", key));
    }
    let differing = Case::invalid(Method::POST, MESSAGES, r#"{"content":"x","nonce":"a"}"#);
    cases.push(differing.header("idempotency-key", "b"));
    for edit in [
        "{}",
        r#"{"content":""}"#,
        r#"{"content":1}"#,
        r#"{"content":"x","nonce":"a"}"#,
    ] {
        let path = format!("{MESSAGES}/1");
        cases.push(Case::invalid(Method::PATCH, &path, edit));
    }
    for mark in [
        "{}",
        r#"{"seq":-1}"#,
        r#"{"seq":1.5}"#,
        r#"{"seq":"1"}"#,
        r#"{"seq":99}"#,
    ] {
        let path = "/v1/channels/{channel}/read";
        cases.push(Case::invalid(Method::PUT, path, mark).mentions("seq"));
    }
    world.check(cases).await?;

    // The longest that is allowed is: 4,000 scalar values, however many bytes.
    for letter in ["x", "🚀"] {
        let content = letter.repeat(4000);
        let sent = world.ada.send(&world.own.channel, &content).await?;
        ensure!(sent["content"] == content);
    }
    let longest = "x".repeat(64);
    let sent = world
        .ada
        .send_nonce(&world.own.channel, "x", &longest)
        .await?;
    ensure!(sent.status == 201, "{}", sent.text());
    Ok(())
}

#[tokio::test]
async fn wrong_groups_channels_and_members() -> Result<()> {
    let world = started!(World::new().await);
    let mut cases = Vec::new();
    let long = format!("\"{}\"", "x".repeat(101));
    for name in ["1", "null", "\"\"", "[]", &long] {
        let body = format!(r#"{{"name":{name}}}"#);
        for (method, path) in [
            (Method::POST, "/v1/groups"),
            (Method::PATCH, "/v1/groups/{group}"),
            (Method::POST, "/v1/groups/{group}/channels"),
            (Method::PATCH, "/v1/channels/{channel}"),
        ] {
            cases.push(Case::invalid(method, path, &body).mentions("name"));
        }
    }
    let many: Vec<String> = (0..1001)
        .map(|number| format!("01970000-0000-7000-8000-{number:012}"))
        .collect();
    let many = json!(many).to_string();
    for members in [
        "1",
        "\"x\"",
        "[1]",
        "[\"x\"]",
        "[null]",
        "[\"{unknown}\"]",
        &many,
    ] {
        let body = format!(r#"{{"name":"x","members":{members}}}"#);
        cases.push(Case::invalid(Method::POST, "/v1/groups", &body).mentions("members"));
    }
    let extra = r#"{"name":"x","kind":"direct"}"#;
    cases.push(Case::invalid(Method::POST, "/v1/groups", extra).mentions("kind"));
    for role in ["\"king\"", "\"\"", "1", "[]"] {
        let body = format!(r#"{{"role":{role}}}"#);
        let path = "/v1/groups/{group}/members/{other user}";
        cases.push(Case::invalid(Method::PUT, path, &body).mentions("role"));
        cases.push(Case::invalid(Method::PATCH, path, &body).mentions("role"));
    }
    let channel = "/v1/channels/{channel}";
    for secs in ["-1", "1.5", "\"1\"", "[]", "21601", "18446744073709551616"] {
        let body = format!(r#"{{"slow_mode_secs":{secs}}}"#);
        cases.push(Case::invalid(Method::PATCH, channel, &body).mentions("slow_mode_secs"));
    }
    let invites = "/v1/groups/{group}/invites";
    for field in ["max_uses", "expires_in"] {
        for value in [
            "0",
            "-1",
            "1.5",
            "\"1\"",
            "[]",
            "31536001",
            "18446744073709551616",
        ] {
            let body = format!(r#"{{"{field}":{value}}}"#);
            cases.push(Case::invalid(Method::POST, invites, &body).mentions(field));
        }
    }
    let mute = "/v1/groups/{group}/members/{user}/mute";
    for until in ["1", "null", "\"\"", "\"soon\"", "\"2026-11-21\"", "[]"] {
        let body = format!(r#"{{"until":{until}}}"#);
        cases.push(Case::invalid(Method::PUT, mute, &body).mentions("until"));
    }
    let ban = "/v1/groups/{group}/bans/{other user}";
    for body in ["[]", "1", r#"{"reason":"none"}"#] {
        cases.push(Case::invalid(Method::PUT, ban, body));
    }
    world.check(cases).await
}

#[tokio::test]
async fn wrong_accounts() -> Result<()> {
    let world = started!(World::new().await);
    let mut cases = Vec::new();
    let long = "x".repeat(33);
    for username in ["", "a", "a b", "ü", "a/b", "$gt", "a\\u0000b", &long] {
        let body = format!(r#"{{"username":"{username}","password":"long enough"}}"#);
        cases.push(Case::invalid(Method::POST, "/v1/users", &body).mentions("username"));
    }
    for password in ["", "1234567", &"x".repeat(257)] {
        let body = json!({"username": "bob", "password": password}).to_string();
        cases.push(Case::invalid(Method::POST, "/v1/users", &body).mentions("password"));
    }
    for name in ["", &"x".repeat(65)] {
        let body = json!({"username": "bob", "password": "long enough", "display_name": name});
        let case = Case::invalid(Method::POST, "/v1/users", &body.to_string());
        cases.push(case.mentions("display_name"));
        let body = json!({ "display_name": name }).to_string();
        cases.push(Case::invalid(Method::PATCH, "/v1/users/me", &body));
    }
    for body in [
        r#"{"username":{"$gt":""},"password":{"$gt":""}}"#,
        "{}",
        "[]",
    ] {
        cases.push(Case::invalid(Method::POST, "/v1/users", body));
        cases.push(Case::invalid(Method::POST, "/v1/sessions", body));
    }
    let refresh = "/v1/sessions/refresh";
    cases.push(Case::invalid(
        Method::POST,
        refresh,
        r#"{"refresh_token":1}"#,
    ));
    let taken = Case::new(Method::POST, "/v1/users", 409, "username_taken");
    cases.push(taken.json(r#"{"username":"EVE","password":"long enough"}"#));
    for body in [
        r#"{"username":"eve","password":"not her password"}"#,
        r#"{"username":"nobody","password":"not her password"}"#,
    ] {
        let case = Case::new(Method::POST, "/v1/sessions", 401, "unauthenticated");
        cases.push(case.json(body));
    }
    for token in ["", "x", "a.b.c"] {
        let case = Case::new(Method::POST, refresh, 401, "unauthenticated");
        cases.push(case.json(json!({ "refresh_token": token }).to_string()));
    }
    world.check(cases).await?;
    let bob = world.server.api.login("bob").await;
    ensure!(bob.is_err(), "a refused registration left an account");
    Ok(())
}

#[tokio::test]
async fn wrong_syncs() -> Result<()> {
    let world = started!(World::new().await);
    let mut cases = Vec::new();
    for body in [
        "[]",
        r#"{"cursor":[]}"#,
        r#"{"cursor":1}"#,
        r#"{"cursor":{"":1}}"#,
        r#"{"cursor":{"c":1}}"#,
        r#"{"cursor":{"c:":1}}"#,
        r#"{"cursor":{"c:x":1}}"#,
        r#"{"cursor":{"z:{channel}":1}}"#,
        r#"{"cursor":{"{channel}":1}}"#,
        r#"{"cursor":{"c:{channel} ":1}}"#,
        r#"{"cursor":{"c:{channel}":-1}}"#,
        r#"{"cursor":{"c:{channel}":1.5}}"#,
        r#"{"cursor":{"c:{channel}":1e30}}"#,
        r#"{"cursor":{"c:{channel}":"1"}}"#,
        r#"{"cursor":{"c:{channel}":null}}"#,
        r#"{"cursor":{"c:{channel}":18446744073709551616}}"#,
        r#"{"cursor":{},"limit":0}"#,
        r#"{"cursor":{},"limit":-1}"#,
        r#"{"cursor":{},"limit":501}"#,
        r#"{"cursor":{},"limit":18446744073709551615}"#,
        r#"{"cursor":{},"limit":"10"}"#,
        r#"{"cursor":{},"only":"yes"}"#,
        r#"{"cursor":{},"since":1}"#,
    ] {
        cases.push(Case::invalid(Method::POST, "/v1/sync", body));
    }
    world.check(cases).await?;

    // Beyond the end is answered, with a reset, for every number there is; and what belongs to
    // others or to the system is as good as gone.
    let (own, others) = (&world.own.channel, &world.others.channel);
    for (stream, seq, reason) in [
        (format!("c:{own}"), 999_999, "ahead"),
        (format!("c:{own}"), i64::MAX as u64, "ahead"),
        (format!("c:{own}"), i64::MAX as u64 + 1, "ahead"),
        (format!("c:{own}"), u64::MAX, "ahead"),
        (format!("c:{others}"), 0, "gone"),
        (format!("c:{others}"), u64::MAX, "gone"),
        (format!("u:{}", world.eve.user), 0, "gone"),
        (format!("g:{own}"), 0, "gone"),
    ] {
        let body = json!({"cursor": {&stream: seq}, "only": true});
        let answer = world.ada.post("/v1/sync", &body).await?.ok()?;
        let resets = items(&answer, "resets")?;
        ensure!(
            resets.len() == 1 && resets[0]["reason"] == reason,
            "{stream} {seq}: {answer}"
        );
        ensure!(items(&answer, "deltas")?.is_empty(), "{answer}");
        ensure!(answer["cursor"] == json!({}), "{answer}");
    }
    let system = json!({"cursor": {"x:sessions": 0}});
    let answer = world.ada.post("/v1/sync", &system).await?;
    let shown = answer.status == 200 && answer.json()?["resets"][0]["reason"] != "gone";
    ensure!(!shown, "{}", answer.text());
    Ok(())
}
