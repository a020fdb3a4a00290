//! Where the log and the state live: traits, split by role, and their implementations.
//!
//! The doc comments here are the contract; each sentence of them has a test in `contract`.

#[cfg(test)]
mod contract;
mod doc;
mod error;
mod mark_page;
mod mongo;
mod old_page;
mod pending_page;
mod projection;
mod query;
mod reading;
mod revision;
mod run;
#[cfg(test)]
pub(crate) mod simulated;
mod sqlite;

pub use error::StoreError;
#[cfg(test)]
pub(crate) use mongo::testing as mongo_testing;
pub use mongo::{MongoStore, OpenError as MongoOpenError};
pub use projection::{StateChange, project};
pub use query::{
    Account, Appended, BusLayout, Claim, IdWindow, MarkPage, Meta, NewUser, Old, OldPage, Page,
    Pending, PendingPage, Window,
};
pub use reading::ReadingStore;
pub use sqlite::{OpenError as SqliteOpenError, SqliteStore};

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::{
    Ban, ChannelId, Entry, Group, GroupId, Head, Invite, InviteId, Key, Member, Membership,
    Message, Reacting, Restrictions, Seq, ServerId, Session, SessionId, StreamId, Timestamp, User,
    UserId, Version,
};

/// The append-only log. All reads see only what is durably committed.
#[async_trait]
pub trait LogStore: Send + Sync {
    /// Appends a run: entries of one stream with consecutive positions, at least one.
    /// They are committed in order, durably, and marked pending as of their `at`. Concurrent
    /// calls may share one commit.
    ///
    /// An entry is refused if its position or its key is taken in its stream; then those before
    /// it in the run are in and those behind it were not tried ([`Appended::landed`]).
    /// The caller must know that the position before the first is committed, and must not have
    /// known it for so long that the first may have been taken and trimmed since: the store
    /// refuses duplicates, the caller prevents holes. (A store that notices that a run would leave one,
    /// or is not a run, answers `Corrupt`.)
    ///
    /// A call whose future is dropped may still take effect, for any prefix of the run.
    ///
    /// # Errors
    ///
    /// `Uncertain`: any prefix of the run may be in. Otherwise nothing is.
    async fn append(&self, run: Vec<Entry>) -> Result<Appended, StoreError>;

    /// The end of a stream; the default value if it has no entries.
    async fn head(&self, stream: StreamId) -> Result<Head, StoreError>;

    /// Positions of the last entries of `streams`, in their order; 0 for an empty stream.
    /// Costs one index seek per stream, whatever their length.
    async fn heads(&self, streams: &[StreamId]) -> Result<Vec<Seq>, StoreError>;

    /// The entry of a stream with this key.
    async fn find(&self, stream: StreamId, key: Key) -> Result<Option<Entry>, StoreError>;

    /// Entries with `after < seq ≤ through`, ascending, at most `limit`. Entries that were
    /// trimmed are absent, so the answer may have holes under the floor.
    async fn entries(
        &self,
        stream: StreamId,
        after: Seq,
        through: Seq,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// The last `limit` entries, newest first.
    async fn newest(&self, stream: StreamId, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// A page of a channel's messages, ascending, deleted ones included; at most `limit`.
    async fn messages(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Page<Message>, StoreError>;

    /// A page of a channel's pinned messages, otherwise as [`LogStore::messages`].
    async fn pinned(
        &self,
        channel: ChannelId,
        window: Window,
        limit: usize,
    ) -> Result<Page<Message>, StoreError>;

    /// The messages at `seqs` in ascending order; positions that hold no message are left out.
    async fn messages_at(
        &self,
        channel: ChannelId,
        seqs: &[Seq],
    ) -> Result<Vec<Message>, StoreError>;

    /// What decides the state of a channel's messages with `after < seq ≤ through`, ascending.
    async fn versions(
        &self,
        channel: ChannelId,
        after: Seq,
        through: Seq,
    ) -> Result<Vec<Version>, StoreError>;

    /// The same of the messages at `seqs`, ascending; positions that hold no message are left
    /// out.
    async fn versions_at(
        &self,
        channel: ChannelId,
        seqs: &[Seq],
    ) -> Result<Vec<Version>, StoreError>;

    /// Entries of `stream` after `after` that are still pending, ascending, at most `limit`, up
    /// to the first that cannot be read. One that cannot be read but is of a kind that changes no
    /// state is passed over.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the first cannot be read.
    async fn pending_in(
        &self,
        stream: StreamId,
        after: Seq,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Those of `streams` that have pending entries, in any order. Costs one index seek per
    /// stream, in one call.
    async fn with_pending(&self, streams: &[StreamId]) -> Result<Vec<StreamId>, StoreError>;

    /// Entries of any stream that have been pending since `before` or earlier, ascending by
    /// (stream, seq) and after `after`, at most `limit`. Streams are ordered by their stored
    /// form ([`StreamId::to_bytes`]).
    ///
    /// Entries that cannot be read (damaged ones, and after a downgrade those of a newer kind)
    /// are left out, which is logged as an error; `next` is behind them all the same. They stay
    /// pending.
    async fn pending(
        &self,
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> Result<PendingPage, StoreError>;

    /// Pending entries of any stream that were committed at `since` or later (by the time of
    /// those who committed them), newest first, at most `limit`; what cannot be read is left out.
    /// Looks at the latest 50,000 entries, pending or not, and at none before `since`.
    async fn pending_lately(
        &self,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<Pending>, StoreError>;

    /// Of the next `limit` pending entries after `after`, in the order of [`LogStore::pending`],
    /// the positions of those that have been pending since a time later than `than`. Looks at
    /// no entry, and at no more positions than `limit`.
    async fn pending_later(
        &self,
        than: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> Result<MarkPage, StoreError>;

    /// Takes pending entries over, each by compare-and-swap on the time it was last taken:
    /// true where it was still pending as of `claim.seen` and is now as of `now` (or a
    /// millisecond later where that was `seen`, so that of several who saw the same one wins).
    async fn claim(&self, claims: &[Claim], now: Timestamp) -> Result<Vec<bool>, StoreError>;

    /// These entries are applied and announced: they are pending no more. Unknown and settled
    /// ones are passed over. May be lost in a crash, which only makes them announced twice.
    async fn settle(&self, entries: &[(StreamId, Seq)]) -> Result<(), StoreError>;

    /// The floor of a stream: under it (at or below this position) only messages remain.
    async fn floor(&self, stream: StreamId) -> Result<Seq, StoreError>;

    /// Where entries that are no messages were committed before `before`. Looks at the next
    /// `limit` entries that are no messages after `after`, in the order of
    /// [`LogStore::pending`], and in each stream no further than to the first that is younger.
    /// One whose time cannot be read goes with the first behind it that is old.
    async fn old_entries(
        &self,
        before: Timestamp,
        after: Option<(StreamId, Seq)>,
        limit: usize,
    ) -> Result<OldPage, StoreError>;

    /// Raises the floor to `through`, but at most to one below the head, and never lowers it;
    /// then deletes entries at or below it except messages and pending ones. Returns how many
    /// were deleted. A stream's newest entry always stays, so its head survives.
    async fn trim(&self, stream: StreamId, through: Seq) -> Result<u64, StoreError>;
}

/// The state that the log's entries add up to, and what is decided outside the log.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Who this installation is.
    async fn meta(&self) -> Result<Meta, StoreError>;

    /// Records how the installation's processes meet on the bus, unless that is recorded
    /// already; returns what is recorded. The first of any number of callers decides.
    async fn agree(&self, layout: BusLayout) -> Result<BusLayout, StoreError>;

    /// Begins a new epoch and returns it: old cursors will be answered with `reset`. Processes
    /// that run already keep the epoch they read at their start.
    async fn begin_epoch(&self) -> Result<u64, StoreError>;

    /// Makes `holder` the holder of the lease `name` until `lifetime` from now, by compare-and-swap
    /// and the store's own clock: true if nobody else holds it. Who holds it makes it longer, or
    /// gives it back with a lifetime of zero. It only saves work: what is done under it must do no
    /// harm when two do it.
    async fn lease(
        &self,
        name: &str,
        holder: ServerId,
        lifetime: Duration,
    ) -> Result<bool, StoreError>;

    /// Whether reads and writes are possible now. Changes nothing that can be read. Answers
    /// what the store's own clock says; None for a store that shares this process's clock.
    ///
    /// # Errors
    ///
    /// What they would meet; `Unavailable` where the outcome of a write would be uncertain.
    async fn check(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Applies the changes of entry `seq` of `stream`. Each is guarded by the position last
    /// applied to what it changes, so applying an entry again, or after a later one, changes
    /// nothing. The caller applies a stream's entries in order.
    ///
    /// # Errors
    ///
    /// Some of the changes may have been applied; repeat all.
    async fn apply(
        &self,
        stream: StreamId,
        seq: Seq,
        changes: Vec<StateChange>,
    ) -> Result<(), StoreError>;

    /// Users who react to a message with `emoji`, ascending by id: those of the window, at most
    /// `limit`.
    async fn reactors(
        &self,
        channel: ChannelId,
        message: Seq,
        emoji: &str,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Result<Vec<UserId>, StoreError>;

    /// What `user` is to a message's reactions with `emoji`.
    async fn reacting(
        &self,
        channel: ChannelId,
        message: Seq,
        emoji: &str,
        user: UserId,
    ) -> Result<Reacting, StoreError>;

    /// Creates an account, or returns the one that has the name already.
    async fn create_user(&self, user: NewUser) -> Result<Option<Account>, StoreError>;

    /// The account with this (lower-case) name, with its secrets.
    async fn account(&self, username: &str) -> Result<Option<Account>, StoreError>;

    /// The users among `ids` that exist, in any order.
    async fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError>;

    /// The users with these (lower-case) names who exist, in any order.
    async fn users_named(&self, usernames: &[String]) -> Result<Vec<User>, StoreError>;

    /// A session, revoked ones included.
    async fn session(&self, session: SessionId) -> Result<Option<Session>, StoreError>;

    /// A user's sessions that are not revoked, ascending by id: those of the window, at most
    /// `limit`.
    async fn sessions(
        &self,
        user: UserId,
        window: IdWindow<SessionId>,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError>;

    /// Makes `generation + 1` the session's valid refresh token, by compare-and-swap: true if
    /// the session was at `generation` and not revoked. Sets `last_used_at`.
    async fn rotate_session(
        &self,
        session: SessionId,
        generation: u32,
        at: Timestamp,
        key: Option<Key>,
    ) -> Result<bool, StoreError>;

    /// A group with its channels, deleted groups included, and with all its members if it is
    /// small; with none if it is large. What it says is at least as new as its `applied`.
    async fn group(&self, group: GroupId) -> Result<Option<Group>, StoreError>;

    /// As [`StateStore::group`], with those of `users` who are members, and no other.
    async fn group_for(
        &self,
        group: GroupId,
        users: &[UserId],
    ) -> Result<Option<Group>, StoreError>;

    /// Those of `users` who are members of a group, in any order. Costs one index seek for each
    /// of them.
    async fn members_among(
        &self,
        group: GroupId,
        users: &[UserId],
    ) -> Result<Vec<(UserId, Member)>, StoreError>;

    /// The group of a channel, also of a deleted one.
    async fn group_of(&self, channel: ChannelId) -> Result<Option<GroupId>, StoreError>;

    /// The user's part in one group; None if deleted or not a member.
    async fn membership(
        &self,
        user: UserId,
        group: GroupId,
    ) -> Result<Option<Membership>, StoreError>;

    /// The groups a user is a member of, ascending by id: those of the window, at most `limit`;
    /// deleted ones left out.
    async fn memberships(
        &self,
        user: UserId,
        window: IdWindow<GroupId>,
        limit: usize,
    ) -> Result<Vec<Membership>, StoreError>;

    /// How many groups (not deleted) each of `users` is a member of, in their order.
    async fn group_counts(&self, users: &[UserId]) -> Result<Vec<u64>, StoreError>;

    /// The `g:` and `c:` streams of a user's groups, ascending; deleted ones left out.
    async fn streams_of(&self, user: UserId) -> Result<Vec<StreamId>, StoreError>;

    /// Members of a group, ascending by user id: those of the window, at most `limit`.
    async fn members(
        &self,
        group: GroupId,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, Member)>, StoreError>;

    /// What is held against a user in a group, whether or not a member.
    async fn restrictions(&self, group: GroupId, user: UserId) -> Result<Restrictions, StoreError>;

    /// Who is banned from a group, ascending by user id: those of the window, at most `limit`.
    async fn bans(
        &self,
        group: GroupId,
        window: IdWindow<UserId>,
        limit: usize,
    ) -> Result<Vec<Ban>, StoreError>;

    /// An invite, deleted ones included.
    async fn invite(&self, invite: InviteId) -> Result<Option<Invite>, StoreError>;

    /// A group's invites that are not deleted, ascending by id: those of the window, at most
    /// `limit`.
    async fn invites(
        &self,
        group: GroupId,
        window: IdWindow<InviteId>,
        limit: usize,
    ) -> Result<Vec<Invite>, StoreError>;

    /// Those of `others` (at most 200) who are in a group with `user`, each once, in any order,
    /// with one such group; the user too, if among them and in any group.
    async fn shared_groups(
        &self,
        user: UserId,
        others: &[UserId],
    ) -> Result<Vec<(UserId, GroupId)>, StoreError>;

    /// Users who share a group with `user`, without the user, each once, at most `limit`.
    async fn acquaintances(&self, user: UserId, limit: usize) -> Result<Vec<UserId>, StoreError>;
}

/// All roles, as every implementation has them.
pub trait Store: LogStore + StateStore + ReadingStore {}

impl<T: LogStore + StateStore + ReadingStore> Store for T {}
