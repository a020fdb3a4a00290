//! The client algorithm over a real connection:
//!
//! 1. Connect and wait for `hello`: from then on the server receives for this user.
//! 2. `POST /v1/sync` with the cursor, page by page up to the heads of the first answer. What
//!    comes live in the meantime is offered at once; what does not follow yet waits.
//! 3. A stream that the cursor lacks, or that was reset, is taken up: its head is known from
//!    the sync, then its state is read over HTTP, then the deltas behind that head apply. What
//!    was read of a stream that ended meanwhile is dropped.
//! 4. A gap that lasts 400 ms and a random bit is filled by a sync of the streams concerned.
//!    A whole sync is started by the frame `resume` and by deltas of a stream that the cursor
//!    lacks, whether they come or have waited when it ended.
//! 5. A lost connection is made again at once, then with growing random delays; close codes
//!    that say so end the device.
//!
//! The connection is a WebSocket, a stream of events, or a poll after another, as the device's
//! [`Way`] says. A poll is a sync that waits: whatever it is answered with is taken as that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agenda::Agenda;
use crate::catch_up::CatchUp;
use crate::client::{Client, number, text};
use crate::failure::{self, Refused};
use crate::fetch::{self, First, Found};
use crate::observer::{Happened, Observer};
use crate::replica::{Cursor, Delta, Offered, Replica};
use crate::socket::Event;
use crate::wait::SOON;
use crate::way::{Leg, Line, Transport, Way, poll_at};

const FIRST_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Close codes after which a client does not come back.
const FINAL: [u16; 7] = [4003, 4009, 4010, 1003, 1007, 1008, 1009];
const TOKEN_EXPIRED: u16 = 4001;
/// How long a poll waits.
const POLL: Duration = Duration::from_secs(25);

/// What a device holds and what happened to it.
#[derive(Debug, Default)]
pub struct Record {
    pub replica: Replica,
    /// Connected, and caught up with the heads at the time of connecting.
    pub live: bool,
    pub connections: usize,
    /// Those over each transport.
    pub transports: BTreeMap<Transport, usize>,
    pub syncs: usize,
    /// Why the server asked to resume, each time.
    pub resumes: Vec<String>,
    /// How connections ended.
    pub closes: Vec<Option<u16>>,
    /// Why it will not come back, or could not go on.
    pub ended: Option<String>,
    /// What came that the protocol does not allow.
    pub violations: Vec<String>,
}

/// One device of one user. It keeps its record while it is away.
#[derive(Debug)]
pub struct Device {
    pub client: Client,
    /// How it connects, when it does so next.
    pub way: Way,
    record: watch::Sender<Record>,
    observer: Option<Arc<dyn Observer>>,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Device {
    /// A device that holds nothing yet; returns when it is live.
    ///
    /// # Errors
    /// It is not live in time.
    pub async fn start(client: &Client) -> Result<Self> {
        Self::start_by(client, Way::over(Transport::WebSocket)).await
    }

    /// Like [`Device::start`], connected in this way.
    ///
    /// # Errors
    /// As there.
    pub async fn start_by(client: &Client, way: Way) -> Result<Self> {
        let mut device = Self::new(client, None);
        device.way = way;
        device.come_back();
        device.until("live", |record| record.live).await?;
        Ok(device)
    }

    /// A device that holds nothing yet and is away.
    #[must_use]
    pub fn new(client: &Client, observer: Option<Arc<dyn Observer>>) -> Self {
        let record = Record {
            replica: Replica::new(&client.user),
            ..Record::default()
        };
        Self {
            client: client.clone(),
            way: Way::over(Transport::WebSocket),
            record: watch::Sender::new(record),
            observer,
            running: None,
        }
    }

    /// Drops the connection, and stays away.
    ///
    /// # Errors
    /// The device's task failed.
    pub async fn go_away(&mut self) -> Result<()> {
        if let Some((stop, task)) = self.running.take() {
            stop.cancel();
            task.await?;
            tell(self.observer.as_deref(), Happened::Away);
        }
        self.record.send_modify(|record| record.live = false);
        Ok(())
    }

    /// Connects again with what it holds.
    pub fn come_back(&mut self) {
        let stop = CancellationToken::new();
        tell(self.observer.as_deref(), Happened::Back);
        let link = Link {
            client: self.client.clone(),
            way: self.way.clone(),
            record: self.record.clone(),
            observer: self.observer.clone(),
        };
        let task = tokio::spawn(link.run(stop.clone()));
        self.running = Some((stop, task));
    }

    /// Looks at the record.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.record.borrow())
    }

    /// Waits until the record is as wanted.
    ///
    /// # Errors
    /// It is not within [`SOON`], or the device ended before.
    pub async fn until(&self, what: &str, wanted: impl FnMut(&Record) -> bool) -> Result<()> {
        self.until_within(what, SOON, wanted).await
    }

    /// Like [`Device::until`], with another limit.
    ///
    /// # Errors
    /// As there.
    pub async fn until_within(
        &self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Record) -> bool,
    ) -> Result<()> {
        let mut records = self.record.subscribe();
        let done = records.wait_for(|record| wanted(record) || record.ended.is_some());
        let reached = match tokio::time::timeout(limit, done).await {
            Ok(record) => wanted(&*record?),
            Err(_) => false,
        };
        ensure!(
            reached,
            "{}: not {what}: {}",
            self.client.username,
            self.summary()
        );
        Ok(())
    }

    /// Waits until a stream's position is at least `seq`.
    ///
    /// # Errors
    /// It is not within [`SOON`].
    pub async fn reaches(&self, stream: &str, seq: u64) -> Result<()> {
        let what = format!("at {seq} of {stream}");
        let at = |record: &Record| record.replica.cursor.get(stream).copied();
        self.until(&what, |record| at(record) >= Some(seq)).await
    }

    /// Waits until it has all that there is now, and returns what it holds.
    ///
    /// # Errors
    /// It has not within [`SOON`].
    pub async fn catches_up(&self) -> Result<Replica> {
        self.catches_up_within(SOON).await
    }

    /// Like [`Device::catches_up`], with another limit.
    ///
    /// # Errors
    /// As there.
    pub async fn catches_up_within(&self, limit: Duration) -> Result<Replica> {
        let heads: Cursor = serde_json::from_value(self.client.heads().await?)?;
        let what = format!("at {heads:?}");
        let all = |record: &Record| record.replica.cursor == heads && record.replica.is_fresh();
        self.until_within(&what, limit, all).await?;
        Ok(self.look(|record| record.replica.clone()))
    }

    fn summary(&self) -> String {
        self.look(|record| {
            format!(
                "live {}, {} connections, {} syncs, closes {:?}, resumes {:?}, ended {:?}, cursor {:?}, gaps {:?}",
                record.live,
                record.connections,
                record.syncs,
                record.closes,
                record.resumes,
                record.ended,
                record.replica.cursor,
                record.replica.gaps()
            )
        })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some((stop, _)) = &self.running {
            stop.cancel();
        }
    }
}

/// The running part of a device.
struct Link {
    client: Client,
    way: Way,
    record: watch::Sender<Record>,
    observer: Option<Arc<dyn Observer>>,
}

/// How a connection ended.
enum End {
    /// At once, on another way.
    Hop,
    Again,
    Never(String),
}

impl Link {
    async fn run(self, stop: CancellationToken) {
        let work = async {
            let mut failures = 0;
            loop {
                let leg = self.way.next();
                let end = match leg.stay {
                    // To hop on is to let go in the middle of whatever it is.
                    Some(stay) => tokio::select! {
                        end = self.connection(&leg) => end,
                        () = self.stayed(&leg, stay) => Ok(End::Hop),
                    },
                    None => self.connection(&leg).await,
                };
                if self.record.borrow().live {
                    failures = 0;
                }
                self.record.send_modify(|record| record.live = false);
                match end {
                    Ok(End::Hop) => continue,
                    Ok(End::Again) => {}
                    Ok(End::Never(why)) => {
                        self.record.send_modify(|record| record.ended = Some(why));
                        return;
                    }
                    Err(error) => self.failed(&error),
                }
                tokio::time::sleep(back_off(failures)).await;
                failures += 1;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    fn failed(&self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        if failure::passes(error) {
            return self.tell(Happened::Lost { error: text });
        }
        self.record
            .send_modify(|record| record.violations.push(text.clone()));
        self.tell(Happened::Violation { error: text });
    }

    fn tell(&self, what: Happened) {
        tell(self.observer.as_deref(), what);
    }

    async fn stayed(&self, leg: &Leg, stay: Duration) {
        if leg.patient {
            let mut records = self.record.subscribe();
            // The sender is here, so this does not fail.
            drop(records.wait_for(|record| record.live).await);
        }
        tokio::time::sleep(stay).await;
    }

    /// One connection, from the ticket to the end.
    async fn connection(&self, leg: &Leg) -> Result<End> {
        let Some(ticket) = self.ticket().await? else {
            return Ok(End::Never("the session has ended".to_owned()));
        };
        if leg.transport == Transport::Poll {
            return self.polls(leg, &ticket).await;
        }
        let (mut line, hello) = Line::open(leg, &ticket).await?;
        self.connected(leg);
        let background = Duration::from_secs(number(&hello, "sync_secs")?);

        let mut sync = Some(self.sync(None));
        let mut refresh = None;
        let mut agenda = Agenda::new(Instant::now(), background);
        loop {
            tokio::select! {
                event = line.next() => match event? {
                    Event::Frame(frame) => {
                        if let Some(wait) = self.frame(&frame)? {
                            agenda.sync_after(Instant::now(), wait);
                        }
                    }
                    Event::Closed(code) => {
                        self.record.send_modify(|record| record.closes.push(code));
                        self.tell(Happened::Closed { code });
                        return self.closed(code).await;
                    }
                },
                found = next_of(&mut sync), if sync.is_some() => match found {
                    Some(found) => self.take(found?)?,
                    None => {
                        sync = None;
                        self.record.send_modify(|record| {
                            record.syncs += 1;
                            record.live = true;
                        });
                        self.tell(Happened::Live);
                    }
                },
                found = next_of(&mut refresh), if refresh.is_some() => match found {
                    Some(found) => self.take(found?)?,
                    None => refresh = None,
                },
                () = tokio::time::sleep_until(agenda.whole_at), if sync.is_none() => {
                    agenda.begin_whole(Instant::now());
                    sync = Some(self.sync(None));
                }
                () = until(agenda.gap_at), if sync.is_none() => {
                    sync = Some(self.sync(Some(self.gaps())));
                }
            }
            let now = Instant::now();
            if self.record.borrow().replica.lacks_streams() {
                agenda.sync_after(now, Duration::ZERO);
            }
            agenda.note_gaps(now, sync.is_some(), !self.gaps().is_empty());
            // Not beside a sync: of two states of a group the older would come last.
            if sync.is_none() && refresh.is_none() {
                refresh = self.refresh();
            }
        }
    }

    /// One poll after another. The first does not wait, so that the device is soon live.
    async fn polls(&self, leg: &Leg, ticket: &Value) -> Result<End> {
        let (client, path) = poll_at(leg, ticket, &self.client)?;
        let mut wait = Duration::ZERO;
        self.connected(leg);
        loop {
            let first = First::Poll {
                client: client.clone(),
                path: path.clone(),
                timeout: wait,
            };
            let mut polled = fetch::sync(&self.client, &self.record, self.whole(), first);
            while let Some(found) = polled.recv().await {
                match found {
                    // Streams that it lacks are in the answer to the next poll.
                    Ok(found) => self.take(found)?,
                    Err(error) => return self.refused(error).await,
                }
            }
            if let Some(mut refresh) = self.refresh() {
                while let Some(found) = refresh.recv().await {
                    self.take(found?)?;
                }
            }
            wait = POLL;
            self.record.send_modify(|record| {
                record.syncs += 1;
                record.live = true;
            });
            self.tell(Happened::Live);
        }
    }

    /// What an answer means that is none.
    async fn refused(&self, error: anyhow::Error) -> Result<End> {
        let status = error
            .downcast_ref::<Refused>()
            .map(|refused| refused.status);
        match status {
            Some(401) => self.closed(Some(TOKEN_EXPIRED)).await,
            Some(409) => Ok(End::Never("another connection took its place".to_owned())),
            _ => Err(error),
        }
    }

    fn connected(&self, leg: &Leg) {
        self.record.send_modify(|record| {
            record.connections += 1;
            *record.transports.entry(leg.transport).or_default() += 1;
        });
        self.tell(Happened::Connected);
    }

    /// A ticket; `None` if the session has ended.
    async fn ticket(&self) -> Result<Option<Value>> {
        let path = "/v1/realtime/tickets";
        let mut answer = self.client.post(path, &json!({})).await?;
        if answer.status == 401 {
            if !self.client.refresh().await? {
                return Ok(None);
            }
            answer = self.client.post(path, &json!({})).await?;
        }
        answer.ok().map(Some)
    }

    /// Takes a frame; answers after which time the server wants a whole sync, if it does.
    fn frame(&self, frame: &Value) -> Result<Option<Duration>> {
        match frame["type"].as_str() {
            Some("delta") => {
                self.offer(frame, true)?;
                Ok(None)
            }
            Some("resume") => {
                let reason = text(frame, "reason")?.to_owned();
                self.record
                    .send_modify(|record| record.resumes.push(reason.clone()));
                self.tell(Happened::Resume { reason });
                let after = number(frame, "after_ms")?;
                Ok(Some(Duration::from_millis(after)))
            }
            // `reconnect` announces the close frame that the server sends at its time.
            _ => Ok(None),
        }
    }

    async fn closed(&self, code: Option<u16>) -> Result<End> {
        match code {
            Some(code) if FINAL.contains(&code) => Ok(End::Never(format!("closed with {code}"))),
            Some(TOKEN_EXPIRED) => {
                let renewed = self.client.refresh().await?;
                let ended = || End::Never("the session has ended".to_owned());
                Ok(if renewed { End::Again } else { ended() })
            }
            _ => Ok(End::Again),
        }
    }

    /// Gaps in the streams that the cursor has, with the position before each.
    fn gaps(&self) -> Cursor {
        let gaps = self.record.borrow().replica.gaps();
        let known = gaps.into_iter();
        known
            .filter_map(|(stream, position)| Some((stream, position?)))
            .collect()
    }

    fn offer(&self, frame: &Value, pushed: bool) -> Result<Offered> {
        let Some(delta) = Delta::parse(frame)? else {
            // Ephemeral: nothing here shows it.
            if frame["kind"] == "typing" {
                let channel = text(frame, "stream")?.trim_start_matches("c:").to_owned();
                let user = text(&frame["data"], "user")?.to_owned();
                self.tell(Happened::Typing { channel, user });
            }
            return Ok(Offered::Duplicate);
        };
        if self.observer.is_some() {
            let delta = delta.clone();
            self.tell(Happened::Seen { delta, pushed });
        }
        self.change(|record| record.replica.offer(delta))
    }

    /// Takes what a sync found.
    fn take(&self, found: Found) -> Result<()> {
        match found {
            Found::Deltas(deltas) => {
                for delta in &deltas {
                    let offered = self.offer(delta, false)?;
                    ensure!(offered != Offered::Gap, "a sync left a hole before {delta}");
                }
                Ok(())
            }
            Found::Refreshed(stream, part) => self.change(|record| {
                record.replica.refreshed(&stream, part.map(|part| *part));
                Ok(())
            }),
            Found::Gone(stream) => self.change(|record| {
                record.replica.gone(&stream);
                Ok(())
            }),
            Found::TakenUp {
                stream,
                head,
                part,
                reset,
            } => {
                if reset {
                    let stream = stream.clone();
                    self.tell(Happened::Reset { stream });
                }
                self.change(|record| record.replica.take_found(&stream, head, *part, reset))
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Record) -> Result<T>) -> Result<T> {
        let mut result = None;
        let mut steps = Vec::new();
        self.record.send_modify(|record| {
            result = Some(change(record));
            if self.observer.is_some() {
                steps = std::mem::take(&mut record.replica.history);
            }
        });
        for step in steps {
            self.tell(Happened::Step(step));
        }
        result.context("the change was made")?
    }

    /// Starts a sync of everything, or of these streams alone.
    fn sync(&self, gaps: Option<Cursor>) -> mpsc::Receiver<Result<Found>> {
        let sync = match gaps {
            Some(gaps) => CatchUp::new(gaps, true),
            None => self.whole(),
        };
        fetch::sync(&self.client, &self.record, sync, First::Sync)
    }

    /// Starts reading groups again whose members have changed, if there are any.
    fn refresh(&self) -> Option<mpsc::Receiver<Result<Found>>> {
        if self.record.borrow().replica.is_fresh() {
            return None;
        }
        let mut streams = BTreeSet::new();
        self.record
            .send_modify(|record| streams = record.replica.begin_refreshing());
        Some(fetch::refresh(&self.client, streams))
    }

    /// A sync of everything, which is yet to be asked for.
    fn whole(&self) -> CatchUp {
        self.record
            .send_modify(|record| record.replica.drop_unknown());
        CatchUp::new(self.record.borrow().replica.cursor.clone(), false)
    }
}

fn tell(observer: Option<&dyn Observer>, what: Happened) {
    if let Some(observer) = observer {
        observer.happened(what);
    }
}

/// The next thing a sync found.
async fn next_of(sync: &mut Option<mpsc::Receiver<Result<Found>>>) -> Option<Result<Found>> {
    match sync {
        Some(sync) => sync.recv().await,
        None => std::future::pending().await,
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// At once after a good connection, then a random part of a span that doubles.
fn back_off(failures: u32) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let span = (FIRST_DELAY * 2u32.pow(failures.min(8) - 1)).min(MAX_DELAY);
    span.mul_f64(fastrand::f64())
}
