use serde_json::Value;

use crate::harness::Server;

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

/// Set this variable to write the file instead of comparing it.
const UPDATE: &str = "TIDINGS_TEST_UPDATE_OPENAPI";

#[test]
fn the_committed_description_is_that_of_the_code() {
    let mut current = tidings_api::Api::openapi().to_pretty_json().unwrap();
    current.push('\n');
    #[expect(clippy::disallowed_methods, reason = "not a setting of the program")]
    if std::env::var(UPDATE).is_ok() {
        std::fs::write(COMMITTED, &current).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
    assert!(
        committed == current,
        "docs/openapi.json differs from the code: if the change is meant, run `just openapi` \
         ({UPDATE}=1 cargo nextest run -p tidings-api openapi) and commit the file"
    );
}

#[test]
fn every_route_says_what_it_answers() {
    let openapi = serde_json::to_value(tidings_api::Api::openapi()).unwrap();
    let mut operations = 0;
    for (path, item) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2')),
                "{method} {path}"
            );
            for (status, response) in responses {
                if status.starts_with(['4', '5']) {
                    let schema = &response["content"]["application/problem+json"]["schema"];
                    assert_eq!(
                        schema["$ref"], "#/components/schemas/Problem",
                        "{method} {path}"
                    );
                }
            }
        }
    }
    assert_eq!(operations, 57);
    assert_refs_resolve(&openapi, &openapi);
    assert_eq!(
        openapi["components"]["securitySchemes"]["bearer"]["scheme"],
        "bearer"
    );
}

fn assert_refs_resolve(value: &Value, root: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let pointer = reference.strip_prefix('#').unwrap();
                assert!(root.pointer(pointer).is_some(), "{reference}");
            }
            map.values()
                .for_each(|value| assert_refs_resolve(value, root));
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| assert_refs_resolve(item, root)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_is_served_with_a_page_to_read_it() {
    let server = Server::start().await;
    for (path, kind) in [
        ("/openapi.json", "application/json"),
        ("/docs", "text/html"),
        ("/docs/", "text/html"),
        ("/docs/swagger-ui.css", "text/css"),
        ("/healthz", "application/json"),
        ("/readyz", "application/json"),
        ("/metrics", "application/openmetrics-text"),
    ] {
        let response = server.request("GET", path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let actual = response.headers()["content-type"].to_str().unwrap();
        assert!(actual.starts_with(kind), "{path}: {actual}");
    }
    let ready = server.request("GET", "/readyz").send().await.unwrap();
    let ready: Value = ready.json().await.unwrap();
    assert_eq!(
        ready,
        serde_json::json!({"status": "ready", "checks": {"bus": "ok", "store": "ok"}})
    );
    server.stop().await;
}
