//! The WAL thread: owns the log files. Writes what the raft thread asks for, syncs once for everything that waits, and
//! reports what is durable as (term, index), so that a late report is never credited to entries that replaced others.
//!
//! It never decides anything, and a failed write or sync ends the process: the kernel may already have dropped the
//! pages, and a second sync would lie.

use super::inbox::{Inbox, InboxSender, Quiet};
use super::raft_thread::RaftInput;
use super::spawn::stop_process;
use raft::wal::{Batch, Wal};
use raft::{Append, Index, LogId, LogRange};
use std::time::{Duration, Instant};

/// Appends that wait for one sync at most. More than the raft thread can produce while a sync runs: it sends one for
/// each of its rounds.
pub const WAL_INBOX_MAX: usize = 256;

/// How much of the log one read brings into memory, in bytes of payload.
pub const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// After this long without an input the log is idle.
const IDLE_TIME: Duration = Duration::from_secs(1);

pub enum WalInput {
    /// Write and sync; answered by `RaftInput::Durable` with the same sequence number.
    Append(Append),
    /// Read entries from the first on; answered by `RaftInput::Entries` with one or more of them.
    Read(LogRange),
    /// Whole segments up to this index may go.
    Purge(Index),
    /// Finish what came before, then end.
    Stop,
}

/// See the module.
pub struct WalThread {
    pub wal: Wal,
    pub inbox: Inbox<WalInput>,
    pub raft_tx: InboxSender<RaftInput>,
}

impl WalThread {
    pub fn run(mut self) {
        loop {
            let first = match self.inbox.recv_deadline(Instant::now() + IDLE_TIME) {
                Ok(input) => input,
                Err(Quiet::Timeout) => {
                    self.idle();
                    match self.inbox.recv() {
                        Some(input) => input,
                        None => break,
                    }
                }
                Err(Quiet::Disconnected) => break,
            };
            let mut next = Some(first);
            let mut unsynced = None;
            let mut stop = false;
            // Everything that is already waiting shares one sync.
            while let Some(input) = next.take() {
                match input {
                    WalInput::Append(append) => {
                        unsynced = Some((append.seq, append.last));
                        self.append(&append);
                    }
                    WalInput::Read(range) => self.read(range),
                    WalInput::Purge(index) => self.purge(index),
                    WalInput::Stop => {
                        stop = true;
                        break;
                    }
                }
                next = self.inbox.try_recv();
            }
            if let Some((seq, last)) = unsynced {
                self.sync(seq, last);
            }
            if stop {
                return self.close();
            }
        }
        self.close();
    }

    /// What is better done while nobody waits: the next segment's file, and a mark that lets the next start tell damage in
    /// the last batch from a torn write.
    fn idle(&mut self) {
        let done = self.wal.mark_durable().and_then(|()| self.wal.prepare_spare());
        if let Err(error) = done {
            stop_process("the raft log cannot be written", &error);
        }
    }

    fn append(&mut self, append: &Append) {
        assert!(append.reset_to.is_none(), "a single node installs no snapshot");
        let batch = Batch {
            truncate_after: append.truncate_after,
            entries: &append.entries,
            hard_state: append.hard_state.as_ref(),
        };
        if let Err(error) = self.wal.append(&batch) {
            stop_process("the raft log cannot be written", &error);
        }
    }

    fn sync(&mut self, seq: u64, last: LogId) {
        match self.wal.sync() {
            Ok(durable) => assert_eq!(durable.last, last, "the log holds what the replica gave it"),
            Err(error) => stop_process("the raft log cannot be made durable", &error),
        }
        self.report(RaftInput::Durable { seq, last, log_bytes: self.wal.segments_bytes() });
    }

    fn read(&mut self, range: LogRange) {
        match self.wal.read(range.first..range.last.next(), READ_BYTES_MAX) {
            Ok(entries) => self.report(RaftInput::Entries(entries)),
            Err(error) => stop_process("the raft log cannot be read", &error),
        }
    }

    fn purge(&mut self, index: Index) {
        if let Err(error) = self.wal.purge_to(index) {
            stop_process("old raft log segments cannot be dropped", &error);
        }
        self.report(RaftInput::Purged { purged_to: self.wal.first(), log_bytes: self.wal.segments_bytes() });
    }

    /// The raft thread is gone only when the node stops; then nobody waits for a report.
    fn report(&self, input: RaftInput) {
        let _ = self.raft_tx.send(input);
    }

    fn close(self) {
        if let Err(error) = self.wal.close() {
            stop_process("the raft log cannot be closed", &error);
        }
    }
}
