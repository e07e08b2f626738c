//! Plain models of a log on disk and of a state machine, and messages as text.

use raft::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub struct Log {
    pub hard_state: HardState,
    pub purged_to: LogId,
    pub entries: Vec<Entry>,
}

impl Log {
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.purged_to, |e| e.id)
    }

    pub fn apply(&mut self, append: &Append) {
        self.apply_torn(append, append.entries.len());
    }

    /// Only the first `kept` entries reach the disk.
    pub fn apply_torn(&mut self, append: &Append, kept: usize) {
        if let Some(hard_state) = &append.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "the term on disk never falls");
            let same = hard_state.term == self.hard_state.term && self.hard_state.voted_for.is_some();
            assert!(!same || *hard_state == self.hard_state, "a vote on disk never changes in its term");
            self.hard_state = hard_state.clone();
        }
        if let Some(to) = append.reset_to {
            self.purged_to = to;
            self.entries.clear();
        }
        if let Some(index) = append.truncate_after {
            assert!(index >= self.purged_to.index && index < self.last().index, "a true suffix is cut");
            self.entries.retain(|e| e.id.index <= index);
        }
        for entry in &append.entries[..kept] {
            assert_eq!(entry.id.index.0, self.last().index.0 + 1, "the log on disk has no gaps");
            assert!(entry.id.term <= self.hard_state.term, "no entry is ahead of the hard state");
            self.entries.push(entry.clone());
        }
    }

    pub fn id_at(&self, index: Index) -> Option<LogId> {
        if index == self.purged_to.index {
            return Some(self.purged_to);
        }
        self.entries.iter().find(|e| e.id.index == index).map(|e| e.id)
    }

    pub fn holds(&self, id: LogId) -> bool {
        id.index <= self.purged_to.index || self.id_at(id.index) == Some(id)
    }

    pub fn try_range(&self, first: Index, last: Index) -> Vec<Entry> {
        if first <= self.purged_to.index {
            return Vec::new();
        }
        self.entries.iter().filter(|e| e.id.index >= first && e.id.index <= last).cloned().collect()
    }

    pub fn range(&self, first: Index, last: Index) -> Vec<Entry> {
        let found = self.try_range(first, last);
        assert_eq!(found.len() as u64, last.0 + 1 - first.0, "what is to be applied is on disk");
        found
    }

    pub fn purge(&mut self, to: LogId) {
        self.entries.retain(|e| e.id.index > to.index);
        self.purged_to = to;
    }
}

/// Knows only how far it is; what it holds is the committed history up to there.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub applied: LogId,
    /// Survives any crash.
    pub saved: Index,
    pub is_snapshot: bool,
    pub membership: Option<(Index, Membership)>,
}

impl Machine {
    pub fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.id.index.0, self.applied.index.0 + 1, "entries are applied one after the other");
        self.applied = entry.id;
        self.is_snapshot = false;
        if entry.kind == EntryKind::Membership {
            self.membership = Some((entry.id.index, Membership::decode(&entry.payload).unwrap()));
        }
    }

    fn go_to(&mut self, index: Index, history: &BTreeMap<Index, Entry>) {
        self.applied = history.get(&index).map_or(LogId::default(), |e| e.id);
        let membership = history.range(..=index).rev().find(|(_, e)| e.kind == EntryKind::Membership);
        self.membership = membership.map(|(at, e)| (*at, Membership::decode(&e.payload).unwrap()));
    }

    pub fn fall_back(&mut self, by: u64, history: &BTreeMap<Index, Entry>) {
        let index = Index(self.applied.index.0.saturating_sub(by).max(self.saved.0));
        if index < self.applied.index {
            self.go_to(index, history);
        }
        self.saved = self.applied.index;
    }

    pub fn snapshot(&self, history: &BTreeMap<Index, Entry>) -> Option<SnapshotMeta> {
        let mut copy = self.clone();
        copy.go_to(self.applied.index, history);
        let (membership_index, membership) = copy.membership?;
        Some(SnapshotMeta { last: self.applied, membership_index, membership })
    }

    pub fn install(&mut self, meta: &SnapshotMeta) {
        assert!(meta.last.index > self.applied.index, "the state machine never goes back");
        let membership = Some((meta.membership_index, meta.membership.clone()));
        *self = Machine { applied: meta.last, saved: meta.last.index, is_snapshot: true, membership };
    }
}

/// One line for one message: `n0 -> n1  Append t2 prev 1@1 [2@2] commit 0`.
pub fn describe(envelope: &Envelope) -> String {
    let what = match &envelope.message {
        Message::PreVote { last, .. } => format!("last {last}"),
        Message::PreVoteReply { granted, .. } | Message::VoteReply { granted, .. } => {
            (if *granted { "granted" } else { "refused" }).to_string()
        }
        Message::Vote { last, transfer, .. } => format!("last {last}{}", if *transfer { " transfer" } else { "" }),
        Message::Append { prev, entries, commit, .. } => {
            let ids: Vec<String> = entries.iter().map(|e| e.id.to_string()).collect();
            format!("after {prev} [{}] commit {commit}", ids.join(" "))
        }
        Message::AppendReply { matched, .. } => format!("matched {matched}"),
        Message::AppendReject { prev, hint, .. } => format!("no {prev}, hint {hint}"),
        Message::Heartbeat { round, matched, commit, .. } => format!("round {round} matched {matched} commit {commit}"),
        Message::HeartbeatReply { round, accepted, matched, .. } => {
            format!("round {round} accepted {accepted} matched {matched}")
        }
        Message::TimeoutNow { .. } => String::new(),
    };
    let line = format!(
        "{} -> {}  {} term {} {what}",
        envelope.from,
        envelope.to,
        envelope.message.name(),
        envelope.message.term()
    );
    line.trim_end().to_string()
}
