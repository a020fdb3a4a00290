//! A way to the broker that can be cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Passes connections on to the broker while it is open.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    target: SocketAddr,
    open: Option<CancellationToken>,
    tasks: TaskTracker,
}

impl Proxy {
    /// Closed at first: connections are refused.
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            target,
            open: None,
            tasks: TaskTracker::new(),
        }
    }

    pub(super) async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let open = CancellationToken::new();
        self.open = Some(open.clone());
        let (target, tasks) = (self.target, self.tasks.clone());
        self.tasks.spawn(async move {
            while let Some(Ok((client, _))) = open.run_until_cancelled(listener.accept()).await {
                let open = open.clone();
                tasks.spawn(async move {
                    open.run_until_cancelled(pass(client, target)).await;
                });
            }
        });
    }

    /// Breaks every connection and refuses new ones.
    pub(super) async fn cut(&mut self) {
        if let Some(open) = self.open.take() {
            open.cancel();
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.tasks.reopen();
    }
}

async fn pass(mut client: TcpStream, target: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        // How either side ends is theirs to notice.
        drop(copy_bidirectional(&mut client, &mut server).await);
    }
}
