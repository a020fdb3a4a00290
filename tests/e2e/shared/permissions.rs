//! Every action of docs/permissions.md, asked for by everybody.

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tidings_tests::client::{Answer, Client, Group, answer, items, number, text};
use tidings_tests::started;

use super::System;

const DOCUMENT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../docs/permissions.md"
));
/// The columns behind the action and its request.
const COLUMNS: [&str; 8] = [
    "owner",
    "admin",
    "member",
    "muted",
    "banned",
    "stranger",
    "member of a direct conversation",
    "stranger to it",
];
/// What is done even if it is ignored.
const MENTION: &str = "mention everyone";
/// A time that does not come during the test.
const LATER: u64 = 3600;

#[tokio::test]
async fn everybody_is_told_what_the_table_says() -> Result<()> {
    let server = started!(System::start().await);
    let people = People::new(&server).await?;
    let rows = rows()?;
    ensure!(rows.len() > 20, "{} rows", rows.len());
    let columns = COLUMNS.iter().enumerate().map(|(column, standing)| {
        let (rows, people) = (&rows, &people);
        async move {
            let mut scene = Scene::new(people, standing).await?;
            for (action, verdicts) in rows {
                let expected = verdicts[column];
                let told = scene.ask(action).await?;
                let is_so = is_as_expected(action, expected, &told);
                let (status, text) = (told.status, told.text());
                ensure!(
                    is_so,
                    "{action} as {standing}: {status}, not {expected}: {text}"
                );
                // What was allowed has perhaps changed who is what.
                let changes_all = [
                    "delete the group",
                    "pass on ownership",
                    "leave",
                    "join by an invite",
                ];
                if expected == "yes" && changes_all.contains(&&**action) {
                    scene = Scene::new(people, standing).await?;
                }
            }
            anyhow::Ok(())
        }
    });
    try_join_all(columns).await?;
    Ok(())
}

fn is_as_expected(action: &str, expected: &str, told: &Answer) -> bool {
    let done = (200..300).contains(&told.status);
    match expected {
        "yes" if action == MENTION => done && mentions_everyone(told) == json!(true),
        "yes" => done,
        "ignored" => done && mentions_everyone(told) == json!(false),
        status => told.status.to_string() == status,
    }
}

/// Null of what is no message.
fn mentions_everyone(told: &Answer) -> Value {
    let message = told.json().unwrap_or_default();
    message["mentions_everyone"].clone()
}

/// The table's rows: the action, and a verdict for each column.
fn rows() -> Result<Vec<(&'static str, Vec<&'static str>)>> {
    let mut lines = DOCUMENT.lines().filter(|line| line.starts_with('|'));
    let cells = |line: &'static str| -> Vec<&'static str> {
        let cells = line.trim_matches('|').split('|');
        cells.map(str::trim).collect()
    };
    let head = cells(lines.next().context("a table")?);
    ensure!(head[2..] == COLUMNS, "{head:?}");
    let rows = lines.skip(1).map(|line| {
        let cells = cells(line);
        ensure!(cells.len() == head.len(), "{line}");
        Ok((cells[0], cells[2..].to_vec()))
    });
    rows.collect()
}

struct People {
    owner: Client,
    admin: Client,
    /// Whom actions concern.
    target: Client,
    /// By standing, but for the owner and the admin.
    others: Vec<(&'static str, Client)>,
    /// In no group.
    newcomer: Client,
}

impl People {
    async fn new(server: &System) -> Result<Self> {
        let mut all = server.users("p", 10).await?.into_iter();
        let mut next = || all.next().context("a user");
        let (owner, admin, target, newcomer) = (next()?, next()?, next()?, next()?);
        let mut others = Vec::new();
        for standing in &COLUMNS[2..] {
            others.push((*standing, next()?));
        }
        Ok(Self {
            owner,
            admin,
            target,
            others,
            newcomer,
        })
    }

    fn of(&self, standing: &str) -> Result<Client> {
        Ok(match standing {
            "owner" => self.owner.clone(),
            "admin" => self.admin.clone(),
            _ => {
                let found = self.others.iter().find(|(name, _)| *name == standing);
                found.context("a standing")?.1.clone()
            }
        })
    }
}

/// A group with somebody of each standing, for one of them.
struct Scene {
    who: Client,
    owner: Client,
    target: Client,
    newcomer: Client,
    group: Group,
    /// Two messages of `who`, or of somebody else if there can be none.
    own: [u64; 2],
    /// Of somebody else.
    others: [u64; 2],
    is_direct: bool,
}

impl Scene {
    async fn new(people: &People, standing: &str) -> Result<Self> {
        let is_direct = standing.contains("direct") || standing == "stranger to it";
        let who = people.of(standing)?;
        let (owner, target) = (people.owner.clone(), people.target.clone());
        let is_stranger = standing.contains("stranger");
        let group = match (is_direct, is_stranger) {
            (true, true) => direct(&owner, &target).await?,
            (true, false) => direct(&owner, &who).await?,
            (false, _) => {
                let mut members = vec![&people.admin, &target];
                members.extend(
                    (standing != "owner" && standing != "admin" && !is_stranger).then_some(&who),
                );
                owner.group("Engine room", &members).await?
            }
        };
        let mut seqs = Vec::new();
        let author = if is_stranger { &owner } else { &who };
        for author in [author, author, &owner, &owner] {
            let sent = author.send(&group.channel, "hello").await?;
            seqs.push(number(&sent, "seq")?);
        }
        let scene = Self {
            who,
            owner,
            target,
            newcomer: people.newcomer.clone(),
            group,
            own: [seqs[0], seqs[1]],
            others: [seqs[2], seqs[3]],
            is_direct,
        };
        if !is_direct {
            let admin = scene.path(&format!("members/{}", people.admin.user));
            scene
                .by_owner(Method::PUT, &admin, json!({"role": "admin"}))
                .await?;
        }
        match standing {
            "muted" => {
                let mute = scene.path(&format!("members/{}/mute", scene.who.user));
                scene.by_owner(Method::PUT, &mute, until()).await?;
            }
            "banned" => {
                let ban = scene.path(&format!("bans/{}", scene.who.user));
                scene.by_owner(Method::PUT, &ban, json!({})).await?;
            }
            _ => {}
        }
        // Where the owner is the one who acts, what is another's is the admin's.
        if standing == "owner" {
            let mut scene = scene;
            for seq in &mut scene.others {
                *seq = number(
                    &people.admin.send(&scene.group.channel, "mine").await?,
                    "seq",
                )?;
            }
            return Ok(scene);
        }
        Ok(scene)
    }

    fn path(&self, rest: &str) -> String {
        format!("/v1/groups/{}/{rest}", self.group.id)
    }

    async fn by_owner(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let request = self.owner.request(method, path).json(&body);
        answer(request).await?.ok().context(path.to_owned())
    }

    /// As [`Scene::by_owner`], of what nobody can do in a direct conversation.
    async fn prepare(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        if self.is_direct {
            return Ok(Value::Null);
        }
        self.by_owner(method, path, body).await
    }

    async fn ask(&self, action: &str) -> Result<Answer> {
        let nothing = json!({});
        let messages = format!("/v1/channels/{}/messages", self.group.channel);
        let message = |seq: u64| format!("{messages}/{seq}");
        let target = self.path(&format!("members/{}", self.target.user));
        let ban = self.path(&format!("bans/{}", self.newcomer.user));
        let name = json!({"name": "another"});
        let content = json!({"content": "another"});
        match action {
            "read" => self.read().await,
            "send a message" => self.send(Method::POST, &messages, content).await,
            "show that one is typing" => {
                let path = messages.replace("/messages", "/typing");
                self.call(Method::POST, &path).await
            }
            "send in spite of slow mode" => self.send_again().await,
            MENTION => self.mention_everyone(&messages).await,
            "edit one's message" => {
                self.send(Method::PATCH, &message(self.own[0]), content)
                    .await
            }
            "edit another's message" => {
                self.send(Method::PATCH, &message(self.others[0]), content)
                    .await
            }
            "delete one's message" => self.call(Method::DELETE, &message(self.own[1])).await,
            "delete another's message" => self.call(Method::DELETE, &message(self.others[1])).await,
            "react" => {
                let path = format!("{}/reactions/ok", message(self.others[0]));
                self.send(Method::PUT, &path, nothing).await
            }
            "take a reaction back" => {
                let path = format!("{}/reactions/ok", message(self.others[0]));
                self.call(Method::DELETE, &path).await
            }
            "pin" => {
                let path = format!("{}/pin", message(self.others[0]));
                self.send(Method::PUT, &path, nothing).await
            }
            "unpin" => {
                let path = format!("{}/pin", message(self.others[0]));
                self.call(Method::DELETE, &path).await
            }
            "change the group" => {
                self.send(
                    Method::PATCH,
                    &format!("/v1/groups/{}", self.group.id),
                    name,
                )
                .await
            }
            "take the edit lease" => self.take_lease("").await,
            "take it from its holder" => self.take_lease("?steal=true").await,
            "delete the group" => {
                self.call(Method::DELETE, &format!("/v1/groups/{}", self.group.id))
                    .await
            }
            "create a channel" => self.send(Method::POST, &self.path("channels"), name).await,
            "change a channel" => {
                let body = json!({"name": "another", "slow_mode_secs": 0});
                self.send(Method::PATCH, &self.another_channel().await?, body)
                    .await
            }
            "delete a channel" => {
                self.call(Method::DELETE, &self.another_channel().await?)
                    .await
            }
            "add a member" => {
                let path = self.path(&format!("members/{}", self.newcomer.user));
                let told = self.send(Method::PUT, &path, nothing).await?;
                if told.status == 201 {
                    ensure!(self.owner.delete(&path).await?.status == 204);
                }
                Ok(told)
            }
            "give a role" => {
                self.send(Method::PATCH, &target, json!({"role": "member"}))
                    .await
            }
            "pass on ownership" => {
                self.send(Method::PATCH, &target, json!({"role": "owner"}))
                    .await
            }
            "remove a member" => {
                let told = self.call(Method::DELETE, &target).await?;
                self.prepare(Method::PUT, &target, nothing).await?;
                Ok(told)
            }
            "leave" => {
                let path = self.path(&format!("members/{}", self.who.user));
                self.call(Method::DELETE, &path).await
            }
            "see who is banned" => {
                self.prepare(Method::PUT, &ban, nothing).await?;
                self.call(Method::GET, &ban).await?;
                self.call(Method::GET, &self.path("bans")).await
            }
            "ban" => {
                let told = self.send(Method::PUT, &ban, nothing).await?;
                self.owner.delete(&ban).await?;
                Ok(told)
            }
            "take a ban back" => {
                self.prepare(Method::PUT, &ban, nothing).await?;
                self.call(Method::DELETE, &ban).await
            }
            "mute" => {
                self.send(Method::PUT, &format!("{target}/mute"), until())
                    .await
            }
            "let speak again" => {
                let path = format!("{target}/mute");
                self.prepare(Method::PUT, &path, until()).await?;
                self.call(Method::DELETE, &path).await
            }
            "see the invites" => self.call(Method::GET, &self.path("invites")).await,
            "make an invite" => {
                self.send(Method::POST, &self.path("invites"), nothing)
                    .await
            }
            "withdraw an invite" => {
                let made = self.invite().await?;
                let id = made["id"].as_str().unwrap_or(&self.group.id);
                self.call(Method::DELETE, &self.path(&format!("invites/{id}")))
                    .await
            }
            "look at an invite" => self.call(Method::GET, &self.code().await?).await,
            "join by an invite" => self.call(Method::POST, &self.code().await?).await,
            _ => bail!("this test does not know how to {action}"),
        }
    }

    /// And gives it back, so that everybody may go on.
    async fn take_lease(&self, query: &str) -> Result<Answer> {
        let path = self.path("edit-lease");
        let told = self.call(Method::PUT, &format!("{path}{query}")).await?;
        if told.status / 100 == 2 {
            ensure!(self.call(Method::DELETE, &path).await?.status == 204);
        }
        Ok(told)
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> Result<Answer> {
        answer(self.who.request(method, path).json(&body)).await
    }

    async fn call(&self, method: Method, path: &str) -> Result<Answer> {
        answer(self.who.request(method, path)).await
    }

    /// All reads are told the same; the last is returned.
    async fn read(&self) -> Result<Answer> {
        let Group { id, channel } = &self.group;
        let lease = self.path("edit-lease");
        self.prepare(Method::PUT, &lease, json!({})).await?;
        let mut told = Vec::new();
        if !self.is_direct {
            told.push(self.who.get(&lease).await?);
            ensure!(self.owner.delete(&lease).await?.status == 204);
        }
        for path in [
            format!("/v1/groups/{id}"),
            format!("/v1/groups/{id}/members"),
            format!("/v1/groups/{id}/presence"),
            format!("/v1/channels/{channel}"),
            format!("/v1/channels/{channel}/messages"),
            format!("/v1/channels/{channel}/messages/{}", self.others[0]),
            format!(
                "/v1/channels/{channel}/messages/{}/reactions/ok",
                self.others[0]
            ),
            format!("/v1/channels/{channel}/pins"),
            format!("/v1/channels/{channel}/buckets/0"),
        ] {
            told.push(self.who.get(&path).await?);
        }
        let compare = format!("/v1/channels/{channel}/buckets/compare");
        let held = json!({"digests": {"0": "none"}});
        told.push(self.who.post(&compare, &held).await?);
        let body = json!({"cursor": {format!("g:{id}"): 0}, "only": true});
        let found = self.who.post("/v1/sync", &body).await?.ok()?;
        let last = told.pop().context("an answer")?;
        ensure!(told.iter().all(|one| one.status == last.status));
        ensure!(
            items(&found, "deltas")?.is_empty() == (last.status == 404),
            "{found}"
        );
        Ok(last)
    }

    /// An edit and a message are told the same; the message is returned.
    async fn mention_everyone(&self, messages: &str) -> Result<Answer> {
        let body = json!({"content": "@everyone"});
        let own = format!("{messages}/{}", self.own[0]);
        let edited = self.send(Method::PATCH, &own, body.clone()).await?;
        let told = self.send(Method::POST, messages, body).await?;
        ensure!(
            edited.status / 100 == told.status / 100
                && mentions_everyone(&edited) == mentions_everyone(&told),
            "{}, and {}",
            edited.text(),
            told.text()
        );
        Ok(told)
    }

    async fn send_again(&self) -> Result<Answer> {
        let path = self.another_channel().await?;
        let slow = json!({"slow_mode_secs": LATER});
        self.prepare(Method::PATCH, &path, slow).await?;
        let messages = format!("{path}/messages");
        let body = json!({"content": "once"});
        self.send(Method::POST, &messages, body.clone()).await?;
        let told = self.send(Method::POST, &messages, body).await?;
        if told.status == 429 {
            let after: u64 = told.header("retry-after").parse()?;
            ensure!((LATER - 600..=LATER).contains(&after), "{after}");
        }
        Ok(told)
    }

    /// The path of a channel besides the first; of the first in a direct conversation.
    async fn another_channel(&self) -> Result<String> {
        if self.is_direct {
            return Ok(format!("/v1/channels/{}", self.group.channel));
        }
        let body = json!({"name": "besides"});
        let made = self
            .by_owner(Method::POST, &self.path("channels"), body)
            .await?;
        Ok(format!("/v1/channels/{}", text(&made, "id")?))
    }

    async fn invite(&self) -> Result<Value> {
        self.prepare(Method::POST, &self.path("invites"), json!({}))
            .await
    }

    async fn code(&self) -> Result<String> {
        let made = self.invite().await?;
        let code = made["code"].as_str().unwrap_or("there-is-none");
        Ok(format!("/v1/invites/{code}"))
    }
}

async fn direct(one: &Client, other: &Client) -> Result<Group> {
    let path = format!("/v1/direct/{}", other.user);
    let group = one.put(&path, &json!({})).await?.ok()?;
    Ok(Group {
        id: text(&group, "id")?.to_owned(),
        channel: text(&group["channels"][0], "id")?.to_owned(),
    })
}

fn until() -> Value {
    json!({"until": tidings_tests::client::in_secs(LATER)})
}
