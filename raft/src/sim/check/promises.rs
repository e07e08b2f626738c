//! No message promises what a crash can undo: terms, votes and acknowledgements are on disk before they leave (thesis,
//! section 3.8), and what is committed is on the disks of a majority.

use super::shadow::Shadow;
use super::violated;
use crate::{Envelope, Incarnation, Index, LogId, Membership, Message, NodeId, Replica, Term};
use std::sync::Arc;

const CHECKER: &str = "promises are durable";

/// `shadow` is what the sender's disk holds, `installed` what its state machine stands for, `now` its term at the end of the turn
/// in which it sends.
pub(in crate::sim) fn check(envelope: &Envelope, shadow: &Shadow, installed: LogId, now: Term) {
    let disk = &shadow.durable;
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
    if matched <= installed.index {
        return;
    }
    if term < now {
        // It was made to the leader of a term that ended in the same turn; what that leader's entries have given way to since
        // is not on disk yet.
        if matched > disk.last().index {
            violated(
                CHECKER,
                format!("{from} acknowledges {matched} in term {term}, its disk ends at {}", disk.last()),
            );
        }
        return;
    }
    // Not only so many entries: the very ones that stand there now.
    let held = shadow.issued_at(matched).map(|print| print.id);
    if held.is_none_or(|id| !disk.holds(id)) {
        let on_disk = disk.id_at(matched);
        violated(
            CHECKER,
            format!("{from} acknowledges {held:?}, its disk has {on_disk:?} there and ends at {}", disk.last()),
        );
    }
}

/// Whom a leader asks to lead next holds what is committed, or the cluster only loses time (thesis, section 3.10).
pub(in crate::sim) fn check_successor(envelope: &Envelope, commit: LogId, holds: bool) {
    if matches!(envelope.message, Message::TimeoutNow { .. }) && !holds {
        violated("transfer", format!("{} is to lead next without {commit}", envelope.to));
    }
}

/// A leader whose commit index rose under its lead did so by an entry of its own term (figure 2; section 5.4.2).
pub(in crate::sim) fn check_commit_rule(replica: &Replica, rose: bool) {
    if rose && replica.log.term_at(replica.commit()).is_some_and(|term| term != replica.term()) {
        let (id, term, commit) = (replica.id(), replica.term(), replica.commit());
        violated("commit rule", format!("{id} leads term {term} and commits {commit}, of an older term, by counting"));
    }
}

/// A leader whose disk has hung for so long must have noticed (pitfall 29).
pub(in crate::sim) const DISK_HANG_US_MAX: u64 = 2_000_000;

pub(in crate::sim) fn check_disk(replica: &Replica, waiting_us: u64) {
    if replica.is_leader() && waiting_us > DISK_HANG_US_MAX && !replica.is_sole_voter() {
        violated("dead disks are noticed", format!("{} leads though its log hangs for {waiting_us} us", replica.id()));
    }
}

/// `id` is committed for the first time: the configurations in force there must hold it on the disks of a majority.
pub(in crate::sim) fn check_commit<'a>(
    id: LogId,
    mut memberships: impl Iterator<Item = &'a Arc<Membership>>,
    holds: impl Fn(&NodeId, Incarnation) -> bool,
) {
    let enough = memberships.any(|membership| super::membership::has_quorum(membership, &holds));
    if !enough && id.index > Index(0) {
        violated("committed is durable", format!("{id} is committed, but no majority holds it on disk"));
    }
}
