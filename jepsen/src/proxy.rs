//! The links between nodes: one listener per node stands as its advertised address, and every directed pair of nodes can
//! be cut, delayed or slowed down on its own.
//!
//! Threads: one per listener and two per connection. Bytes from node i to node j pass the link (i, j), whichever of the two
//! opened the connection. A cut link holds bytes back, as a network does whose packets are sent again later; it also holds
//! back the end of the stream. It must never change or lose bytes of a connection that lives.

use crate::procnet::Owners;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often a held-back stream looks whether its link is whole again.
const CUT_POLL: Duration = Duration::from_millis(5);
const CHUNK_BYTES: usize = 64 << 10;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What happens to bytes from one node to another.
#[derive(Default)]
pub struct Link {
    cut: AtomicBool,
    delay_us: AtomicU64,
    /// 0: as fast as it goes.
    bytes_per_s: AtomicU64,
    /// Bytes that have passed.
    pub passed: AtomicU64,
}

/// All links of a cluster.
pub struct Network {
    nodes: usize,
    links: Vec<Link>,
    /// Process ids of the nodes, 0 for one that does not run.
    pids: Vec<AtomicU32>,
    owners: Owners,
    open: Mutex<Vec<Connection>>,
    stopped: AtomicBool,
    /// Connections that no node owned any more when they were looked at.
    pub strangers: AtomicU64,
    /// Longest time that a new connection waited until its owner was found: a delay that is the harness's own doing.
    pub slowest_lookup_us: AtomicU64,
}

struct Connection {
    from: usize,
    to: usize,
    streams: [TcpStream; 2],
    pumps: Arc<AtomicU32>,
}

impl Network {
    pub fn new(nodes: usize) -> Arc<Network> {
        Arc::new(Network {
            nodes,
            links: (0..nodes * nodes).map(|_| Link::default()).collect(),
            pids: (0..nodes).map(|_| AtomicU32::new(0)).collect(),
            owners: Owners::default(),
            open: Mutex::new(Vec::new()),
            stopped: AtomicBool::new(false),
            strangers: AtomicU64::new(0),
            slowest_lookup_us: AtomicU64::new(0),
        })
    }

    /// Listens on `listen_port` for node `to`, which itself listens on `node_port`.
    pub fn stand_for(self: &Arc<Self>, to: usize, listen_port: u16, node_port: u16) {
        let listener = TcpListener::bind(("127.0.0.1", listen_port)).expect("a free port was chosen");
        let network = Arc::clone(self);
        let run = move || {
            for stream in listener.incoming() {
                if network.stopped.load(SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    let network = Arc::clone(&network);
                    spawn("link", move || network.carry(stream, to, listen_port, node_port));
                }
            }
        };
        spawn("proxy", run);
    }

    pub fn set_pid(&self, node: usize, pid: u32) {
        self.pids[node].store(pid, SeqCst);
    }

    pub fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[from * self.nodes + to]
    }

    pub fn cut(&self, from: usize, to: usize) {
        self.link(from, to).cut.store(true, SeqCst);
    }

    /// Cuts both directions between the two groups.
    pub fn split(&self, left: &[usize], right: &[usize]) {
        for (&a, &b) in left.iter().flat_map(|a| right.iter().map(move |b| (a, b))) {
            self.cut(a, b);
            self.cut(b, a);
        }
    }

    pub fn slow(&self, from: usize, to: usize, delay: Duration, bytes_per_s: u64) {
        let link = self.link(from, to);
        link.delay_us.store(delay.as_micros() as u64, SeqCst);
        link.bytes_per_s.store(bytes_per_s, SeqCst);
    }

    /// Everything is whole and fast again. With `reset`, connections over links that were cut are closed; otherwise what
    /// was held back arrives late.
    pub fn heal(&self, reset: bool) {
        let was_cut: Vec<bool> = self.links.iter().map(|link| link.cut.load(SeqCst)).collect();
        if reset {
            for connection in self.open.lock().expect("nobody panics with the lock").iter() {
                let (a, b) = (connection.from, connection.to);
                if was_cut[a * self.nodes + b] || was_cut[b * self.nodes + a] {
                    close(&connection.streams);
                }
            }
        }
        for link in &self.links {
            link.cut.store(false, SeqCst);
            link.delay_us.store(0, SeqCst);
            link.bytes_per_s.store(0, SeqCst);
        }
    }

    /// Ends all connections and takes no new ones.
    pub fn stop(&self) {
        self.stopped.store(true, SeqCst);
        self.heal(false);
        for connection in self.open.lock().expect("nobody panics with the lock").iter() {
            close(&connection.streams);
        }
    }

    fn carry(self: Arc<Self>, near: TcpStream, to: usize, listen_port: u16, node_port: u16) {
        let Ok(SocketAddr::V4(peer)) = near.peer_addr() else { return };
        let pids: Vec<u32> = self.pids.iter().map(|pid| pid.load(SeqCst)).collect();
        let began = Instant::now();
        let owner = self.owners.find(peer.port(), listen_port, &pids);
        self.slowest_lookup_us.fetch_max(began.elapsed().as_micros() as u64, SeqCst);
        let Some(from) = owner.and_then(|pid| pids.iter().position(|p| *p == pid)) else {
            self.strangers.fetch_add(1, SeqCst);
            return;
        };
        // A connection request is the first thing that a cut link holds back, and so is the answer to it.
        while from != to && (self.link(from, to).is_cut() || self.link(to, from).is_cut()) {
            if self.stopped.load(SeqCst) || gone(&near) {
                return;
            }
            std::thread::sleep(CUT_POLL);
        }
        let address = SocketAddr::from(([127, 0, 0, 1], node_port));
        let Ok(far) = TcpStream::connect_timeout(&address, CONNECT_LIMIT) else { return };
        let clones = [near.try_clone(), far.try_clone(), near.try_clone(), far.try_clone()];
        let [Ok(near_out), Ok(far_out), Ok(near_held), Ok(far_held)] = clones else { return };
        for stream in [&near, &far] {
            // Only a matter of speed.
            let _ = stream.set_nodelay(true);
        }
        let pumps = Arc::new(AtomicU32::new(2));
        {
            let mut open = self.open.lock().expect("nobody panics with the lock");
            open.retain(|connection| connection.pumps.load(SeqCst) > 0);
            open.push(Connection { from, to, streams: [near_held, far_held], pumps: Arc::clone(&pumps) });
        }
        let (network, back_pumps) = (Arc::clone(&self), Arc::clone(&pumps));
        spawn("link-back", move || {
            network.pump(far, near_out, to, from);
            back_pumps.fetch_sub(1, SeqCst);
        });
        self.pump(near, far_out, from, to);
        pumps.fetch_sub(1, SeqCst);
    }

    /// Carries bytes until the end of the stream or an error, then ends the other side too.
    fn pump(&self, mut input: TcpStream, mut output: TcpStream, from: usize, to: usize) {
        let link = self.link(from, to);
        let mut chunk = vec![0u8; CHUNK_BYTES];
        loop {
            let count = input.read(&mut chunk).unwrap_or(0);
            self.hold(link, count, from == to);
            if count == 0 || output.write_all(&chunk[..count]).is_err() {
                break;
            }
            link.passed.fetch_add(count as u64, SeqCst);
        }
        // Either may be closed already.
        let _ = output.shutdown(Shutdown::Write);
        let _ = input.shutdown(Shutdown::Read);
    }

    fn hold(&self, link: &Link, count: usize, own: bool) {
        if own {
            return;
        }
        let began = Instant::now();
        let mut wait = Duration::from_micros(link.delay_us.load(SeqCst));
        let rate = link.bytes_per_s.load(SeqCst);
        if rate > 0 {
            wait += Duration::from_secs_f64(count as f64 / rate as f64);
        }
        std::thread::sleep(wait.saturating_sub(began.elapsed()));
        while link.is_cut() && !self.stopped.load(SeqCst) {
            std::thread::sleep(CUT_POLL);
        }
    }
}

impl Link {
    fn is_cut(&self) -> bool {
        self.cut.load(SeqCst)
    }
}

/// Whether the other side has closed; nothing is taken out of the stream.
fn gone(stream: &TcpStream) -> bool {
    let mut byte = [0u8; 1];
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let answer = stream.peek(&mut byte);
    let restored = stream.set_nonblocking(false).is_ok();
    let alive = match answer {
        Ok(count) => count > 0,
        Err(e) => e.kind() == std::io::ErrorKind::WouldBlock,
    };
    !(alive && restored)
}

fn close(streams: &[TcpStream; 2]) {
    for stream in streams {
        // It may be closed already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    // Without a thread the connection is closed, which is a fault like any other.
    let _ = std::thread::Builder::new().name(name.into()).stack_size(128 << 10).spawn(run);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::free_port;

    fn exchange(stream: &mut TcpStream, byte: u8, limit: Duration) -> std::io::Result<u8> {
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(&[byte])?;
        let mut answer = [0u8; 1];
        stream.read_exact(&mut answer)?;
        Ok(answer[0])
    }

    #[test]
    fn a_cut_link_holds_bytes_back_and_delivers_them_later() {
        let (listen, node) = (free_port(), free_port());
        let echo = TcpListener::bind(("127.0.0.1", node)).expect("the port is free");
        spawn("echo", move || {
            for mut stream in echo.incoming().flatten() {
                let mut byte = [0u8; 1];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            }
        });
        // This process plays node 0, which talks to node 1.
        let network = Network::new(2);
        network.set_pid(0, std::process::id());
        network.stand_for(1, listen, node);
        let mut stream = TcpStream::connect(("127.0.0.1", listen)).expect("the proxy listens");
        assert_eq!(exchange(&mut stream, 7, Duration::from_secs(5)).expect("the link is whole"), 7);
        network.cut(1, 0);
        exchange(&mut stream, 8, Duration::from_millis(100)).expect_err("the answer is held back");
        network.heal(false);
        let mut late = [0u8; 1];
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("it is a socket");
        stream.read_exact(&mut late).expect("the answer comes late");
        assert_eq!(late[0], 8);
        network.cut(0, 1);
        exchange(&mut stream, 9, Duration::from_millis(100)).expect_err("the question is held back");
        network.heal(true);
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("it is a socket");
        assert!(!matches!(stream.read(&mut late), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock), "closed");
    }
}
