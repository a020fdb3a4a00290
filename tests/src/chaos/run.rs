//! One run: sets the scene, lets clients and faults loose, heals, waits until everything has
//! been delivered, and reads the truth.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fastrand::Rng;
use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::actor::Actor;
use super::history::{Change, History, Truth};
use super::recorder::{DeviceRecorder, Recorder};
use super::workload;
use super::world::World;
use super::{truth, world};
use crate::check;
use crate::client::{Api, Client};
use crate::device::Device;
use crate::failure;
use crate::view::View;

/// After everything has been healed, by when what was begun must be known, and every device be
/// at the heads.
const SETTLED: Duration = Duration::from_secs(60);
const CAUGHT_UP: Duration = Duration::from_secs(30);
/// For so long nothing may be added to the log before it is taken for complete; and by when.
const STILL: Duration = Duration::from_secs(12);
const DRAINED: Duration = Duration::from_secs(90);
/// Channels of a group besides its first, in the beginning.
const MORE_CHANNELS: usize = 2;

/// How large a run is.
#[derive(Debug, Clone)]
pub struct Options {
    pub seed: u64,
    pub length: Duration,
    /// Besides the owner of the groups, who is never removed.
    pub users: usize,
    pub groups: usize,
    /// The mean time between two operations of one user.
    pub pace: Duration,
    /// Between two rounds of faults, in milliseconds.
    pub rest_ms: Range<u64>,
}

impl Options {
    /// What suits a machine with two cores that runs all services too.
    #[must_use]
    pub fn new(seed: u64, length: Duration) -> Self {
        Self {
            seed,
            length,
            users: 10,
            groups: 4,
            pace: Duration::from_millis(400),
            rest_ms: 5_000..15_000,
        }
    }
}

/// Runs clients against `api`, and some of their requests against `apis`, while `faults` runs.
/// All that it broke must be healed when it returns.
///
/// # Errors
/// The scene cannot be set, `faults` failed, or the truth cannot be read.
pub async fn run(
    api: &Api,
    apis: Vec<Api>,
    options: &Options,
    faults: impl AsyncFnOnce(Arc<Recorder>) -> Result<()>,
) -> Result<(History, Truth)> {
    let recorder = Recorder::start();
    let world = World::new(recorder.clone(), apis);
    let scene = Scene::set(api, &world, options).await?;
    let mut lanes = JoinSet::new();
    for (actor, owner) in scene.actors() {
        lanes.spawn(workload::lane(actor, owner, options.pace));
    }
    let (fixed, roaming) = scene.devices(api).await?;
    let mut roamers = JoinSet::new();
    for (number, device) in roaming.into_iter().enumerate() {
        let random = Rng::with_seed(options.seed ^ (0x5eed << 8) ^ number as u64);
        roamers.spawn(roam(device, world.clone(), random));
    }

    let faults = faults(recorder.clone()).await;

    world.stop.cancel();
    let ended = async { while lanes.join_next().await.is_some() {} };
    if tokio::time::timeout(SETTLED, ended).await.is_err() {
        recorder.violation(format!(
            "operations are not known {SETTLED:?} after the end"
        ));
        world.give_up.cancel();
        while lanes.join_next().await.is_some() {}
    }
    let mut devices = fixed;
    while let Some(device) = roamers.join_next().await {
        devices.push(device??);
    }
    faults?;
    drained(&scene.owner, &recorder).await?;
    let ends = devices.iter().map(|device| settle(device, &recorder));
    join_all(ends).await;
    let truth = truth::read(&scene.owner, &scene.users, &recorder).await;
    for observed in &mut devices {
        observed.device.go_away().await?;
    }
    Ok((recorder.take(), truth.context("read the log in the end")?))
}

/// Waits until nothing is added to the log any more: what a crash left half done is made up for
/// by another process after seconds.
async fn drained(owner: &Client, recorder: &Recorder) -> Result<()> {
    let end = Instant::now() + DRAINED;
    let (mut heads, mut since) = (serde_json::Value::Null, Instant::now());
    while since.elapsed() < STILL {
        let now = match owner.heads().await {
            Err(error) if !failure::passes(&error) => return Err(error),
            now => now.unwrap_or_default(),
        };
        if now != heads || now.is_null() {
            (heads, since) = (now, Instant::now());
        }
        if Instant::now() > end {
            recorder.violation(format!("the log still grows {DRAINED:?} after the end"));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// A device and where it reports to.
struct Observed {
    device: Device,
    recorder: Arc<DeviceRecorder>,
}

/// Leaves and comes back, until the run stops; then it is back.
async fn roam(mut observed: Observed, world: Arc<World>, mut random: Rng) -> Result<Observed> {
    loop {
        for (from, to) in [(4_000, 25_000), (500, 9_000)] {
            let pause = Duration::from_millis(random.u64(from..to));
            let stopped = world
                .stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await;
            if stopped.is_none() {
                if from == 500 {
                    observed.device.come_back();
                }
                return Ok(observed);
            }
            if from == 500 {
                observed.device.come_back();
            } else {
                observed.device.go_away().await?;
            }
        }
    }
}

/// Waits until a device has everything, and notes whether that is what a new one would read.
async fn settle(observed: &Observed, recorder: &Recorder) {
    let device = &observed.device;
    let caught_up = device.catches_up_within(CAUGHT_UP).await;
    let stale = match &caught_up {
        Ok(replica) => match View::fetch(&device.client).await {
            Ok(fresh) => check::same(replica, &fresh),
            Err(error) => Err(error),
        },
        Err(error) => Err(anyhow::anyhow!("{error:#}")),
    };
    let stale = stale.err().map(|error| format!("{error:#}"));
    device.look(|record| {
        if let Some(why) = &record.ended {
            recorder.violation(format!("device of {}: {why}", device.client.username));
        }
        observed.recorder.end(&record.replica, stale);
    });
}

/// Who is there, and the groups.
struct Scene {
    world: Arc<World>,
    seed: u64,
    owner: Client,
    users: Vec<Client>,
}

impl Scene {
    async fn set(api: &Api, world: &Arc<World>, options: &Options) -> Result<Self> {
        let owner = api.user("owner").await?;
        let users = api.users("user", options.users).await?;
        for user in users.iter().chain([&owner]) {
            world.recorder.user(&user.user, &user.username);
        }
        world.known().users = users.iter().map(|user| user.user.clone()).collect();
        let scene = Self {
            world: world.clone(),
            seed: options.seed,
            owner,
            users,
        };
        let mut first = scene.actor(&scene.owner, 0);
        for number in 0..options.groups {
            scene.group(&mut first, number).await?;
        }
        Ok(scene)
    }

    /// A group with three of four users, and some channels.
    async fn group(&self, owner: &mut Actor, number: usize) -> Result<()> {
        let made = self.owner.group(&format!("group {number}"), &[]).await?;
        let group = made.id.clone();
        let known = world::Group {
            channels: vec![made.channel],
            ..world::Group::default()
        };
        self.world.known().groups.insert(group.clone(), known);
        for (index, user) in self.users.iter().enumerate() {
            if (index + number) % 4 != 3 {
                let role = if (index + number).is_multiple_of(5) {
                    "admin"
                } else {
                    "member"
                };
                let change = Change::PutMember {
                    group: group.clone(),
                    user: user.user.clone(),
                    role: role.to_owned(),
                };
                owner.perform(change).await;
            }
        }
        for _ in 0..MORE_CHANNELS {
            let name = owner.unique();
            let group = group.clone();
            owner.perform(Change::CreateChannel { group, name }).await;
        }
        Ok(())
    }

    /// One for each user, and two for the owner.
    fn actors(&self) -> Vec<(Actor, bool)> {
        let owners = [1, 2].map(|lane| (self.actor(&self.owner, lane), true));
        let users = self.users.iter().map(|user| (self.actor(user, 0), false));
        users.chain(owners).collect()
    }

    fn actor(&self, client: &Client, lane: u64) -> Actor {
        let name = format!("{}.{lane}", client.username);
        let number = name.bytes().fold(self.seed, |seed, byte| {
            seed.wrapping_mul(1_099_511_628_211) ^ u64::from(byte)
        });
        Actor::new(self.world.clone(), client.clone(), name, number)
    }

    /// A device of everybody that stays, and one of every second user that comes and goes.
    async fn devices(&self, api: &Api) -> Result<(Vec<Observed>, Vec<Observed>)> {
        let (mut fixed, mut roaming) = (Vec::new(), Vec::new());
        for (index, user) in self.users.iter().chain([&self.owner]).enumerate() {
            fixed.push(self.device(api, user, "fixed").await?);
            if index % 2 == 0 {
                roaming.push(self.device(api, user, "roaming").await?);
            }
        }
        Ok((fixed, roaming))
    }

    /// In a session of its own.
    async fn device(&self, api: &Api, user: &Client, kind: &str) -> Result<Observed> {
        let client = api.login(&user.username).await?;
        let name = format!("{} {kind}", user.username);
        let recorder = self.world.recorder.device(&name, &user.user);
        let mut device = Device::new(&client, Some(recorder.clone()));
        device.come_back();
        Ok(Observed { device, recorder })
    }
}
