//! What a leader knows about one peer, and how fast it may send to it.
//!
//! ```text
//!             AppendReply                      next is not in the log
//!   Probe -----------------> Replicate        any ---------------------> Snapshot
//!     ^ one message at a time    | pipelined                                |
//!     |<-- reject, lost append --+        snapshot_sent, snapshot_failed    |
//!     +---------------------------------------------------------------------+
//! ```

use crate::membership::{Member, Suffrage};
use crate::{Incarnation, Index, NodeId};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerState {
    /// Where the logs agree is not known: one Append at a time, then wait.
    /// `sent` is the last index of the message under way.
    Probe { sent: Option<Index> },
    /// The logs agree up to `next - 1` if nothing is lost: messages follow each other without waiting.
    Replicate,
    /// The log no longer reaches back to `next`: the state machine's snapshot is on its way, outside of this core.
    Snapshot,
}

/// Invariants: `matched < next`; `matched` never falls in a term (figure 2: it rises monotonically).
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    /// The life that is spoken to. Where the membership does not know it (0), the first that answers in the term: what
    /// two lives of one node acknowledge never counts together.
    pub(crate) incarnation: Incarnation,
    pub(crate) suffrage: Suffrage,
    /// The peer's log equals the leader's up to here, durably (figure 2: matchIndex).
    pub(crate) matched: Index,
    /// What is sent next (figure 2: nextIndex).
    pub(crate) next: Index,
    pub(crate) state: PeerState,
    pub(crate) window: Window,
    pub(crate) hearing: Hearing,
    /// A `LogRead` for this peer is on its way.
    pub(crate) reading: bool,
    /// The commit index that this peer has been told, as far as its log reaches.
    pub(crate) commit_told: Index,
    pub(crate) catch_up: CatchUp,
    /// It was removed by the entry at this index, and is told so before it is forgotten.
    pub(crate) leaving: Option<Leaving>,
}

/// What was heard from a peer, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hearing {
    /// Last answer of any kind.
    pub(crate) contact_ms: u64,
    /// Highest read round that it answered.
    pub(crate) round: u64,
    /// Highest index that it said to have accepted, durable or not.
    pub(crate) accepted: Index,
    /// When `accepted` last rose, or when something was last sent into an empty window.
    pub(crate) moved_ms: u64,
    /// How often it denied what it had acknowledged, and never found it again in between.
    pub(crate) denials: u32,
    /// When the last of them was counted.
    pub(crate) denied_ms: u64,
}

/// One round of catching up of a learner (thesis, section 4.2.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchUp {
    pub(crate) goal: Index,
    pub(crate) began_ms: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaving {
    pub(crate) removed_at: Index,
    pub(crate) until_ms: u64,
}

impl Peer {
    pub(crate) fn new(member: &Member, last: Index, now_ms: u64) -> Peer {
        Peer {
            id: member.id.clone(),
            incarnation: member.incarnation,
            suffrage: member.suffrage,
            matched: Index(0),
            next: last.next(),
            state: PeerState::Probe { sent: None },
            window: Window::default(),
            hearing: Hearing {
                contact_ms: now_ms,
                round: 0,
                accepted: Index(0),
                moved_ms: now_ms,
                denials: 0,
                denied_ms: 0,
            },
            reading: false,
            commit_told: Index(0),
            catch_up: CatchUp { goal: last, began_ms: now_ms },
            leaving: None,
        }
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.suffrage == Suffrage::Voter && self.leaving.is_none()
    }

    /// The peer acknowledged `matched`. Late and repeated acknowledgements change nothing. Returns whether it rose.
    pub(crate) fn acknowledge(&mut self, matched: Index, now_ms: u64) -> bool {
        self.accept(matched, now_ms);
        self.window.acknowledge(matched);
        let before = self.matched;
        let rose = matched > self.matched;
        // An acknowledgement that reaches the entry before the probe says that the logs agree there: the follower
        // has taken all that the probe brought, though perhaps not yet to its disk.
        if let PeerState::Probe { sent: Some(sent) } = self.state
            && matched.next() >= self.next
        {
            self.state = PeerState::Replicate;
            self.next = self.next.max(sent.next());
        }
        if rose {
            self.hearing.denials = 0;
            self.matched = matched;
            self.next = self.next.max(matched.next());
        }
        assert!(self.matched >= before, "what a peer acknowledged only rises (paper, figure 2)");
        assert!(self.matched < self.next, "what is acknowledged is not sent again");
        rose
    }

    pub(crate) fn accept(&mut self, accepted: Index, now_ms: u64) {
        if accepted > self.hearing.accepted {
            self.hearing.accepted = accepted;
            self.hearing.moved_ms = now_ms;
        }
    }

    /// Starts over after `next - 1`, which is never below what is acknowledged.
    pub(crate) fn probe_from(&mut self, next: Index) {
        self.next = next.max(self.matched.next());
        self.state = PeerState::Probe { sent: None };
        self.window.clear();
        self.reading = false;
    }

    pub(crate) fn sent(&mut self, last: Index, bytes: u64, now_ms: u64) {
        match &mut self.state {
            PeerState::Probe { sent } => {
                *sent = Some(last);
                self.hearing.moved_ms = now_ms;
                self.window.push(last, bytes);
            }
            PeerState::Replicate => {
                if self.window.is_empty() {
                    self.hearing.moved_ms = now_ms;
                }
                self.window.push(last, bytes);
                self.next = last.next();
            }
            PeerState::Snapshot => unreachable!("nothing is appended while a snapshot travels"),
        }
    }
}

/// Append messages on their way to one peer, bounded in bytes.
#[derive(Debug, Default)]
pub(crate) struct Window {
    messages: VecDeque<(Index, u64)>,
    bytes: u64,
}

impl Window {
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn push(&mut self, last: Index, bytes: u64) {
        self.messages.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn acknowledge(&mut self, matched: Index) {
        while let Some((last, bytes)) = self.messages.front().copied()
            && last <= matched
        {
            self.messages.pop_front();
            self.bytes -= bytes;
        }
    }

    fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }
}
