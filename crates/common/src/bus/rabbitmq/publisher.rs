//! The connection that publishes, and the one task that owns it. A broker short of memory blocks
//! connections that publish, and only these.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, FuturesUnordered};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Event};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::codec::Message;
use super::connection::{Backoff, Broker, Failure, Link, Purpose, due, request};
use crate::tasks::Tasks;

/// Messages that may wait for the broker's confirmation, and their bytes together. lapin keeps
/// what it cannot write, so this bounds its memory while the broker blocks; beyond it, publishers
/// wait.
const UNCONFIRMED: usize = 1000;
const UNCONFIRMED_BYTES: usize = 16 * 1024 * 1024;
/// A broker that confirms nothing for so long, though it has something to confirm and does not
/// say that it is blocked, is not waited for any more. (A peer that is gone without a word is
/// noticed by the heartbeat as well, but later.)
const SILENCE: Duration = Duration::from_secs(10);
/// Messages that wait for their turn. A full queue makes publishers wait.
const QUEUE: usize = 256;

/// Whether messages can be published now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first attempt to connect is under way.
    Starting,
    Open,
    /// The broker is short of memory or disk space.
    Blocked,
    Away,
    ShutDown,
}

/// Publishes messages in the order in which they come.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    jobs: mpsc::Sender<Job>,
    state: watch::Receiver<State>,
}

#[derive(Debug)]
struct Job {
    message: Message,
    confirmed: Answer,
}

/// Dropped where the message was not published, or it is not known whether it was.
type Answer = oneshot::Sender<Result<(), Failure>>;

/// What has been handed to lapin and waits for the broker's word. It is never dropped while its
/// connection lives, even if nobody waits for it any more: lapin would keep its parts.
type Publishing = Pin<Box<dyn Future<Output = Published> + Send>>;

struct Published {
    bytes: usize,
    outcome: lapin::Result<Confirmation>,
    confirmed: Answer,
}

impl Publisher {
    /// Connects in the background and keeps connected until `shutdown`, or until the value and
    /// its clones are dropped.
    pub(super) fn start(broker: Arc<Broker>, shutdown: CancellationToken, tasks: &Tasks) -> Self {
        let (jobs, queued) = mpsc::channel(QUEUE);
        let (report, state) = watch::channel(State::Starting);
        let publishing = async move {
            let mut connection = PublishingTask {
                broker,
                queued,
                report,
            };
            shutdown.run_until_cancelled(connection.run()).await;
            connection.report.send_replace(State::ShutDown);
        };
        // It ends with the bus, and nobody waits for it.
        drop(tasks.spawn("publisher", publishing));
        Self { jobs, state }
    }

    /// Publishes messages; what is returned says of each whether the broker has confirmed it.
    /// Where the broker is away or blocks, that is the answer at once. A message reported as
    /// failed may still go out later.
    pub(super) async fn publish(&self, messages: Vec<Message>) -> Vec<Result<(), Failure>> {
        let mut waiting = Vec::with_capacity(messages.len());
        for message in messages {
            waiting.push(self.enqueue(message).await);
        }
        let mut confirmed = Vec::with_capacity(waiting.len());
        for queued in waiting {
            confirmed.push(match queued {
                Ok(answer) => self.unless_unusable(answer).await,
                Err(failure) => Err(failure),
            });
        }
        confirmed
    }

    /// Returns once messages can be published, or with the reason why they cannot.
    pub(super) async fn ready(&self) -> Result<(), Failure> {
        let mut state = self.state.clone();
        let Ok(known) = state.wait_for(|state| *state != State::Starting).await else {
            return Err(Failure::ShutDown);
        };
        known.usable()
    }

    async fn enqueue(
        &self,
        message: Message,
    ) -> Result<oneshot::Receiver<Result<(), Failure>>, Failure> {
        self.ready().await?;
        let (confirmed, answer) = oneshot::channel();
        let job = Job { message, confirmed };
        let sending = async { self.jobs.send(job).await.map_err(|_| Failure::ShutDown) };
        tokio::select! {
            biased;
            sent = sending => sent?,
            failure = self.unusable() => return Err(failure),
        }
        Ok(answer)
    }

    /// The answer, or the reason why there will be none for now.
    async fn unless_unusable(
        &self,
        answer: oneshot::Receiver<Result<(), Failure>>,
    ) -> Result<(), Failure> {
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or(Err(Failure::Away)),
            failure = self.unusable() => Err(failure),
        }
    }

    /// Returns when nothing can be published.
    async fn unusable(&self) -> Failure {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.usable().is_err()).await {
            Ok(state) => state.usable().err().unwrap_or(Failure::Away),
            Err(_) => Failure::ShutDown,
        }
    }
}

impl State {
    fn usable(self) -> Result<(), Failure> {
        match self {
            Self::Starting | Self::Open => Ok(()),
            Self::Blocked => Err(Failure::Blocked),
            Self::Away => Err(Failure::Away),
            Self::ShutDown => Err(Failure::ShutDown),
        }
    }
}

struct PublishingTask {
    broker: Arc<Broker>,
    queued: mpsc::Receiver<Job>,
    report: watch::Sender<State>,
}

/// Why a connection is not used any more.
enum Ended {
    Lost(Option<lapin::Error>),
    /// Nothing comes.
    Silent,
    /// Nobody can publish any more.
    Dropped,
}

impl PublishingTask {
    async fn run(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            match self.open().await {
                Ok((link, events)) => {
                    backoff = Backoff::new();
                    tracing::info!("connected to the broker for publishing");
                    match self.serve(&link, events).await {
                        Ended::Silent => {
                            tracing::warn!("the broker confirms nothing; connecting again");
                            link.abandon();
                        }
                        Ended::Dropped => return link.close().await,
                        Ended::Lost(error) => tracing::warn!(
                            error = error.as_ref().map(|error| error as &dyn Error),
                            "the connection that publishes was lost; connecting again"
                        ),
                    }
                }
                Err(failure) => tracing::warn!(
                    error = &failure as &dyn Error,
                    "the broker cannot be reached for publishing; trying again"
                ),
            }
            self.broker.counters.blocked.set(0);
            self.report.send_replace(State::Away);
            if self.refuse_for(backoff.pause()).await.is_none() {
                return;
            }
        }
    }

    async fn open(&self) -> Result<(Link, BoxStream<'static, Event>), Failure> {
        let link = self.broker.connect(Purpose::PUBLISH).await?;
        let events = link.connection.events_listener().boxed();
        request(link.channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok((link, events))
    }

    fn block(&self, is_blocked: bool) {
        self.broker.counters.blocked.set(i64::from(is_blocked));
        self.report.send_replace(match is_blocked {
            true => State::Blocked,
            false => State::Open,
        });
    }

    /// Refuses what was queued before its publisher knew that the broker is away. None: nobody
    /// can publish any more.
    async fn refuse_for(&mut self, pause: impl Future<Output = ()>) -> Option<()> {
        tokio::pin!(pause);
        loop {
            // Both are cancel-safe.
            tokio::select! {
                () = &mut pause => return Some(()),
                job = self.queued.recv() => drop(job?),
            }
        }
    }

    /// Publishes over one connection until it is lost.
    async fn serve(&mut self, link: &Link, mut events: BoxStream<'static, Event>) -> Ended {
        // What was said before somebody listened is known all the same.
        self.block(link.connection.status().blocked());
        let mut unconfirmed = FuturesUnordered::<Publishing>::new();
        let mut bytes = 0;
        // The last sign that the broker works, or that there was nothing for it to do.
        let mut heard = Instant::now();
        loop {
            let blocked = link.connection.status().blocked();
            let room = unconfirmed.len() < UNCONFIRMED && bytes < UNCONFIRMED_BYTES;
            let is_due = !blocked && !unconfirmed.is_empty();
            // All of them are cancel-safe: what they take they return at once.
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => {
                        tracing::warn!(reason, "the broker takes no messages for now");
                        self.block(true);
                    }
                    Some(Event::ConnectionUnblocked) => {
                        tracing::info!("the broker takes messages again");
                        self.block(false);
                        heard = Instant::now();
                    }
                    Some(Event::Error(error)) => return Ended::Lost(Some(error)),
                    Some(_) => {}
                    None => return Ended::Lost(None),
                },
                Some(published) = unconfirmed.next(), if !unconfirmed.is_empty() => {
                    heard = Instant::now();
                    bytes -= published.bytes;
                    if let Err(error) = published.settle() {
                        return Ended::Lost(Some(error));
                    }
                }
                job = self.queued.recv(), if room || blocked => {
                    let Some(job) = job else {
                        return Ended::Dropped;
                    };
                    if job.confirmed.is_closed() {
                        continue;
                    }
                    if blocked {
                        answer(job.confirmed, Err(Failure::Blocked));
                        continue;
                    }
                    if unconfirmed.is_empty() {
                        heard = Instant::now();
                    }
                    bytes += job.message.size();
                    let publishing = publish(link.channel.clone(), job).await;
                    unconfirmed.push(publishing);
                }
                () = due(is_due.then(|| heard + SILENCE)) => return Ended::Silent,
            }
        }
    }
}

/// Hands a message to lapin before it returns, so that messages keep their order.
async fn publish(channel: Channel, job: Job) -> Publishing {
    let mut publishing: Publishing = Box::pin(async move {
        let Job { message, confirmed } = job;
        let bytes = message.size();
        let outcome = send(&channel, message).await;
        Published {
            bytes,
            outcome,
            confirmed,
        }
    });
    // Its first step queues the frames.
    let first = std::future::poll_fn(|context| Poll::Ready(publishing.as_mut().poll(context)));
    match first.await {
        Poll::Ready(published) => Box::pin(std::future::ready(published)),
        Poll::Pending => publishing,
    }
}

async fn send(channel: &Channel, message: Message) -> lapin::Result<Confirmation> {
    // Never `mandatory`: where nobody is online, nobody is missing.
    let confirm = channel
        .basic_publish(
            message.exchange,
            message.routing_key,
            BasicPublishOptions::default(),
            &message.body,
            message.properties,
        )
        .await?;
    confirm.await
}

impl Published {
    /// Tells the publisher. The error says that the connection is of no more use.
    fn settle(self) -> lapin::Result<()> {
        let (result, failed) = match self.outcome {
            Ok(Confirmation::Ack(_)) => (Ok(()), Ok(())),
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                (Err(Failure::Nacked), Ok(()))
            }
            Err(error) => (Err(Failure::Broker(error.clone())), Err(error)),
        };
        answer(self.confirmed, result);
        failed
    }
}

fn answer(to: Answer, result: Result<(), Failure>) {
    // Whoever has stopped waiting does not mind.
    drop(to.send(result));
}
