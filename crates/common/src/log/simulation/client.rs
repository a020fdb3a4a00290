//! Clients: each asks for one thing after another, and repeats with the same key, at the same
//! process or another, what it got no answer to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::journal::{Answer, Event};
use super::operation::{Operation, What};
use super::world::{Process, World};
use crate::domain::{
    ChannelId, Group, GroupId, IdempotencyKey, Key, Role, Seq, SessionId, StreamId, UserId,
};
use crate::log::AppendError;
use crate::store::simulated::chance;

/// Times that a client asks for the same thing.
const TRIES: usize = 5;
/// Longer than the log tries.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn user(n: u8) -> UserId {
    UserId::from_bytes([n; 16])
}

pub(super) fn group(n: u8) -> GroupId {
    GroupId::from_bytes([n; 16])
}

pub(super) fn channel(n: u8) -> ChannelId {
    ChannelId::from_bytes([n; 16])
}

/// What all clients of a schedule share.
pub(super) struct Clients {
    pub(super) world: Arc<World>,
    /// Users 0 to this, the first of whom owns the groups.
    pub(super) users: u8,
    /// Groups and channels to be created get numbers from here on.
    pub(super) next_id: AtomicUsize,
    pub(super) attempts: AtomicUsize,
    pub(super) keys: AtomicUsize,
    /// Longest pause between two operations.
    pub(super) pace_ms: u64,
}

impl Clients {
    pub(super) async fn run(self: Arc<Self>, actor: UserId, operations: usize) {
        for _ in 0..operations {
            let pause = fastrand::u64(0..=self.pace_ms);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let operation = Arc::new(self.operation(actor));
            self.see_through(&operation).await;
        }
    }

    /// Asks until there is an answer.
    async fn see_through(self: &Arc<Self>, operation: &Arc<Operation>) {
        let copy = chance(60).then(|| {
            let (clients, operation) = (self.clone(), operation.clone());
            tokio::spawn(async move { clients.ask(&clients.world.api(), &operation).await })
        });
        let mut process = self.world.api();
        for _ in 0..TRIES {
            let answer = self.ask(&process, operation).await;
            let again = matches!(answer, Answer::Unavailable | Answer::Nothing);
            if !again && !chance(100) {
                break;
            }
            if fastrand::bool() || process.link.is_dead() {
                process = self.world.api();
            }
            let pause = Duration::from_millis(fastrand::u64(0..=self.pace_ms));
            tokio::time::sleep(pause).await;
        }
        if chance(40) && matches!(operation.what, What::Send(_)) {
            let other = Operation {
                what: What::Send("something else".to_owned()),
                ..(**operation).clone()
            };
            self.ask(&self.world.api(), &Arc::new(other)).await;
        }
        if let Some(copy) = copy {
            copy.await.expect("a client does not panic");
        }
    }

    /// Asks once; some clients do not wait for long.
    async fn ask(&self, process: &Arc<Process>, operation: &Arc<Operation>) -> Answer {
        let patience = if chance(100) {
            Duration::from_millis(fastrand::u64(..200))
        } else {
            PATIENCE
        };
        self.ask_for(patience, process, operation).await
    }

    /// Asks once, and waits so long for the answer.
    pub(super) async fn ask_for(
        &self,
        patience: Duration,
        process: &Arc<Process>,
        operation: &Arc<Operation>,
    ) -> Answer {
        let attempt = self.attempts.fetch_add(1, Ordering::SeqCst);
        let journal = &self.world.journal;
        journal.add(Event::Asked {
            attempt,
            by: process.id,
            operation: operation.clone(),
        });
        let append = process.desk.log.append(operation.append(&process.desk));
        let answer = tokio::select! {
            biased;
            () = process.link.death() => Answer::Nothing,
            outcome = append => match outcome {
                Ok(committed) => Answer::Committed {
                    entry: Box::new(committed.entry),
                    replayed: committed.replayed,
                },
                Err(AppendError::Refused(_)) => Answer::Refused("by a rule"),
                Err(AppendError::KeyReused) => Answer::KeyReused,
                Err(AppendError::Unavailable) => Answer::Unavailable,
            },
            () = tokio::time::sleep(patience) => Answer::Nothing,
        };
        journal.add(Event::Answered {
            attempt,
            answer: answer.clone(),
        });
        answer
    }

    fn key(&self, actor: UserId) -> Key {
        let number = self.keys.fetch_add(1, Ordering::SeqCst).to_string();
        let key = IdempotencyKey::parse(&number).expect("digits make a key");
        Key::of_client(actor, &key)
    }

    fn fresh_id(&self) -> u8 {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        u8::try_from(id).expect("a schedule creates fewer than 200 things")
    }

    /// Something that this user may want, perhaps without a right to it.
    fn operation(&self, actor: UserId) -> Operation {
        let (stream, what) = match fastrand::u8(..100) {
            0..60 => self.in_channel(),
            60..85 => self.in_group(),
            85..90 => self.creation(),
            _ => self.of_user(actor),
        };
        // The owner does most of what takes a right.
        let owner = matches!(stream, StreamId::Group(_)) && fastrand::u8(..3) > 0;
        let actor = if owner { user(0) } else { actor };
        self.asked_by(actor, stream, what)
    }

    pub(super) fn asked_by(&self, actor: UserId, stream: StreamId, what: What) -> Operation {
        Operation {
            stream,
            actor,
            key: self.key(actor),
            what,
        }
    }

    fn groups(&self) -> Vec<Group> {
        let state = self.world.server.state();
        let found = state.group_ids();
        found.into_iter().filter_map(|id| state.group(id)).collect()
    }

    /// A group, mostly the first.
    fn some_group(&self) -> Group {
        let mut groups = self.groups();
        let one = match fastrand::bool() {
            true => 0,
            false => fastrand::usize(..groups.len()),
        };
        groups.swap_remove(one)
    }

    fn in_channel(&self) -> (StreamId, What) {
        let group = self.some_group();
        let channels: Vec<ChannelId> = group.channels.into_keys().collect();
        let channel = match channels.len() {
            0 => channel(1),
            several => channels[fastrand::usize(..several)],
        };
        let head = self.world.server.state().head(channel.into()).seq;
        let message: Seq = fastrand::u64(head.saturating_sub(5)..=head);
        let number = fastrand::u32(..).to_string();
        let what = match fastrand::u8(..100) {
            0..65 => What::Send(number),
            65..78 => What::Edit {
                message,
                content: number,
            },
            78..83 => What::Delete { message },
            83..88 => What::Pin {
                message,
                pinned: fastrand::bool(),
            },
            _ => What::React {
                message,
                present: fastrand::u8(..3) > 0,
            },
        };
        (channel.into(), what)
    }

    fn in_group(&self) -> (StreamId, What) {
        let group = self.some_group();
        let other = user(fastrand::u8(1..=self.users));
        let what = match fastrand::u8(..100) {
            0..15 => What::Rename {
                name: fastrand::u32(..).to_string(),
                expected: fastrand::bool().then_some(group.version),
            },
            15..45 => What::Add(other),
            45..75 => What::Remove(other),
            75..85 => What::SetRole(
                other,
                fastrand::choice([Role::Member, Role::Admin]).unwrap_or(Role::Admin),
            ),
            85..93 => What::CreateChannel(channel(self.fresh_id())),
            _ if group.id == self::group(1) => What::Add(other),
            93..98 => match group.channels.keys().next() {
                Some(channel) => What::DeleteChannel(*channel),
                None => What::Add(other),
            },
            _ => What::DeleteGroup,
        };
        (group.id.into(), what)
    }

    fn creation(&self) -> (StreamId, What) {
        let id = self.fresh_id();
        let members = vec![user(fastrand::u8(1..=self.users))];
        let channels = vec![channel(id)];
        (group(id).into(), What::CreateGroup { members, channels })
    }

    fn of_user(&self, actor: UserId) -> (StreamId, What) {
        let sessions = {
            let state = self.world.server.state();
            state.sessions(actor, crate::store::IdWindow::First, 9)
        };
        let what = match (fastrand::u8(..3), sessions.first()) {
            (0, _) => What::RenameUser(fastrand::u32(..).to_string()),
            (1, Some(session)) => What::RevokeSession(session.id),
            _ => What::CreateSession(SessionId::from_bytes([self.fresh_id(); 16])),
        };
        (actor.into(), what)
    }
}
