//! What replicas say to each other. Plain data; the bytes are in `wire`.
//!
//! | message | from | to | answer | section |
//! |---|---|---|---|---|
//! | PreVote | who would like to be a candidate | voters | PreVoteReply | thesis 9.6 |
//! | Vote | candidate | voters | VoteReply | paper 5.2 |
//! | Append | leader | members | AppendReply, AppendReject | paper 5.3 |
//! | Heartbeat | leader | members | HeartbeatReply | paper 5.2, thesis 6.4 |
//! | TimeoutNow | leader | the voter that shall lead | (a Vote) | thesis 3.10 |

use crate::{Entry, Incarnation, Index, LogId, NodeId, Term};

/// A message with its ends. The cluster id belongs to the frame around it, not to the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub from: NodeId,
    pub from_incarnation: Incarnation,
    pub to: NodeId,
    /// Which life of the receiver the sender means: a wiped node so never answers for its former self.
    pub to_incarnation: Incarnation,
    pub message: Message,
}

/// Every message carries a term: the sender's current one, except in PreVote (the term that the sender would
/// campaign in) and a granted PreVoteReply (that same term, repeated).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Would you vote for me in `term`? Changes nothing at the receiver.
    PreVote {
        term: Term,
        last: LogId,
    },
    PreVoteReply {
        term: Term,
        granted: bool,
    },
    /// Vote for me in `term`. `transfer`: the leader itself asked for this election, so hearing it is no objection.
    Vote {
        term: Term,
        last: LogId,
        transfer: bool,
    },
    VoteReply {
        term: Term,
        granted: bool,
    },
    /// The entries that follow `prev`; none in a probe. `commit` is the leader's commit index, unbounded.
    Append {
        term: Term,
        prev: LogId,
        entries: Vec<Entry>,
        commit: Index,
    },
    /// The receiver's log equals the leader's up to `matched`, durably.
    AppendReply {
        term: Term,
        matched: Index,
    },
    /// The receiver has no entry `prev`. `hint` is its last entry that may still agree with the leader's log.
    AppendReject {
        term: Term,
        prev: LogId,
        hint: LogId,
    },
    /// The leader lives. `matched` is what the receiver has acknowledged, `commit` never lies beyond it; `round`
    /// counts read rounds.
    Heartbeat {
        term: Term,
        round: u64,
        matched: LogId,
        commit: Index,
    },
    /// Answers the heartbeat of `round`; `accepted` is the last index known to agree, durable or not, and `matched`
    /// repeats what AppendReply said, in case that was lost.
    HeartbeatReply {
        term: Term,
        round: u64,
        accepted: Index,
        matched: Index,
    },
    /// Start an election now.
    TimeoutNow {
        term: Term,
    },
}

impl Message {
    pub fn term(&self) -> Term {
        match self {
            Message::PreVote { term, .. }
            | Message::PreVoteReply { term, .. }
            | Message::Vote { term, .. }
            | Message::VoteReply { term, .. }
            | Message::Append { term, .. }
            | Message::AppendReply { term, .. }
            | Message::AppendReject { term, .. }
            | Message::Heartbeat { term, .. }
            | Message::HeartbeatReply { term, .. }
            | Message::TimeoutNow { term } => *term,
        }
    }

    /// Whether only a leader of its term sends this.
    pub fn is_from_leader(&self) -> bool {
        matches!(self, Message::Append { .. } | Message::Heartbeat { .. } | Message::TimeoutNow { .. })
    }

    /// The message's name, for logs and traces.
    pub fn name(&self) -> &'static str {
        match self {
            Message::PreVote { .. } => "PreVote",
            Message::PreVoteReply { .. } => "PreVoteReply",
            Message::Vote { .. } => "Vote",
            Message::VoteReply { .. } => "VoteReply",
            Message::Append { .. } => "Append",
            Message::AppendReply { .. } => "AppendReply",
            Message::AppendReject { .. } => "AppendReject",
            Message::Heartbeat { .. } => "Heartbeat",
            Message::HeartbeatReply { .. } => "HeartbeatReply",
            Message::TimeoutNow { .. } => "TimeoutNow",
        }
    }
}
