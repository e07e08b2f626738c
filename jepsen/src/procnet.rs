//! Which process opened a loopback connection, by the kernel's tables in `/proc`. Any thread.
//!
//! This is how a proxy knows the link that a connection belongs to without reading a byte of it, so that it works with any
//! protocol, with TLS, and without privileges (the processes are our own children).

use std::fs;

/// The process among `pids` that holds the connection from `from_port` to `to_port`, both on 127.0.0.1.
pub fn owner(from_port: u16, to_port: u16, pids: &[u32]) -> Option<u32> {
    let inode = socket_inode(from_port, to_port)?;
    let wanted = format!("socket:[{inode}]");
    pids.iter().copied().filter(|pid| *pid != 0).find(|pid| holds(*pid, &wanted))
}

fn socket_inode(from_port: u16, to_port: u16) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let (local, remote) = (format!("0100007F:{from_port:04X}"), format!("0100007F:{to_port:04X}"));
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let matches = fields.next()? == local && fields.next()? == remote;
        // Counted on from the remote address: state, queues, timer, retransmits, user, timeout, inode.
        matches.then(|| fields.nth(6).map(str::to_owned)).flatten()
    })
}

fn holds(pid: u32, wanted: &str) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    entries.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to.to_string_lossy() == wanted))
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
        assert_eq!(owner(from, to.port(), &[1_999_999_999, me]), Some(me));
        assert_eq!(owner(from, to.port(), &[]), None);
        assert_eq!(owner(to.port(), to.port(), &[me]), None);
    }
}
