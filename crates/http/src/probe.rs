//! The question of the `health` command: is the server of these settings alive? For images
//! that hold no other HTTP client.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Each of connecting, asking and waiting for the answer may take this long.
const DEADLINE: Duration = Duration::from_secs(2);
const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 ";

/// Asks the server that listens on `listen` for `/healthz`. A server on all addresses is asked
/// on the loopback one. Blocks, for a few seconds at most.
///
/// # Errors
///
/// If nothing answers in time, or something answers anything but 200.
pub fn ask_health(listen: SocketAddr) -> io::Result<()> {
    let mut connection = TcpStream::connect_timeout(&reachable(listen), DEADLINE)?;
    connection.set_read_timeout(Some(DEADLINE))?;
    connection.set_write_timeout(Some(DEADLINE))?;
    connection.write_all(REQUEST)?;
    let mut answer = [0; ANSWER.len()];
    connection.read_exact(&mut answer)?;
    if answer == ANSWER {
        return Ok(());
    }
    let answer = answer.escape_ascii();
    Err(io::Error::other(format!("the answer begins with {answer}")))
}

fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::reachable;

    #[test]
    fn a_server_on_all_addresses_is_asked_on_the_loopback_one() {
        let check = |listen: &str, asked: &str| {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        };
        check("0.0.0.0:8080", "127.0.0.1:8080");
        check("[::]:8080", "[::1]:8080");
        check("10.1.2.3:8080", "10.1.2.3:8080");
    }
}
