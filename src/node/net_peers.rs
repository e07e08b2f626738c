//! The raft thread's peers, over the network: messages, and copies of the database, each on a thread `copy-<peer>`.

use super::handle::Shared;
use super::inbox::InboxSender;
use super::raft_peers::Peers;
use super::raft_thread::RaftInput;
use crate::db::CopySource;
use crate::net::{NetHandle, SnapshotSender};
use raft::{Envelope, LogId, NodeId};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::Builder;
use std::time::Duration;

/// Connections that one copy may use up: a lost one is continued where it broke.
const ATTEMPTS_MAX: u32 = 5;
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(500);

/// See the module.
pub struct NetPeers {
    net: NetHandle,
    database: PathBuf,
    raft_tx: InboxSender<RaftInput>,
    shared: Arc<Shared>,
}

impl NetPeers {
    pub fn new(net: NetHandle, database: PathBuf, raft_tx: InboxSender<RaftInput>, shared: Arc<Shared>) -> Self {
        NetPeers { net, database, raft_tx, shared }
    }
}

impl Peers for NetPeers {
    fn set_peers(&self, peers: &[(NodeId, String)]) {
        self.net.set_peers(peers);
    }

    fn send(&self, envelope: Envelope) {
        self.net.send(envelope);
    }

    fn send_copy(&self, peer: NodeId, address: String) -> io::Result<()> {
        let copy = Copy {
            net: self.net.clone(),
            database: self.database.clone(),
            raft_tx: self.raft_tx.clone(),
            shared: Arc::clone(&self.shared),
            peer,
            address,
        };
        // An id may hold what a thread's name must not.
        let name = format!("copy-{}", copy.peer).replace('\0', "?");
        Builder::new().name(name).spawn(move || copy.run()).map(drop)
    }
}

/// One copy to one peer.
struct Copy {
    net: NetHandle,
    database: PathBuf,
    raft_tx: InboxSender<RaftInput>,
    shared: Arc<Shared>,
    peer: NodeId,
    address: String,
}

impl Copy {
    fn run(self) {
        crate::limits::work_in_background();
        // A panic here has already been printed; the raft thread must hear of the end, or it would send this peer no other.
        let sent = catch_unwind(AssertUnwindSafe(|| self.send()));
        let sent = sent.unwrap_or_else(|_| Err("the thread of the copy panicked".to_owned()));
        let _ = self.raft_tx.send(RaftInput::CopyEnded { peer: self.peer.clone(), sent });
    }

    /// The snapshot stays pinned until the peer has it, whatever connections it takes.
    fn send(&self) -> Result<LogId, String> {
        let Some(_pin) = self.shared.pins.take() else { return Err("the database is being replaced".to_owned()) };
        let mut source = CopySource::open(&self.database).map_err(|error| error.to_string())?;
        let last = source.meta().applied;
        let _ = self.raft_tx.send(RaftInput::CopyBegun { peer: self.peer.clone(), last });
        let header = source.meta().encode();
        let mut attempt = 1;
        loop {
            match self.attempt(&mut source, &header) {
                Ok(()) => return Ok(last),
                Err(Broken::ForGood(error)) => return Err(error),
                Err(Broken::Connection(error)) if attempt == ATTEMPTS_MAX => return Err(error),
                Err(Broken::Connection(error)) => {
                    log::info!(target: "store", "the copy to node {} broke off, going on with it: {error}", self.peer);
                }
            }
            attempt += 1;
            std::thread::sleep(ATTEMPT_INTERVAL);
        }
    }

    fn attempt(&self, source: &mut CopySource, header: &[u8]) -> Result<(), Broken> {
        let broken = |error: crate::net::NetError| Broken::Connection(error.to_string());
        let mut stream: SnapshotSender = self.net.open_snapshot(&self.peer, &self.address, header).map_err(broken)?;
        let page_bytes = u64::from(source.meta().page_bytes);
        let pages = source.meta().pages;
        let mut page = stream.resume_from() / page_bytes;
        let mut chunk = Vec::new();
        while page < pages {
            if self.shared.pins.cancelled().load(Ordering::Acquire) {
                return Err(Broken::ForGood("the node is stopping, or gets another database".to_owned()));
            }
            let read = source.read(page, &mut chunk).map_err(|error| Broken::ForGood(error.to_string()))?;
            page += read as u64;
            stream.send(&chunk).map_err(broken)?;
        }
        // Also of what the receiver claims to have and was never sent.
        source.read(pages, &mut chunk).map_err(|error| Broken::ForGood(error.to_string()))?;
        // The checksum of the whole comes last.
        stream.send(&source.checksum().expect("all of it was read")).map_err(broken)?;
        stream.finish().map(drop).map_err(broken)
    }
}

enum Broken {
    /// Worth another connection.
    Connection(String),
    ForGood(String),
}
