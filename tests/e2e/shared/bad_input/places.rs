//! Paths, queries, methods and credentials.

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;
use tidings_tests::client::items;
use tidings_tests::started;

use super::{Case, MESSAGES, System, World};

#[tokio::test]
async fn unknown_ids_and_ids_of_others() -> Result<()> {
    let world = started!(World::new().await);
    let mut cases = Vec::new();
    for id in [
        "x",
        "{unknown}",
        "0",
        "-1",
        "%F0%9F%9A%80",
        "{other group}",
        "{channel}",
    ] {
        for rest in [
            "",
            "/members",
            "/presence",
            "/bans",
            "/bans/{user}",
            "/invites",
            "/edit-lease",
        ] {
            let path = format!("/v1/groups/{id}{rest}");
            cases.push(Case::get(&path, 404, "not_found"));
        }
        let path = format!("/v1/groups/{id}");
        let patch = Case::new(Method::PATCH, &path, 404, "not_found");
        cases.push(patch.json(r#"{"name":"x"}"#));
        cases.push(Case::new(Method::DELETE, &path, 404, "not_found"));
        for (method, rest) in [
            (Method::PUT, "/bans/{other user}"),
            (Method::DELETE, "/bans/{other user}"),
            (Method::DELETE, "/members/{user}/mute"),
            (Method::POST, "/invites"),
            (Method::PUT, "/edit-lease"),
            (Method::PUT, "/edit-lease?steal=true"),
            (Method::DELETE, "/edit-lease"),
            (Method::DELETE, "/invites/{unknown}"),
        ] {
            let path = format!("{path}{rest}");
            cases.push(Case::new(method, &path, 404, "not_found"));
        }
    }
    for id in ["x", "{unknown}", "{other user}"] {
        for rest in ["bans", "invites"] {
            let path = format!("/v1/groups/{{group}}/{rest}/{id}");
            cases.push(Case::new(Method::DELETE, &path, 404, "not_found"));
        }
        let path = format!("/v1/groups/{{group}}/members/{id}/mute");
        cases.push(Case::new(Method::DELETE, &path, 404, "not_found"));
        let ban = format!("/v1/groups/{{group}}/bans/{id}");
        cases.push(Case::get(&ban, 404, "not_found"));
    }
    let long = "A".repeat(2000);
    for code in ["x", "{unknown}", "%F0%9F%9A%80", &long] {
        let path = format!("/v1/invites/{code}");
        cases.push(Case::get(&path, 404, "not_found"));
        cases.push(Case::new(Method::POST, &path, 404, "not_found"));
    }
    for id in ["x", "{unknown}", "{other channel}", "{group}", "{user}"] {
        let path = format!("/v1/channels/{id}");
        for rest in ["", "/messages", "/messages/1", "/messages/1/readers"] {
            cases.push(Case::get(&format!("{path}{rest}"), 404, "not_found"));
        }
        let send = Case::new(Method::POST, &format!("{path}/messages"), 404, "not_found");
        cases.push(send.json(r#"{"content":"x"}"#));
        let mark = Case::new(Method::PUT, &format!("{path}/read"), 404, "not_found");
        cases.push(mark.json(r#"{"seq":0}"#));
        let edit = Case::new(
            Method::PATCH,
            &format!("{path}/messages/1"),
            404,
            "not_found",
        );
        cases.push(edit.json(r#"{"content":"x"}"#));
        let delete = format!("{path}/messages/1");
        cases.push(Case::new(Method::DELETE, &delete, 404, "not_found"));
        cases.push(Case::get(&format!("{path}/pins"), 404, "not_found"));
        let typing = format!("{path}/typing");
        cases.push(Case::new(Method::POST, &typing, 404, "not_found"));
        cases.push(Case::get(&format!("{path}/buckets/0"), 404, "not_found"));
        let compare = format!("{path}/buckets/compare");
        let compare = Case::new(Method::POST, &compare, 404, "not_found");
        cases.push(compare.json(r#"{"digests":{"0":"x"}}"#));
        let pin = format!("{path}/messages/1/pin");
        for method in [Method::PUT, Method::DELETE] {
            cases.push(Case::new(method, &pin, 404, "not_found"));
        }
        let reaction = format!("{path}/messages/1/reactions/👍");
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            cases.push(Case::new(method, &reaction, 404, "not_found"));
        }
    }
    let max = u64::MAX.to_string();
    for seq in [
        "0",
        "-1",
        "2.5",
        "x",
        "99999",
        "1e30",
        "18446744073709551616",
        &max,
    ] {
        let path = format!("{MESSAGES}/{seq}");
        cases.push(Case::get(&path, 404, "not_found"));
        cases.push(Case::get(&format!("{path}/readers"), 404, "not_found"));
        cases.push(Case::new(Method::DELETE, &path, 404, "not_found"));
        let edit = Case::new(Method::PATCH, &path, 404, "not_found");
        cases.push(edit.json(r#"{"content":"x"}"#));
        let reaction = format!("{path}/reactions/👍");
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            cases.push(Case::new(method, &reaction, 404, "not_found"));
        }
    }
    for emoji in [
        "%20",
        "%FF",
        "%E2%80%8D",
        "a%20b",
        "A",
        "é",
        "👍👍",
        "%3Cb%3E",
    ] {
        let path = format!("{MESSAGES}/1/reactions/{emoji}");
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            cases.push(Case::new(method, &path, 422, "invalid_request").mentions("{emoji}"));
        }
    }
    // nginx takes no such paths.
    let (status, code) = match System::PROXIED {
        true => (400, "bad_request"),
        false => (404, "not_found"),
    };
    for method in [Method::GET, Method::DELETE] {
        cases.push(Case::new(method, "/v1/groups/%00", status, code));
    }
    for id in ["x", "{unknown}", "{other session}"] {
        let path = format!("/v1/sessions/{id}");
        cases.push(Case::new(Method::DELETE, &path, 404, "not_found"));
    }
    for id in ["x", "{unknown}", "{group}"] {
        cases.push(Case::get(&format!("/v1/users/{id}"), 404, "not_found"));
        let path = format!("/v1/direct/{id}");
        cases.push(Case::new(Method::PUT, &path, 404, "not_found").json("{}"));
        let path = format!("/v1/groups/{{group}}/members/{id}");
        cases.push(Case::new(Method::PUT, &path, 404, "not_found").json("{}"));
        cases.push(Case::new(Method::DELETE, &path, 404, "not_found"));
    }
    world.check(cases).await
}

#[tokio::test]
async fn wrong_queries() -> Result<()> {
    let world = started!(World::new().await);
    let mut cases = Vec::new();
    let max = u64::MAX.to_string();
    for limit in [
        "0",
        "-1",
        "101",
        "1.5",
        "x",
        "",
        "1e30",
        "18446744073709551616",
        &max,
    ] {
        for list in [
            MESSAGES,
            "/v1/channels/{channel}/pins",
            "/v1/channels/{channel}/messages/1/reactions/+1",
            "/v1/groups",
            "/v1/sessions",
            "/v1/groups/{group}/members",
        ] {
            let path = format!("{list}?limit={limit}");
            cases.push(Case::get(&path, 422, "invalid_request").mentions("limit"));
        }
    }
    for name in ["after", "before", "around"] {
        for seq in [
            "-1",
            "1.5",
            "x",
            "",
            "1e30",
            "18446744073709551616",
            "{channel}",
        ] {
            let path = format!("{MESSAGES}?{name}={seq}");
            cases.push(Case::get(&path, 422, "invalid_request").mentions(name));
        }
    }
    for query in [
        "colour=red",
        "limit=1&limit=2",
        "after=1&around=2",
        "before=%FF",
    ] {
        let path = format!("{MESSAGES}?{query}");
        cases.push(Case::get(&path, 422, "invalid_request"));
    }
    cases.push(Case::get("/v1/groups?after=x", 422, "invalid_request"));
    world.check(cases).await?;

    // Beyond every message is a place like others, as far as numbers go.
    let path = MESSAGES.replace("{channel}", &world.own.channel);
    for (name, found) in [("after", 0), ("before", 1)] {
        for seq in [999_999, i64::MAX as u64] {
            let path = format!("{path}?{name}={seq}");
            let page = world.ada.get(&path).await?.ok()?;
            ensure!(items(&page, "items")?.len() == found, "{path}: {page}");
            ensure!(page["more"] == false, "{path}: {page}");
        }
        for seq in [i64::MAX as u64 + 1, u64::MAX] {
            let answer = world.ada.get(&format!("{path}?{name}={seq}")).await?;
            answer.problem(422, "invalid_request")?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods() -> Result<()> {
    let world = started!(World::new().await);
    let mut cases = Vec::new();
    for path in [
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v2/users",
        "/v1/groups/{group}/nothing",
        "/v1/users/me/nothing",
        "//v1/groups",
        "/v1/groups/",
    ] {
        cases.push(Case::get(path, 404, "not_found"));
        let post = Case::new(Method::POST, path, 404, "not_found");
        cases.push(post.json("{}"));
    }
    for (method, path) in [
        (Method::GET, "/v1/sync"),
        (Method::PUT, "/v1/users"),
        (Method::DELETE, "/v1/users/me"),
        (Method::PATCH, "/v1/sessions"),
        (Method::POST, "/v1/groups/{group}"),
        (Method::PUT, MESSAGES),
        (Method::DELETE, MESSAGES),
        (Method::POST, "/v1/ws"),
    ] {
        cases.push(Case::new(method, path, 405, "method_not_allowed"));
    }
    // Not for those outside.
    let (status, code) = match System::PROXIED {
        true => (404, "not_found"),
        false => (405, "method_not_allowed"),
    };
    for (method, path) in [(Method::POST, "/healthz"), (Method::DELETE, "/metrics")] {
        cases.push(Case::new(method, path, status, code));
    }
    world.check(cases).await
}

#[tokio::test]
async fn wrong_credentials() -> Result<()> {
    let world = started!(World::new().await);
    let token = world.ada.access_token();
    let mut parts: Vec<&str> = token.split('.').collect();
    let signature = parts.pop().unwrap_or_default();
    let unsigned = "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0";
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let ticket = world.ada.ticket().await?;
    let refused = [
        String::new(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer x".to_owned(),
        "Bearer a.b.c".to_owned(),
        format!("Basic {token}"),
        format!("Bearer {token}x"),
        format!("Bearer {}.{flipped}{}", parts.join("."), &signature[1..]),
        format!("Bearer {}.", parts.join(".")),
        format!("Bearer {unsigned}.{}.", parts[1]),
        format!("Bearer {}", ticket["ticket"].as_str().unwrap_or_default()),
        format!("Bearer {}", "x".repeat(5_000)),
    ];
    let mut cases = Vec::new();
    for credentials in &refused {
        for path in ["/v1/users/me", "/v1/groups", MESSAGES] {
            let case = Case::get(path, 401, "unauthenticated");
            cases.push(case.header("authorization", credentials));
        }
        let send = Case::send(r#"{"content":"x"}"#, 401, "unauthenticated");
        cases.push(send.header("authorization", credentials));
    }
    world.check(cases).await?;
    let path = MESSAGES.replace("{channel}", &world.own.channel);
    for answer in [
        world.server.api.get("/v1/users/me").await?,
        world.server.api.get(&path).await?,
        world
            .server
            .api
            .post("/v1/sync", &json!({"cursor": {}}))
            .await?,
    ] {
        answer.problem(401, "unauthenticated")?;
    }
    Ok(())
}
