//! The ways to the nodes of a test's replica set: which of them are cut, and whose answers get
//! lost.

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

/// Who dials (a node's number; None: a client), and the number of the node that is dialled.
type Link = (Option<usize>, usize);

/// Between the nodes, and from clients to them.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The nodes' processes, in their order.
    processes: Mutex<Vec<u32>>,
    cut: watch::Sender<HashSet<Link>>,
}

impl Links {
    pub(super) fn add(&self, process: u32) {
        self.processes.lock().unwrap().push(process);
    }

    /// Only these are cut from now on: what there is of them ends, and nothing new comes about.
    pub(super) fn cut(&self, links: impl IntoIterator<Item = Link>) {
        self.cut.send_replace(links.into_iter().collect());
    }

    async fn until_cut(&self, link: Link) {
        let mut cut = self.cut.subscribe();
        let waited = cut.wait_for(|cut| cut.contains(&link)).await.map(drop);
        waited.expect("the sender lives as long as this");
    }

    /// Which node has a connection from this port of its own.
    fn dialler(&self, port: u16) -> Option<usize> {
        let local = format!("0100007F:{port:04X}");
        let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let of_port = connections
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|fields| fields.get(1) == Some(&local.as_str()))?;
        let socket = format!("socket:[{}]", of_port.get(9)?);
        let processes = self.processes.lock().unwrap();
        processes
            .iter()
            .position(|process| holds(*process, &socket))
    }
}

/// Whether a process has this file open.
fn holds(process: u32, file: &str) -> bool {
    let Ok(open) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    let mut open = open.flatten();
    open.any(|one| std::fs::read_link(one.path()).is_ok_and(|target| target == Path::new(file)))
}

/// Stands before one node. Passes everything on, but for links that are cut and answers that are
/// to be lost.
pub(super) struct Proxy {
    pub(super) port: u16,
    to_lose: Arc<AtomicUsize>,
}

impl Proxy {
    pub(super) async fn start(node: usize, server: u16, links: Arc<Links>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let to_lose = Arc::new(AtomicUsize::new(0));
        let kept = to_lose.clone();
        tokio::spawn(async move {
            while let Ok((client, from)) = listener.accept().await {
                let link = (links.dialler(from.port()), node);
                let (links, to_lose) = (links.clone(), kept.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = links.until_cut(link) => {}
                        () = pass(client, server, to_lose) => {}
                    }
                });
            }
        });
        Self { port, to_lose }
    }

    pub(super) fn lose_answers(&self, count: usize) {
        self.to_lose.store(count, Ordering::SeqCst);
    }
}

/// Serves one connection until either side ends it, or an answer is lost.
async fn pass(client: TcpStream, server: u16, to_lose: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let loses = Notify::new();
    let upwards = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_client.read(&mut buffer).await.unwrap_or(0);
            let one_less = |left: usize| left.checked_sub(1);
            if is_insert(&buffer[..length])
                && to_lose
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less)
                    .is_ok()
            {
                loses.notify_one();
            }
            if length == 0 || to_server.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    };
    let downwards = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_server.read(&mut buffer).await.unwrap_or(0);
            // Nothing is under way on a connection that does not belong to one command.
            let lost = tokio::time::timeout(Duration::ZERO, loses.notified()).await;
            if length == 0 || lost.is_ok() || to_client.write_all(&buffer[..length]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        () = upwards => {}
        () = downwards => {}
    }
}

fn is_insert(request: &[u8]) -> bool {
    let name = b"\x02insert\0";
    request.windows(name.len()).any(|window| window == name)
}
