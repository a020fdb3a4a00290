//! One client's way with the API: a change is repeated with its key until its outcome is known,
//! as docs/protocol.md (9) has it, and every answer is looked at.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fastrand::Rng;
use serde_json::{Value, json};

use super::history::{Change, Direct, Moment, Operation, Outcome, Question, Read, Typing};
use super::world::World;
use crate::client::{Answer, Client, answer};
use crate::replica::Delta;

/// How long a client waits for an answer.
const REQUEST: Duration = Duration::from_secs(15);
const FIRST_DELAY: Duration = Duration::from_millis(500);
/// Shorter than clients wait, so that a run does not spend its time waiting.
const MAX_DELAY: Duration = Duration::from_secs(4);
/// Of a hundred requests, those that go to a process directly.
const DIRECT: u8 = 20;

/// See the module's documentation.
#[derive(Debug)]
pub struct Actor {
    pub world: Arc<World>,
    /// Through nginx.
    pub client: Client,
    pub random: Rng,
    /// Begins everything that this actor makes up.
    pub name: String,
    count: u32,
}

/// What became of one attempt.
enum Attempt {
    Done(Outcome),
    /// To be repeated, after this time at least.
    Again(Duration),
}

impl Actor {
    #[must_use]
    pub fn new(world: Arc<World>, client: Client, name: String, seed: u64) -> Self {
        Self {
            world,
            client,
            random: Rng::with_seed(seed),
            name,
            count: 0,
        }
    }

    /// The same user at another device.
    #[must_use]
    pub fn other(&mut self) -> Self {
        let name = self.unique();
        let seed = self.random.u64(..);
        Self::new(self.world.clone(), self.client.clone(), name, seed)
    }

    /// A text that nobody else uses in this run.
    pub fn unique(&mut self) -> String {
        self.count += 1;
        format!("{} {}", self.name, self.count)
    }

    /// Carries out a change and records it.
    pub async fn perform(&mut self, change: Change) -> Outcome {
        let key = self.unique().replace(' ', "-");
        let invoked = self.world.recorder.now();
        let mut attempts = 0;
        let outcome = loop {
            attempts += 1;
            match self.attempt(&change, &key).await {
                Attempt::Done(outcome) => break outcome,
                Attempt::Again(least) => {
                    let span = (FIRST_DELAY * 2_u32.pow(attempts.min(8) - 1)).min(MAX_DELAY);
                    let wait = least.max(span.mul_f64(self.random.f64()));
                    let pause = tokio::time::sleep(wait);
                    if self
                        .world
                        .give_up
                        .run_until_cancelled(pause)
                        .await
                        .is_none()
                    {
                        break Outcome::Unknown;
                    }
                }
            }
        };
        let answered = match outcome {
            Outcome::Unknown => Moment::MAX,
            _ => self.world.recorder.now(),
        };
        self.world.done(Operation {
            actor: self.client.user.clone(),
            change,
            key,
            invoked,
            answered,
            attempts,
            outcome: outcome.clone(),
        });
        outcome
    }

    async fn attempt(&mut self, change: &Change, key: &str) -> Attempt {
        let (method, path, body, if_match) = change.request();
        let what = format!("{method} {path}");
        let (client, target) = self.pick_way();
        let mut request = client.request(method, &path).timeout(REQUEST);
        // The two ways to give a key.
        let by_nonce = matches!(change, Change::Send { .. }) && key.ends_with(['0', '2', '4']);
        if !by_nonce {
            request = request.header("idempotency-key", key);
        }
        if let Some(version) = if_match {
            request = request.header("if-match", format!("\"{version}\""));
        }
        if let Some(token) = change.token() {
            request = request.header("edit-lease", token);
        }
        if let Some(mut body) = body {
            if by_nonce {
                body["nonce"] = json!(key);
            }
            request = request.json(&body);
        }
        let Some(answer) = self.send(target, what.clone(), request).await else {
            return Attempt::Again(Duration::ZERO);
        };
        match answer.status {
            200..300 => match answer.ok() {
                Ok(body) => Attempt::Done(Outcome::Ok {
                    status: answer.status,
                    replayed: answer.header("idempotency-replayed") == "true",
                    body,
                }),
                Err(error) => {
                    self.world.recorder.violation(format!("{what}: {error:#}"));
                    Attempt::Done(Outcome::Unknown)
                }
            },
            408 | 429 | 500.. => {
                let seconds = answer.header("retry-after").parse().unwrap_or(0);
                Attempt::Again(Duration::from_secs(seconds).min(MAX_DELAY))
            }
            status => {
                let code = code_of(&answer);
                if code == "token_expired" {
                    self.client.refresh().await.ok(); // It is expired still at the next attempt.
                    return Attempt::Again(Duration::ZERO);
                }
                if matches!(status, 400 | 401 | 405 | 413 | 415) || code == "idempotency_mismatch" {
                    let text = answer.text();
                    self.world
                        .recorder
                        .violation(format!("{what}: {status} {text}"));
                }
                Attempt::Done(Outcome::Refused { status, code })
            }
        }
    }

    /// Reads something once and records the answer, if there is one.
    pub async fn read(&mut self, question: Question) -> Option<Value> {
        let invoked = self.world.recorder.now();
        let (client, target) = self.pick_way();
        let (what, request) = ask(&client, &question);
        let answer = self
            .send(target, what.clone(), request.timeout(REQUEST))
            .await?;
        if matches!(answer.status, 401 | 408 | 429 | 500..) {
            return None;
        }
        let answered = self.world.recorder.now();
        let (body, deltas) = match self.understand(&answer) {
            Ok(understood) => understood,
            Err(error) => {
                self.world.recorder.violation(format!("{what}: {error:#}"));
                return None;
            }
        };
        self.world.recorder.read(Read {
            actor: self.client.user.clone(),
            question,
            invoked,
            answered,
            status: answer.status,
            body: body.clone(),
            deltas,
        });
        (answer.status == 200).then_some(body)
    }

    /// Tells the others that this user is about to write.
    pub async fn type_in(&mut self, channel: String) {
        let invoked = self.world.recorder.now();
        let (client, target) = self.pick_way();
        let path = format!("/v1/channels/{channel}/typing");
        let request = client.request(reqwest::Method::POST, &path);
        let answer = self.send(target, path, request.timeout(REQUEST)).await;
        let status = answer.map(|answer| answer.status);
        if status.is_some_and(|status| (400..500).contains(&status)) {
            return;
        }
        let done = status == Some(204);
        self.world.recorder.typing(Typing {
            actor: self.client.user.clone(),
            channel,
            invoked,
            answered: if done {
                self.world.recorder.now()
            } else {
                Moment::MAX
            },
            done,
        });
    }

    fn understand(&self, answer: &Answer) -> Result<(Value, Vec<Arc<Delta>>)> {
        let mut body = answer.json()?;
        let mut deltas = Vec::new();
        for delta in body["deltas"].as_array().into_iter().flatten() {
            let delta = Delta::parse(delta)?;
            deltas.extend(delta.map(|delta| self.world.recorder.delta(delta)));
        }
        if let Some(fields) = body.as_object_mut() {
            fields.remove("deltas");
        }
        Ok((body, deltas))
    }

    /// Mostly through nginx, sometimes to one process: then its name is there too.
    fn pick_way(&mut self) -> (Client, Option<String>) {
        if self.random.u8(..100) >= DIRECT || self.world.apis.is_empty() {
            return (self.client.clone(), None);
        }
        let index = self.random.usize(..self.world.apis.len());
        let client = self.client.at(&self.world.apis[index]);
        (client, Some(format!("api-{index}")))
    }

    /// The answer, if there is one. What is not as every answer must be is recorded.
    async fn send(
        &self,
        target: Option<String>,
        what: String,
        request: reqwest::RequestBuilder,
    ) -> Option<Answer> {
        let invoked = self.world.recorder.now();
        let answer = answer(request).await;
        if let Ok(answer) = &answer
            && let Err(error) = well_formed(answer)
        {
            let at = target.as_deref().unwrap_or("nginx");
            self.world
                .recorder
                .violation(format!("{what} at {at}: {error:#}"));
        }
        if let Some(target) = target {
            self.world.recorder.direct(Direct {
                target,
                what,
                invoked,
                ended: self.world.recorder.now(),
                answered: answer.is_ok(),
            });
        }
        answer.ok()
    }
}

/// Every refusal is a problem; one that asks to come again says when.
fn well_formed(answer: &Answer) -> Result<()> {
    if (200..300).contains(&answer.status) {
        return Ok(());
    }
    let code = code_of(answer);
    answer.problem(answer.status, &code)?;
    anyhow::ensure!(!code.is_empty(), "no code: {}", answer.text());
    if matches!(answer.status, 429 | 503) {
        let after = answer.header("retry-after");
        anyhow::ensure!(after.parse::<u64>().is_ok(), "Retry-After {after:?}");
    }
    Ok(())
}

fn code_of(answer: &Answer) -> String {
    let body = answer.json().unwrap_or_default();
    body["code"].as_str().unwrap_or_default().to_owned()
}

fn ask(client: &Client, question: &Question) -> (String, reqwest::RequestBuilder) {
    let path = match question {
        Question::Message { channel, seq } => format!("/v1/channels/{channel}/messages/{seq}"),
        Question::Newest { channel } => format!("/v1/channels/{channel}/messages"),
        Question::Channel { channel } => format!("/v1/channels/{channel}"),
        Question::Group { group } => format!("/v1/groups/{group}"),
        Question::Sync { stream, after } => {
            let body = json!({"cursor": {stream: after}, "only": true, "limit": 100});
            let request = client
                .request(reqwest::Method::POST, "/v1/sync")
                .json(&body);
            return (format!("sync {stream} after {after}"), request);
        }
    };
    let request = client.request(reqwest::Method::GET, &path);
    (path, request)
}
