//! What nodes ask of each other besides Raft messages, as plain data. The bytes are in `codec`.
//!
//! Every call is answered exactly once. A call is never passed on: who is asked and does not lead says who does, so
//! that a request travels one hop at most.

use crate::auth::{Callers, Operation};
use raft::{ClusterId, Incarnation, Index, LogId, Membership, NodeId};

/// A call, and in whose name it is made: the node that is asked looks whether they may.
#[derive(Clone, Debug, PartialEq)]
pub struct CallAs {
    pub call: Call,
    pub callers: Callers,
}

/// In nobody's name.
impl From<Call> for CallAs {
    fn from(call: Call) -> CallAs {
        CallAs { call, callers: Callers::default() }
    }
}

impl Call {
    pub fn in_name_of(self, callers: impl Into<Callers>) -> CallAs {
        CallAs { call: self, callers: callers.into() }
    }
}

/// A call to another node.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Who are you? Answered by every node, also one that belongs to no cluster yet.
    Meta,
    /// Take this node in. For the leader.
    Join(JoinRequest),
    /// This node waits for a cluster to be formed (`-bootstrap-expect`).
    Notify(Candidate),
    /// Do you promise to become a member of the cluster that `founder` is about to form with exactly these voters? The
    /// promise is given to one founder at a time.
    Promise { founder: NodeId, cluster: ClusterId, membership: Membership },
    /// All have promised: the cluster is formed with this membership.
    Formed { cluster: ClusterId, membership: Membership },
    /// Take a node out. For the leader.
    Remove { id: String },
    /// Hand leadership over. For the leader.
    StepDown { target: Option<String>, wait: bool },
    /// Put this command into the log and answer with its outcome. For the leader.
    Write(WriteCall),
    /// Up to which index must a copy have applied the log, so that a read on it keeps what `level` promises? For the
    /// leader.
    ReadIndex { level: ReadLevel, purpose: ReadPurpose },
    /// This node's copy is wrong: send it another one, whatever the log could give it. For the leader.
    SendCopy { id: String },
    /// Compare all copies of the database now. For the leader.
    Verify,
    /// The logical hash that this node computed at this index, if it has.
    Hash { index: Index },
}

#[derive(Clone, Debug, PartialEq)]
pub struct JoinRequest {
    pub id: String,
    /// Raft address, host:port.
    pub address: String,
    pub voter: bool,
    pub incarnation: Incarnation,
    /// Where its log ends; `None`: it has none, so whatever this name once promised is not kept here.
    pub log: Option<LogId>,
}

/// A node that waits for its cluster to be formed.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub id: String,
    pub address: String,
    pub incarnation: Incarnation,
    /// Clusters in which this life of it never takes part: it waited for their founders in vain.
    pub refused: Vec<ClusterId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WriteCall {
    /// An encoded `command::Command`, not yet stamped.
    pub payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLevel {
    Weak,
    Linearizable,
    Strong,
}

/// What the copy is wanted for that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadPurpose {
    #[default]
    Query,
    /// A `/db/request` that only reads.
    Request,
    Backup,
}

impl From<ReadPurpose> for Operation {
    fn from(purpose: ReadPurpose) -> Operation {
        match purpose {
            ReadPurpose::Query => Operation::Query,
            ReadPurpose::Request => Operation::Request,
            ReadPurpose::Backup => Operation::Backup,
        }
    }
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Done, and there is nothing to say about it.
    Done,
    Meta(Meta),
    /// The node is a member now (or was one already), of this cluster.
    Joined {
        cluster: ClusterId,
    },
    /// The entry was applied; `outcome` is an encoded `db::Outcome`.
    Written {
        id: LogId,
        outcome: Vec<u8>,
    },
    /// A copy that has applied `index` may be read; `logged` is the read's own place in the log, if it took one.
    Readable {
        index: Index,
        logged: Option<Index>,
    },
    /// What the comparison found, as JSON.
    Verified {
        report: String,
    },
    /// `None`: not computed (yet, or any more).
    Hash(Option<[u8; 32]>),
    NotLeader {
        leader: Option<LeaderHint>,
    },
    /// Refused or failed; nothing was done unless the failure says so.
    Failed(Failure),
}

/// Where the leader is, as far as the answering node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaderHint {
    pub id: String,
    /// Raft address, host:port.
    pub address: String,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    pub id: String,
    /// With scheme: `http://host:port`.
    pub api_url: String,
    pub version: String,
    pub commit_index: Index,
    pub is_leader: bool,
    /// `None`: this node belongs to no cluster yet.
    pub cluster: Option<ClusterId>,
}

/// Why a node did not do what it was asked, in a form that crosses the wire and keeps its meaning for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The request itself is at fault, or was refused; nothing was done.
    Refused,
    /// It may or may not have been done, or may yet be.
    Unknown,
    /// The node is not ready for this now; nothing was done, and asking again soon is right.
    NotReady,
    /// Those in whose name it was asked may not have it done; nothing was done.
    Unauthorized,
}

impl Failure {
    /// As the text of every node and version has it.
    pub fn unauthorized() -> Failure {
        Failure { kind: FailureKind::Unauthorized, text: UNAUTHORIZED.to_owned() }
    }
}

/// The whole text of a refusal for want of a permission.
pub const UNAUTHORIZED: &str = "unauthorized";
