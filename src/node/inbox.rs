//! A bounded crossbeam channel whose receiver sleeps at once instead of spinning first.
//!
//! A blocking receive of the channel yields the processor about ten times before it sleeps. On two cores, with every
//! request crossing four threads, that took a fifth of the machine. Here the receiver parks its thread, and a sender rings.

use crossbeam_channel::{Receiver, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// The thread to wake. Set by the receiver when it first waits; before that nobody sleeps.
type Bell = Arc<OnceLock<Thread>>;

/// The sending half; cheap to clone.
pub struct InboxSender<T> {
    /// `None` only while it is dropped.
    tx: Option<Sender<T>>,
    bell: Bell,
}

/// The receiving half. Belongs to one thread, from its first receive on.
pub struct Inbox<T> {
    rx: Receiver<T>,
    bell: Bell,
}

/// Nothing came until the deadline, or no sender is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    Timeout,
    Disconnected,
}

/// An inbox that holds `capacity` inputs at most.
pub fn inbox<T>(capacity: usize) -> (InboxSender<T>, Inbox<T>) {
    let (tx, rx) = bounded(capacity);
    let bell = Bell::default();
    (InboxSender { tx: Some(tx), bell: Arc::clone(&bell) }, Inbox { rx, bell })
}

impl<T> Clone for InboxSender<T> {
    fn clone(&self) -> Self {
        InboxSender { tx: self.tx.clone(), bell: Arc::clone(&self.bell) }
    }
}

/// The last sender to go wakes the receiver, which would otherwise never see that nobody is left.
impl<T> Drop for InboxSender<T> {
    fn drop(&mut self) {
        self.tx = None;
        self.ring();
    }
}

impl<T> InboxSender<T> {
    fn tx(&self) -> &Sender<T> {
        self.tx.as_ref().expect("it is there until the drop")
    }

    /// Blocks while the inbox is full.
    ///
    /// # Errors
    /// The receiver is gone; gives the input back.
    pub fn send(&self, input: T) -> Result<(), SendError<T>> {
        self.tx().send(input)?;
        self.ring();
        Ok(())
    }

    /// Blocks while the inbox is full, for `timeout` at most.
    ///
    /// # Errors
    /// It stayed full, or the receiver is gone; gives the input back.
    pub fn send_timeout(&self, input: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.tx().send_timeout(input, timeout)?;
        self.ring();
        Ok(())
    }

    /// As `send_timeout`, but leaves the receiver asleep while it says that it is `busy`: it will look by itself before
    /// it next sleeps with `busy` taken back.
    ///
    /// # Errors
    /// It stayed full, or the receiver is gone; gives the input back.
    pub fn send_timeout_unless(
        &self,
        busy: &AtomicBool,
        input: T,
        timeout: Duration,
    ) -> Result<(), SendTimeoutError<T>> {
        self.tx().send_timeout(input, timeout)?;
        // With the fence in `set_busy`: either this sees that `busy` was taken back, or the receiver sees the input.
        fence(Ordering::SeqCst);
        if !busy.load(Ordering::Relaxed) {
            self.ring();
        }
        Ok(())
    }

    /// Never blocks.
    ///
    /// # Errors
    /// The inbox is full, or the receiver is gone; gives the input back.
    pub fn try_send(&self, input: T) -> Result<(), TrySendError<T>> {
        self.tx().try_send(input)?;
        self.ring();
        Ok(())
    }

    /// A wake-up that comes before the sleep makes the sleep end at once, so none is ever lost.
    fn ring(&self) {
        if let Some(thread) = self.bell.get() {
            thread.unpark();
        }
    }
}

/// How long a receiver sleeps at a time when it has no deadline.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

impl<T> Inbox<T> {
    /// The next input, if there is one.
    pub fn try_recv(&self) -> Option<T> {
        self.rx.try_recv().ok()
    }

    /// Says whether senders need not wake this thread (see [`InboxSender::send_timeout_unless`]). To be called by the
    /// receiver before it waits: what was sent before `false` became visible is found by the look that begins the wait.
    pub fn set_busy(&self, busy: &AtomicBool, value: bool) {
        busy.store(value, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Waits for the next input.
    ///
    /// # Errors
    /// The deadline passed, or no sender is left.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, Quiet> {
        let mine = self.bell.get_or_init(thread::current);
        assert_eq!(mine.id(), thread::current().id(), "an inbox belongs to one thread");
        loop {
            // The bell is set before this look: whatever is sent after it rings.
            match self.rx.try_recv() {
                Ok(input) => return Ok(input),
                Err(TryRecvError::Disconnected) => return Err(Quiet::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Quiet::Timeout);
            }
            thread::park_timeout(left.min(SLEEP_MAX));
        }
    }

    /// Waits for the next input, however long; `None` when no sender is left.
    pub fn recv(&self) -> Option<T> {
        loop {
            match self.recv_deadline(Instant::now() + SLEEP_MAX) {
                Ok(input) => return Some(input),
                Err(Quiet::Timeout) => {}
                Err(Quiet::Disconnected) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wake_up_is_lost_between_two_threads() {
        let (there_tx, there) = inbox::<u64>(1);
        let (back_tx, back) = inbox::<u64>(1);
        let echo = thread::spawn(move || {
            while let Some(n) = there.recv() {
                back_tx.send(n).expect("the other side waits");
            }
        });
        let began = Instant::now();
        for n in 0..20_000 {
            there_tx.send(n).expect("the echo lives");
            assert_eq!(back.recv(), Some(n));
        }
        // One lost wake-up would cost a whole SLEEP_MAX.
        assert!(began.elapsed() < Duration::from_secs(60));
        drop(there_tx);
        echo.join().expect("the echo ends when its senders are gone");
    }

    #[test]
    fn a_deadline_ends_the_wait_and_a_full_inbox_refuses() {
        let (tx, rx) = inbox::<u8>(1);
        assert_eq!(rx.recv_deadline(Instant::now() + Duration::from_millis(5)), Err(Quiet::Timeout));
        tx.try_send(1).expect("there is room");
        assert!(matches!(tx.try_send(2), Err(TrySendError::Full(2))));
        assert_eq!(rx.try_recv(), Some(1));
        drop(tx);
        assert_eq!(rx.recv(), None);
    }
}
