//! What the clients of a run share: where the servers are, the record, and what they know of
//! each other's doing, so that most of what they ask for is possible.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;
use tokio_util::sync::CancellationToken;

use super::history::{Change, Operation, Outcome};
use super::recorder::Recorder;
use crate::client::Api;

/// Messages of a channel that clients come back to.
const REMEMBERED: usize = 40;

/// See the module's documentation.
#[derive(Debug)]
pub struct World {
    pub recorder: Arc<Recorder>,
    /// The API's processes, each by itself.
    pub apis: Vec<Api>,
    /// Nothing new is begun after this.
    pub stop: CancellationToken,
    /// What is not known by now stays unknown.
    pub give_up: CancellationToken,
    known: Mutex<Known>,
}

/// What has been acknowledged to somebody. Others may be ahead of it.
#[derive(Debug, Default)]
pub struct Known {
    /// All who take part, the owner of the groups excepted.
    pub users: Vec<String>,
    pub groups: BTreeMap<String, Group>,
    /// Channel → newest messages: position and author.
    pub messages: BTreeMap<String, VecDeque<(u64, String)>>,
    /// Group and session → the token of the edit lease that it had last.
    pub tokens: BTreeMap<(String, String), u64>,
}

#[derive(Debug, Default)]
pub struct Group {
    /// User → role; the owner is not among them.
    pub members: BTreeMap<String, String>,
    pub banned: BTreeSet<String>,
    /// The first one is never deleted.
    pub channels: Vec<String>,
}

impl World {
    #[must_use]
    pub fn new(recorder: Arc<Recorder>, apis: Vec<Api>) -> Arc<Self> {
        Arc::new(Self {
            recorder,
            apis,
            stop: CancellationToken::new(),
            give_up: CancellationToken::new(),
            known: Mutex::default(),
        })
    }

    /// What is known now. Keep it no longer than a moment.
    pub fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what an operation changed, and records it.
    pub fn done(&self, operation: Operation) {
        if let Outcome::Ok { body, .. } = &operation.outcome {
            self.known().learn(&operation, body);
        }
        self.recorder.operation(operation);
    }
}

impl Known {
    fn learn(&mut self, operation: &Operation, body: &serde_json::Value) {
        match &operation.change {
            Change::Send { channel, .. } => {
                let messages = self.messages.entry(channel.clone()).or_default();
                if messages.len() >= REMEMBERED {
                    messages.pop_front();
                }
                let seq = body["seq"].as_u64().unwrap_or_default();
                messages.push_back((seq, operation.actor.clone()));
            }
            Change::Delete { channel, message } => {
                if let Some(messages) = self.messages.get_mut(channel) {
                    messages.retain(|(seq, _)| seq != message);
                }
            }
            Change::PutMember { group, user, role } | Change::SetRole { group, user, role } => {
                let members = &mut self.groups.entry(group.clone()).or_default().members;
                members.insert(user.clone(), role.clone());
            }
            Change::Remove { group, user } => {
                let members = &mut self.groups.entry(group.clone()).or_default().members;
                members.remove(user);
            }
            Change::Ban { group, user } => {
                let group = self.groups.entry(group.clone()).or_default();
                group.members.remove(user);
                group.banned.insert(user.clone());
            }
            Change::Unban { group, user } => {
                let group = self.groups.entry(group.clone()).or_default();
                group.banned.remove(user);
            }
            Change::TakeLease { group, session, .. } => {
                let token = body["token"].as_u64().unwrap_or_default();
                self.tokens.insert((group.clone(), session.clone()), token);
            }
            Change::CreateChannel { group, .. } => {
                let id = body["id"].as_str().unwrap_or_default().to_owned();
                self.groups
                    .entry(group.clone())
                    .or_default()
                    .channels
                    .push(id);
            }
            Change::DeleteChannel { group, channel } => {
                let channels = &mut self.groups.entry(group.clone()).or_default().channels;
                channels.retain(|one| one != channel);
                self.messages.remove(channel);
            }
            _ => {}
        }
    }

    /// A group, mostly one in which this user is.
    #[must_use]
    pub fn pick_group(&self, random: &mut Rng, user: &str, owner: bool) -> Option<String> {
        let mine: Vec<&String> = self
            .groups
            .iter()
            .filter(|(_, group)| owner || group.members.contains_key(user))
            .map(|(id, _)| id)
            .collect();
        let anywhere = mine.is_empty() || random.u8(..100) < 8;
        if anywhere {
            let all: Vec<&String> = self.groups.keys().collect();
            return random.choice(all).cloned();
        }
        random.choice(mine).cloned()
    }

    #[must_use]
    pub fn pick_channel(&self, random: &mut Rng, group: &str) -> Option<String> {
        random.choice(&self.groups.get(group)?.channels).cloned()
    }

    /// A message of a channel; of this author only, if one is given.
    #[must_use]
    pub fn pick_message(
        &self,
        random: &mut Rng,
        channel: &str,
        author: Option<&str>,
    ) -> Option<u64> {
        let messages = self.messages.get(channel)?.iter();
        let fitting = messages.filter(|(_, by)| author.is_none_or(|author| author == by));
        random
            .choice(fitting.collect::<Vec<_>>())
            .map(|(seq, _)| *seq)
    }
}
