//! Bad input gets a clear problem, and nothing is half done: after every case the heads of all
//! streams are what they were.

mod bodies;
mod places;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tidings_tests::client::{Client, Group, answer};

use super::System;

const MESSAGES: &str = "/v1/channels/{channel}/messages";

/// One request and the problem it gets.
struct Case {
    method: Method,
    /// `{group}`, `{channel}`, `{user}`, `{session}` stand for the ids of the caller's own;
    /// `{other…}` for those of somebody else.
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    status: u16,
    code: &'static str,
    /// What the answer must mention, such as the field.
    mentions: Option<&'static str>,
}

impl Case {
    fn new(method: Method, path: &str, status: u16, code: &'static str) -> Self {
        Self {
            method,
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
            status,
            code,
            mentions: None,
        }
    }

    fn get(path: &str, status: u16, code: &'static str) -> Self {
        Self::new(Method::GET, path, status, code)
    }

    /// A message whose body is these bytes.
    fn send(body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Self {
        Self::new(Method::POST, MESSAGES, status, code).json(body)
    }

    /// A JSON body to this place that is invalid.
    fn invalid(method: Method, path: &str, body: &str) -> Self {
        Self::new(method, path, 422, "invalid_request").json(body)
    }

    fn json(self, body: impl Into<Vec<u8>>) -> Self {
        let kind = "application/json";
        let mut case = self.header("content-type", kind);
        case.body = Some(body.into());
        case
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    fn mentions(mut self, what: &'static str) -> Self {
        self.mentions = Some(what);
        self
    }

    fn describe(&self) -> String {
        let body = self.body.as_deref().unwrap_or_default();
        let body: String = String::from_utf8_lossy(body).chars().take(80).collect();
        format!("{} {} {:?} {body}", self.method, self.path, self.headers)
    }
}

/// A user with a group, and another with one.
struct World {
    server: System,
    ada: Client,
    own: Group,
    eve: Client,
    others: Group,
}

impl World {
    async fn new() -> Result<Self> {
        let server = System::start().await?;
        let (ada, eve) = (server.user("ada").await?, server.user("eve").await?);
        let (own, others) = (ada.group("Own", &[]).await?, eve.group("Eve's", &[]).await?);
        ada.send(&own.channel, "the first message").await?;
        eve.send(&others.channel, "secret").await?;
        Ok(Self {
            server,
            ada,
            own,
            eve,
            others,
        })
    }

    /// Runs the cases and says of each that failed why, all of them at once.
    async fn check(&self, cases: Vec<Case>) -> Result<()> {
        let mut wrong = Vec::new();
        let mut heads = self.heads().await?;
        for case in &cases {
            if let Err(error) = self.check_one(case).await {
                wrong.push(format!("{}\n    {error:#}", case.describe()));
            }
            let now = self.heads().await.with_context(|| case.describe())?;
            if now != heads {
                wrong.push(format!("{}\n    something was done", case.describe()));
                heads = now;
            }
        }
        ensure!(
            wrong.is_empty(),
            "{} of {}:\n{}",
            wrong.len(),
            cases.len(),
            wrong.join("\n")
        );
        Ok(())
    }

    async fn check_one(&self, case: &Case) -> Result<()> {
        let answer = answer(self.request(case)).await?;
        let problem = answer.problem(case.status, case.code)?;
        if case.code == "invalid_request" {
            let errors = problem["errors"].as_array().context("no errors")?;
            let said = |error: &Value| error["pointer"].is_string() && error["detail"].is_string();
            ensure!(
                !errors.is_empty() && errors.iter().all(said),
                "errors: {problem}"
            );
        }
        if let Some(what) = case.mentions {
            ensure!(problem.to_string().contains(what), "no {what} in {problem}");
        }
        if case.status == 405 {
            ensure!(!answer.header("allow").is_empty(), "no Allow");
        }
        Ok(())
    }

    fn request(&self, case: &Case) -> RequestBuilder {
        let path = case
            .path
            .replace("{group}", &self.own.id)
            .replace("{channel}", &self.own.channel)
            .replace("{user}", &self.ada.user)
            .replace("{session}", &self.ada.session)
            .replace("{other group}", &self.others.id)
            .replace("{other channel}", &self.others.channel)
            .replace("{other user}", &self.eve.user)
            .replace("{other session}", &self.eve.session)
            .replace("{unknown}", "01970000-0000-7000-8000-000000000000");
        let authorised = case
            .headers
            .iter()
            .any(|(name, _)| *name == "authorization");
        let mut request = if authorised {
            self.server.api.request(case.method.clone(), &path)
        } else {
            self.ada.request(case.method.clone(), &path)
        };
        for (name, value) in &case.headers {
            request = request.header(*name, value);
        }
        match &case.body {
            Some(body) => {
                let text = String::from_utf8_lossy(body);
                let replaced = text
                    .replace("{other user}", &self.eve.user)
                    .replace("{other channel}", &self.others.channel)
                    .replace("{channel}", &self.own.channel);
                // What is not UTF-8 stays as it is.
                let valid = std::str::from_utf8(body).is_ok();
                request.body(if valid {
                    replaced.into_bytes()
                } else {
                    body.clone()
                })
            }
            None => request,
        }
    }

    async fn heads(&self) -> Result<(Value, Value)> {
        Ok((self.ada.heads().await?, self.eve.heads().await?))
    }
}
