//! What goes to the applier, in order, while some of it has to be read back from the log first. Lives on the raft thread.
//!
//! It must never hold much of the log in memory: the next piece is asked for only when little of what came before is
//! still to be applied. Pieces may come at any time, not only after a start: a node that applies slowly lets go of what
//! it has in memory.

use super::applier_thread::{ApplierInput, Committed};
use super::handle::NodeError;
use super::outbox::Outbox;
use super::wal_thread::{READ_BYTES_MAX, WalInput};
use raft::{Entry, Index, LogRange};
use std::collections::VecDeque;

/// No further piece of the log is asked for while this many bytes of earlier ones are not yet applied.
const UNAPPLIED_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// See the module.
#[derive(Default)]
pub struct Replay {
    /// What must wait for a range of the log that comes before it; begins with one, or is empty.
    queue: VecDeque<Step>,
    /// The beginning of the first range has been asked for.
    reading: bool,
    /// Pieces that were read and are not yet applied: the last index and the bytes of each.
    unapplied: VecDeque<(Index, u64)>,
    unapplied_bytes: u64,
}

enum Step {
    InLog(LogRange),
    Input(ApplierInput),
}

impl Replay {
    /// Hands `input` over, behind everything that was given before.
    pub fn send(&mut self, input: ApplierInput, outbox: &mut Outbox) {
        if self.queue.is_empty() {
            outbox.send_applier(input);
        } else {
            self.queue.push_back(Step::Input(input));
        }
    }

    /// The entries of `range` come next; they are in the log only. They are asked for by [`Replay::go_on`].
    pub fn read_back(&mut self, range: LogRange) {
        assert!(range.first <= range.last, "a range of the log holds something");
        self.queue.push_back(Step::InLog(range));
    }

    /// The log answered.
    pub fn took(&mut self, entries: Vec<Entry>, outbox: &mut Outbox) {
        assert!(std::mem::take(&mut self.reading), "entries come only when asked for");
        let Some(Step::InLog(range)) = self.queue.front_mut() else { unreachable!("a range is being read") };
        let (first, last) = (entries.first(), entries.last());
        assert_eq!(first.map(|e| e.id.index), Some(range.first), "the log answers from where it was asked");
        let last = last.expect("there is a first").id.index;
        assert!(last <= range.last, "the log answers no more than was asked");
        let bytes = entries.iter().map(|e| e.payload.len() as u64).sum();
        assert!(bytes <= READ_BYTES_MAX || entries.len() == 1, "a piece of the log is small, or a single entry");
        self.unapplied.push_back((last, bytes));
        self.unapplied_bytes += bytes;
        if last < range.last {
            range.first = last.next();
        } else {
            self.queue.pop_front();
        }
        let committed = entries.into_iter().map(|entry| Committed { entry, done: None }).collect();
        outbox.send_applier(ApplierInput::Committed(committed));
    }

    /// Everything up to `applied` is applied: hands over what may go now and asks for the next piece if there is room.
    pub fn go_on(&mut self, applied: Index, outbox: &mut Outbox) {
        while let Some((last, bytes)) = self.unapplied.front().copied()
            && last <= applied
        {
            self.unapplied_bytes -= bytes;
            self.unapplied.pop_front();
        }
        loop {
            match self.queue.front() {
                None => return,
                Some(Step::InLog(range)) => {
                    if !self.reading && self.unapplied_bytes < UNAPPLIED_BYTES_MAX {
                        self.reading = true;
                        outbox.send_wal(WalInput::Read(*range));
                    }
                    return;
                }
                Some(Step::Input(_)) => {}
            }
            if let Some(Step::Input(input)) = self.queue.pop_front() {
                outbox.send_applier(input);
            }
        }
    }

    /// The node stops: answers whoever still waits here.
    pub fn refuse(self, error: &NodeError) {
        for step in self.queue {
            if let Step::Input(input) = step {
                input.refuse(error);
            }
        }
    }

    /// Nothing is asked for until more is applied.
    pub fn waits_for_applied(&self) -> bool {
        !self.queue.is_empty() && !self.reading
    }
}

#[cfg(test)]
mod tests {
    use super::super::inbox::{Inbox, inbox};
    use super::*;
    use raft::{EntryKind, LogId, Term};

    const ENTRY_BYTES: u64 = 100_000;

    fn entries(range: LogRange) -> Vec<Entry> {
        let count = (READ_BYTES_MAX / ENTRY_BYTES).min(range.last.0 - range.first.0 + 1);
        let entry = |index| Entry {
            id: LogId { term: Term(1), index: Index(index) },
            kind: EntryKind::Command,
            payload: vec![0; ENTRY_BYTES as usize].into(),
        };
        (range.first.0..range.first.0 + count).map(entry).collect()
    }

    fn read_request(wal: &Inbox<WalInput>) -> Option<LogRange> {
        match wal.try_recv()? {
            WalInput::Read(range) => Some(range),
            _ => panic!("only reads are asked for"),
        }
    }

    #[test]
    fn a_large_log_is_replayed_piece_by_piece_in_order_and_never_all_in_memory() {
        let (wal_tx, wal) = inbox(8);
        let (applier_tx, applier) = inbox(8);
        let mut outbox = Outbox::new(wal_tx, applier_tx);
        let mut replay = Replay::default();
        // 120 MB, in two ranges with something between them and behind.
        replay.read_back(LogRange { first: Index(1), last: Index(1000) });
        replay.send(ApplierInput::CaughtUp, &mut outbox);
        replay.read_back(LogRange { first: Index(1001), last: Index(1200) });
        replay.send(ApplierInput::CaughtUp, &mut outbox);
        replay.go_on(Index(0), &mut outbox);
        let (mut applied, mut most, mut held, mut marks) = (0, 0, VecDeque::new(), Vec::new());
        loop {
            let asked = read_request(&wal);
            if let Some(range) = asked {
                replay.took(entries(range), &mut outbox);
                replay.go_on(Index(applied), &mut outbox);
            }
            while let Some(input) = applier.try_recv() {
                match input {
                    ApplierInput::Committed(piece) => held.extend(piece.into_iter().map(|c| c.entry.id.index.0)),
                    _ => marks.push(applied + held.len() as u64),
                }
            }
            most = most.max(held.len() as u64 * ENTRY_BYTES);
            if asked.is_some() {
                continue;
            }
            // The applier moves only when nothing more is asked for: the worst case.
            let Some(index) = held.pop_front() else { break };
            assert_eq!(index, applied + 1, "in order, each once");
            applied = index;
            replay.go_on(Index(applied), &mut outbox);
        }
        assert_eq!((applied, marks), (1200, vec![1000, 1200]));
        assert!(most <= UNAPPLIED_BYTES_MAX + READ_BYTES_MAX, "{most} bytes were in memory");
        assert!(!replay.waits_for_applied());
        replay.send(ApplierInput::CaughtUp, &mut outbox);
        assert!(applier.try_recv().is_some(), "behind the replay everything goes straight on");
    }
}
