//! The door between the transport and the rest of the node: what it is told, what it calls, what it gives back.

use super::answers::AnswerQueue;
use super::call::{Answer, CallAs, Failure, FailureKind, UNAUTHORIZED};
use crate::auth::Callers;
use raft::{ClusterId, Envelope, Incarnation, NodeId};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How the transport is set up.
#[derive(Clone, Debug)]
pub struct NetOptions {
    /// Longest attempt to connect (`-cluster-connect-timeout`).
    pub connect_timeout: Duration,
    /// Compress the snapshots that this node sends (`-compress-snap-transport`). It receives both kinds.
    pub compress_snapshots: bool,
    /// Names everything on which the result of applying an entry may depend: SQLite's version and options, this program's
    /// version. Nodes with different ones exchange no Raft messages. At most 1024 bytes.
    pub fingerprint: String,
    /// Where others reach this node, host:port.
    pub advertised: String,
    pub node_id: String,
}

/// Which cluster this node belongs to, and as which life of its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub incarnation: Incarnation,
}

/// Takes what arrives. Called by the threads of connections, many at once.
pub trait Service: Send + Sync + 'static {
    /// A Raft message for this node, from a member of its cluster. Must not block long; may drop it.
    fn message(&self, envelope: Envelope);

    /// The last connection on which the node `from` sent its small Raft messages has ended: its process is gone, most likely.
    /// Must not block.
    fn disconnected(&self, from: NodeId);

    /// A call from the node `from`. The reply may be sent later, by any thread. Must not block long: other calls of the same
    /// node wait behind.
    fn call(&self, from: Option<NodeId>, call: CallAs, reply: Reply);

    /// A snapshot that begins with `header`. Runs on the connection's own thread until the snapshot is installed.
    ///
    /// # Errors
    /// Why it was not installed: goes to the sender.
    fn snapshot(&self, from: NodeId, header: Vec<u8>, source: &mut dyn SnapshotSource) -> Result<Vec<u8>, String>;

    /// Gives the node `from` what it `wanted` in the name of `callers`. Runs on the connection's own thread until all is sent.
    ///
    /// # Errors
    /// Why there is none, or no more: goes to the asker.
    fn fetch(&self, from: NodeId, callers: &Callers, wanted: &[u8], feed: &mut dyn Feed) -> Result<(), String> {
        let _ = (from, callers, wanted, feed);
        Err("this node gives nothing".to_owned())
    }
}

/// Where something large goes that another node has asked for; what is written is sent as it comes. Blocks while too much is
/// on its way.
pub trait Feed: io::Write {
    /// From here on a failure breaks it off; before, it is an answer. To be called once, before anything is written.
    ///
    /// # Errors
    /// The connection is lost.
    fn begin(&mut self) -> io::Result<()>;
}

/// The receiving end of a snapshot.
pub trait SnapshotSource {
    /// Takes the snapshot, from byte `resume_from` on: what is before is here already. To be called once, before chunks.
    ///
    /// # Errors
    /// The connection is lost.
    fn accept(&mut self, resume_from: u64) -> io::Result<()>;

    /// The next chunk; `None` when the sender has sent everything.
    ///
    /// # Errors
    /// The connection is lost, or the sender has fallen silent.
    fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>>;

    /// Tells the sender that this end is still at work; to be called every few seconds while it does something else than
    /// reading. Cheap when called more often.
    fn keep_alive(&mut self);
}

/// Where the answer to a call goes. Dropped without an answer, it says that the outcome is not known.
pub struct Reply {
    to: Option<ReplyTo>,
}

enum ReplyTo {
    Connection { answers: Arc<AnswerQueue>, tag: u64 },
    Function(Box<dyn FnOnce(Answer) + Send>),
}

impl Reply {
    /// For a call that `answers` has been told to expect.
    pub(super) fn new(answers: Arc<AnswerQueue>, tag: u64) -> Reply {
        Reply { to: Some(ReplyTo::Connection { answers, tag }) }
    }

    /// A reply that goes to a function of this process.
    pub fn to_function(function: impl FnOnce(Answer) + Send + 'static) -> Reply {
        Reply { to: Some(ReplyTo::Function(Box::new(function))) }
    }

    /// Answers. Never blocks; an answer to a connection that is lost is lost.
    pub fn send(mut self, answer: Answer) {
        self.deliver(answer);
    }

    fn deliver(&mut self, answer: Answer) {
        match self.to.take() {
            Some(ReplyTo::Connection { answers, tag }) => answers.push(tag, answer),
            Some(ReplyTo::Function(function)) => function(answer),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if self.to.is_some() {
            let text = "the node gave up this call without an answer".to_owned();
            self.deliver(Answer::Failed(Failure { kind: FailureKind::Unknown, text }));
        }
    }
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// It certainly never reached the other node.
    NotSent(String),
    /// It was sent; whether it was, or will be, carried out is not known.
    Unknown(String),
}

impl CallError {
    /// What went wrong, for one to whom both kinds are the same.
    pub fn into_text(self) -> String {
        match self {
            CallError::NotSent(text) | CallError::Unknown(text) => text,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NotSent(text) => write!(f, "not sent: {text}"),
            CallError::Unknown(text) => write!(f, "outcome unknown: {text}"),
        }
    }
}

impl std::error::Error for CallError {}

/// Why a snapshot was not sent, or nothing was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetError {
    /// The other node does not want this connection; says why.
    Refused(String),
    /// No connection, or it was lost.
    Lost(String),
    /// The other end has fallen silent.
    Silent,
    /// The other end says that it failed.
    Failed(String),
    /// Those in whose name something was to be fetched may not have it.
    Unauthorized,
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NetError::Refused(text) => write!(f, "refused: {text}"),
            NetError::Lost(text) => write!(f, "connection lost: {text}"),
            NetError::Silent => f.write_str("the other node has fallen silent"),
            NetError::Failed(text) => write!(f, "the other node failed: {text}"),
            NetError::Unauthorized => f.write_str(UNAUTHORIZED),
        }
    }
}

impl std::error::Error for NetError {}

/// One connection that this node keeps to another, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerLink {
    /// The peer's id, where the connection belongs to a peer (not known for calls, which go to addresses).
    pub id: Option<String>,
    pub address: String,
    /// `control`, `bulk` or `calls`.
    pub lane: &'static str,
    pub connected: bool,
    /// On the present connection.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Messages or calls that wait to be written.
    pub queued: usize,
    /// Messages dropped since the peer was added, because its queue was full or it could not be reached.
    pub dropped: u64,
    pub last_error: Option<String>,
}
