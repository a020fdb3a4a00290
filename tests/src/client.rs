//! HTTP, as a client of the API sees it: without any of the server's types.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use tidings_common::clock::{Clock as _, SystemClock};

use crate::failure::Refused;

/// No answer may take longer.
const REQUEST: Duration = Duration::from_secs(30);
/// Logins at once; the server queues the hashing of 256.
const LOGINS_AT_ONCE: usize = 32;
/// The password of every user of the tests.
pub const PASSWORD: &str = "correct horse";

/// A server's HTTP interface, without a user.
#[derive(Debug, Clone)]
pub struct Api {
    http: reqwest::Client,
    pub base: String,
}

/// One session of one user. Clones are the same session.
#[derive(Debug, Clone)]
pub struct Client {
    pub api: Api,
    /// The user's id.
    pub user: String,
    pub username: String,
    /// The session's id.
    pub session: String,
    tokens: Arc<Mutex<Tokens>>,
}

#[derive(Debug, Clone)]
struct Tokens {
    access: String,
    refresh: String,
}

/// A group and its first channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    pub channel: String,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON: {} {}", self.status, self.text()))
    }

    /// The body of a success; null if there is none.
    ///
    /// # Errors
    /// It is not a success: [`Refused`].
    pub fn ok(&self) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            return Err(Refused::of(self).into());
        }
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        self.json()
    }

    /// Checks that this is a problem of RFC 9457 in every part that clients may rely on.
    ///
    /// # Errors
    /// It is something else.
    pub fn problem(&self, status: u16, code: &str) -> Result<Value> {
        let text = self.text();
        ensure!(
            self.status == status,
            "{} instead of {status} {code}: {text}",
            self.status
        );
        let kind = self.header("content-type");
        ensure!(kind == "application/problem+json", "{kind}: {text}");
        let body = self.json()?;
        ensure!(body["code"] == code, "not {code}: {text}");
        ensure!(body["status"] == status, "another status inside: {text}");
        for field in ["type", "title"] {
            ensure!(body[field].is_string(), "no {field}: {text}");
        }
        for field in ["detail", "instance"] {
            let there = body.get(field);
            ensure!(there.is_none_or(Value::is_string), "{field}: {text}");
        }
        if status == 401 {
            let challenge = self.header("www-authenticate");
            ensure!(challenge.starts_with("Bearer"), "challenge: {challenge}");
        }
        Ok(body)
    }

    /// A header's text; empty if it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The beginning of the body, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(500)
            .collect()
    }
}

/// A text of JSON's value, or an error that shows the whole.
///
/// # Errors
/// The field is missing or no text.
pub fn text<'a>(value: &'a Value, field: &str) -> Result<&'a str> {
    value[field]
        .as_str()
        .with_context(|| format!("no {field} in {value}"))
}

/// A whole number of JSON's value, or an error that shows the whole.
///
/// # Errors
/// The field is missing or no whole number.
pub fn number(value: &Value, field: &str) -> Result<u64> {
    value[field]
        .as_u64()
        .with_context(|| format!("no {field} in {value}"))
}

/// The elements of a field that is a list.
///
/// # Errors
/// The field is missing or no list.
pub fn items<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    value[field]
        .as_array()
        .with_context(|| format!("no {field} in {value}"))
}

impl Api {
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(base: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .timeout(REQUEST)
            .pool_max_idle_per_host(64)
            .no_proxy()
            .build()?;
        Ok(Self {
            http,
            base: base.to_owned(),
        })
    }

    /// A request to be completed by hand, for what clients normally do not send.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// # Errors
    /// There was no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        answer(self.request(Method::GET, path)).await
    }

    /// # Errors
    /// There was no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// Registers a user and logs in.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn user(&self, username: &str) -> Result<Client> {
        let body = json!({"username": username, "password": PASSWORD, "display_name": username});
        self.post("/v1/users", &body).await?.ok()?;
        self.login(username).await
    }

    /// Registers `count` users, `<prefix>0` and so on, and logs them in.
    ///
    /// # Errors
    /// The server refuses one of them.
    pub async fn users(&self, prefix: &str, count: usize) -> Result<Vec<Client>> {
        let names = (0..count).map(|number| format!("{prefix}{number}"));
        stream::iter(names.map(async |name| self.user(&name).await))
            .buffered(LOGINS_AT_ONCE)
            .try_collect()
            .await
    }

    /// A new session of a user.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn login(&self, username: &str) -> Result<Client> {
        let body = json!({"username": username, "password": PASSWORD, "device_name": "test"});
        let answer = self.post("/v1/sessions", &body).await?;
        ensure!(answer.status == 201, "login: {}", answer.text());
        let session = answer.ok()?;
        Ok(Client {
            api: self.clone(),
            user: text(&session["user"], "id")?.to_owned(),
            username: username.to_owned(),
            session: text(&session, "session")?.to_owned(),
            tokens: Arc::new(Mutex::new(Tokens::of(&session)?)),
        })
    }
}

impl Tokens {
    fn of(answer: &Value) -> Result<Self> {
        Ok(Self {
            access: text(answer, "access_token")?.to_owned(),
            refresh: text(answer, "refresh_token")?.to_owned(),
        })
    }
}

impl Client {
    /// The same session, asking another server.
    #[must_use]
    pub fn at(&self, api: &Api) -> Self {
        let api = api.clone();
        Self {
            api,
            ..self.clone()
        }
    }

    /// A request of this session, to be completed by hand.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.api
            .request(method, path)
            .bearer_auth(self.access_token())
    }

    /// # Errors
    /// There was no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        answer(self.request(Method::GET, path)).await
    }

    /// # Errors
    /// There was no answer.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        answer(self.request(Method::POST, path).json(body)).await
    }

    /// # Errors
    /// There was no answer.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        answer(self.request(Method::PUT, path).json(body)).await
    }

    /// # Errors
    /// There was no answer.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        answer(self.request(Method::PATCH, path).json(body)).await
    }

    /// # Errors
    /// There was no answer.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        answer(self.request(Method::DELETE, path)).await
    }

    /// The token that requests carry now.
    #[must_use]
    pub fn access_token(&self) -> String {
        self.lock().access.clone()
    }

    /// Exchanges the refresh token for a new pair; `false` if the session has ended.
    ///
    /// # Errors
    /// The server refuses it for another reason.
    pub async fn refresh(&self) -> Result<bool> {
        let body = json!({"refresh_token": self.lock().refresh.clone()});
        let answer = self.api.post("/v1/sessions/refresh", &body).await?;
        if answer.status == 401 {
            return Ok(false);
        }
        *self.lock() = Tokens::of(&answer.ok()?)?;
        Ok(true)
    }

    /// Creates a group with these members besides the caller.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn group(&self, name: &str, members: &[&Client]) -> Result<Group> {
        let members: Vec<&str> = members.iter().map(|member| &*member.user).collect();
        let body = json!({"name": name, "members": members});
        let group = self.post("/v1/groups", &body).await?.ok()?;
        Ok(Group {
            id: text(&group, "id")?.to_owned(),
            channel: text(&group["channels"][0], "id")?.to_owned(),
        })
    }

    /// Sends a message and returns it.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn send(&self, channel: &str, content: &str) -> Result<Value> {
        let body = json!({ "content": content });
        let path = format!("/v1/channels/{channel}/messages");
        let answer = self.post(&path, &body).await?;
        ensure!(answer.status == 201, "send: {}", answer.text());
        answer.ok()
    }

    /// Sends a message with a nonce; any answer is returned.
    ///
    /// # Errors
    /// There was no answer.
    pub async fn send_nonce(&self, channel: &str, content: &str, nonce: &str) -> Result<Answer> {
        let body = json!({"content": content, "nonce": nonce});
        let path = format!("/v1/channels/{channel}/messages");
        self.post(&path, &body).await
    }

    /// All messages of a channel, page by page from its beginning.
    ///
    /// # Errors
    /// The server refuses it, or a page is not what it should be.
    pub async fn messages(&self, channel: &str) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        let mut after = 0;
        loop {
            let path = format!("/v1/channels/{channel}/messages?after={after}&limit=100");
            let page = self.get(&path).await?.ok()?;
            for message in items(&page, "items")? {
                let seq = number(message, "seq")?;
                ensure!(seq > after, "{seq} is not after {after}");
                after = seq;
                found.push(message.clone());
            }
            if page["more"] != true {
                return Ok(found);
            }
            if items(&page, "items")?.is_empty() {
                bail!("an empty page says that there is more");
            }
        }
    }

    /// The position of the channel's newest entry.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn head(&self, channel: &str) -> Result<u64> {
        let channel = self.get(&format!("/v1/channels/{channel}")).await?.ok()?;
        number(&channel, "head")
    }

    /// The heads of all of the user's streams.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn heads(&self) -> Result<Value> {
        let answer = self.post("/v1/sync", &json!({"cursor": {}})).await?.ok()?;
        Ok(answer["heads"].clone())
    }

    /// A ticket for one realtime connection.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn ticket(&self) -> Result<Value> {
        let answer = self.post("/v1/realtime/tickets", &json!({})).await?;
        ensure!(answer.status == 201, "ticket: {}", answer.text());
        answer.ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// There was none.
pub async fn answer(request: reqwest::RequestBuilder) -> Result<Answer> {
    let response = request.send().await?;
    Ok(Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await?.to_vec(),
    })
}

/// The time so many seconds from now, as bodies have it.
#[must_use]
pub fn in_secs(secs: u64) -> String {
    let millis = i64::try_from(secs * 1000).unwrap_or(i64::MAX);
    SystemClock.now().plus_millis(millis).to_string()
}

/// A header from text that is known to be valid.
#[must_use]
pub fn header(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}
