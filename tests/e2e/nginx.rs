//! What nginx does by itself: which server gets a request, what it is told, and how refusals of
//! nginx's own look.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tidings_tests::client::{Answer, answer};
use tidings_tests::nginx::Nginx;
use tidings_tests::server::{Server, free_port};
use tidings_tests::started;
use tidings_tests::upstream::Upstream;
use tidings_tests::wait;

const MESSAGES: &str = "/v1/channels/c/messages";
const BODY_LIMIT: usize = 256 * 1024;

#[tokio::test]
async fn the_configuration_is_valid() -> Result<()> {
    let nobody = [format!("127.0.0.1:{}", free_port()?)];
    let nginx = started!(Nginx::before(&nobody, &nobody));
    let output = nginx.test().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    ensure!(!said.contains("[warn]"), "{said}");
    Ok(())
}

/// Clients cannot tell, and need not, who refused.
#[tokio::test]
async fn its_refusals_are_those_of_the_servers() -> Result<()> {
    let server = Server::start().await?;
    let address = [server.address()];
    let mut nginx = started!(Nginx::before(&address, &address));
    nginx.start().await?;
    for (method, path, bytes) in [
        (Method::POST, "/v1/users", BODY_LIMIT + 1),
        (Method::GET, "/v1/nothing", 0),
    ] {
        let body = |request: RequestBuilder| {
            let request = request.header("content-type", "application/json");
            answer(request.body("x".repeat(bytes)))
        };
        let theirs = body(server.api.request(method.clone(), path)).await?;
        // What is not for clients is as good as nothing.
        let path = path.replace("/v1/nothing", "/metrics");
        let ours = body(nginx.api.request(method, &path)).await?;
        same_problem(&theirs, &ours)?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_for_operators_is_not_forwarded() -> Result<()> {
    let (nginx, servers) = started!(before(&[Some(200)]).await);
    for path in ["/metrics", "/healthz", "/readyz", "//metrics", "/%6detrics"] {
        nginx.api.get(path).await?.problem(404, "not_found")?;
    }
    nginx.api.get("/nginx-health").await?.ok()?;
    ensure!(requests(&servers).is_empty());
    nginx.api.get("/openapi.json").await?.ok()?;
    ensure!(requests(&servers).len() == 1);
    Ok(())
}

#[tokio::test]
async fn a_body_up_to_the_limit_passes() -> Result<()> {
    let (nginx, servers) = started!(before(&[Some(201)]).await);
    let post = |bytes: usize| {
        let request = nginx.api.request(Method::POST, "/v1/users");
        answer(request.body("x".repeat(bytes)))
    };
    ensure!(post(BODY_LIMIT).await?.status == 201);
    ensure!(requests(&servers).len() == 1);
    let refused = post(BODY_LIMIT + 1).await?;
    refused.problem(413, "payload_too_large")?;
    ensure!(requests(&servers).len() == 1);
    Ok(())
}

#[tokio::test]
async fn with_no_server_it_says_when_to_repeat() -> Result<()> {
    let nobody = [format!("127.0.0.1:{}", free_port()?)];
    let mut nginx = started!(Nginx::before(&nobody, &nobody));
    nginx.start().await?;
    for path in [
        "/v1/users/me",
        "/v1/invites/canary",
        "/v1/ws?p=1&ticket=canary",
    ] {
        let answer = nginx.api.get(path).await?;
        answer.problem(502, "unavailable")?;
        ensure!(answer.header("retry-after") == "1");
    }
    // Tickets travel in query strings, codes of invites in paths.
    let log = wait::until("logged", wait::SOON, async || {
        let log = nginx.log();
        Ok(log.contains("/v1/ws").then_some(log))
    });
    let log = log.await?;
    ensure!(!log.contains("canary"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_answer_in_time_is_a_504() -> Result<()> {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = [silent.local_addr()?.to_string()];
    let mut nginx = started!(Nginx::before(&address, &address));
    change(&nginx, "proxy_read_timeout 30s;", "proxy_read_timeout 1s;")?;
    nginx.start().await?;
    let answer = nginx.api.get("/v1/users/me").await?;
    answer.problem(504, "unavailable")?;
    ensure!(answer.header("retry-after") == "1");
    Ok(())
}

#[tokio::test]
async fn too_many_upgrades_at_once_are_a_429() -> Result<()> {
    let server = Upstream::start(Some(401)).await?;
    let address = [server.address()];
    let mut nginx = started!(Nginx::before(&address, &address));
    change(&nginx, "rate=500r/s", "rate=1r/s")?;
    change(&nginx, "burst=5000", "burst=2")?;
    nginx.start().await?;
    for _ in 0..3 {
        ensure!(nginx.api.get("/v1/ws").await?.status == 401);
    }
    let refused = nginx.api.get("/v1/ws").await?;
    refused.problem(429, "rate_limited")?;
    ensure!(!refused.header("retry-after").is_empty());
    ensure!(nginx.api.get("/v1/users/me").await?.status == 401);
    Ok(())
}

/// A request that changes something and that a server has got is not given to another, whatever
/// became of it: only who sent it knows whether it may be repeated.
#[tokio::test]
async fn what_a_server_has_got_is_not_sent_again() -> Result<()> {
    for (status, expected) in [(None, 502), (Some(503), 503)] {
        let (nginx, servers) = started!(before(&[status, status]).await);
        for (method, path) in [(Method::POST, MESSAGES), (Method::PATCH, "/v1/users/me")] {
            let before = requests(&servers).len();
            let answer = answer(nginx.api.request(method, path)).await?;
            ensure!(answer.status == expected, "{}", answer.status);
            ensure!(requests(&servers).len() == before + 1);
        }
    }
    Ok(())
}

/// A DELETE goes on to the next server, which must know it again.
#[tokio::test]
async fn a_deletion_that_is_sent_again_carries_a_key() -> Result<()> {
    for own in [None, Some("mine")] {
        let (nginx, servers) = started!(before(&[None, None]).await);
        let mut request = nginx.api.request(Method::DELETE, "/v1/groups/1");
        if let Some(own) = own {
            request = request.header("idempotency-key", own);
        }
        ensure!(answer(request).await?.status == 502);
        let sent = requests(&servers);
        let keys: Vec<&str> = sent
            .iter()
            .filter_map(|request| {
                request
                    .lines()
                    .find_map(|line| line.strip_prefix("idempotency-key: "))
            })
            .collect();
        ensure!(keys.len() == 2 && keys[0] == keys[1], "{sent:?}");
        ensure!(own.is_none_or(|own| keys[0] == own), "{keys:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_read_goes_on_to_the_next_server() -> Result<()> {
    let (nginx, servers) = started!(before(&[None, None]).await);
    ensure!(nginx.api.get("/v1/users/me").await?.status == 502);
    ensure!(requests(&servers).len() == 2);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_gone_is_nobodys_problem() -> Result<()> {
    let server = Upstream::start(Some(201)).await?;
    let gone = format!("127.0.0.1:{}", free_port()?);
    let addresses = [gone, server.address()];
    let mut nginx = started!(Nginx::before(&addresses, &addresses));
    nginx.start().await?;
    for channel in 0..20 {
        let path = format!("/v1/channels/{channel}/messages");
        let posted = answer(nginx.api.request(Method::POST, &path)).await?;
        ensure!(posted.status == 201, "{}", posted.text());
        let opened = nginx.api.get(&format!("/v1/ws?p={channel}")).await?;
        ensure!(opened.status == 201, "{}", opened.text());
    }
    Ok(())
}

#[tokio::test]
async fn a_connection_that_is_refused_by_a_full_server_is_offered_to_the_next() -> Result<()> {
    let (nginx, servers) = started!(before(&[Some(503), Some(503)]).await);
    for _ in 0..2 {
        for refused in [
            upgrade(nginx.api.request(Method::GET, "/v1/ws?p=7")),
            nginx.api.request(Method::GET, "/v1/events?p=7"),
            nginx.api.request(Method::POST, "/v1/poll?p=7").body("{}"),
        ] {
            let before = requests(&servers).len();
            // Their own answer, and again the next time: being full leaves nobody out.
            ensure!(answer(refused).await?.status == 503);
            ensure!(requests(&servers).len() == before + 2);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_channels_messages_meet_in_one_server_and_a_partitions_users_too() -> Result<()> {
    let (nginx, servers) = started!(before(&[Some(201), Some(201)]).await);
    for (method, prefix, suffix) in [
        (Method::POST, "/v1/channels/", "/messages"),
        (Method::GET, "/v1/ws?p=", "&ticket=x"),
        (Method::GET, "/v1/events?p=", "&ticket=x"),
        (Method::POST, "/v1/poll?p=", ""),
    ] {
        for key in 0..10 {
            for _ in 0..3 {
                let path = format!("{prefix}{key}{suffix}");
                answer(nginx.api.request(method.clone(), &path)).await?;
            }
        }
        let counts = servers.each_ref().map(|server| {
            let requests = server.requests();
            let of = |key| {
                let place = format!("{prefix}{key}{suffix} ");
                requests
                    .iter()
                    .filter(|request| request.contains(&place))
                    .count()
            };
            (0..10).map(of).collect::<Vec<_>>()
        });
        ensure!(
            counts[0].iter().all(|&count| count == 0 || count == 3),
            "{counts:?}"
        );
        for server in &counts {
            ensure!(server.contains(&3), "one server got nothing: {counts:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_servers_are_told_who_asks_and_not_what_clients_claim() -> Result<()> {
    let (nginx, servers) = started!(before(&[Some(200)]).await);
    let claims = |path| {
        upgrade(nginx.api.request(Method::GET, path))
            .header("x-forwarded-for", "6.6.6.6")
            .header("forwarded", "for=6.6.6.6")
            .header("x-forwarded-proto", "https")
            .header(
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )
    };
    answer(claims("/v1/users/me").header("x-request-id", "mine-1")).await?;
    let answered = answer(claims("/v1/ws").header("x-request-id", "a b\"")).await?;
    let given = answered.header("x-request-id").to_owned();
    ensure!(given.len() == 32, "{given}");
    let requests = requests(&servers);
    for request in &requests {
        for line in [
            "x-forwarded-for: 127.0.0.1",
            "forwarded: for=127.0.0.1;proto=http",
            "x-forwarded-proto: http",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            ensure!(
                request.contains(&format!("\r\n{line}\r\n")),
                "{line}: {request}"
            );
        }
        ensure!(!request.contains("6.6.6.6"), "{request}");
    }
    ensure!(
        requests[0].contains("\r\nx-request-id: mine-1\r\n"),
        "{}",
        requests[0]
    );
    ensure!(requests[1].contains(&format!("\r\nx-request-id: {given}\r\n")));
    // Only where sockets are opened may a connection become something else.
    ensure!(!requests[0].contains("upgrade"), "{}", requests[0]);
    ensure!(
        requests[1].contains("\r\nupgrade: websocket\r\n"),
        "{}",
        requests[1]
    );
    Ok(())
}

/// nginx before servers that answer with these statuses.
async fn before<const N: usize>(statuses: &[Option<u16>; N]) -> Result<(Nginx, [Upstream; N])> {
    let mut servers = Vec::new();
    for &status in statuses {
        servers.push(Upstream::start(status).await?);
    }
    let addresses: Vec<String> = servers.iter().map(Upstream::address).collect();
    let mut nginx = Nginx::before(&addresses, &addresses)?;
    nginx.start().await?;
    let servers = servers.try_into().ok().context("as many servers")?;
    Ok((nginx, servers))
}

fn requests(servers: &[Upstream]) -> Vec<String> {
    servers.iter().flat_map(Upstream::requests).collect()
}

fn upgrade(request: RequestBuilder) -> RequestBuilder {
    request
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

/// A limit that a test would take too long to reach.
fn change(nginx: &Nginx, from: &str, to: &str) -> Result<()> {
    let path = nginx.file("nginx.conf");
    let text = fs::read_to_string(&path)?;
    ensure!(text.contains(from), "no {from}");
    Ok(fs::write(&path, text.replace(from, to))?)
}

fn same_problem(theirs: &Answer, ours: &Answer) -> Result<()> {
    let fields = |answer: &Answer| -> Result<Value> {
        let mut body = answer.json()?;
        let body = body.as_object_mut().context("an object")?;
        body.retain(|field, _| ["type", "title", "status", "code"].contains(&&**field));
        Ok(Value::Object(body.clone()))
    };
    let (theirs_body, ours_body) = (fields(theirs)?, fields(ours)?);
    ensure!(theirs_body == ours_body, "{theirs_body} and {ours_body}");
    let kind = |answer: &Answer| answer.header("content-type").to_owned();
    ensure!(theirs.status == ours.status && kind(theirs) == kind(ours));
    Ok(())
}
