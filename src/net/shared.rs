//! What all threads of the transport share: who this node is, its open connections, its threads, its peers.

use super::clock::Clock;
use super::frame::IncomingBytes;
use super::handshake::Own;
use super::limits::{CONNECT_TIMEOUT_MAX, LOG_INTERVAL, STACK_BYTES};
use super::links::Links;
use super::peer::Peer;
use super::service::{Identity, NetOptions};
use super::stream::Streams;
use crate::random;
use parking_lot::{Condvar, Mutex, RwLock};
use raft::config::MEMBERS_MAX;
use raft::{ClusterId, Incarnation, NodeId};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub struct Shared {
    pub options: NetOptions,
    pub own: Own,
    /// This process, of all that ever run on this directory or a copy of it.
    pub run: u64,
    pub identity: RwLock<Option<Identity>>,
    is_stopping: AtomicBool,
    pub streams: Arc<Streams>,
    pub threads: Threads,
    pub incoming: Arc<IncomingBytes>,
    pub peers: RwLock<HashMap<NodeId, Arc<Peer>>>,
    pub links: Links,
    pub clock: Clock,
    pub complaints: Complaints,
}

impl Shared {
    /// # Errors
    /// An option that does not fit.
    pub fn new(mut options: NetOptions) -> io::Result<Shared> {
        options.connect_timeout = options.connect_timeout.min(CONNECT_TIMEOUT_MAX);
        let own = Own {
            node_id: NodeId(options.node_id.as_str().into()),
            address: options.advertised.clone(),
            fingerprint: options.fingerprint.clone(),
        };
        own.check().map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        Ok(Shared {
            options,
            own,
            run: random::u64()?,
            identity: RwLock::default(),
            is_stopping: AtomicBool::new(false),
            streams: Arc::default(),
            threads: Threads::default(),
            incoming: Arc::default(),
            peers: RwLock::default(),
            links: Links::default(),
            clock: Clock::default(),
            complaints: Complaints::default(),
        })
    }

    /// A node of this cluster, perhaps one that the configuration known here does not name yet: a new member must be able
    /// to answer the leader before it knows who that is. `NetHandle::set_peers` has the last word.
    pub fn meet(self: &Arc<Self>, id: &NodeId, address: &str) {
        if address.is_empty() || *id == self.own.node_id || self.peers.read().contains_key(id) {
            return;
        }
        let mut peers = self.peers.write();
        if self.is_stopping() || peers.contains_key(id) || peers.len() >= MEMBERS_MAX {
            return;
        }
        match Peer::start(self, id.clone(), address.to_owned()) {
            Ok(peer) => drop(peers.insert(id.clone(), Arc::new(peer))),
            Err(error) => self.complaints.say(&id.0, &format!("no thread for this peer: {error}")),
        }
    }

    pub fn cluster(&self) -> Option<ClusterId> {
        self.identity.read().map(|identity| identity.cluster)
    }

    /// Zero while it is not known.
    pub fn incarnation(&self) -> Incarnation {
        self.identity.read().map_or(Incarnation(0), |identity| identity.incarnation)
    }

    /// Whether that is another process on a copy of this node's own directory.
    pub fn is_twin(&self, same_cluster: bool, id: &NodeId, incarnation: Incarnation, run: u64) -> bool {
        let is_known = incarnation != Incarnation(0) && same_cluster && self.cluster().is_some();
        is_known && *id == self.own.node_id && incarnation == self.incarnation() && run != self.run
    }

    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    pub fn set_stopping(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }
}

/// The threads of the transport: how many there are, so that `stop` can wait for their end.
#[derive(Default)]
pub struct Threads {
    live: Arc<(Mutex<usize>, Condvar)>,
}

/// Counts one thread until it is dropped.
struct Counted(Arc<(Mutex<usize>, Condvar)>);

impl Drop for Counted {
    fn drop(&mut self) {
        *self.0.0.lock() -= 1;
        self.0.1.notify_all();
    }
}

impl Threads {
    /// Starts a thread. A panic on it ends the process: a node that has gone deaf or dumb in part is worse than none.
    ///
    /// # Errors
    /// The system gives no further thread.
    pub fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
        *self.live.0.lock() += 1;
        let counted = Counted(Arc::clone(&self.live));
        // A name that others chose may hold what a thread's name must not.
        let name = name.replace('\0', "?");
        std::thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || {
            let counted = counted;
            // The panic hook has already printed where and why.
            if catch_unwind(AssertUnwindSafe(body)).is_err() {
                std::process::abort();
            }
            drop(counted);
        })?;
        Ok(())
    }

    /// Waits until all have ended, or the deadline; gives how many are left.
    pub fn wait(&self, deadline: Instant) -> usize {
        let mut live = self.live.0.lock();
        while *live > 0 && !self.live.1.wait_until(&mut live, deadline).timed_out() {}
        *live
    }
}

/// Keeps a peer that goes on failing from filling the log.
#[derive(Default)]
pub struct Complaints {
    last: Mutex<HashMap<String, Instant>>,
}

/// Peers remembered; then all are forgotten, which costs some repeated lines.
const COMPLAINTS_MAX: usize = 1024;

impl Complaints {
    /// Logs `text` about `peer`, unless something was logged about it a short while ago.
    pub fn say(&self, peer: &str, text: &str) {
        self.tell(log::Level::Warn, peer, text);
    }

    /// The same for what an operator must look at. It does not wait behind other lines about the same peer.
    pub fn shout(&self, peer: &str, text: &str) {
        self.tell(log::Level::Error, peer, text);
    }

    fn tell(&self, level: log::Level, peer: &str, text: &str) {
        let key = format!("{level} {peer}");
        let now = Instant::now();
        {
            let mut last = self.last.lock();
            if last.get(&key).is_some_and(|at| now.duration_since(*at) < LOG_INTERVAL) {
                return;
            }
            if last.len() >= COMPLAINTS_MAX {
                last.clear();
            }
            last.insert(key, now);
        }
        log::log!(target: "mux", level, "{peer}: {text}");
    }
}
