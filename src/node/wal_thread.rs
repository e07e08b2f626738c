//! The WAL thread: owns the log files. Writes what the raft thread asks for, syncs once for everything that waits, and
//! reports what is durable as (term, index), so that a late report is never credited to entries that replaced others.
//!
//! It never decides anything, and a failed write or sync ends the process: the kernel may already have dropped the
//! pages, and a second sync would lie.

use super::inbox::{Inbox, InboxSender, Quiet};
use super::raft_thread::RaftInput;
use super::spawn::stop_process;
use raft::wal::{Batch, Wal, WalError};
use raft::{Append, Index, LogId, LogRange, LogRead};
use std::time::{Duration, Instant};

/// Appends that wait for one sync at most. More than the raft thread can produce while a sync runs: it sends one for
/// each of its rounds.
pub const WAL_INBOX_MAX: usize = 256;

/// How much of the log one read brings into memory, in bytes of payload.
pub const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The log takes no more than this on disk, but for what the database does not hold durably yet: a follower that is further
/// behind gets a copy of the database, which is quicker, and nobody keeps two copies of everything.
const LOG_BYTES_KEPT: u64 = 64 * 1024 * 1024;

/// After this long without an input the log is idle.
const IDLE_TIME: Duration = Duration::from_secs(1);

pub enum WalInput {
    /// Write and sync; answered by `RaftInput::Durable` with the same sequence number.
    Append(Append),
    /// Read entries from the first on; answered by `RaftInput::Entries` with one or more of them.
    Read(LogRange),
    /// The same for a peer; answered by `RaftInput::PeerEntries`.
    ReadForPeer(LogRead),
    /// Whole segments up to `kept_from` may go; those up to `needless` also, as far as the log takes more than
    /// `LOG_BYTES_KEPT`.
    Purge { kept_from: Index, needless: Index },
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
                    WalInput::ReadForPeer(read) => self.read_for_peer(read),
                    WalInput::Purge { kept_from, needless } => self.purge(kept_from, needless),
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
        if let Err(error) = self.try_append(append) {
            stop_process("the raft log cannot be written", &error);
        }
    }

    fn try_append(&mut self, append: &Append) -> Result<(), WalError> {
        let mut hard_state = append.hard_state.as_ref();
        if let Some(base) = append.reset_to {
            // Term and vote first: a log must never hold an entry of a term that the hard state has not reached.
            self.wal.append(&Batch { truncate_after: None, entries: &[], hard_state: hard_state.take() })?;
            self.wal.reset_to(base)?;
        }
        self.wal.append(&Batch { truncate_after: append.truncate_after, entries: &append.entries, hard_state })
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

    fn read_for_peer(&mut self, read: LogRead) {
        // What was dropped meanwhile cannot be read any more: no entries say so.
        let entries = match read.range.first > self.wal.first().index {
            true => self.wal.read(read.range.first..read.range.last.next(), read.bytes_max.min(READ_BYTES_MAX)),
            false => Ok(Vec::new()),
        };
        match entries {
            Ok(entries) => self.report(RaftInput::PeerEntries { peer: read.peer, entries }),
            Err(error) => stop_process("the raft log cannot be read", &error),
        }
    }

    fn purge(&mut self, kept_from: Index, needless: Index) {
        let purged = self.wal.purge_to(kept_from).and_then(|()| self.wal.purge_beyond(LOG_BYTES_KEPT, needless));
        if let Err(error) = purged {
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
