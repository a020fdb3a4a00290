//! JSON bodies as typed values. What is not JSON is 400, JSON of another shape is 422 with a
//! pointer to the first thing that does not fit.

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::{FutureExt as _, LocalBoxFuture};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use serde_path_to_error::{Path, Segment};

use crate::body;
use crate::problem::{Code, Problem, Violation};

/// Arrays and objects inside each other. Nothing of ours is nearly as deep, and reading is
/// recursive.
const MAX_DEPTH: usize = 32;

/// A request body. Types derive `Deserialize` with `deny_unknown_fields`, so that a field
/// which does nothing is refused and not ignored.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T> Json<T> {
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let mut payload = payload.take();
        async move {
            if let Err(problem) = check_type(request.headers()) {
                return Err(body::refuse(&mut payload, problem).await);
            }
            let body = body::read(&request, &mut payload).await?;
            parse(&body).map(Self)
        }
        .boxed_local()
    }
}

/// Reads one JSON value, which is no array, from `body`, and nothing behind it.
///
/// # Errors
///
/// 400 `malformed_json` for what is not JSON in UTF-8 or too deep, 422 for another shape.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let malformed = |detail: String| Problem::new(Code::MalformedJson).detail(detail);
    let text = std::str::from_utf8(body).map_err(|error| malformed(error.to_string()))?;
    if is_too_deep(text) {
        return Err(malformed(format!("nested more than {MAX_DEPTH} deep")));
    }
    // Derived types would take an array for their fields in order.
    if text.trim_start().starts_with('[') {
        return match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Err(Problem::invalid(vec![Violation::new(
                String::new(),
                "invalid type: array, expected an object",
            )])),
            Err(error) => Err(malformed(error.to_string())),
        };
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let result = serde_path_to_error::deserialize(&mut deserializer);
    let error = match result {
        Ok(value) => {
            return match deserializer.end() {
                Ok(()) => Ok(value),
                Err(error) => Err(malformed(error.to_string())),
            };
        }
        Err(error) => error,
    };
    match error.inner().classify() {
        Category::Data => {
            // Reading stopped at the first misfit; whether it is JSON at all shows at the end.
            match serde_json::from_str::<IgnoredAny>(text) {
                Ok(_) => Err(Problem::invalid(vec![violation(&error)])),
                Err(error) => Err(malformed(error.to_string())),
            }
        }
        Category::Syntax | Category::Eof | Category::Io => {
            Err(malformed(error.inner().to_string()))
        }
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail: &str| Problem::new(Code::UnsupportedMediaType).detail(detail);
    let mut encodings = headers.get_all(header::CONTENT_ENCODING);
    // Inflating bodies would let a small one take any amount of memory.
    if !encodings.all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(refused("the body must not be compressed"));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE);
    match (
        types.next().and_then(|value| value.to_str().ok()),
        types.next(),
    ) {
        (Some(value), None) if is_json(value) => Ok(()),
        _ => Err(refused("the content type must be application/json")),
    }
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts
        .next()
        .is_some_and(|name| name.eq_ignore_ascii_case("application/json"));
    is_json
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
                value.trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}

/// Counts brackets outside strings, so that nothing has to be parsed to find out.
fn is_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

fn violation(error: &serde_path_to_error::Error<serde_json::Error>) -> Violation {
    let message = error.inner().to_string();
    // The position is left out: the pointer says it better.
    let detail = match message.rsplit_once(" at line ") {
        Some((detail, _)) => detail,
        None => &message,
    };
    let mut pointer = pointer(error.path());
    if let Some(field) = field_named_in(detail) {
        push(&mut pointer, field);
    }
    Violation::new(pointer, detail)
}

/// For a missing or repeated field the path ends at the object around it, and only the message
/// names the field. Should serde word these otherwise one day, a pointer is less exact.
pub(crate) fn field_named_in(detail: &str) -> Option<&str> {
    let rest = detail
        .strip_prefix("missing field `")
        .or_else(|| detail.strip_prefix("duplicate field `"))?;
    rest.strip_suffix('`')
}

/// RFC 6901.
fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Map { key } => push(&mut pointer, key),
            Segment::Enum { variant } => push(&mut pointer, variant),
            Segment::Unknown => break,
        }
    }
    pointer
}

fn push(pointer: &mut String, token: &str) {
    pointer.push('/');
    pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError as _;
    use actix_web::body::MessageBody as _;
    use serde::Deserialize;
    use serde_json::Value;

    use super::{is_json, is_too_deep, parse};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Draft {
        content: String,
        #[serde(default)]
        mentions: Vec<Mention>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Mention {
        user: u8,
    }

    fn refused(body: &[u8]) -> Value {
        let response = parse::<Draft>(body).unwrap_err().error_response();
        let Ok(bytes) = response.into_body().try_into_bytes() else {
            panic!("a problem's body is in memory");
        };
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn an_array_is_not_taken_for_an_object() {
        for body in [&br#"["x"]"#[..], b" []", b"\n[\"x\",[]]"] {
            let problem = refused(body);
            assert_eq!(problem["code"], "invalid_request");
            assert_eq!(problem["errors"][0]["pointer"], "");
        }
        assert_eq!(refused(b"[1")["code"], "malformed_json");
    }

    #[test]
    fn json_of_another_shape_is_invalid_with_a_pointer() {
        let check = |body: &str, pointer: &str, detail: &str| {
            let problem = refused(body.as_bytes());
            assert_eq!(problem["code"], "invalid_request", "{body}");
            let errors = &problem["errors"][0];
            assert_eq!(errors["pointer"], pointer, "{body} {problem}");
            let text = errors["detail"].as_str().unwrap();
            assert!(text.contains(detail), "{body} {text}");
            assert!(!text.contains("line"), "{text}");
        };
        check(r#"{"content":5}"#, "/content", "expected a string");
        check(r#"{}"#, "/content", "missing field `content`");
        check(r#"{"content":"a","seq":1}"#, "/seq", "unknown field `seq`");
        check(
            r#"{"content":"a","mentions":[{"user":1},{"user":300}]}"#,
            "/mentions/1/user",
            "300",
        );
        check(
            r#"{"content":"a","mentions":[{}]}"#,
            "/mentions/0/user",
            "missing field",
        );
        check(
            r#"{"content":"a","content":"b"}"#,
            "/content",
            "duplicate field `content`",
        );
        check("[]", "", "");
        check("null", "", "");
    }

    #[test]
    fn what_is_not_json_is_malformed_whatever_came_before() {
        let deep = format!("{}{}", "[".repeat(33), "]".repeat(33));
        for body in [
            b"".as_slice(),
            b"{",
            b"{\"content\":5, oops",
            b"{\"content\":5}}",
            b"{\"content\":\"a\"} x",
            b"{\"content\":\"\xff\"}",
            b"{\"content\":\"\\ud800\"}",
            b"\xef\xbb\xbf{\"content\":\"a\"}",
            deep.as_bytes(),
        ] {
            let shown = String::from_utf8_lossy(body).into_owned();
            assert_eq!(refused(body)["code"], "malformed_json", "{shown}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert!(!is_too_deep(&format!(
            "{}{}",
            "[".repeat(32),
            "]".repeat(32)
        )));
        assert!(is_too_deep(&"{\"a\":".repeat(33)));
        assert!(!is_too_deep(&format!("[\"\\\"{}\"]", "[".repeat(100))));
        assert!(!is_too_deep(&"[],".repeat(100)));
    }

    #[test]
    fn the_content_type_is_json_in_utf_8() {
        for good in [
            "application/json",
            "Application/JSON; charset=\"UTF-8\"",
            "application/json;v=1",
        ] {
            assert!(is_json(good), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonp",
            "application/json; charset=latin1",
        ] {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
