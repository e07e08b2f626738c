//! What the disk of one node is known to hold, entry for entry: the truth against which promises, commits and recoveries
//! are held (acknowledged means durable).

use super::history::{History, Print};
use super::violated;
use crate::{Append, HardState, Index, LogId, NodeId};

const CHECKER: &str = "durability";

/// A log as it is, or as it would be once everything issued is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::sim) struct Log {
    pub(in crate::sim) hard: HardState,
    pub(in crate::sim) base: LogId,
    pub(in crate::sim) entries: Vec<Print>,
}

impl Log {
    pub(in crate::sim) fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |print| print.id)
    }

    pub(in crate::sim) fn id_at(&self, index: Index) -> Option<LogId> {
        if index == self.base.index {
            return Some(self.base);
        }
        let at = index.0.checked_sub(self.base.index.0 + 1)?;
        self.entries.get(usize::try_from(at).ok()?).map(|print| print.id)
    }

    /// Whether it holds the entry, or did before it was purged.
    pub(in crate::sim) fn holds(&self, id: LogId) -> bool {
        id.index < self.base.index || self.id_at(id.index) == Some(id)
    }

    fn cut_after(&mut self, index: Index) -> Vec<LogId> {
        let keep = usize::try_from(index.0.saturating_sub(self.base.index.0)).expect("a log fits memory");
        if keep >= self.entries.len() {
            return Vec::new();
        }
        self.entries.split_off(keep).iter().map(|print| print.id).collect()
    }

    /// What an append does, step by step: a crash may keep any beginning of the steps. `visit` sees the log after each
    /// and says whether to go on. Returns what was cut off.
    fn steps(&mut self, append: &Append, visit: &mut dyn FnMut(&Log) -> bool) -> Option<Vec<LogId>> {
        let mut cut = Vec::new();
        if let Some(hard) = &append.hard_state {
            self.hard = hard.clone();
            visit(self).then_some(())?;
        }
        if let Some(to) = append.reset_to {
            self.base = to;
            self.entries.clear();
            visit(self).then_some(())?;
        }
        if let Some(index) = append.truncate_after {
            cut = self.cut_after(index);
            if append.entries.is_empty() {
                visit(self).then_some(())?;
            }
        }
        for entry in &append.entries {
            self.entries.push(Print::of(entry));
            visit(self).then_some(())?;
        }
        Some(cut)
    }

    pub(in crate::sim) fn apply(&mut self, append: &Append) -> Vec<LogId> {
        self.steps(append, &mut |_| true).expect("nobody stops it")
    }

    pub(in crate::sim) fn purged_to(&mut self, id: LogId) {
        if id.index > self.base.index {
            let gone = usize::try_from(id.index.0 - self.base.index.0).expect("a log fits memory");
            self.entries.drain(..gone.min(self.entries.len()));
            self.base = id;
        }
    }
}

/// The durable log of one node, and what is written and not yet synced.
#[derive(Debug, Default)]
pub(in crate::sim) struct Shadow {
    pub(in crate::sim) durable: Log,
    pub(in crate::sim) unsynced: Vec<Append>,
    /// `durable` with all that was ever issued.
    issued: Log,
    /// The log was allowed to drop what lies up to here.
    pub(in crate::sim) purgeable: Index,
}

impl Shadow {
    /// The replica asks for an append.
    pub(in crate::sim) fn issued(&mut self, node: &NodeId, append: &Append, history: &History) {
        let cut = self.issued.apply(append);
        history.check_cut(node, &cut);
        if self.issued.last() != append.last {
            violated(
                "log matching",
                format!("{node} says its log ends at {}, not {}", append.last, self.issued.last()),
            );
        }
    }

    pub(in crate::sim) fn issued_last(&self) -> LogId {
        self.issued.last()
    }

    pub(in crate::sim) fn issued_prints(&self) -> impl DoubleEndedIterator<Item = &Print> {
        self.issued.entries.iter()
    }

    pub(in crate::sim) fn issued_at(&self, index: Index) -> Option<Print> {
        let at = index.0.checked_sub(self.issued.base.index.0 + 1)?;
        self.issued.entries.get(usize::try_from(at).ok()?).copied()
    }

    /// A sync has returned.
    pub(in crate::sim) fn synced(&mut self) {
        for append in self.unsynced.drain(..) {
            self.durable.apply(&append);
        }
    }

    pub(in crate::sim) fn purged_to(&mut self, id: LogId) {
        self.durable.purged_to(id);
        self.issued.purged_to(id);
    }

    /// A start found `found`: exactly what was durable, or that and the beginning of what was not yet synced. Segments
    /// that were purged may be back.
    pub(in crate::sim) fn recovered(&mut self, node: &NodeId, found: Log) {
        let mut candidate = self.durable.clone();
        let unsynced = std::mem::take(&mut self.unsynced);
        let purgeable = self.purgeable;
        let mut fits = same(&candidate, &found, purgeable);
        for append in &unsynced {
            if fits {
                break;
            }
            candidate.steps(append, &mut |log| {
                fits = same(log, &found, purgeable);
                !fits
            });
        }
        if !fits {
            let what = format!(
                "{node} recovers {:?} {}..{}, but {:?} {}..{} was durable, and {} appends on their way",
                found.hard,
                found.base,
                found.last(),
                self.durable.hard,
                self.durable.base,
                self.durable.last(),
                unsynced.len()
            );
            violated(CHECKER, what);
        }
        self.durable = found;
        self.issued = self.durable.clone();
    }
}

/// Purges are not synced: one may be half done, or be undone by a power cut.
fn same(log: &Log, found: &Log, purgeable: Index) -> bool {
    if found.hard != log.hard || found.last() != log.last() || found.base.index > log.base.index.max(purgeable) {
        return false;
    }
    let first = found.base.index.max(log.base.index);
    let after = |log: &Log| {
        let skipped = usize::try_from(first.0 - log.base.index.0).expect("a log fits memory");
        log.entries.get(skipped..).map(<[Print]>::to_vec)
    };
    after(log).is_some() && after(log) == after(found)
}
