//! The client algorithm against a model of the server, in simulated time: deltas are lost,
//! repeated, reordered and delayed, connections break in mid-sync, streams come and go. All of
//! it follows from a seed.
//!
//! `TIDINGS_TEST_SCHEDULES` says how many schedules to run, `TIDINGS_TEST_SEED` the first seed.

mod client;
mod model;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::replica::{Cursor, Step};
use client::{Client, Time, Waits};
use model::{ME, Model};

/// Schedules of an ordinary run.
const SCHEDULES: u64 = 3_000;
/// As `hello` may say it.
const BACKGROUND: Duration = Duration::from_secs(120);
/// Where the server says of every loss that there was one, nothing may depend on the background.
const NEVER: Duration = Duration::from_secs(3600);
/// After which nothing changes on the server, nothing is lost any more, and a client must have
/// everything: once around in the background, and the longest that anything takes.
const HEALED: Duration = Duration::from_secs(250);

/// What is under way, by the time of its coming.
enum Coming {
    Change,
    Frame(Value),
    Page(Value),
    State(Option<crate::view::Part>),
    /// The connection breaks; whatever was on its way on it is lost.
    Break,
    Connect,
    /// The client's own time.
    Wake,
}

struct Schedule {
    now: Time,
    /// Per mille of the pushes.
    lost: u32,
    repeated: u32,
    breaks: u32,
    /// The server notices every loss.
    noticed: bool,
    /// Longest delay of a push, and of an answer.
    delay_ms: u64,
    model: Model,
    client: Client,
    coming: BTreeMap<(Time, u64), (u64, Coming)>,
    number: u64,
    /// The connection that is up, or the last one.
    connection: u64,
    /// Whether the client's next request is under way.
    asked: bool,
    trace: Vec<String>,
    /// Where the checks of the client's history have come to.
    checked: usize,
    positions: Cursor,
}

fn chance(per_mille: u32) -> bool {
    per_mille > 0 && fastrand::u32(..1000) < per_mille
}

impl Schedule {
    fn draw() -> Self {
        let some = |most: u32| match fastrand::bool() {
            true => fastrand::u32(..=most),
            false => 0,
        };
        let mut schedule = Self {
            now: Time::ZERO,
            lost: some(300),
            repeated: some(300),
            breaks: some(60),
            noticed: fastrand::bool(),
            delay_ms: 4 << fastrand::u32(..10),
            model: Model::new(),
            client: Client::new(ME),
            coming: BTreeMap::new(),
            number: 0,
            connection: 0,
            asked: false,
            trace: Vec::new(),
            checked: 0,
            positions: Cursor::new(),
        };
        schedule.put(Duration::ZERO, Coming::Connect);
        let (mut at, pace) = (0, 4 << fastrand::u32(..10));
        for _ in 0..fastrand::u32(10..120) {
            at += fastrand::u64(..pace);
            schedule.put(Duration::from_millis(at), Coming::Change);
        }
        schedule
    }

    fn put(&mut self, after: Duration, what: Coming) {
        self.number += 1;
        let key = (self.now + after, self.number);
        self.coming.insert(key, (self.connection, what));
    }

    fn delay(&self) -> Duration {
        Duration::from_millis(fastrand::u64(..=self.delay_ms >> fastrand::u32(..6)))
    }

    /// Until nothing is to come but what the client does by itself for ever.
    fn run(&mut self) -> Result<()> {
        let mut changes = self.coming.len();
        let mut end = None;
        while let Some((&(at, number), _)) = self.coming.first_key_value() {
            if end.is_some_and(|end| at > end) {
                return self.check_end();
            }
            let (connection, coming) = self.coming.remove(&(at, number)).context("the first")?;
            self.now = at;
            if matches!(coming, Coming::Change | Coming::Connect) && changes > 0 {
                changes -= 1;
                if changes == 0 {
                    (self.lost, self.repeated, self.breaks) = (0, 0, 0);
                    end = Some(self.now + HEALED);
                }
            }
            let stale = connection != self.connection;
            self.take(coming, stale)?;
            self.check_history()?;
            self.ask();
        }
        bail!("nothing is to come any more")
    }

    fn take(&mut self, coming: Coming, stale: bool) -> Result<()> {
        let away = matches!(self.client.waits(), Waits::ForConnection);
        match coming {
            Coming::Change => {
                for push in self.model.act() {
                    self.push(push, away);
                }
                if chance(self.breaks) {
                    self.put(self.delay(), Coming::Break);
                }
            }
            Coming::Connect if away => {
                self.connection += 1;
                self.asked = false;
                self.note(|| "connected".to_owned());
                let background = if self.noticed { NEVER } else { BACKGROUND };
                self.client.connect(self.now, background);
            }
            Coming::Break if !stale && !away => {
                self.note(|| "the connection breaks".to_owned());
                self.client.disconnect();
                self.put(self.delay(), Coming::Connect);
            }
            // Another connection's, or nobody is there.
            _ if stale || away => {}
            Coming::Frame(frame) => {
                self.note(|| format!("comes {frame}"));
                self.client.frame(self.now, &frame)?;
            }
            Coming::Page(answer) => {
                self.note(|| format!("answer {answer}"));
                self.asked = false;
                self.client.page(self.now, &answer)?;
            }
            Coming::State(part) => {
                self.note(|| format!("state {part:?}"));
                self.asked = false;
                self.client.state(self.now, part)?;
            }
            Coming::Wake => {
                if let Waits::Until(at) = self.client.waits()
                    && at <= self.now
                {
                    self.client.wake(self.now);
                }
            }
            Coming::Connect | Coming::Break => {}
        }
        Ok(())
    }

    fn push(&mut self, push: Option<Value>, away: bool) {
        let Some(frame) = push else { return };
        self.note(|| format!("  pushed {frame}"));
        if away {
            return;
        }
        if chance(self.lost) {
            if self.noticed || chance(500) {
                let after_ms = fastrand::u64(..2000);
                let resume = json!({"type": "resume", "reason": "missed", "after_ms": after_ms});
                self.put(self.delay(), Coming::Frame(resume));
            }
            return;
        }
        if chance(self.repeated) {
            self.put(self.delay(), Coming::Frame(frame.clone()));
        }
        self.put(self.delay(), Coming::Frame(frame));
    }

    /// Sends what the client asks for, or sets its alarm.
    fn ask(&mut self) {
        match self.client.waits() {
            Waits::ForConnection => {}
            Waits::Until(at) => {
                let after = at.saturating_sub(self.now);
                self.put(after, Coming::Wake);
            }
            _ if self.asked => {}
            Waits::ForPage(request) => {
                self.asked = true;
                // Answered as of the time at which it arrives.
                let limit = 1 + fastrand::usize(..40);
                let answer = self.model.sync(&request, limit);
                self.note(|| format!("asks {request}"));
                self.put(self.delay(), Coming::Page(answer));
            }
            Waits::ForState(what) => {
                self.asked = true;
                self.client.replica.begin_reading(&what.stream);
                let part = self.model.read(&what.stream);
                self.note(|| format!("reads {what:?}"));
                self.put(self.delay(), Coming::State(part));
            }
        }
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        if cfg!(test) && TRACING.get() {
            let line = format!("{:>9} {}", self.now.as_millis(), what());
            self.trace.push(line);
        }
    }

    /// Every stream goes on without a hole, a repetition or a step back from where its state was
    /// taken up, with the entries of the log; and the cursor says so.
    fn check_history(&mut self) -> Result<()> {
        for step in &self.client.replica.history[self.checked..] {
            match step {
                Step::TakenUp { stream, head } => {
                    let before = self.positions.insert(stream.clone(), *head);
                    let back = before > Some(*head) && !self.model.was_trimmed(stream);
                    ensure!(!back, "{stream} goes back from {before:?} to {head}");
                }
                Step::Gone { stream } => drop(self.positions.remove(stream)),
                Step::Applied(delta) => {
                    let position = self.positions.get_mut(&delta.stream);
                    let position = position.context("applied to nothing")?;
                    ensure!(
                        delta.first <= *position + 1 && delta.seq > *position,
                        "{} to {} of {} applied after {position}",
                        delta.first,
                        delta.seq,
                        delta.stream
                    );
                    let entry = self.model.entry(&delta.stream, delta.seq);
                    let kind = entry.map(|entry| &entry.kind);
                    ensure!(kind == Some(&delta.kind), "not what stands in the log");
                    *position = delta.seq;
                }
            }
        }
        self.checked = self.client.replica.history.len();
        ensure!(
            self.positions == self.client.replica.cursor,
            "the cursor is not where the history is: {:?}, {:?}",
            self.positions,
            self.client.replica.cursor
        );
        Ok(())
    }

    fn check_end(&self) -> Result<()> {
        let (replica, heads) = (&self.client.replica, self.model.heads());
        ensure!(
            replica.cursor == heads,
            "the cursor is {:?}, the heads {heads:?}",
            replica.cursor
        );
        let (held, fresh) = (replica.view.clone().shown(), self.model.view());
        ensure!(
            held == fresh,
            "the client shows {held:#?}, the server {fresh:#?}"
        );
        ensure!(replica.gaps().is_empty(), "something waits for ever");
        Ok(())
    }
}

thread_local! {
    /// Whether schedules of this thread keep a trace.
    static TRACING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What happened in the schedule of this seed, and what came of it.
fn run(seed: u64, with_trace: bool) -> (Vec<String>, Result<()>) {
    fastrand::seed(seed);
    TRACING.set(with_trace);
    let mut schedule = Schedule::draw();
    let verdict = schedule.run();
    (schedule.trace, verdict)
}

#[expect(clippy::disallowed_methods, reason = "a setting of the test")]
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

#[test]
fn a_client_ends_with_what_the_server_has() {
    let first = setting("TIDINGS_TEST_SEED").unwrap_or(0);
    let schedules = setting("TIDINGS_TEST_SCHEDULES").unwrap_or(SCHEDULES);
    let begun = std::time::Instant::now();
    for seed in first..first + schedules {
        if let (_, Err(why)) = run(seed, false) {
            let (trace, _) = run(seed, true);
            panic!(
                "seed {seed}, after {} schedules: {why:#}\n{}\nTo run it alone: \
                 TIDINGS_TEST_SEED={seed} TIDINGS_TEST_SCHEDULES=1 cargo nextest run --workspace \
                 -E 'test(a_client_ends_with)'",
                seed - first + 1,
                trace.join("\n")
            );
        }
    }
    println!(
        "{schedules} schedules from seed {first} in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
}

#[test]
fn a_seed_gives_the_same_schedule_again() {
    for seed in 0..50 {
        let (first, again) = (run(seed, true).0, run(seed, true).0);
        assert!(first.len() > 20, "{first:?}");
        assert!(first == again, "seed {seed}");
    }
}
