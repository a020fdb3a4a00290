//! Parameters in paths and queries as typed values.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use serde::de::DeserializeOwned;

use crate::json::field_named_in;
use crate::problem::Problem;

/// The parameters of a path. What is not an id names nothing: 404.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T> Path<T> {
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Path<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let path = web::Path::<T>::from_request(request, payload).into_inner();
        ready(
            path.map(|path| Self(path.into_inner()))
                .map_err(|_| Problem::not_found()),
        )
    }
}

/// The parameters of a query. Types derive `Deserialize` with `deny_unknown_fields`. What does
/// not fit is 422 with `?name` for a pointer.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T> Query<T> {
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse_query(request.query_string()).map(Self))
    }
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let deserializer = serde_urlencoded::Deserializer::new(pairs);
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let detail = error.inner().to_string();
        let path = error.path().to_string();
        // `.` is how the path of the whole query is printed.
        let name = match path.as_str() {
            "." => field_named_in(&detail).unwrap_or_default(),
            name => name,
        };
        Problem::violation(format!("?{name}"), detail.as_str())
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::parse_query;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields, default)]
    struct Page {
        limit: Option<u8>,
        after: Option<String>,
    }

    #[test]
    fn a_query_is_read_into_its_type() {
        let page: Page = parse_query("limit=5&after=a%20b").unwrap();
        assert_eq!(page.limit, Some(5));
        assert_eq!(page.after.as_deref(), Some("a b"));
        assert_eq!(parse_query::<Page>("").unwrap(), Page::default());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |query, pointer| {
            let problem = format!("{:?}", parse_query::<Page>(query).unwrap_err());
            assert!(
                problem.contains(&format!("pointer: \"{pointer}\"")),
                "{problem}"
            );
        };
        check("limit=many", "?limit");
        check("limit=-1", "?limit");
        check("limit=1000", "?limit");
        check("offset=1", "?offset");
        check("limit=1&limit=2", "?limit");
    }
}
