use serde_json::Value;

use crate::harness::{Person, Server, check_problem};

/// Below and above every id.
const LOWEST: &str = "00000000-0000-0000-0000-000000000000";
const HIGHEST: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";

/// Pages through a list of five whose items have their id under `name`.
pub(crate) async fn check(who: &Person, path: &str, name: &str) {
    let read = async |query: &str| -> (Vec<String>, bool) {
        let page = who.get(&format!("{path}?{query}")).await;
        let items = page["items"].as_array().unwrap().iter();
        let id = |item: &Value| item[name].as_str().unwrap().to_owned();
        (items.map(id).collect(), page["more"].as_bool().unwrap())
    };
    let (all, more) = read("").await;
    assert_eq!((all.len(), more), (5, false), "{path}");
    assert!(all.is_sorted(), "{path}");
    let [first, second, _, fourth, fifth] = all.as_slice() else {
        unreachable!("there are five")
    };
    for (query, expected, more) in [
        ("limit=2".to_owned(), 0..2, true),
        (format!("limit=2&after={second}"), 2..4, true),
        (format!("limit=2&after={fourth}"), 4..5, false),
        (format!("limit=2&after={fifth}"), 5..5, false),
        (format!("limit=2&before={HIGHEST}"), 3..5, true),
        (format!("limit=2&before={fourth}"), 1..3, true),
        (format!("limit=2&before={second}"), 0..1, false),
        (format!("limit=2&before={first}"), 0..0, false),
        (format!("limit=1&before={second}"), 0..1, false),
        (format!("after={LOWEST}"), 0..5, false),
        (format!("before={LOWEST}"), 0..0, false),
        (format!("after={HIGHEST}"), 5..5, false),
        (format!("before={HIGHEST}"), 0..5, false),
    ] {
        let expected = (all[expected].to_vec(), more);
        assert_eq!(read(&query).await, expected, "{path}?{query}");
    }
    for (query, pointer) in [
        ("before=x", "?before"),
        ("before=", "?before"),
        ("after=1", "?after"),
        ("before=00000000000000000000000000000000", "?before"),
        (&format!("after={first}&before={fifth}"), "?"),
        (&format!("around={first}"), "?around"),
        (&format!("before={first}&limit=0"), "?limit"),
    ] {
        let problem = who.call("GET", &format!("{path}?{query}"), 422).await;
        check_problem(&problem, "invalid_request", pointer);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_both_ways() {
    let server = Server::start().await;
    let ada = server.person("ada").await;
    let mut others = Vec::new();
    for name in ["bob", "cleo", "dan", "eve"] {
        others.push(server.person(name).await);
        server.log_in("ada").await;
    }
    let others: Vec<&Person> = others.iter().collect();
    let (group, _) = ada.group(&others).await;
    for _ in 0..4 {
        ada.group(&[]).await;
    }
    check(&ada, "/v1/groups", "id").await;
    check(&ada, &format!("/v1/groups/{group}/members"), "user").await;
    check(&ada, "/v1/sessions", "id").await;
    server.stop().await;
}
