//! The rules, one file per resource. Knows the domain, the log and the store's traits; no
//! HTTP, no wire forms, no drivers.
//!
//! Whatever refuses a mutation stands in its proposal's `validate`, not before the append:
//! the log looks the key up before it passes a refusal on, so a repetition gets the first
//! result even where the rules would say no by now.

mod accounts;
mod bans;
mod buckets;
mod channels;
mod default_groups;
mod edit_leases;
mod error;
mod groups;
mod invites;
mod members;
mod mentions;
mod messages;
mod mutes;
mod on_message;
mod passwords;
mod pins;
mod precondition;
mod presence;
mod proposal;
mod quotes;
mod reactions;
mod reading;
mod refresh;
mod sessions;
mod slow_mode;
mod tickets;
mod typing;

use std::num::NonZeroU16;
use std::sync::Arc;

use tidings_common::auth::Keys;
use tidings_common::clock::Clock;
use tidings_common::config::{AuthConfig, Limits};
use tidings_common::domain::{DeploymentId, IdempotencyKey, Key, RequestHash, StreamId, UserId};
use tidings_common::log::{Append, Committed, Log, Proposal, Revocations};
use tidings_common::presence::Presence;
use tidings_common::store::Store;

pub(crate) use accounts::{Accounts, Registration};
pub(crate) use bans::Bans;
pub(crate) use buckets::{Buckets, Fetched};
pub(crate) use channels::{ChannelSettings, Channels, SeenChannel};
pub(crate) use default_groups::DefaultGroups;
pub(crate) use edit_leases::{EditLeases, Editor, ShownLease};
pub(crate) use error::ServiceError;
pub(crate) use groups::{Groups, Invited, NewGroup, SeenGroup};
pub(crate) use invites::{Invites, NewInvite, Preview, WithCode};
pub(crate) use members::Members;
pub(crate) use messages::{Messages, NewMessage};
pub(crate) use mutes::Mutes;
pub use passwords::BadParameters;
pub(crate) use passwords::Passwords;
pub(crate) use pins::Pins;
pub(crate) use precondition::Precondition;
pub(crate) use presence::WhoIsThere;
pub(crate) use reactions::{Reaction, Reactions};
pub(crate) use reading::Marks;
pub(crate) use sessions::{Login, Sessions};
pub(crate) use tickets::{IssuedTicket, Tickets};
/// Which part of a list to read: of messages, and of what ascends by id.
pub(crate) use tidings_common::store::{IdWindow, Window};
pub(crate) use typing::Typing;

/// What every service works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) presence: Arc<dyn Presence>,
    pub(crate) log: Log,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) limits: Limits,
    pub(crate) auth: AuthConfig,
    pub(crate) deployment: DeploymentId,
    pub(crate) epoch: u64,
    pub(crate) partitions: NonZeroU16,
    /// Base of the addresses in tickets, without a trailing slash.
    pub(crate) realtime_url: String,
}

/// The outcome of a mutation.
#[derive(Debug)]
pub(crate) struct Done<T> {
    pub(crate) value: T,
    /// It is the result of an earlier request with the same key.
    pub(crate) replayed: bool,
}

impl From<Committed> for Done<()> {
    fn from(committed: Committed) -> Self {
        Self {
            value: (),
            replayed: committed.replayed,
        }
    }
}

/// The outcome of a mutation that creates what is not there.
#[derive(Debug)]
pub(crate) struct Put<T> {
    pub(crate) value: T,
    pub(crate) created: bool,
    pub(crate) replayed: bool,
}

/// Which part of a list to answer, and at most how much.
#[derive(Debug)]
pub(crate) struct IdPage<T> {
    pub(crate) window: IdWindow<T>,
    pub(crate) limit: usize,
}

/// Part of a list.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    pub(crate) items: Vec<T>,
    pub(crate) more: bool,
}

impl<T> Listed<T> {
    /// Of the items of a window, read with a limit one above the page's to see whether there
    /// is more in the direction of paging.
    fn cut<I>(mut items: Vec<T>, page: &IdPage<I>) -> Self {
        let surplus = items.len().saturating_sub(page.limit);
        match page.window {
            IdWindow::First | IdWindow::After(_) => items.truncate(page.limit),
            IdWindow::Before(_) => drop(items.drain(..surplus)),
        }
        Self {
            items,
            more: surplus > 0,
        }
    }
}

/// A mutation on its way into the log.
struct Mutation<'a, P> {
    actor: UserId,
    stream: StreamId,
    key: Option<&'a IdempotencyKey>,
    /// None where the body holds secrets.
    request: Option<RequestHash>,
    proposal: P,
}

impl Context {
    async fn append<P: Proposal + 'static>(
        &self,
        mutation: Mutation<'_, P>,
    ) -> Result<Committed, ServiceError> {
        let Mutation { actor, key, .. } = mutation;
        let append = Append {
            stream: mutation.stream,
            actor: Some(actor),
            key: key.map_or_else(Key::unique, |key| Key::of_client(actor, key)),
            request: mutation.request,
            proposal: Arc::new(mutation.proposal),
        };
        Ok(self.log.append(append).await?)
    }

    /// What an id of something new is derived from, so that a repetition on any server meets
    /// its own entry: the client's key, or for a request without one something unique.
    fn seed(key: Option<&IdempotencyKey>) -> Vec<u8> {
        match key {
            Some(key) => key.as_str().as_bytes().to_vec(),
            // Longer than a client's key can be, and not ASCII: it never equals one.
            None => [&[0xff; 65], Key::unique().as_bytes().as_slice()].concat(),
        }
    }
}
