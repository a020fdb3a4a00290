use std::fmt::Write as _;
use std::time::Duration;

use actix_web::ResponseError as _;
use actix_web::body::MessageBody as _;
use actix_web::http::header;
use serde_json::{Value, json};

use super::{Code, Problem};

fn body(problem: &Problem) -> Value {
    let Ok(bytes) = problem.error_response().into_body().try_into_bytes() else {
        panic!("a problem's body is in memory");
    };
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn the_table_of_problems_is_as_promised() {
    let mut table = String::new();
    for code in Code::ALL {
        let response = Problem::new(*code).error_response();
        writeln!(table, "{}", body(&Problem::new(*code))).unwrap();
        for name in [header::WWW_AUTHENTICATE, header::RETRY_AFTER] {
            if let Some(value) = response.headers().get(&name) {
                writeln!(table, "    {name}: {}", value.to_str().unwrap()).unwrap();
            }
        }
        assert_eq!(
            response.headers().get(header::CONTENT_TYPE).unwrap(),
            "application/problem+json"
        );
    }
    let golden = include_str!("problems.golden.txt");
    assert_eq!(table, golden, "got:\n{table}");
}

#[test]
fn a_problem_carries_its_details_and_members() {
    let problem = Problem::violation("/content", "must not be empty")
        .detail("one field is wrong")
        .member("holder", json!({"user": "ada"}));
    let body = body(&problem);
    assert_eq!(body["detail"], "one field is wrong");
    assert_eq!(
        body["errors"],
        json!([{"pointer": "/content", "detail": "must not be empty"}])
    );
    assert_eq!(body["holder"]["user"], "ada");
}

#[test]
fn retry_after_is_rounded_up() {
    let response = Problem::rate_limited(Duration::from_millis(1200)).error_response();
    assert_eq!(response.headers().get(header::RETRY_AFTER).unwrap(), "2");
    let response = Problem::method_not_allowed("GET, POST").error_response();
    assert_eq!(response.headers().get(header::ALLOW).unwrap(), "GET, POST");
}

#[test]
fn a_server_error_names_an_instance_and_no_cause() {
    let cause = std::io::Error::other("password of mongodb");
    for problem in [
        Problem::internal(&cause),
        Problem::unavailable(Duration::from_secs(1), Some(&cause)),
    ] {
        let body = body(&problem);
        assert!(body["instance"].as_str().unwrap().starts_with("urn:uuid:"));
        assert!(!body.to_string().contains("mongodb"));
    }
}
