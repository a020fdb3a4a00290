use reqwest::{Method, RequestBuilder, Response};

use crate::harness::{LISTED_ORIGIN, OWN_ORIGIN, TestServer, problem};

const FOREIGN_ORIGIN: &str = "https://evil.test";

/// What a browser asks before a page sends a request that forms cannot.
fn preflight(server: &TestServer, origin: &str, headers: &str) -> RequestBuilder {
    reqwest::Client::new()
        .request(Method::OPTIONS, server.url("/v1/things"))
        .header("Origin", origin)
        .header("Access-Control-Request-Method", "PATCH")
        .header("Access-Control-Request-Headers", headers)
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    Some(response.headers().get(name)?.to_str().unwrap())
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_send_what_the_api_takes() {
    let server = TestServer::start();
    let headers = "authorization, content-type, idempotency-key, if-match";
    for origin in [OWN_ORIGIN, LISTED_ORIGIN] {
        let asked = preflight(&server, origin, headers).send().await.unwrap();
        assert_eq!(asked.status(), 200);
        assert_eq!(header(&asked, "access-control-allow-origin"), Some(origin));
        let methods = header(&asked, "access-control-allow-methods").unwrap();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            assert!(methods.contains(method), "{methods}");
        }
        assert_eq!(header(&asked, "access-control-max-age"), Some("3600"));
        assert_eq!(header(&asked, "access-control-allow-credentials"), None);
    }
    let more = preflight(&server, OWN_ORIGIN, "x-other").send().await;
    problem(more.unwrap(), 400, "bad_request").await;
    server.stop().await;
}

#[tokio::test]
async fn a_page_may_read_refusals_too() {
    let server = TestServer::start();
    let asked = server.get("/nowhere").header("Origin", LISTED_ORIGIN);
    let answer = asked.send().await.unwrap();
    let allowed = header(&answer, "access-control-allow-origin");
    assert_eq!(allowed, Some(LISTED_ORIGIN));
    let exposed = header(&answer, "access-control-expose-headers").unwrap();
    let exposed = exposed.to_ascii_lowercase();
    for name in ["etag", "retry-after", "idempotency-replayed"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    assert!(header(&answer, "vary").unwrap().contains("Origin"));
    problem(answer, 404, "not_found").await;
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_shown_nothing() {
    let server = TestServer::start();
    let refused = preflight(&server, FOREIGN_ORIGIN, "authorization");
    let refused = refused.send().await.unwrap();
    assert_eq!(header(&refused, "access-control-allow-origin"), None);
    problem(refused, 400, "bad_request").await;
    for origin in [FOREIGN_ORIGIN, "null", "http://app.example.org"] {
        let asked = server.get("/healthz").header("Origin", origin);
        let answer = asked.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "access-control-allow-origin"), None);
    }
    server.stop().await;
}
