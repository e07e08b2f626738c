//! No message promises what a crash can undo: terms, votes and acknowledgements are on disk before they leave (thesis,
//! section 3.8), and what is committed is on the disks of a majority.

use super::shadow::Log;
use super::violated;
use crate::{Envelope, Index, LogId, Membership, Message, NodeId};

const CHECKER: &str = "promises are durable";

/// `disk` is what the sender's log durably holds, `applied` what its durable snapshot stands for.
pub(in crate::sim) fn check(envelope: &Envelope, disk: &Log, installed: LogId) {
    let from = &envelope.from;
    let speaks_of_own_term =
        !matches!(envelope.message, Message::PreVote { .. } | Message::PreVoteReply { granted: true, .. });
    let term = envelope.message.term();
    if speaks_of_own_term && term > disk.hard.term {
        violated(CHECKER, format!("{from} speaks in term {term}, its disk knows {}", disk.hard.term));
    }
    let matched = match &envelope.message {
        Message::VoteReply { granted: true, .. } => {
            // On disk in a later term it can never vote in this one again, whatever it forgot of it.
            if disk.hard.term == term && disk.hard.voted_for.as_ref() != Some(&envelope.to) {
                violated(CHECKER, format!("{from} votes for {} in term {term} before its disk knows", envelope.to));
            }
            return;
        }
        Message::AppendReply { matched, .. } | Message::HeartbeatReply { matched, .. } => *matched,
        _ => return,
    };
    if matched > disk.last().index.max(installed.index) {
        violated(CHECKER, format!("{from} acknowledges {matched}, its disk ends at {}", disk.last()));
    }
}

/// A first state machine takes over `id`: some configuration in force must hold it on the disks of a majority.
pub(in crate::sim) fn check_commit<'a>(
    id: LogId,
    mut memberships: impl Iterator<Item = &'a std::sync::Arc<Membership>>,
    holds: impl Fn(&NodeId, crate::Incarnation) -> bool,
) {
    let enough = memberships.any(|membership| super::membership::has_quorum(membership, &holds));
    if !enough && id.index > Index(0) {
        violated("committed is durable", format!("{id} is committed, but no majority holds it on disk"));
    }
}
