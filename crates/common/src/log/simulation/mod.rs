//! The log under simulated interleavings: several processes over one simulated store and bus,
//! on one thread, in time that passes only when everybody waits. Which call fails, lands late
//! or dies half done follows from a seed, so that a failure can be run again.
//!
//! `TIDINGS_TEST_SCHEDULES` says how many schedules to run, `TIDINGS_TEST_SEED` the first seed.
//! What is checked stands in `audit`; why a simulation of our own, in `docs/reliability.md`.

mod audit;
mod bus;
mod client;
mod journal;
mod operation;
mod schedule;
mod world;

use std::cell::Cell;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use schedule::{Outcome, run};

/// Schedules of an ordinary run.
const SCHEDULES: u64 = 1_000;
/// Lines of the trace that a failure shows.
const SHOWN: usize = 150;
/// No group of a schedule becomes large: what follows from that is not simulated.
const FANOUT_LIMIT: u64 = 1000;

thread_local! {
    /// Panics on this thread, tasks' included.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Counts panics: a task that panics does not fail the test by itself.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.set(PANICS.get() + 1);
            usual(panic);
        }));
    });
}

#[expect(clippy::disallowed_methods, reason = "a setting of the test")]
fn setting(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect("a number"))
}

fn checked(seed: u64, with_trace: bool) -> Outcome {
    let before = PANICS.get();
    let mut outcome = run(seed, with_trace);
    if PANICS.get() > before {
        outcome.verdict = Err("a task panicked".to_owned());
    }
    outcome
}

/// Runs a failed schedule again and tells what happened in it.
fn fail(seed: u64, why: &str) -> ! {
    let trace = checked(seed, true).trace;
    let from = trace.len().saturating_sub(SHOWN);
    panic!(
        "seed {seed}: {why}\n{}\nTo run it alone: TIDINGS_TEST_SEED={seed} \
         TIDINGS_TEST_SCHEDULES=1 cargo nextest run --workspace -E 'test(log_keeps_its_promises)'",
        trace[from..].join("\n")
    );
}

#[derive(Default)]
struct Totals {
    counts: audit::Counts,
    kills: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        let (sum, more) = (&mut self.counts, outcome.counts);
        sum.committed += more.committed;
        sum.acknowledged += more.acknowledged;
        sum.replayed += more.replayed;
        sum.refused += more.refused;
        sum.unanswered += more.unanswered;
        sum.published += more.published;
        sum.by_relays += more.by_relays;
        sum.fences += more.fences;
        self.kills += outcome.kills;
    }
}

/// Runs these seeds, on two threads.
fn run_schedules(first: u64, schedules: u64) -> Totals {
    count_panics();
    let begun = Instant::now();
    let next = AtomicU64::new(first);
    let totals = Mutex::new(Totals::default());
    let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
    let work = || {
        while world::lock(&failed).is_none() {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= first + schedules {
                return;
            }
            let outcome = checked(seed, false);
            match &outcome.verdict {
                Ok(()) => world::lock(&totals).add(&outcome),
                Err(why) => *world::lock(&failed) = Some((seed, why.clone())),
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    if let Some((seed, why)) = world::lock(&failed).take() {
        eprintln!("after {} schedules", seed - first + 1);
        fail(seed, &why);
    }
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{schedules} schedules from seed {first} in {:.1} s: {:?}, {} processes killed",
        begun.elapsed().as_secs_f64(),
        totals.counts,
        totals.kills
    );
    totals
}

#[test]
fn the_log_keeps_its_promises() {
    let first = setting("TIDINGS_TEST_SEED").unwrap_or(0);
    let schedules = setting("TIDINGS_TEST_SCHEDULES").unwrap_or(SCHEDULES);
    run_schedules(first, schedules);
}

#[test]
fn a_seed_gives_the_same_schedule_again() {
    for seed in 0..20 {
        let (first, again) = (run(seed, true), run(seed, true));
        assert!(first.trace.len() > 50, "{:?}", first.trace);
        let differs = first.trace.iter().zip(&again.trace).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.trace.len(), again.trace.len());
    }
    assert!(run(1, true).trace != run(2, true).trace);
}
