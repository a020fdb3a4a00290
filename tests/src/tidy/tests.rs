use serde_json::json;

use std::path::Path;

use super::*;

/// Checks that `text` at `path` gives exactly the complaints that contain `expected`, in order.
#[track_caller]
fn check(path: &str, text: &str, expected: &[&str]) {
    let found = source_violations(path, &format!("//! Docs.\n{text}"));
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found} lacks {expected}");
    }
}

fn package(name: &str, dependencies: &[&str]) -> Value {
    let dependencies: Vec<_> = dependencies
        .iter()
        .map(|name| json!({ "name": name }))
        .collect();
    json!({ "name": name, "dependencies": dependencies })
}

#[test]
fn the_servers_do_not_depend_on_each_other() {
    let metadata = json!({ "packages": [
        package("tidings-api", &["tidings-common", "tidings-http", "actix-web", "tidings-worker"]),
        package("tidings", &["tidings-api", "tidings-ws-push", "tidings-worker", "actix-web"]),
    ]});
    assert_eq!(
        forbidden_dependencies(&metadata),
        ["tidings-api may not depend on tidings-worker"]
    );
}

#[test]
fn drivers_and_actix_stay_where_they_belong() {
    let metadata = json!({ "packages": [
        package("tidings-common", &["rusqlite", "lapin", "mongodb", "deadpool-redis", "actix-web", "tidings-http"]),
        package("tidings-http", &["tidings-common", "actix-web", "redis"]),
        package("tidings-worker", &["rusqlite"]),
        package("tidings-tests", &["tidings-common", "lapin"]),
    ]});
    assert_eq!(
        forbidden_dependencies(&metadata),
        [
            "tidings-common may not depend on actix-web",
            "tidings-common may not depend on tidings-http",
            "tidings-http may not depend on redis",
            "tidings-tests may not depend on lapin",
            "tidings-worker may not depend on rusqlite",
        ]
    );
}

#[test]
fn a_manifest_takes_the_lints_of_the_workspace() {
    assert!(
        missing_lints(
            "a",
            "[package]\n[lints]\nworkspace = true\n[dependencies]\n"
        )
        .is_empty()
    );
    assert_eq!(missing_lints("a", "[package]\nname = \"a\"\n").len(), 1);
    assert_eq!(
        missing_lints("a", "[lints]\n[dependencies]\nworkspace = true\n").len(),
        1
    );
}

#[test]
fn an_arrow_against_the_table_is_found_however_it_is_written() {
    let domain = "crates/common/src/domain/ids.rs";
    let complaint = &["`domain` may not use `store`"];
    check(domain, "use crate::store::Entry;", complaint);
    check(
        domain,
        "use crate::{domain::UserId, store::{Entry, Head}};",
        complaint,
    );
    check(domain, "fn f(x: &crate::store::Entry) {}", complaint);
    check(domain, "use super::super::store;", complaint);
    check(
        "crates/common/src/domain/mod.rs",
        "use super::{store};",
        complaint,
    );
    check(
        "crates/common/src/bus/rabbitmq/mod.rs",
        "use crate::log::Head;",
        &["`bus` may not use `log`"],
    );
}

#[test]
fn arrows_along_the_table_pass() {
    check(
        "crates/common/src/wire/mod.rs",
        "use crate::domain::Timestamp;",
        &[],
    );
    check(
        "crates/common/src/store/sqlite/mod.rs",
        "use crate::clock::Clock; use super::LogStore;",
        &[],
    );
    check(
        "crates/common/src/domain/ids.rs",
        "use super::time::Timestamp; use super::store;",
        &[],
    );
    check(
        "crates/common/src/backends.rs",
        "use crate::{store, bus, presence, config};",
        &[],
    );
    check(
        "crates/common/src/lib.rs",
        "pub mod store; pub use crate::store::Entry;",
        &[],
    );
}

#[test]
fn a_module_without_a_row_is_refused() {
    check("crates/common/src/misc.rs", "", &["`misc` has no row"]);
}

#[test]
fn services_know_neither_the_edge_nor_the_drivers() {
    let service = "crates/api/src/service/messages.rs";
    check(
        service,
        "use tidings_common::{domain::Draft, store::LogStore};",
        &[],
    );
    check(service, "use actix_web::web;", &["`actix_web`"]);
    check(
        service,
        "fn f(m: tidings_common::wire::Message) {}",
        &["`tidings_common::wire`"],
    );
    check(
        service,
        "use crate::extract::Page; use rusqlite::Row;",
        &["`rusqlite`", "`crate::extract`"],
    );
    check(
        "crates/api/src/service.rs",
        "use actix_web::web;",
        &["`actix_web`"],
    );
}

#[test]
fn routes_know_neither_store_nor_bus() {
    let routes = "crates/api/src/routes/messages.rs";
    check(routes, "use actix_web::web; use tidings_common::wire;", &[]);
    check(
        routes,
        "use tidings_common::{wire, bus::Bus, store};",
        &["::store`", "::bus`"],
    );
}

#[test]
fn the_hub_never_waits() {
    let hub = "crates/ws-push/src/hub/shard.rs";
    check(hub, "pub(crate) fn dispatch() {}", &[]);
    check(hub, "async fn f() {}", &["`async`"]);
    check(hub, "fn f() { g().await }", &["`await`"]);
    check(
        "crates/ws-push/src/consumer.rs",
        "async fn f() { g().await }",
        &[],
    );
}

#[test]
fn unbounded_queues_are_refused() {
    check(
        "crates/worker/src/relay.rs",
        "let (tx, rx) = mpsc::unbounded_channel();",
        &["every queue is bounded"],
    );
}

#[test]
fn comments_literals_and_tests_are_not_code() {
    let domain = "crates/common/src/domain/ids.rs";
    check(
        domain,
        "/// See [`crate::store`].\n/* crate::log /* crate::bus */ crate::wire */",
        &[],
    );
    check(
        domain,
        r##"const A: &str = "\" crate::store"; const B: &str = r#""crate::store"#;"##,
        &[],
    );
    check(
        domain,
        "#[cfg(test)]\nmod tests { use crate::store::Entry; fn f() { if a { b } } }",
        &[],
    );
    check(
        domain,
        "#[cfg(test)]\nmod tests;\nuse crate::store::Entry;",
        &["`store`"],
    );
    check(
        domain,
        "const Q: char = '\"'; use crate::store::Entry; const R: char = '\"';",
        &["`store`"],
    );
    check(
        domain,
        "const Q: char = '\\''; fn f<'a>(x: &'a crate::store::Entry) {}",
        &["`store`"],
    );
    check(
        "crates/common/src/domain/tests.rs",
        "use crate::store::Entry;",
        &[],
    );
}

#[test]
fn files_are_short_and_open_with_their_purpose() {
    check("crates/common/src/auth.rs", &"\n".repeat(599), &[]);
    check(
        "crates/common/src/auth.rs",
        &"\n".repeat(600),
        &["601 lines"],
    );
    check("crates/common/src/domain/tests.rs", &"\n".repeat(600), &[]);
    assert_eq!(
        source_violations("crates/api/src/router.rs", "use std::fmt;\nuse std::io;\n").len(),
        1
    );
    assert!(
        source_violations(
            "crates/api/src/router/tests.rs",
            "use std::fmt;\nuse std::io;\n"
        )
        .is_empty()
    );
}

#[test]
fn links_lead_somewhere() {
    let exists =
        |path: &Path| path == Path::new("docs/protocol.md") || path == Path::new("README.md");
    let good = "[a](protocol.md) [`b`](../README.md#top) [c](https://example.org/x) [d](#here) `[e](no.md)`\n\
                ```\n[f](no.md)\n```\n[g]: protocol.md \"title\"\n";
    assert_eq!(
        broken_links("docs/a.md", good, exists),
        Vec::<String>::new()
    );
    for bad in [
        "[a](no.md)",
        "![a](no.png)",
        "[`a`](no.md#x)",
        "[a]: no.md",
        "[a](../../README.md)",
        "[a](/README.md)",
    ] {
        assert_eq!(broken_links("docs/a.md", bad, exists).len(), 1, "{bad}");
    }
}
