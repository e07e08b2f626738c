//! The replicated state machine of the simulation: a few lists to which unique values are appended.
//!
//! Like the server's database it carries its applied index inside, commits without a sync, and is made durable by a
//! checkpoint now and then: a power cut takes it back to any state between the last checkpoint and now.

use super::random::{Chance, mix, mix_bytes};
use crate::{Entry, EntryKind, Index, LogId, Membership, SnapshotMeta};

/// Lists, and so keys of the linearizability checker.
pub(super) const KEYS: usize = 3;

/// All that the database holds.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) applied: LogId,
    /// It came whole from a peer and has applied nothing since.
    pub(super) is_snapshot: bool,
    pub(super) membership: Option<(Index, Membership)>,
    pub(super) lists: [Vec<u64>; KEYS],
    /// Over everything applied so far, in order.
    pub(super) hash: u64,
}

/// A command: which list, which value, and padding that only takes room.
pub(super) fn command(key: usize, value: u64, padding: usize) -> Vec<u8> {
    let mut bytes = vec![key as u8];
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes.resize(bytes.len() + padding, 0);
    bytes
}

fn parse(payload: &[u8]) -> (usize, u64) {
    let value = payload[1..9].try_into().expect("a command has its value");
    (usize::from(payload[0]), u64::from_le_bytes(value))
}

impl State {
    /// Returns the list and the length it now has, if the entry was a command.
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<(usize, usize)> {
        self.applied = entry.id;
        self.is_snapshot = false;
        self.hash = mix_bytes(mix(mix(self.hash, entry.id.index.0), entry.id.term.0), &entry.payload);
        match entry.kind {
            EntryKind::Noop => None,
            EntryKind::Membership => {
                let membership = Membership::decode(&entry.payload).expect("a membership in the log can be read");
                self.membership = Some((entry.id.index, membership));
                None
            }
            EntryKind::Command => {
                let (key, value) = parse(&entry.payload);
                self.lists[key].push(value);
                Some((key, self.lists[key].len()))
            }
        }
    }

    pub(super) fn meta(&self) -> Option<SnapshotMeta> {
        let (membership_index, membership) = self.membership.clone()?;
        Some(SnapshotMeta { last: self.applied, membership_index, membership })
    }
}

/// The database of one node, with what of it is on the medium.
#[derive(Debug, Default)]
pub(super) struct Machine {
    pub(super) state: State,
    saved: State,
    since: Vec<Entry>,
}

impl Machine {
    pub(super) fn apply(&mut self, entry: &Entry) -> Option<(usize, usize)> {
        self.since.push(entry.clone());
        self.state.apply(entry)
    }

    /// Everything so far survives any crash from now on.
    pub(super) fn checkpoint(&mut self) {
        self.saved = self.state.clone();
        self.since.clear();
    }

    pub(super) fn unsaved_entries(&self) -> usize {
        self.since.len()
    }

    /// Another node's state takes the place of this one, durably.
    pub(super) fn install(&mut self, image: &State) {
        self.state = State { is_snapshot: true, ..image.clone() };
        self.checkpoint();
    }

    /// The power is cut: some of what was applied since the checkpoint is lost.
    pub(super) fn lose_power(&mut self, chance: &mut Chance) {
        let kept = chance.between(0, self.since.len() as u64) as usize;
        let mut state = self.saved.clone();
        for entry in &self.since[..kept] {
            state.apply(entry);
        }
        self.state = state;
        self.checkpoint();
    }
}
