//! One checker per property of the Raft paper's figure 3, and a few more. Each looks at the world from outside.

use super::Node;
use raft::*;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct Checks {
    /// The one history that all state machines share.
    pub committed: BTreeMap<Index, Entry>,
    leaders: BTreeMap<Term, usize>,
    next_handed: BTreeMap<(usize, u64), Index>,
    reads: BTreeMap<ReadToken, Index>,
    seen: BTreeMap<(usize, u64), (Term, Index)>,
}

impl Checks {
    fn highest(&self) -> Index {
        self.committed.last_key_value().map_or(Index(0), |(index, _)| *index)
    }

    /// Election safety: at most one leader in a term. Leader completeness: it holds all that is committed.
    pub fn role_changed(&mut self, at: usize, role: &RoleChange, nodes: &[Node]) {
        if role.role != RoleKind::Leader {
            return;
        }
        let first = *self.leaders.entry(role.term).or_insert(at);
        assert_eq!(first, at, "two leaders in term {}", role.term);
        let log = &nodes[at].mirror;
        for entry in self.committed.values() {
            assert!(log.holds(entry.id), "leader n{at} of term {} lacks committed {}", role.term, entry.id);
        }
    }

    /// State machine safety: the same entry at each index, everywhere, for ever. And a first commit is durable on a
    /// majority of some configuration in force.
    pub fn handed_over(&mut self, at: usize, entries: &[Entry], nodes: &[Node]) {
        for entry in entries {
            let known = self.committed.entry(entry.id.index);
            match known {
                std::collections::btree_map::Entry::Occupied(known) => {
                    assert_eq!(known.get(), entry, "n{at} applies another entry at {}", entry.id.index);
                }
                std::collections::btree_map::Entry::Vacant(slot) => {
                    slot.insert(entry.clone());
                    assert!(durable_on_majority(entry.id, nodes), "{} is committed but not durable", entry.id);
                }
            }
        }
        if let Some(last) = entries.last() {
            self.next_handed.insert((at, nodes[at].config.incarnation.0), last.id.index);
        }
    }

    pub fn read_began(&mut self, token: ReadToken) {
        self.reads.insert(token, self.highest());
    }

    /// A read sees everything that was committed (so, perhaps, acknowledged) when it began.
    pub fn read_done(&mut self, token: ReadToken, index: Index) {
        let floor = self.reads.remove(&token).expect("a read is answered once");
        assert!(index >= floor, "{token:?} reads at {index}, but {floor} was committed before it began");
    }

    /// What was only in memory is gone: the node counts from what its disk holds.
    pub fn crashed(&mut self, at: usize, node: &Node) {
        self.seen.insert((at, node.config.incarnation.0), (node.disk.hard_state.term, Index(0)));
    }

    /// Terms and commit indexes never fall while a node runs; terms on disk not even when it does not.
    pub fn between_steps(&mut self, nodes: &[Node]) {
        for (at, node) in nodes.iter().enumerate() {
            let key = (at, node.config.incarnation.0);
            let Some(replica) = &node.replica else { continue };
            let now = (replica.term(), replica.commit());
            let before = self.seen.insert(key, now).unwrap_or_default();
            assert!(now.0 >= before.0 && now.1 >= before.1, "n{at} went back from {before:?} to {now:?}");
            assert!(replica.status().tail_bytes < 20_000, "memory is bounded");
        }
    }

    /// Log matching, over all pairs of logs on disk.
    pub fn at_the_end(&self, nodes: &[Node]) {
        for (at, a) in nodes.iter().enumerate() {
            for (bt, b) in nodes.iter().enumerate().skip(at + 1) {
                let mut agree = false;
                for entry in a.disk.entries.iter().rev() {
                    let other = b.disk.entries.iter().find(|e| e.id.index == entry.id.index);
                    let Some(other) = other else { continue };
                    agree |= other.id == entry.id;
                    assert!(!agree || other == entry, "logs of n{at} and n{bt} differ before a common entry");
                }
            }
        }
    }
}

fn durable_on_majority(id: LogId, nodes: &[Node]) -> bool {
    let has = |member: &Member| {
        nodes.iter().any(|node| {
            node.config.id == member.id
                && node.config.incarnation == member.incarnation
                && (node.disk.holds(id) || node.machine.applied.index >= id.index)
        })
    };
    let memberships = nodes.iter().filter_map(|node| node.replica.as_ref()?.membership().map(|(_, m)| m.clone()));
    memberships.into_iter().any(|m| m.voters().filter(|v| has(v)).count() >= m.quorum())
}
