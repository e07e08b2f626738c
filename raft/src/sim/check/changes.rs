//! Membership changes come one at a time (thesis, section 4.1, with the correction of 2015): a leader appends one only
//! when the one before it is committed, and an entry of its own term as well. And what is in force is always the newest
//! configuration in the log, committed or not.

use super::history::History;
use super::shadow::Shadow;
use super::violated;
use crate::sim::node::Node;
use crate::sim::random::mix_bytes;
use crate::{EntryKind, Index, LogId};

const CHECKER: &str = "one change at a time";

/// A membership entry appears for the first time, in the log of the leader that made it. The very first of a cluster
/// comes from its founder.
pub(in crate::sim) fn check(id: LogId, shadow: &Shadow, history: &History) {
    if id.index == Index(1) {
        return;
    }
    if !history.has_committed_in(id.term) {
        violated(CHECKER, format!("{id} changes the membership before its term has committed anything"));
    }
    let before = shadow.issued_prints().rev().find(|p| p.kind == EntryKind::Membership && p.id.index < id.index);
    if let Some(before) = before.filter(|before| history.at(before.id.index).is_none()) {
        violated(CHECKER, format!("{id} changes the membership while {} is not committed", before.id));
    }
}

/// The configuration that a node uses is that of the newest membership entry of its log, or of its state machine when
/// the log holds none.
pub(in crate::sim) fn check_in_force(node: &Node) {
    let Some(replica) = node.process.as_ref().map(|process| &process.replica) else { return };
    let Some((index, membership)) = replica.membership() else { return };
    let hash = mix_bytes(0, &membership.encode());
    let in_log = node.shadow.issued_prints().rev().find(|print| print.kind == EntryKind::Membership);
    if let Some(print) = in_log {
        if print.id.index != index || print.bytes != hash {
            violated("configuration in force", format!("{} uses that of {index}, not that of {}", node.id, print.id));
        }
        return;
    }
    let state = &node.machine.state;
    if let Some((_, applied)) = &state.membership
        && state.applied.index == replica.applied_index()
        && applied.encode() != membership.encode()
    {
        violated("configuration in force", format!("{} does not use that of its snapshot", node.id));
    }
}
