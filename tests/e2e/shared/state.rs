//! State as it was, with the deltas since, is state as it is.

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use reqwest::Method;
use serde_json::json;
use tidings_tests::check;
use tidings_tests::client::{Client, Group, answer, in_secs, number, text};
use tidings_tests::device::Device;
use tidings_tests::started;

use super::System;

#[tokio::test]
async fn stale_state_and_deltas_make_fresh_state() -> Result<()> {
    const ROUNDS: usize = 4;
    const CHANGES: usize = 80;
    let seed = fastrand::u64(..);
    eprintln!("seed {seed}");
    let server = started!(System::start().await);
    let (ada, bob) = (server.user("ada").await?, server.user("bob").await?);
    let others = server.users("other", 3).await?;
    let mut world = World::new(seed, ada, [vec![bob.clone()], others].concat());
    let live = Device::start(&bob).await?;
    let mut stale = Device::start(&bob).await?;
    for round in 0..ROUNDS {
        stale.go_away().await?;
        for _ in 0..CHANGES {
            world.change().await?;
        }
        stale.come_back();
        for device in [&live, &stale] {
            let replica = device.catches_up().await?;
            check::dense(&replica)?;
            check::same_as_fresh(&replica, &bob)
                .await
                .with_context(|| format!("seed {seed}, round {round}"))?;
        }
    }
    ensure!(
        world.done > ROUNDS * CHANGES / 2,
        "only {} changes",
        world.done
    );
    Ok(())
}

/// Groups that one user owns and changes at random, with some members.
pub(super) struct World {
    random: Rng,
    owner: Client,
    members: Vec<Client>,
    groups: Vec<(String, Vec<Channel>)>,
    /// Codes of invites, some of which can be used.
    codes: Vec<String>,
    /// Changes that were possible.
    done: usize,
}

struct Channel {
    id: String,
    messages: Vec<u64>,
}

impl World {
    pub(super) fn new(seed: u64, owner: Client, members: Vec<Client>) -> Self {
        Self {
            random: Rng::with_seed(seed),
            owner,
            members,
            groups: Vec::new(),
            codes: Vec::new(),
            done: 0,
        }
    }

    pub(super) async fn change(&mut self) -> Result<()> {
        if self.groups.is_empty() || self.random.u8(..100) < 4 {
            return self.create_group().await;
        }
        let group = self.random.usize(..self.groups.len());
        let id = self.groups[group].0.clone();
        let member = self.members[self.random.usize(..self.members.len())]
            .user
            .clone();
        let name = json!({"name": format!("name {}", self.random.u32(..))});
        let path = format!("/v1/groups/{id}");
        match self.random.u8(..100) {
            0..5 => self.ask(Method::PATCH, &path, Some(name)).await?,
            5..13 => {
                let role = if self.random.bool() {
                    "admin"
                } else {
                    "member"
                };
                let path = format!("{path}/members/{member}");
                self.ask(Method::PUT, &path, Some(json!({"role": role})))
                    .await?
            }
            13..20 => {
                let path = format!("{path}/members/{member}");
                self.ask(Method::DELETE, &path, None).await?
            }
            20..26 => {
                let path = format!("{path}/channels");
                let made = self.ask(Method::POST, &path, Some(name)).await?;
                if let Some(made) = &made {
                    self.groups[group].1.push(Channel {
                        id: text(made, "id")?.to_owned(),
                        messages: Vec::new(),
                    });
                }
                made
            }
            26..36 => return self.moderate(&path, &member).await,
            _ => return self.change_channel(group).await,
        };
        Ok(())
    }

    /// Bans, mutes and invites, and those who come by them.
    async fn moderate(&mut self, path: &str, member: &str) -> Result<()> {
        let ban = format!("{path}/bans/{member}");
        let mute = format!("{path}/members/{member}/mute");
        match self.random.u8(..100) {
            0..15 => drop(self.ask(Method::PUT, &ban, None).await?),
            15..35 => drop(self.ask(Method::DELETE, &ban, None).await?),
            35..50 => {
                let until = json!({"until": in_secs(self.random.u64(60..6000))});
                self.ask(Method::PUT, &mute, Some(until)).await?;
            }
            50..58 => drop(self.ask(Method::DELETE, &mute, None).await?),
            58..73 => {
                let body = json!({"max_uses": self.random.u64(1..3)});
                let path = format!("{path}/invites");
                if let Some(made) = self.ask(Method::POST, &path, Some(body)).await? {
                    self.codes.push(text(&made, "code")?.to_owned());
                }
            }
            73..78 => {
                let found = self.owner.get(&format!("{path}/invites")).await?.json()?;
                if let Ok(id) = text(&found["items"][0], "id") {
                    let path = format!("{path}/invites/{id}");
                    self.ask(Method::DELETE, &path, None).await?;
                }
            }
            78..84 => self.pass_on(path, member).await?,
            _ => {
                let joiner = self.random.choice(&self.members).context("members")?;
                let Some(code) = self.random.choice(&self.codes) else {
                    return Ok(());
                };
                let request = joiner.request(Method::POST, &format!("/v1/invites/{code}"));
                self.done += usize::from(answer(request).await?.status == 201);
            }
        }
        Ok(())
    }

    /// The group goes to a member, who gives it back.
    async fn pass_on(&mut self, path: &str, member: &str) -> Result<()> {
        let role = json!({"role": "owner"});
        let there = format!("{path}/members/{member}");
        let passed_on = self.ask(Method::PATCH, &there, Some(role.clone())).await?;
        if passed_on.is_some() {
            let mut members = self.members.iter();
            let holder = members.find(|one| one.user == member).context("a member")?;
            let back = format!("{path}/members/{}", self.owner.user);
            holder.patch(&back, &role).await?.ok()?;
        }
        Ok(())
    }

    async fn create_group(&mut self) -> Result<()> {
        let members: Vec<&Client> = self.members.iter().collect();
        let Group { id, channel } = self.owner.group("group", &members).await?;
        let messages = Vec::new();
        self.groups.push((
            id,
            vec![Channel {
                id: channel,
                messages,
            }],
        ));
        self.done += 1;
        Ok(())
    }

    async fn change_channel(&mut self, group: usize) -> Result<()> {
        let channels = self.groups[group].1.len();
        let Some(at) = channels
            .checked_sub(1)
            .map(|last| self.random.usize(..=last))
        else {
            return Ok(());
        };
        let channel = &self.groups[group].1[at];
        let path = format!("/v1/channels/{}", channel.id);
        let message = self.random.choice(&channel.messages).copied();
        let on_message = format!("{path}/messages/{}", message.unwrap_or(1));
        let member = self.random.choice(&self.members);
        let name = member.map_or("everyone", |member| &member.username);
        let content = match self.random.u8(..4) {
            0 => format!("content {}, @{name}, @everyone", self.random.u32(..)),
            _ => format!("content {}", self.random.u32(..)),
        };
        match self.random.u8(..100) {
            0..4 => {
                let settings = if self.random.bool() {
                    json!({"name": content})
                } else {
                    json!({"slow_mode_secs": self.random.u64(..3)})
                };
                self.ask(Method::PATCH, &path, Some(settings)).await?;
            }
            4..6 => {
                self.ask(Method::DELETE, &path, None).await?;
                self.groups[group].1.remove(at);
            }
            6..22 if message.is_some() => {
                let content = json!({"content": content});
                self.ask(Method::PATCH, &on_message, Some(content)).await?;
            }
            22..32 if message.is_some() => {
                self.ask(Method::DELETE, &on_message, None).await?;
            }
            32..47 if message.is_some() => self.react(&on_message).await?,
            47..52 if message.is_some() => {
                let method = self.random.choice([Method::PUT, Method::DELETE]);
                let pin = format!("{on_message}/pin");
                self.ask(method.unwrap_or(Method::PUT), &pin, None).await?;
            }
            _ => {
                let reply_to = if self.random.bool() { message } else { None };
                let body = json!({"content": content, "reply_to": reply_to});
                let path = format!("{path}/messages");
                if let Some(sent) = self.ask(Method::POST, &path, Some(body)).await? {
                    let seq = number(&sent, "seq")?;
                    self.groups[group].1[at].messages.push(seq);
                }
            }
        }
        Ok(())
    }

    /// The owner or a member reacts, or takes it back.
    async fn react(&mut self, message: &str) -> Result<()> {
        let emoji = self.random.choice(["👍", "🎉", "+1"]).unwrap_or("👍");
        let method = match self.random.u8(..3) {
            0 => Method::DELETE,
            _ => Method::PUT,
        };
        let who = self.random.choice(&self.members).unwrap_or(&self.owner);
        let who = who.clone();
        let path = format!("{message}/reactions/{emoji}");
        self.ask_as(&who, method, &path, None).await?;
        Ok(())
    }

    /// Asks for a change as the owner. Some are not possible: the member has been removed, the
    /// message deleted.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Option<serde_json::Value>> {
        let owner = self.owner.clone();
        self.ask_as(&owner, method, path, body).await
    }

    async fn ask_as(
        &mut self,
        who: &Client,
        method: Method,
        path: &str,
        body: Option<serde_json::Value>,
    ) -> Result<Option<serde_json::Value>> {
        let request = who.request(method, path);
        let request = match &body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = answer(request).await?;
        let muted = answer.status == 403 && who.user != self.owner.user;
        if muted || [404, 409, 422].contains(&answer.status) {
            return Ok(None);
        }
        self.done += 1;
        if answer.status == 204 {
            return Ok(None);
        }
        Ok(Some(answer.ok().with_context(|| path.to_owned())?))
    }
}
