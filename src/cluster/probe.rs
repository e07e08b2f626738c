//! Finds out whether an address of `-join` serves HTTP: somebody gave the API's address where the Raft address belongs.
//!
//! Runs on the main thread before a new node joins; blocks for [`PROBE_TIMEOUT`] at most, whatever the number of
//! addresses. Only plain HTTP is looked for.

use crate::config::address::split_host_port;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Bound of everything together, and of each address.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// With which every answer of HTTP begins.
const HTTP_ANSWER: &[u8] = b"HTTP/";

/// The first of the addresses that answers as HTTP does. One that cannot be reached is none of them.
pub fn first_that_serves_http(addresses: &[String]) -> Option<String> {
    let (found_tx, found_rx) = crossbeam_channel::bounded(addresses.len());
    for (place, address) in addresses.iter().enumerate() {
        let (found_tx, owned) = (found_tx.clone(), address.clone());
        // Resolving a name can block for longer than any timeout of a socket: then the thread is left behind.
        let spawned = std::thread::Builder::new().name("http-probe".into()).stack_size(128 * 1024).spawn(move || {
            let _ = found_tx.send((place, serves_http(&owned)));
        });
        if spawned.is_err() {
            log::warn!(target: "rqlited", "join address {address} could not be checked");
        }
    }
    drop(found_tx);
    let until = Instant::now() + PROBE_TIMEOUT;
    let mut first: Option<usize> = None;
    while let Ok((place, serves)) = found_rx.recv_deadline(until) {
        if serves {
            first = Some(first.map_or(place, |first| first.min(place)));
        }
    }
    first.map(|place| addresses[place].clone())
}

fn serves_http(address: &str) -> bool {
    let until = Instant::now() + PROBE_TIMEOUT;
    let left = || until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    // Whatever does not look like host:port is not worth a question to the resolver.
    let Some((host, _)) = split_host_port(address) else { return false };
    let Ok(candidates) = address.to_socket_addrs() else { return false };
    candidates.into_iter().any(|candidate| {
        let Ok(mut stream) = TcpStream::connect_timeout(&candidate, left()) else { return false };
        let request = format!("GET /status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let bounded = stream.set_read_timeout(Some(left())).and_then(|()| stream.set_write_timeout(Some(left())));
        if bounded.and_then(|()| stream.write_all(request.as_bytes())).is_err() {
            return false;
        }
        let mut answer = [0; HTTP_ANSWER.len()];
        stream.read_exact(&mut answer).is_ok() && answer == HTTP_ANSWER
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Serves one connection and answers with `answer`.
    fn listener(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("bound").to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the probe comes");
            let mut request = [0; 64];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer);
        });
        address
    }

    #[test]
    fn only_http_is_found() {
        let closed = {
            let unused = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            unused.local_addr().expect("bound").to_string()
        };
        let (other, http) = (listener(b"\x01\x02\x03\x04\x05\x06\x07"), listener(b"HTTP/1.0 404 Not Found\r\n\r\n"));
        let addresses = ["http://nonsense".to_owned(), closed, other, http.clone()];
        assert_eq!(first_that_serves_http(&addresses), Some(http));
        assert_eq!(first_that_serves_http(&addresses[..2]), None);
        assert_eq!(first_that_serves_http(&[]), None);
    }
}
