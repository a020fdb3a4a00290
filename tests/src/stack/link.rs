//! The ways of a cluster's processes to the broker and to Redis.

use anyhow::Result;

use super::{Proxy, Stack};

/// The ways of each process, numbered as the processes are. Without a [`Stack`] there are none.
#[derive(Debug, Default)]
pub struct Links {
    pub apis: Vec<Link>,
    pub ws_pushes: Vec<Link>,
    pub workers: Vec<Link>,
}

/// The ways of one process.
#[derive(Debug)]
pub struct Link {
    pub broker: Proxy,
    pub redis: Proxy,
}

impl Link {
    /// # Errors
    /// There is no free port.
    pub(crate) async fn to(stack: &Stack) -> Result<Self> {
        Ok(Self {
            broker: Proxy::before(stack.broker.port()).await?,
            redis: Proxy::before(stack.redis.port()).await?,
        })
    }

    /// The settings that lead a process this way.
    pub(crate) fn settings(&self) -> [(&'static str, String); 2] {
        let (broker, redis) = (self.broker.port(), self.redis.port());
        [
            (
                "bus.urls",
                format!("amqp://guest:guest@127.0.0.1:{broker}/%2f"),
            ),
            ("presence.url", format!("redis://127.0.0.1:{redis}/0")),
        ]
    }

    /// Ends what the proxies were told to do.
    pub fn heal(&self) {
        self.broker.heal();
        self.redis.heal();
    }
}

impl Links {
    /// Ends what all proxies were told to do.
    pub fn heal(&self) {
        self.all().for_each(Link::heal);
    }

    /// The ways of all processes.
    pub fn all(&self) -> impl Iterator<Item = &Link> {
        self.apis.iter().chain(&self.ws_pushes).chain(&self.workers)
    }
}
