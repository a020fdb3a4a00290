//! A server of one answer, to see what a proxy sends it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Listens until it is dropped, one request to a connection.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Answers every request with this status; without one, closes the connection when it has
    /// read the request.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(status: Option<u16>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = seen.clone();
                tokio::spawn(async move { serve(&mut stream, status, &seen).await });
            }
        });
        Ok(Self {
            address,
            requests,
            task,
        })
    }

    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The requests so far, whole, in lower case.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    stream: &mut TcpStream,
    status: Option<u16>,
    seen: &Mutex<Vec<String>>,
) -> Result<()> {
    let request = read(stream).await?;
    seen.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request);
    if let Some(status) = status {
        let answer =
            format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// The head, and as much of a body as it announces.
async fn read(stream: &mut TcpStream) -> Result<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            bail!("the request ends early");
        }
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        let Some(head) = text.find("\r\n\r\n") else {
            continue;
        };
        let length = text
            .split("\r\n")
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.unwrap_or("0").parse().context("a length")?;
        if bytes.len() >= head + 4 + length {
            return Ok(text);
        }
    }
}
