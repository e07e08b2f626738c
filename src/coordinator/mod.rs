//! The one service layer: every front (HTTP, queue, peers) asks here, and nobody else talks to the node.
//!
//! Calls that may have to wait for the log take a continuation and return at once; the continuation runs on whatever
//! thread has the answer and must neither block nor do real work (the HTTP front passes it on to a worker).

mod access;
pub mod admin;
pub mod backup;
pub mod error;
pub mod inbound;
mod leader_call;
pub mod load;
pub mod options;
pub mod peers;
pub mod read;
mod redirect;
pub mod status;
mod submit;
pub mod timer;
pub mod verify;
pub mod write;

pub use crate::db::load::{START_BYTES, Source as LoadSource, has_magic, is_database};
pub use crate::db::syntax::SyntaxChecker;
pub use admin::{AdminDone, AdminOptions, Membership};
pub use backup::{BackupDone, BackupRequest, BackupStart, BackupStream};
pub use error::Error;
pub use load::{BootStart, LoadDone, LoadRequest, LoadStart};
pub use options::{Level, ReadOptions, ReadPurpose};
pub use read::{PermitDone, ReadPermit};
pub use status::StoreStatus;
pub use verify::VerifyDone;
pub use write::{WriteDone, Written};

use crate::auth::Credentials;
use crate::command::{Request, Statement};
use crate::db;
use crate::net::NetHandle;
use crate::node::NodeHandle;
use crate::node::verify::VerifierHandle;
pub use crate::queue::QueueDone;
use crate::queue::QueueHandle;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};
use timer::TimerHandle;

/// What the coordinator needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    /// Every read ends by then, so that no snapshot is held for ever.
    pub read_timeout: Duration,
    /// Every write ends by then, so that none can hold up all others for ever. `None`: no limit.
    pub write_steps_max: Option<u64>,
    /// Where clients reach this node: `http://host:port`.
    pub api_url: String,
    pub node_id: String,
    pub version: String,
}

/// See the module. Shared as `Arc<Coordinator>`; answers from the first second, before the store is open.
pub struct Coordinator {
    settings: Settings,
    timer: TimerHandle,
    node: OnceLock<NodeHandle>,
    net: OnceLock<NetHandle>,
    queue: OnceLock<QueueHandle>,
    verifier: OnceLock<VerifierHandle>,
    membership: OnceLock<Arc<dyn Membership>>,
    /// When a client of this node last got a whole backup.
    last_backup: Mutex<Option<SystemTime>>,
    /// For continuations, which outlive the call that made them.
    me: Weak<Coordinator>,
}

impl Coordinator {
    pub fn new(settings: Settings, timer: TimerHandle) -> Arc<Self> {
        Arc::new_cyclic(|me| Coordinator {
            settings,
            timer,
            node: OnceLock::new(),
            net: OnceLock::new(),
            queue: OnceLock::new(),
            verifier: OnceLock::new(),
            membership: OnceLock::new(),
            last_backup: Mutex::default(),
            me: me.clone(),
        })
    }

    /// Other nodes can be reached from here on.
    pub fn attach_net(&self, net: NetHandle) {
        assert!(self.net.set(net).is_ok(), "a network is attached once");
    }

    pub fn attach_verifier(&self, verifier: VerifierHandle) {
        assert!(self.verifier.set(verifier).is_ok(), "a verifier is attached once");
    }

    /// Who lets nodes in and takes them out, when this node leads.
    pub fn attach_membership(&self, membership: Arc<dyn Membership>) {
        assert!(self.membership.set(membership).is_ok(), "a membership service is attached once");
    }

    fn net(&self) -> Option<&NetHandle> {
        self.net.get()
    }

    fn timer(&self) -> &TimerHandle {
        &self.timer
    }

    fn shared_self(&self) -> Arc<Coordinator> {
        self.me.upgrade().expect("a coordinator is only ever made shared")
    }

    /// The store is open: from here on requests are served.
    pub fn attach_node(&self, node: NodeHandle) {
        assert!(self.node.set(node).is_ok(), "a node is attached once");
    }

    pub fn attach_queue(&self, queue: QueueHandle) {
        assert!(self.queue.set(queue).is_ok(), "a queue is attached once");
    }

    fn node(&self) -> Result<&NodeHandle, Error> {
        self.node.get().ok_or(Error::StoreNotOpen)
    }

    /// Refuses what may not even be looked at (spec 4.13): before leadership is asked for.
    fn check_statements(statements: &[Statement]) -> Result<(), Error> {
        match statements.iter().any(|s| db::is_disallowed_pragma(&s.sql)) {
            true => Err(Error::DisallowedPragma),
            false => Ok(()),
        }
    }

    /// `/db/execute?queue`: takes statements for a later batch, in order. `done` runs exactly once: as soon as they are
    /// taken, or, with `wait`, when their batch is written or `timeout` has passed. No statements with `wait` are a
    /// barrier. The leader must permit them to `caller`, should it be asked.
    pub fn enqueue(
        &self,
        caller: Credentials,
        statements: Vec<Statement>,
        wait: bool,
        timeout: Duration,
        done: QueueDone,
    ) {
        // Refused here rather than in the batch, where it would take other clients' statements with it.
        let queue = Self::check_statements(&statements).and_then(|()| self.queue.get().ok_or(Error::StoreNotOpen));
        match queue {
            Ok(queue) => queue.push(caller, statements, wait, timeout, done),
            Err(error) => done(Err(error)),
        }
    }

    /// The last sequence number whose batch is written; 0 at first.
    pub fn queue_sequence(&self) -> u64 {
        self.queue.get().map_or(0, QueueHandle::written_sequence)
    }

    /// (node id, raft address) of the leader that this node knows.
    pub fn leader(&self) -> Option<(String, String)> {
        self.node.get()?.shared().leader.lock().clone()
    }

    /// May this node serve: open, leader known, log known at start applied.
    pub fn is_ready(&self) -> bool {
        let Some(node) = self.node.get() else { return false };
        self.leader().is_some()
            && !node.shared().quarantine.is_on()
            && node.shared().caught_up.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Does every statement of this `/db/request` only read? Prepares them on a read-only connection.
    pub fn only_reads(&self, request: &Request) -> Result<bool, Error> {
        Self::check_statements(&request.statements)?;
        self.node()?.readers().only_reads(request, None).map_err(Error::from)
    }
}
