//! What a cache answers is right all the same: for every row of docs/permissions.md, a process
//! that has the group as it was, and hears no hint that it has changed, is asked by somebody
//! whose standing another process has changed.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tidings_common::bus::{
    Announcement, Bus, BusError, Control, Deliveries, Delivery, Subscription,
};
use tidings_common::domain::{
    Action, GroupKind, PERMISSIONS, Permission, ServerId, Standing, Verdict,
};

use crate::harness::{Person, Server};

/// A bus whose hints nobody hears.
struct DeafBus(Arc<dyn Bus>);

struct Silence;

#[async_trait]
impl Deliveries for Silence {
    async fn next(&mut self) -> Delivery {
        std::future::pending().await
    }
}

#[async_trait]
impl Bus for DeafBus {
    async fn publish(&self, announcements: &[Announcement]) -> Vec<Result<(), BusError>> {
        self.0.publish(announcements).await
    }

    async fn publish_control(&self, control: Control) -> Result<(), BusError> {
        self.0.publish_control(control).await
    }

    async fn subscribe(&self, server: ServerId) -> Result<Subscription, BusError> {
        self.0.subscribe(server).await
    }

    async fn control(&self) -> Result<Box<dyn Deliveries>, BusError> {
        Ok(Box::new(Silence))
    }

    async fn check(&self) -> Result<(), BusError> {
        self.0.check().await
    }
}

/// Who decides about an action: a process's memory of the group, or the store.
#[derive(Debug, PartialEq, Eq)]
enum By {
    /// Checked by the group as the cache has it, at the position that the channel's fence demands.
    Cache,
    /// Read from the store each time.
    Store,
}

/// A new action is put into one of them, and is asked for here.
fn decided_by(action: Action) -> By {
    match action {
        Action::SendMessage
        | Action::SendAtOnce
        | Action::MentionEveryone
        | Action::EditOwnMessage
        | Action::EditOthersMessage
        | Action::DeleteOwnMessage
        | Action::DeleteOthersMessage
        | Action::React
        | Action::Unreact
        | Action::Pin
        | Action::Unpin
        | Action::Type
        | Action::PreviewInvite => By::Cache,
        Action::Read
        | Action::UpdateGroup
        | Action::TakeLease
        | Action::StealLease
        | Action::DeleteGroup
        | Action::CreateChannel
        | Action::UpdateChannel
        | Action::DeleteChannel
        | Action::AddMember
        | Action::SetRole
        | Action::TransferOwnership
        | Action::RemoveMember
        | Action::Leave
        | Action::ListBans
        | Action::Ban
        | Action::Unban
        | Action::Mute
        | Action::Unmute
        | Action::ListInvites
        | Action::CreateInvite
        | Action::DeleteInvite
        | Action::Join => By::Store,
    }
}

/// All that the cache decides, and of what the store decides the simplest. (Every row is asked for
/// as everybody in the tests of both forms.)
fn is_asked(action: Action) -> bool {
    decided_by(action) == By::Cache
        || matches!(
            action,
            Action::Read | Action::UpdateGroup | Action::ListBans
        )
}

/// Every way from one standing to another that takes a right away or gives one.
const WAYS: &[(Standing, Standing)] = &[
    (Standing::Admin, Standing::Member),
    (Standing::Member, Standing::Admin),
    (Standing::Member, Standing::Muted),
    (Standing::Muted, Standing::Member),
    (Standing::Member, Standing::Banned),
    (Standing::Member, Standing::Stranger),
    (Standing::Stranger, Standing::Member),
];

/// One installation: the owner changes things at one process, Eve asks at another that is deaf.
struct World {
    near: Server,
    far: Server,
    owner: Person,
    owner_far: Person,
    eve: Person,
    group: String,
    messages: String,
    /// In slow mode; Eve has just written in it.
    slow: String,
    invite: String,
    /// Messages of Eve's that are still there.
    own: Vec<u64>,
}

impl World {
    async fn new() -> Self {
        let near = Server::start().await;
        let far = near.beside(|bus| Arc::new(DeafBus(bus))).await;
        let owner = near.person("owner").await;
        let eve = near.person("eve").await.at(&far);
        let (group, channel) = owner.group(&[&eve]).await;
        let group = format!("/v1/groups/{group}");
        let made = json!({"name": "slow"});
        let made = owner
            .send("POST", &format!("{group}/channels"), made, 201)
            .await;
        let slow = format!("/v1/channels/{}", made["id"].as_str().unwrap());
        owner
            .send("PATCH", &slow, json!({"slow_mode_secs": 21_600}), 200)
            .await;
        let slow = format!("{slow}/messages");
        eve.send("POST", &slow, json!({"content": "once"}), 201)
            .await;
        let invite = owner
            .send("POST", &format!("{group}/invites"), json!({}), 201)
            .await;
        let messages = format!("/v1/channels/{channel}/messages");
        let mut own = Vec::new();
        for _ in 0..2 * WAYS.len() {
            own.push(seq(&eve.say(&channel, "mine").await));
        }
        Self {
            owner_far: owner.at(&far),
            invite: format!("/v1/invites/{}", invite["code"].as_str().unwrap()),
            near,
            far,
            owner,
            eve,
            group,
            messages,
            slow,
            own,
        }
    }

    fn member(&self) -> String {
        format!("{}/members/{}", self.group, self.eve.id)
    }

    fn ban(&self) -> String {
        format!("{}/bans/{}", self.group, self.eve.id)
    }

    async fn by_owner(&self, method: &str, path: &str, body: Value) {
        let request = self.owner.request(method, path);
        let request = if body.is_null() {
            request
        } else {
            request.json(&body)
        };
        let status = request.send().await.unwrap().status();
        assert!(status.is_success(), "{method} {path}: {status}");
    }

    /// Makes Eve a member, and then what she is to be.
    async fn make(&self, standing: Standing) {
        self.by_owner("PUT", &self.member(), json!({"role": "member"}))
            .await;
        self.go(Standing::Member, standing).await;
    }

    /// The one change that leads from a standing to another.
    async fn go(&self, from: Standing, to: Standing) {
        let mute = format!("{}/mute", self.member());
        let role = |role: &str| json!({"role": role});
        match (from, to) {
            (_, Standing::Stranger) => self.by_owner("DELETE", &self.member(), Value::Null).await,
            (_, Standing::Banned) => self.by_owner("PUT", &self.ban(), json!({})).await,
            (_, Standing::Muted) => {
                let until = json!({"until": "2026-11-22T12:00:00Z"});
                self.by_owner("PUT", &mute, until).await;
            }
            (Standing::Muted, _) => self.by_owner("DELETE", &mute, Value::Null).await,
            (Standing::Stranger, _) => {
                self.by_owner("PUT", &self.member(), role("member")).await;
            }
            (_, Standing::Admin) => self.by_owner("PATCH", &self.member(), role("admin")).await,
            (Standing::Admin, _) => self.by_owner("PATCH", &self.member(), role("member")).await,
            _ => {}
        }
    }

    /// Back to a member who is neither muted nor banned.
    async fn leave(&self, standing: Standing) {
        match standing {
            Standing::Banned => {
                self.by_owner("DELETE", &self.ban(), Value::Null).await;
                self.go(Standing::Stranger, Standing::Member).await;
            }
            Standing::Muted | Standing::Stranger => self.go(standing, Standing::Member).await,
            _ => {}
        }
    }

    /// The far process reads the group, in all of its channels, and writes what is there to be
    /// changed.
    async fn warm(&self) -> u64 {
        let body = json!({"content": "here"});
        self.owner_far
            .send("POST", &self.slow, body.clone(), 201)
            .await;
        seq(&self.owner_far.send("POST", &self.messages, body, 201).await)
    }

    /// Asks at the far process.
    async fn ask(&mut self, action: Action, others: u64) -> Verdict {
        let own = match action {
            Action::DeleteOwnMessage => self.own.pop().unwrap(),
            _ => self.own[0],
        };
        let [own, others] = [own, others].map(|seq| format!("{}/{seq}", self.messages));
        let reaction = format!("{others}/reactions/ok");
        let pin = format!("{others}/pin");
        let content = json!({"content": "@everyone"});
        let name = json!({"name": "another"});
        let of_group = |rest: &str| format!("{}/{rest}", self.group);
        let (method, path, body) = match action {
            Action::SendMessage | Action::MentionEveryone => {
                ("POST", self.messages.clone(), content)
            }
            Action::SendAtOnce => ("POST", self.slow.clone(), content),
            Action::EditOwnMessage => ("PATCH", own, content),
            Action::EditOthersMessage => ("PATCH", others, content),
            Action::DeleteOwnMessage => ("DELETE", own, Value::Null),
            Action::DeleteOthersMessage => ("DELETE", others, Value::Null),
            Action::React => ("PUT", reaction, json!({})),
            Action::Unreact => ("DELETE", reaction, Value::Null),
            Action::Pin => ("PUT", pin, json!({})),
            Action::Unpin => ("DELETE", pin, Value::Null),
            Action::Type => (
                "POST",
                self.messages.replace("/messages", "/typing"),
                Value::Null,
            ),
            Action::PreviewInvite => ("GET", self.invite.clone(), Value::Null),
            Action::Read => ("GET", self.group.clone(), Value::Null),
            Action::UpdateGroup => ("PATCH", self.group.clone(), name),
            Action::ListBans => ("GET", of_group("bans"), Value::Null),
            _ => panic!("nobody asks for {action:?}"),
        };
        let request = self.eve.request(method, &path);
        let request = if body.is_null() {
            request
        } else {
            request.json(&body)
        };
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let answer: Value =
            serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default();
        match status {
            200..300
                if action == Action::MentionEveryone && answer["mentions_everyone"] == false =>
            {
                Verdict::Ignored
            }
            200..300 => Verdict::Yes,
            403 => Verdict::Forbidden,
            404 => Verdict::NotFound,
            429 => Verdict::Limited,
            _ => panic!("{action:?}: {status} {answer}"),
        }
    }

    /// How often a cached group at the far process was too old for a fence, or read again
    /// because it refused something.
    fn corrected(&self) -> u64 {
        let text = self.far.metrics.encode();
        let count = |outcome: &str| -> u64 {
            let name =
                format!("tidings_log_cache_lookups_total{{cache=\"group\",outcome=\"{outcome}\"}}");
            let value = text.lines().find_map(|line| line.strip_prefix(&*name));
            value.unwrap().trim().parse().unwrap()
        };
        count("stale") + count("reread")
    }
}

fn seq(message: &Value) -> u64 {
    message["seq"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_right_is_that_of_now_at_a_process_that_hears_nothing() {
    let mut world = World::new().await;
    for &(from, to) in WAYS {
        for Permission { action, name, .. } in PERMISSIONS {
            let expected = action.permission().verdict(GroupKind::Group, to).unwrap();
            if !is_asked(*action) {
                continue;
            }
            world.make(from).await;
            let others = world.warm().await;
            let before = world.corrected();
            world.go(from, to).await;
            let told = world.ask(*action, others).await;
            assert_eq!(told, expected, "{name}, from {from:?} to {to:?}");
            // The preview of an invite is refused by the store alone.
            if decided_by(*action) == By::Cache && *action != Action::PreviewInvite {
                let corrected = world.corrected() > before;
                assert!(
                    corrected,
                    "{name}, from {from:?} to {to:?}: the cache was not stale"
                );
            }
            world.leave(to).await;
        }
    }
    let World { near, far, .. } = world;
    far.stop().await;
    near.stop().await;
}
