//! Which process opened a loopback connection, by the kernel's tables in `/proc`. Any thread.
//!
//! This is how a proxy knows the link that a connection belongs to without reading a byte of it, so that it works with any
//! protocol, with TLS, and without privileges (the processes are our own children).

use std::collections::HashMap;
use std::fs;
use std::sync::Mutex;
use std::time::Instant;

/// The connections of our nodes as the kernel had them at one moment. Reading them takes milliseconds of processor time,
/// which on a busy machine are seconds when every new connection reads them for itself: who waits shares what another reads.
#[derive(Default)]
pub struct Owners {
    seen: Mutex<Option<Seen>>,
}

struct Seen {
    /// When the reading began: what was connected before is in it.
    since: Instant,
    /// Process ids by local and remote port, both on 127.0.0.1.
    pids: HashMap<(u16, u16), u32>,
}

impl Owners {
    /// The process among `pids` that holds the connection from `from_port` to `to_port`.
    pub fn find(&self, from_port: u16, to_port: u16, pids: &[u32]) -> Option<u32> {
        let asked = Instant::now();
        let mut seen = self.seen.lock().expect("nobody panics with the lock");
        if seen.as_ref().is_none_or(|seen| seen.since < asked) {
            *seen = Some(Seen { since: Instant::now(), pids: read(pids) });
        }
        seen.as_ref()?.pids.get(&(from_port, to_port)).copied()
    }
}

fn read(pids: &[u32]) -> HashMap<(u16, u16), u32> {
    let mut owners = HashMap::new();
    for pid in pids.iter().copied().filter(|pid| *pid != 0) {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        owners.extend(links.filter_map(|link| Some((socket_inode(link.to_str()?)?, pid))));
    }
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let found = table.lines().skip(1).filter_map(|line| {
        let (ports, inode) = connection(line)?;
        Some((ports, *owners.get(&inode)?))
    });
    found.collect()
}

fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Ports and inode of a line of `/proc/net/tcp`.
fn connection(line: &str) -> Option<((u16, u16), u64)> {
    let mut fields = line.split_whitespace().skip(1);
    let mut port = || u16::from_str_radix(fields.next()?.strip_prefix("0100007F:")?, 16).ok();
    let ports = (port()?, port()?);
    // Counted on from the remote address: state, queues, timer, retransmits, user, timeout, inode.
    Some((ports, fields.nth(6)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn finds_the_process_that_connected() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
        let to = listener.local_addr().expect("it is bound");
        let stream = TcpStream::connect(to).expect("it listens");
        let from = stream.local_addr().expect("it is connected").port();
        let me = std::process::id();
        let owners = Owners::default();
        assert_eq!(owners.find(from, to.port(), &[1_999_999_999, me]), Some(me));
        let second = TcpStream::connect(to).expect("it listens");
        let port = second.local_addr().expect("it is connected").port();
        assert_eq!(owners.find(port, to.port(), &[me]), Some(me), "nothing old is told");
        assert_eq!(owners.find(from, to.port(), &[]), None);
        assert_eq!(owners.find(to.port(), to.port(), &[me]), None);
    }
}
