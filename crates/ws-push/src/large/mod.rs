//! Large groups: their deltas name no recipients, so this server finds those among its users who
//! are members, as of the position that a delta says. What it knows of them comes from the store
//! and is followed along the group's stream. One task does so for all groups, one delta after
//! the other: while it reads, others wait, for a second at most. Whoever may have missed
//! something is told to sync.
//!
//! Comings and goings are told by a run of them at a time, at most every five seconds for each
//! group and always before the next other change of it. Who comes or goes hears of it at once.

mod crowd;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidings_common::bus::{Broadcast, Envelope, Part, Recipients};
use tidings_common::domain::{Entry, GroupId, Seq, ServerId, StreamId, UserId};
use tidings_common::store::{Store, StoreError};
use tidings_common::wire;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::trace;
use crowd::{Crowd, Run};

/// Deltas that wait for what is read before them. One more is dropped, and everybody here is
/// told to sync.
const WAITING: usize = 1_000;
/// A delta that has waited for longer is not delivered: the group's members sync instead.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Longest time that a read may take. Then everybody here is told to sync.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// Pause after a read that failed; what comes meanwhile is not delivered.
const RETRY: Duration = Duration::from_secs(1);
/// Comings and goings of a group are told at most so often.
const TOLD_EVERY: Duration = Duration::from_secs(5);
/// Taken from the queue together.
const BATCH: usize = 64;
/// Users whose membership is asked for at once, and entries read at once.
const PAGE: usize = 1_000;
/// Who is behind a group's stream by more entries reads its members anew.
const TOO_FAR_BEHIND: Seq = 10_000;
/// Groups that are followed. One more makes all be forgotten, and everybody here is told to sync.
const FOLLOWED: usize = 10_000;

/// The way to the task that follows large groups.
#[derive(Debug)]
pub(crate) struct LargeGroups {
    queue: mpsc::Sender<Work>,
    /// Those that are followed.
    followed: Mutex<HashSet<GroupId>>,
    /// A delta found no room.
    lost: AtomicBool,
}

#[derive(Debug)]
enum Work {
    Deliver(Arc<Envelope>, Broadcast, Instant),
    /// The group's stream has come to this position with a delta that named its recipients.
    Reached(GroupId, Seq),
    /// The user is connected here now.
    Admit(UserId, oneshot::Sender<()>),
}

/// Why members or entries of a group could not be read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("the store could not be read")]
    Store(#[from] StoreError),
    #[error("the store did not answer in time")]
    Late,
    #[error("there is no such group")]
    NoGroup,
}

/// The task's end of [`LargeGroups`].
pub(crate) struct Follower {
    large: Arc<LargeGroups>,
    queue: mpsc::Receiver<Work>,
    server: ServerId,
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    crowds: HashMap<GroupId, Crowd>,
    /// Groups with something to be told.
    untold: HashSet<GroupId>,
    /// When everybody here was last told to sync.
    resumed: Option<Instant>,
}

impl LargeGroups {
    pub(crate) fn new(
        server: ServerId,
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
    ) -> (Arc<Self>, Follower) {
        let (sender, queue) = mpsc::channel(WAITING);
        let large = Arc::new(Self {
            queue: sender,
            followed: Mutex::default(),
            lost: AtomicBool::new(false),
        });
        let follower = Follower {
            large: large.clone(),
            queue,
            server,
            store,
            hub,
            crowds: HashMap::new(),
            untold: HashSet::new(),
            resumed: None,
        };
        (large, follower)
    }

    /// Delivers to the members who are connected here. Never waits.
    pub(crate) fn deliver(&self, envelope: Arc<Envelope>, to: Broadcast) {
        let work = Work::Deliver(envelope, to, Instant::now());
        if self.queue.try_send(work).is_err() {
            self.lost.store(true, Ordering::SeqCst);
        }
    }

    /// A delta that named its recipients was delivered: of a group that is followed, what came
    /// before it is told now.
    pub(crate) fn reached(&self, envelope: &Envelope) {
        let Some((StreamId::Group(group), seq)) = envelope.position else {
            return;
        };
        let is_followed = self.followed().contains(&group);
        if is_followed && self.queue.try_send(Work::Reached(group, seq)).is_err() {
            self.lost.store(true, Ordering::SeqCst);
        }
    }

    /// Returns when every delta of the user's large groups that is delivered from now on reaches
    /// the user, who is registered in the hub.
    pub(crate) async fn admit(&self, user: UserId) {
        // A group that is followed from now on finds the user in the hub.
        if self.followed().is_empty() {
            return;
        }
        let (done, admitted) = oneshot::channel();
        if self.queue.send(Work::Admit(user, done)).await.is_ok() {
            // Where the task has ended the process ends, too.
            let _ended = admitted.await.is_err();
        }
    }

    fn followed(&self) -> MutexGuard<'_, HashSet<GroupId>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Works until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = self.next_telling();
            let telling = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            // All are cancel-safe: `recv_many` takes nothing unless it returns.
            tokio::select! {
                _ = self.queue.recv_many(&mut batch, BATCH) => {}
                () = telling => {}
                () = stop.cancelled() => return,
            }
            self.work(std::mem::take(&mut batch)).await;
            if self.large.lost.swap(false, Ordering::SeqCst) {
                tracing::warn!("too many deltas of large groups at once; every connection syncs");
                self.begin_anew();
            }
            if let Err(error) = self.tell_due().await {
                self.give_up(&error).await;
            }
        }
    }

    async fn work(&mut self, batch: Vec<Work>) {
        let (mut users, mut answers, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for work in batch {
            match work {
                Work::Admit(user, done) => {
                    users.push(user);
                    answers.push(done);
                }
                other => rest.push(other),
            }
        }
        if !users.is_empty()
            && let Err(error) = self.admit(&users).await
        {
            // They are found when the groups are read anew.
            self.give_up(&error).await;
        }
        for done in answers {
            // Who does not wait any more has gone.
            let _gone = done.send(()).is_err();
        }
        for work in rest {
            let done = match work {
                Work::Deliver(envelope, to, since) => self.deliver(&envelope, to, since).await,
                Work::Reached(group, seq) => self.reach(group, seq).await,
                Work::Admit(..) => Ok(()),
            };
            if let Err(error) = done {
                self.give_up(&error).await;
            }
        }
    }

    /// Nothing is known any more, so everybody syncs.
    fn begin_anew(&mut self) {
        self.large.followed().clear();
        self.crowds.clear();
        self.untold.clear();
        self.hub.resume_all();
        self.resumed = Some(Instant::now());
    }

    async fn give_up(&mut self, error: &Unread) {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            connections = self.hub.connections(),
            "members of large groups could not be read; every connection is told to sync"
        );
        sleep(RETRY).await;
        self.begin_anew();
    }

    async fn admit(&mut self, users: &[UserId]) -> Result<(), Unread> {
        for crowd in self.crowds.values_mut() {
            let found = in_time(self.store.members_among(crowd.group, users)).await?;
            crowd.admit(found);
        }
        Ok(())
    }

    async fn deliver(
        &mut self,
        envelope: &Envelope,
        to: Broadcast,
        since: Instant,
    ) -> Result<(), Unread> {
        let span = trace::dispatch(envelope, self.server);
        let mut traced = envelope.trace.is_some();
        if let Some(user) = to.about {
            span.in_scope(|| self.hub.offer(user, envelope, &mut traced));
        }
        if self.resumed >= Some(since) {
            return Ok(());
        }
        self.follow(to.group).await?;
        match (envelope.position, to.about) {
            (Some((StreamId::Group(_), seq)), Some(user)) => {
                return self.hear(to.group, seq, user).await;
            }
            (Some((StreamId::Group(_), seq)), None) => {
                self.reach_position(to.group, to.gv.max(seq)).await?;
                self.tell(to.group, seq).await?;
            }
            _ => self.reach_position(to.group, to.gv).await?,
        }
        let Some(crowd) = self.crowds.get_mut(&to.group) else {
            return Ok(());
        };
        if crowd.resumed >= Some(since) {
            return Ok(());
        }
        if since.elapsed() > LONGEST_WAIT {
            crowd.resume(&self.hub);
            return Ok(());
        }
        span.in_scope(|| crowd.dispatch(&self.hub, envelope, to));
        Ok(())
    }

    /// Somebody comes or goes.
    async fn hear(&mut self, group: GroupId, seq: Seq, user: UserId) -> Result<(), Unread> {
        let Some(crowd) = self.crowds.get_mut(&group) else {
            return Ok(());
        };
        if seq <= crowd.followed {
            // It happened before this server followed the group, and was told to nobody here.
            return self.tell_one(group, seq).await;
        }
        crowd.heard = crowd.heard.max(seq);
        if !crowd.has_untold() {
            return Ok(());
        }
        let due = crowd.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        self.untold.insert(group);
        if due {
            self.tell_all(group).await?;
        } else if self.hub.is_connected(user) {
            self.reach_position(group, seq).await?;
        }
        Ok(())
    }

    async fn reach(&mut self, group: GroupId, seq: Seq) -> Result<(), Unread> {
        self.reach_position(group, seq).await?;
        self.tell(group, seq).await
    }

    /// Begins to follow a group, unless it is followed.
    async fn follow(&mut self, group: GroupId) -> Result<(), Unread> {
        if self.crowds.contains_key(&group) {
            return Ok(());
        }
        if self.crowds.len() >= FOLLOWED {
            tracing::warn!("too many large groups; every connection is told to sync");
            self.begin_anew();
        }
        let crowd = self.read(group).await?;
        self.crowds.insert(group, crowd);
        Ok(())
    }

    /// The group's members among those who are connected here.
    async fn read(&self, group: GroupId) -> Result<Crowd, Unread> {
        // First, so that whoever comes from now on is admitted.
        self.large.followed().insert(group);
        let reading = async {
            let state = self.store.group_for(group, &[]).await?;
            let known = state.ok_or(Unread::NoGroup)?.applied;
            let mut members = Vec::new();
            for users in self.hub.users().chunks(PAGE) {
                members.extend(self.store.members_among(group, users).await?);
            }
            Ok(Crowd::new(group, known, members))
        };
        match timeout(READ_DEADLINE, reading).await {
            Ok(read) => read,
            Err(_) => Err(Unread::Late),
        }
    }

    /// Follows the group's stream up to this position at least.
    async fn reach_position(&mut self, group: GroupId, through: Seq) -> Result<(), Unread> {
        let Some(crowd) = self.crowds.get_mut(&group) else {
            return Ok(());
        };
        if through > crowd.known.saturating_add(TOO_FAR_BEHIND) {
            return self.read_anew(group).await;
        }
        while crowd.known < through {
            let after = crowd.known;
            let entries = self.store.entries(group.into(), after, through, PAGE);
            let entries = in_time(entries).await?;
            let hub = &self.hub;
            let followed = crowd.follow(entries, |user| hub.is_connected(user));
            match followed {
                Ok(late) => hub.resume(late),
                Err(crowd::Hole) => return self.read_anew(group).await,
            }
            if crowd.known == after {
                return self.read_anew(group).await;
            }
        }
        if crowd.has_untold() {
            self.untold.insert(group);
        }
        Ok(())
    }

    /// What was not told before is found by a sync.
    async fn read_anew(&mut self, group: GroupId) -> Result<(), Unread> {
        let mut crowd = self.read(group).await?;
        crowd.resume(&self.hub);
        self.untold.remove(&group);
        self.crowds.insert(group, crowd);
        Ok(())
    }

    /// When the next run of comings and goings is to be told.
    fn next_telling(&self) -> Option<Instant> {
        let crowds = self.untold.iter().filter_map(|id| self.crowds.get(id));
        crowds.map(Crowd::due).min()
    }

    async fn tell_due(&mut self) -> Result<(), Unread> {
        let now = Instant::now();
        let is_due = |id: &&GroupId| self.crowds.get(id).is_none_or(|crowd| crowd.due() <= now);
        let due: Vec<GroupId> = self.untold.iter().filter(is_due).copied().collect();
        for group in due {
            self.tell_all(group).await?;
        }
        Ok(())
    }

    async fn tell_all(&mut self, group: GroupId) -> Result<(), Unread> {
        if let Some(crowd) = self.crowds.get(&group) {
            let heard = crowd.heard;
            self.reach_position(group, heard).await?;
        }
        self.tell(group, Seq::MAX).await?;
        self.untold.remove(&group);
        Ok(())
    }

    /// Tells of those who came and went before a position, as far as that is known.
    async fn tell(&mut self, group: GroupId, before: Seq) -> Result<(), Unread> {
        let Some(crowd) = self.crowds.get_mut(&group) else {
            return Ok(());
        };
        let runs = crowd.take_untold(before);
        if runs.is_empty() {
            return Ok(());
        }
        let count = if runs.iter().any(|run| run.first < run.last.seq) {
            let state = in_time(self.store.group_for(group, &[])).await?;
            state.map_or(0, |state| state.size.members)
        } else {
            0
        };
        for run in &runs {
            crowd.tell(&self.hub, run, count);
        }
        crowd.told = Some(Instant::now());
        Ok(())
    }

    async fn tell_one(&mut self, group: GroupId, seq: Seq) -> Result<(), Unread> {
        let found = self
            .store
            .entries(group.into(), seq.saturating_sub(1), seq, 1);
        let found = in_time(found).await?;
        if let Some(crowd) = self.crowds.get_mut(&group) {
            for entry in found {
                let (first, last) = (entry.seq, Box::new(entry));
                crowd.tell(&self.hub, &Run { first, last }, 0);
            }
        }
        Ok(())
    }
}

async fn in_time<T>(reading: impl Future<Output = Result<T, StoreError>>) -> Result<T, Unread> {
    match timeout(READ_DEADLINE, reading).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(Unread::Late),
    }
}

/// What a crowd does with the hub.
impl Crowd {
    /// When what there is to tell may be told.
    fn due(&self) -> Instant {
        self.told
            .map_or_else(Instant::now, |told| told + TOLD_EVERY)
    }

    /// Offers a delta to every member it is for. Who has joined since it was committed, or
    /// perhaps before, without a fence, is told to sync instead.
    fn dispatch(&mut self, hub: &Hub, envelope: &Envelope, to: Broadcast) {
        let (mut gone, mut since) = (Vec::new(), Vec::new());
        let mut traced = envelope.trace.is_some();
        for (user, role, joined) in self.members() {
            if !to.part.includes(role) {
                continue;
            }
            if joined > to.gv {
                since.push(user);
            } else if !hub.offer(user, envelope, &mut traced) {
                gone.push(user);
            }
        }
        hub.resume(since);
        self.forget(&gone);
    }

    /// Tells of a run: one by itself as it is.
    fn tell(&mut self, hub: &Hub, run: &Run, count: u64) {
        let (first, last) = (run.first, &*run.last);
        let mut told = Vec::new();
        if first < last.seq {
            let run = (first, last.seq);
            let delta = wire::Delta::members_changed(self.group, run, last.at, count);
            told.push((Part::All, Some(delta)));
        } else if last.change.is_confidential() {
            told.push((Part::Admins, wire::Delta::of_entry(last)));
            told.push((Part::Others, wire::Delta::concealed(last)));
        } else {
            told.push((Part::All, wire::Delta::of_entry(last)));
        }
        for (part, delta) in told {
            let to = Broadcast {
                group: self.group,
                gv: last.seq,
                part,
                about: None,
            };
            if let Some(delta) = delta {
                self.dispatch(hub, &envelope_of(last, to, &delta), to);
            }
        }
    }

    /// Everybody syncs: whatever came before needs no telling.
    fn resume(&mut self, hub: &Hub) {
        hub.resume(self.members().map(|(user, ..)| user));
        self.resumed = Some(Instant::now());
    }
}

fn envelope_of(entry: &Entry, to: Broadcast, delta: &wire::Delta) -> Envelope {
    Envelope {
        id: Some(entry.id),
        position: Some((entry.stream, entry.seq)),
        at: entry.at,
        to: Recipients::Group(to),
        trace: None,
        body: delta.to_frame(),
    }
}
