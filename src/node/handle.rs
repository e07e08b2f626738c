//! The only door into the node. Cheap to clone; every method may be called from any thread.

use super::applied::AppliedIndex;
use super::inbox::InboxSender;
use super::pins::Pins;
use super::raft_peers::ArrivedCopy;
use super::raft_thread::RaftInput;
use super::verify::{Hashes, Quarantine};
use crate::command::{Action, Command, RequestId};
use crate::coordinator::status::{Member, RaftStatus};
use crate::db::{Outcome, Readers};
use crate::limits::Room;
use crossbeam_channel::SendTimeoutError;
use parking_lot::Mutex;
use raft::{Change, ClusterId, Envelope, Index, LogId, Membership, NodeId};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The largest log entry: what one record of the log holds.
const PAYLOAD_BYTES_MAX: usize = raft::wal::PAYLOAD_BYTES_MAX as usize;

/// How long a message from a peer may wait for room before it is dropped.
const MESSAGE_WAIT_MAX: Duration = Duration::from_millis(500);

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
    /// Another leader's entry took its place: it is not applied and never will be.
    Overwritten,
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
            NodeError::Overwritten => f.write_str("not leader"),
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

/// Called when a change of the configuration is committed and applied here, or with the reason why it is not known to
/// be.
pub type ChangeDone = Box<dyn FnOnce(Result<LogId, AdminError>) + Send>;
/// Called with the new leader, when there is one.
pub type TransferDone = Box<dyn FnOnce(Result<NodeId, AdminError>) + Send>;

/// Why a change of configuration or leadership did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminError {
    NotLeader,
    /// The change before is not finished, or leadership is too new or on its way elsewhere; ask again soon.
    NotReady,
    AlreadyMember,
    NotMember,
    /// The last voter cannot go.
    LastVoter,
    Invalid(String),
    /// Begun, and given up: nothing has changed.
    Failed(String),
    /// Begun; whether it came about is not known here.
    Unknown,
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::NotLeader => f.write_str("not leader"),
            AdminError::NotReady => f.write_str("another change is under way, try again"),
            AdminError::AlreadyMember => f.write_str("already a member"),
            AdminError::NotMember => f.write_str("node not found in cluster"),
            AdminError::LastVoter => f.write_str("need at least one voter in configuration"),
            AdminError::Invalid(text) | AdminError::Failed(text) => f.write_str(text),
            AdminError::Unknown => f.write_str("leadership lost while committing log"),
        }
    }
}

/// How long ago a peer answered this leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerContact {
    pub id: String,
    pub voter: bool,
    pub last_contact_ms: u64,
    /// What of the log it has acknowledged.
    pub matched: Index,
}

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
    /// Entries are on their way; what is proposed meanwhile goes into the next batch and need not wake anybody.
    pub gathers: AtomicBool,
    /// What the payloads on their way take.
    pub room: Arc<Room>,
    /// The raft thread holds something back until more is applied, and wants to hear of it.
    pub wants_applied: AtomicBool,
    pub is_leader: AtomicBool,
    pub members: Mutex<Vec<Member>>,
    /// The configuration in force here, committed or not, and the index of its entry.
    pub configuration: Mutex<Option<(Index, Arc<Membership>)>>,
    pub raft: Mutex<RaftStatus>,
    /// What a leader knows of the others; empty elsewhere.
    pub peers: Mutex<Vec<PeerContact>>,
    /// When the leader was last heard, in milliseconds of `started`; 0 = never. Meaningless on the leader itself.
    pub leader_heard_ms: AtomicU64,
    pub started: Started,
    pub cluster: ClusterId,
    /// What this node's database hashed to, where the log asked for it.
    pub hashes: Hashes,
    pub quarantine: Quarantine,
    /// A copy was taken over somewhere: the leader's next look finds this and checks all of them.
    pub verify_wanted: AtomicBool,
    /// The node stops: long work in the background ends early.
    pub stopping: AtomicBool,
    pub pins: Arc<Pins>,
    /// (node id, raft address) of the leader.
    pub leader: Mutex<Option<(String, String)>>,
}

/// When the node was opened: where its milliseconds begin.
#[derive(Clone, Copy, Debug)]
pub struct Started(pub Instant);

impl Default for Started {
    fn default() -> Self {
        Started(Instant::now())
    }
}

impl Started {
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

impl Shared {
    /// Milliseconds since the leader was last heard; `None`: never.
    pub fn leader_heard(&self) -> Option<u64> {
        match self.leader_heard_ms.load(Ordering::Relaxed) {
            0 => None,
            heard_ms => Some((self.started.elapsed().as_millis() as u64).saturating_sub(heard_ms)),
        }
    }
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
        self.propose_as(action, None, done);
    }

    /// The same under a request id: once it is applied, the same id changes nothing again.
    pub fn propose_as(&self, action: Action, request: Option<RequestId>, done: ApplyDone) {
        // The raft thread stamps it when its place in the log is known.
        self.propose_encoded(Command { unix_time_us: 0, seed: 0, request, action }.encode(), done);
    }

    /// The same with a command's bytes, which must be such that every node can read them.
    pub fn propose_encoded(&self, payload: Vec<u8>, done: ApplyDone) {
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

    /// A peer's connection has ended.
    pub fn lost_contact(&self, peer: NodeId) {
        let _ = self.raft_tx.send_timeout(RaftInput::LostContact(peer), MESSAGE_WAIT_MAX);
    }

    /// A copy of the leader's database lies beside this node's own.
    pub fn copy_arrived(&self, copy: ArrivedCopy) {
        self.send(RaftInput::CopyArrived(Box::new(copy)));
    }

    /// A peer asks for a copy of this node's database, whatever the log could give it.
    pub fn copy_wanted(&self, peer: NodeId) {
        self.send(RaftInput::CopyWanted(peer));
    }

    /// Asks for the right to read everything committed so far on this node's copy (ReadIndex, thesis 6.4).
    pub fn read_index(&self, done: ReadDone) {
        self.send(RaftInput::ReadIndex { done, here: true });
    }

    /// Asks for the index that a copy elsewhere must have applied so that reading it is linearizable.
    pub fn read_index_for_peer(&self, done: ReadDone) {
        self.send(RaftInput::ReadIndex { done, here: false });
    }

    /// Changes the configuration.
    pub fn change_membership(&self, change: Change, done: ChangeDone) {
        self.send(RaftInput::ChangeMembership { change, done });
    }

    /// Hands leadership to `target`, or to any voter.
    pub fn transfer(&self, target: Option<NodeId>, done: TransferDone) {
        self.send(RaftInput::Transfer { target, done });
    }

    /// A message from a peer. Dropped when the raft thread has too much to do, as a network may.
    pub fn message(&self, envelope: Envelope) {
        let _ = self.raft_tx.send_timeout(RaftInput::Message(envelope), MESSAGE_WAIT_MAX);
    }

    /// Makes everything applied durable in the database file and drops the log before it but for `trailing` entries.
    pub fn snapshot(&self, trailing: Option<u64>, done: SnapshotDone) {
        self.send(RaftInput::Snapshot { trailing, done });
    }

    /// The same door for threads that must not block: what finds no room is refused at once, as `EnqueueTimeout`.
    pub fn impatient(&self) -> NodeHandle {
        NodeHandle { apply_timeout: Duration::ZERO, ..self.clone() }
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

    fn send(&self, input: RaftInput) {
        let sent = match input {
            RaftInput::Propose { .. } => {
                self.raft_tx.send_timeout_unless(&self.shared.gathers, input, self.apply_timeout)
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
