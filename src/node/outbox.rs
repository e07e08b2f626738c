//! What the raft thread has decided but a full inbox has not yet taken, in order. Keeps that thread from ever blocking.

use super::applier_thread::ApplierInput;
use super::inbox::InboxSender;
use super::wal_thread::WalInput;
use crossbeam_channel::TrySendError;
use std::collections::VecDeque;

/// Lives on the raft thread. The queues stay short: the replica itself bounds what is uncommitted and unapplied.
pub struct Outbox {
    wal: Lane<WalInput>,
    applier: Lane<ApplierInput>,
}

struct Lane<T> {
    tx: InboxSender<T>,
    waiting: VecDeque<T>,
}

impl Outbox {
    pub fn new(wal_tx: InboxSender<WalInput>, applier_tx: InboxSender<ApplierInput>) -> Self {
        Outbox { wal: Lane::new(wal_tx), applier: Lane::new(applier_tx) }
    }

    pub fn send_wal(&mut self, input: WalInput) {
        self.wal.send(input);
    }

    pub fn send_applier(&mut self, input: ApplierInput) {
        self.applier.send(input);
    }

    pub fn is_empty(&self) -> bool {
        self.wal.waiting.is_empty() && self.applier.waiting.is_empty()
    }

    /// Tries again what did not fit before.
    pub fn flush(&mut self) {
        self.wal.flush();
        self.applier.flush();
    }

    /// Hands over everything that is left, waiting for room, and tells both threads to end. The last act of the raft
    /// thread: the only time it may block, since nobody waits for it any more.
    pub fn close(self) {
        self.wal.close(WalInput::Stop);
        self.applier.close(ApplierInput::Stop);
    }
}

impl<T> Lane<T> {
    fn new(tx: InboxSender<T>) -> Self {
        Lane { tx, waiting: VecDeque::new() }
    }

    fn send(&mut self, input: T) {
        self.waiting.push_back(input);
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(input) = self.waiting.pop_front() {
            match self.tx.try_send(input) {
                Ok(()) => {}
                Err(TrySendError::Full(input)) => return self.waiting.push_front(input),
                // The thread ended by itself: it is stopping the process already.
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }

    fn close(self, last: T) {
        for input in self.waiting.into_iter().chain([last]) {
            if self.tx.send(input).is_err() {
                return;
            }
        }
    }
}
