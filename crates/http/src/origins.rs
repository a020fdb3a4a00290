//! Which web pages may call the API and connect.

use std::time::Duration;

use actix_cors::Cors;
use actix_web::http::header::{self, HeaderMap};

/// For so long a browser need not ask again whether it may send a request.
const PREFLIGHT_LASTS: Duration = Duration::from_secs(3600);

/// The origins allowed: exact scheme, host and port. None by default.
#[derive(Debug, Clone, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// That of `public_url`, and those listed.
    #[must_use]
    pub fn new(public_url: &str, listed: &[String]) -> Self {
        let own = origin_of(public_url);
        let all = listed.iter().map(|origin| origin_of(origin));
        Self(std::iter::once(own).chain(all).collect())
    }

    /// A request without an origin is no browser's, and is allowed; it has a ticket or a token
    /// all the same. Two origins are one too many to be sure.
    #[must_use]
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let mut given = headers.get_all(header::ORIGIN);
        match (given.next(), given.next()) {
            (None, _) => true,
            (Some(origin), None) => self.0.iter().any(|allowed| origin == allowed.as_str()),
            (Some(_), Some(_)) => false,
        }
    }

    /// Lets pages of these origins read what is answered, and send what the API takes (CORS).
    /// A request of another origin is answered too: its browser keeps the answer from the page.
    /// Cookies are of no use here, so none are allowed.
    pub(crate) fn cors(&self) -> Cors {
        let cors = Cors::default()
            .allowed_methods(["GET", "POST", "PUT", "PATCH", "DELETE"])
            .allowed_headers(["authorization", "content-type", "idempotency-key"])
            .allowed_headers(["if-match", "if-none-match", "last-event-id"])
            .expose_headers([
                "etag",
                "idempotency-replayed",
                "retry-after",
                "www-authenticate",
            ])
            .max_age(usize::try_from(PREFLIGHT_LASTS.as_secs()).ok());
        let origins = self.0.iter();
        origins.fold(cors, |cors, origin| cors.allowed_origin(origin))
    }
}

/// The origin of a URL as browsers write it: lower case, no path, no port that is the default.
fn origin_of(url: &str) -> String {
    let url = url.to_ascii_lowercase();
    let Some((scheme, rest)) = url.split_once("://") else {
        return url;
    };
    let host = rest.split('/').next().unwrap_or_default();
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(default_port).unwrap_or(host);
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn allowed(origins: &[&str]) -> bool {
        let listed = ["https://app.example.org".to_owned()];
        let own = Origins::new("https://Chat.example.org:443/base", &listed);
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        own.allow(&headers)
    }

    #[test]
    fn only_exact_origins_are_allowed() {
        for (origin, expected) in [
            ("https://chat.example.org", true),
            ("https://app.example.org", true),
            ("http://chat.example.org", false),
            ("https://chat.example.org:8443", false),
            ("https://chat.example.org:443", false),
            ("https://evil-chat.example.org", false),
            ("https://chat.example.org.evil.test", false),
            ("https://chat.example.org/", false),
            ("https://chat.example.orġ", false),
            ("https://CHAT.example.org", false),
            ("chat.example.org", false),
            ("null", false),
            ("", false),
            ("*", false),
        ] {
            assert_eq!(allowed(&[origin]), expected, "{origin:?}");
        }
    }

    #[test]
    fn none_is_allowed_and_two_are_not() {
        assert!(allowed(&[]));
        assert!(!allowed(&[
            "https://chat.example.org",
            "https://chat.example.org"
        ]));
    }
}
