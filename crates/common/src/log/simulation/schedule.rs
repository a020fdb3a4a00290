//! One schedule: a few processes and clients, and what goes wrong, all of it as the seed says;
//! then everything heals, and the checks are made.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::runtime::Builder;

use super::audit::{Audit, Counts};
use super::client::{Clients, PATIENCE, channel, group, user};
use super::journal::{Answer, Event};
use super::operation::What;
use super::world::{World, lock};
use crate::domain::{Key, Timestamp, User};
use crate::store::NewUser;
use crate::store::simulated::{Faults, State, chance};

/// The relay takes up what has been pending for 5 s, by a clock that may be 4 s behind another's;
/// a pass may be under way, and what depends on something else takes two.
const HEALED_WITHIN: Duration = Duration::from_secs(20);
/// Longest time that tasks may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// What a schedule came to.
pub(super) struct Outcome {
    pub(super) counts: Counts,
    pub(super) kills: u64,
    /// Every event with its time, without what no seed decides.
    pub(super) trace: Vec<String>,
    pub(super) verdict: Result<(), String>,
}

/// How a schedule is drawn.
struct Plan {
    clients: u8,
    operations: usize,
    apis: usize,
    relays: usize,
    pace_ms: u64,
    store: Faults,
    bus: Faults,
    /// Pause between two disasters at most; None: there are none.
    disasters_ms: Option<u64>,
}

impl Plan {
    /// Each kind of fault is absent from many schedules: some defects show only without it.
    fn draw() -> Self {
        let some = |most: u32| match fastrand::u8(..5) {
            0 | 1 => 0,
            _ => fastrand::u32(0..=most),
        };
        Self {
            clients: fastrand::u8(2..=6),
            operations: fastrand::usize(3..=12),
            apis: fastrand::usize(1..=3),
            relays: fastrand::usize(1..=2),
            pace_ms: 4 << fastrand::u32(..10),
            store: Faults {
                delayed: some(900),
                slow: some(40),
                unavailable: some(40),
                uncertain: some(200),
                lagging: some(150),
                torn: fastrand::bool(),
                outage: false,
            },
            bus: Faults {
                delayed: some(900),
                slow: some(40),
                unavailable: some(200),
                uncertain: some(200),
                ..Faults::default()
            },
            disasters_ms: (fastrand::u8(..4) > 0).then(|| 200 << fastrand::u32(..6)),
        }
    }
}

/// Runs the schedule of this seed. The same seed gives the same schedule.
pub(super) fn run(seed: u64, with_trace: bool) -> Outcome {
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime needs nothing that could be missing");
    let mut outcome = runtime.block_on(schedule(with_trace));
    let left = runtime.block_on(tasks_left());
    if outcome.verdict.is_ok() && left > 0 {
        outcome.verdict = Err(format!("{left} tasks are left behind"));
    }
    outcome
}

async fn tasks_left() -> usize {
    let metrics = tokio::runtime::Handle::current().metrics();
    let ended = async {
        while metrics.num_alive_tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(ENDED_WITHIN, ended).await.ok();
    metrics.num_alive_tasks()
}

async fn schedule(with_trace: bool) -> Outcome {
    let plan = Plan::draw();
    let world = World::new();
    let initial = accounts(&world, plan.clients);
    let mut verdict = Ok(());
    let (kills, stale) = live(&world, &plan, &mut verdict).await;

    let events = world.journal.take();
    let mut audit = Audit::new(plan.store.torn, initial);
    for relay in relays(&events) {
        audit.relays(relay);
    }
    let mut checked = Ok(());
    for (number, (at, event)) in events.iter().enumerate() {
        checked = audit.check(number, event);
        if let Err(why) = &mut checked {
            write!(why, " (at {at} ms: {event})").expect("a string grows");
            break;
        }
    }
    let counts = audit.counts;
    let checked = checked
        .and_then(|()| audit.check_refusals())
        .and(verdict)
        .and_then(|()| compare(&world, audit, stale));
    let trace = with_trace.then(|| events.iter().map(|(at, event)| format!("{at:>7} {event}")));
    Outcome {
        counts,
        kills,
        trace: trace.into_iter().flatten().collect(),
        verdict: checked,
    }
}

/// Who relays says so in a note.
fn relays(events: &[(u128, Event)]) -> BTreeSet<usize> {
    let of = |event: &Event| match event {
        Event::Note(note) => {
            let process = note.strip_prefix("process ")?.strip_suffix(" relays")?;
            process.parse().ok()
        }
        _ => None,
    };
    events.iter().filter_map(|(_, event)| of(event)).collect()
}

fn accounts(world: &World, users: u8) -> State {
    let mut state = world.server.state();
    for n in 0..=users {
        state.create_user(NewUser {
            user: User {
                id: user(n),
                username: n.to_string(),
                display_name: String::new(),
                created_at: Timestamp::default(),
            },
            password_hash: String::new(),
            key: Key::from_bytes([n; 16]),
        });
    }
    state.clone()
}

/// The life of the installation, from its first group to its last task. Returns how many
/// processes were killed, and the state at some moment.
async fn live(world: &Arc<World>, plan: &Plan, verdict: &mut Result<(), String>) -> (u64, State) {
    for _ in 0..plan.apis {
        world.start_api();
    }
    for _ in 0..plan.relays {
        world.start_relay();
    }
    let clients = Arc::new(Clients {
        world: world.clone(),
        users: plan.clients,
        next_id: AtomicUsize::new(10),
        attempts: AtomicUsize::new(0),
        keys: AtomicUsize::new(0),
        pace_ms: plan.pace_ms,
    });
    for n in [1, 2] {
        let members = (1..=plan.clients).map(user).collect();
        let channels = vec![channel(n), channel(n + 2)];
        let what = What::CreateGroup { members, channels };
        let creation = Arc::new(clients.asked_by(user(0), group(n).into(), what));
        clients.ask_for(PATIENCE, &world.api(), &creation).await;
    }
    world.server.weather.change(|faults| *faults = plan.store);
    world.broker.weather.change(|faults| *faults = plan.bus);
    let busy: Vec<_> = (1..=plan.clients)
        .map(|n| tokio::spawn(clients.clone().run(user(n), plan.operations)))
        .collect();
    let done = async {
        for client in busy {
            client.await.expect("a client does not panic");
        }
    };
    let mut kills = 0;
    let mut stale = world.server.state().clone();
    tokio::select! {
        biased;
        () = done => {}
        () = disasters(world, plan, &mut kills, &mut stale) => {}
    }
    heal(world).await;
    *verdict = settle(world, &clients).await;
    (kills, stale)
}

async fn disasters(world: &World, plan: &Plan, kills: &mut u64, stale: &mut State) {
    let Some(most) = plan.disasters_ms else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(1..=most))).await;
        if chance(300) {
            *stale = world.server.state().clone();
        }
        let while_ms = Duration::from_millis(fastrand::u64(1..=3 * most));
        match fastrand::u8(..10) {
            0..4 => {
                *kills += 1;
                world.replace(&world.apis, World::start_api);
            }
            4 => {
                *kills += 1;
                world.replace(&world.relays, World::start_relay);
            }
            5 | 6 => {
                let process = world.api();
                world.journal.note(format!("process {} pauses", process.id));
                process.link.pause();
                tokio::spawn(async move {
                    tokio::time::sleep(while_ms).await;
                    process.link.resume();
                });
            }
            7 => {
                world.journal.note("the store is away".to_owned());
                world.server.weather.change(|faults| faults.outage = true);
                tokio::time::sleep(while_ms).await;
                world.server.weather.change(|faults| faults.outage = false);
            }
            _ => {
                world.journal.note("the broker is away".to_owned());
                world.broker.weather.change(|faults| faults.outage = true);
                tokio::time::sleep(while_ms).await;
                world.broker.weather.change(|faults| faults.outage = false);
            }
        }
    }
}

/// From here on nothing goes wrong any more, but for what is under way.
async fn heal(world: &World) {
    world.journal.note("everything heals".to_owned());
    for weather in [&world.server.weather, &world.broker.weather] {
        weather.change(|faults| *faults = Faults::default());
    }
    for processes in [&world.apis, &world.relays] {
        lock(processes)
            .iter()
            .for_each(|process| process.link.resume());
    }
    world.bury();
    world.server.quiet().await;
}

/// What was begun comes to its end, and everything works.
async fn settle(world: &World, clients: &Arc<Clients>) -> Result<(), String> {
    nothing_pending(world).await?;
    let running: Vec<_> = lock(&world.apis).clone();
    for process in running {
        let what = What::Send("healed".to_owned());
        let send = clients.asked_by(user(0), channel(1).into(), what);
        let send = Arc::new(send);
        match clients.ask_for(PATIENCE, &process, &send).await {
            Answer::Committed { .. } => {}
            other => return Err(format!("after healing: {other:?}")),
        }
    }
    World::stop(&world.apis).await;
    nothing_pending(world).await?;
    World::stop(&world.relays).await;
    Ok(())
}

async fn nothing_pending(world: &World) -> Result<(), String> {
    let settled = async {
        while !world.server.state().all_pending().is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let in_time = tokio::time::timeout(HEALED_WITHIN, settled).await;
    in_time.map_err(|_| {
        let left = world.server.state().all_pending();
        format!("{} entries are still pending after healing", left.len())
    })
}

/// The state is that of the log, applied afresh; so is an earlier state once all entries have
/// been applied to it, those that it has already included.
fn compare(world: &World, audit: Audit, mut stale: State) -> Result<(), String> {
    for entry in audit.originals() {
        if stale.head(entry.stream).seq < entry.seq {
            stale.append(vec![entry.clone()])?;
        }
        for change in crate::store::project(entry, super::FANOUT_LIMIT) {
            stale.change(entry.seq, &change);
        }
    }
    let pending = stale.all_pending();
    stale.settle(&pending);
    let begun = world.server.state().take_begun();
    audit.check_begun(&begun)?;
    stale.take_begun();
    let fresh = audit.truth();
    if *world.server.state() != fresh {
        return Err("the state is not that of the log".to_owned());
    }
    if stale != fresh {
        return Err("stale state and the log's entries do not give the state".to_owned());
    }
    Ok(())
}
