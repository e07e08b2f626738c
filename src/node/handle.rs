//! The only door into the node. Cheap to clone; every method may be called from any thread.

use super::applied::AppliedIndex;
use super::inbox::InboxSender;
use super::raft_thread::RaftInput;
use crate::command::{Action, Command};
use crate::coordinator::status::{Member, RaftStatus};
use crate::db::{Outcome, Readers};
use crate::limits::Room;
use crossbeam_channel::SendTimeoutError;
use parking_lot::Mutex;
use raft::{Index, LogId};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The largest log entry: what one record of the log holds.
const PAYLOAD_BYTES_MAX: usize = raft::wal::PAYLOAD_BYTES_MAX as usize;

/// Payloads of up to this size are bounded well enough by the number of connections.
const SMALL_PAYLOAD_BYTES: usize = 4 * 1024;
/// Bytes of larger payloads that may be on their way, from the proposal to the answer.
const PROPOSED_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Why the node did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeError {
    NotLeader,
    /// Leadership was lost while the entry was under way: it may or may not be applied.
    LeadershipLost,
    /// The inbox stayed full for the whole enqueue time-out; nothing was proposed.
    EnqueueTimeout,
    /// The node is stopping.
    Stopped,
    /// The payload is larger than an entry may be; nothing was proposed.
    TooLarge {
        bytes: usize,
        bytes_max: usize,
    },
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeError::NotLeader => f.write_str("not leader"),
            NodeError::LeadershipLost => f.write_str("leadership lost while committing log"),
            NodeError::EnqueueTimeout => f.write_str("timed out enqueuing operation"),
            NodeError::Stopped => f.write_str("raft is already shutdown"),
            NodeError::TooLarge { bytes, bytes_max } => {
                write!(f, "the request makes a log entry of {bytes} bytes, the most is {bytes_max}: send it in parts")
            }
        }
    }
}

/// An entry that was proposed here and is now applied.
pub struct Applied {
    pub id: LogId,
    pub outcome: Outcome,
}

/// Called on the applier's (or raft) thread: hand over and return, never block.
pub type ApplyDone = Box<dyn FnOnce(Result<Applied, NodeError>) + Send>;
/// Called when a local read would see everything committed before the call that asked.
pub type ReadDone = Box<dyn FnOnce(Result<Index, NodeError>) + Send>;
/// Called when a snapshot is done: false = nothing new.
pub type SnapshotDone = Box<dyn FnOnce(Result<bool, NodeError>) + Send>;

/// What other threads may look at without asking the raft thread.
#[derive(Default)]
pub struct Shared {
    pub applied: AppliedIndex,
    pub applied_term: AtomicU64,
    pub applied_time_us: AtomicI64,
    pub last_entry_time_us: AtomicI64,
    /// Index of the last applied entry that could change data.
    pub changed_index: AtomicU64,
    /// Entry times of the last VACUUM and `PRAGMA optimize` by the maintenance thread; 0 = never.
    pub last_vacuum_us: AtomicI64,
    pub last_optimize_us: AtomicI64,
    /// Time of the first command; 0 before it.
    pub created_us: AtomicI64,
    /// The pragmas of the applier's connection, as they were set at start.
    pub pragmas_rw: Vec<(String, String)>,
    /// Term of the last strong read that completed.
    pub strong_read_term: AtomicU64,
    /// The log known at start is applied: before that, reads would show the past.
    pub caught_up: AtomicBool,
    /// A sync of the log is under way; what is proposed meanwhile goes into the next one and need not wake anybody.
    pub syncing: AtomicBool,
    /// What the payloads on their way take.
    pub room: Arc<Room>,
    /// The raft thread holds something back until more is applied, and wants to hear of it.
    pub wants_applied: AtomicBool,
    pub is_leader: AtomicBool,
    pub members: Mutex<Vec<Member>>,
    pub raft: Mutex<RaftStatus>,
    /// (node id, raft address) of the leader.
    pub leader: Mutex<Option<(String, String)>>,
}

/// See the module.
#[derive(Clone)]
pub struct NodeHandle {
    pub(super) raft_tx: InboxSender<RaftInput>,
    pub(super) shared: Arc<Shared>,
    pub(super) readers: Arc<Readers>,
    pub(super) apply_timeout: Duration,
}

impl NodeHandle {
    /// Proposes an action. `done` is called exactly once: when the entry is applied here, or with the reason why it is
    /// not known to be. Blocks the caller only while the inbox is full, for `-raft-apply-timeout` at most.
    pub fn propose(&self, action: Action, done: ApplyDone) {
        // The raft thread stamps it when its place in the log is known.
        let payload = Command { unix_time_us: 0, seed: 0, action, request: None }.encode();
        if payload.len() > PAYLOAD_BYTES_MAX {
            let error = NodeError::TooLarge { bytes: payload.len(), bytes_max: PAYLOAD_BYTES_MAX };
            return done(Err(error));
        }
        if payload.len() <= SMALL_PAYLOAD_BYTES {
            return self.send(RaftInput::Propose { payload, done });
        }
        let deadline = Instant::now() + self.apply_timeout;
        let Some(room) = self.shared.room.take(payload.len(), PROPOSED_BYTES_MAX, deadline) else {
            return done(Err(NodeError::EnqueueTimeout));
        };
        let done = Box::new(move |applied| {
            drop(room);
            done(applied);
        });
        self.send(RaftInput::Propose { payload, done });
    }

    /// Asks for the right to read everything committed so far (ReadIndex, thesis 6.4).
    pub fn read_index(&self, done: ReadDone) {
        self.send(RaftInput::ReadIndex { done });
    }

    /// Makes everything applied durable in the database file and drops the log before it but for `trailing` entries.
    pub fn snapshot(&self, trailing: Option<u64>, done: SnapshotDone) {
        self.send(RaftInput::Snapshot { trailing, done });
    }

    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    pub fn is_leader(&self) -> bool {
        self.shared.is_leader.load(Ordering::Acquire)
    }

    /// Waits until `index` is applied here.
    pub fn wait_applied(&self, index: Index, deadline: Instant) -> bool {
        self.shared.applied.wait(index, deadline)
    }

    fn send(&self, input: RaftInput) {
        let sent = match input {
            RaftInput::Propose { .. } => {
                self.raft_tx.send_timeout_unless(&self.shared.syncing, input, self.apply_timeout)
            }
            _ => self.raft_tx.send_timeout(input, self.apply_timeout),
        };
        match sent {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(input)) => input.refuse(NodeError::EnqueueTimeout),
            Err(SendTimeoutError::Disconnected(input)) => input.refuse(NodeError::Stopped),
        }
    }
}
