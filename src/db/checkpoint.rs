//! Keeps SQLite's WAL small: when pages are moved from it into the database file, and what is done when readers stand in
//! the way. Applier thread, between transactions.
//!
//! Moving pages hinders nobody, but the WAL begins anew only at a moment in which all pages are moved and no reader uses
//! it. Short reads that overlap leave no such moment, however short they are. So beyond a size new reads are held off for
//! some milliseconds, in which those under way end. A read that takes long gets more and more time, until the WAL is so
//! large that the disk is worth more than the read.
//!
//! All of this depends on the clock and on readers and changes nothing of the content.

use super::context;
use super::fatal::Fatal;
use super::readers::Readers;
use super::writer::{BUSY_TIMEOUT_MS, Writer};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What pages are counted as here, whatever size those of the database have: it may have been made elsewhere.
const PAGE_BYTES: u64 = 4096;
/// Pages in the WAL from which they are moved into the database file: 16 MB.
const MOVE_PAGES: u32 = 4000;
/// Pages between two moves while the WAL does not begin anew.
const MOVE_INTERVAL_PAGES: u32 = 1000;
/// Pages from which a new beginning is forced: 33 MB.
const RESTART_PAGES: u32 = 2 * MOVE_PAGES;
/// Pages at which one entry alone is interrupted for all this, between two of its statements: 66 MB.
const WITHIN_ENTRY_PAGES: u32 = 4 * MOVE_PAGES;
/// Pages from which long reads are ended: 1 GB.
const INTERRUPT_PAGES: u32 = 256 * 1024;
/// The WAL file is cut back to this when it begins anew.
pub(super) const WAL_BYTES_KEPT: u32 = 64 * 1024 * 1024;
/// Pages whose number is told to the operator, and each doubling of it: 135 MB.
const ALARM_PAGES: u32 = 32 * 1024;

/// How long new reads are held off at most, and writes with them, at the first attempt; it doubles with each further one,
/// since reads take longer on a busy machine.
const HOLD_TIME: Duration = Duration::from_millis(100);
const HOLD_TIME_MAX: Duration = Duration::from_secs(1);
/// A read that has been running for this long will hardly end within a longer hold.
const LONG_READ_TIME: Duration = Duration::from_secs(2);
/// Pause after the first attempt that failed; it doubles with each further one.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Reads that began longer ago are ended when the WAL is far too large.
const READ_TIME_GRANTED: Duration = Duration::from_secs(10);

/// What was tried since the WAL began.
pub(super) struct Checkpoints {
    readers: Option<Arc<Readers>>,
    /// Size in pages at which pages are moved next.
    move_at: u32,
    /// Failed attempts at a new beginning, and when the next one may be made.
    failures: u32,
    retry_at: Option<Instant>,
    /// Size in pages that the operator is told next.
    alarm_at: u32,
    /// A copy, a backup or a hash is under way, and with it a read that no hold outlasts.
    is_pinned: bool,
}

impl Default for Checkpoints {
    fn default() -> Checkpoints {
        Checkpoints {
            readers: None,
            move_at: MOVE_PAGES,
            failures: 0,
            retry_at: None,
            alarm_at: ALARM_PAGES,
            is_pinned: false,
        }
    }
}

impl Checkpoints {
    fn begin_anew(&mut self) {
        *self = Checkpoints { readers: self.readers.take(), is_pinned: self.is_pinned, ..Checkpoints::default() };
    }

    fn failed(&mut self) {
        let pause = doubled(RETRY_PAUSE, self.failures, RETRY_PAUSE_MAX);
        self.failures += 1;
        self.retry_at = Some(Instant::now() + pause);
    }

    /// How long new reads, and the writes behind them, are to wait for those under way, the oldest of which runs for so long.
    fn hold_time(&self, oldest: Duration) -> Duration {
        match oldest < LONG_READ_TIME {
            _ if self.is_pinned => Duration::ZERO,
            true => doubled(HOLD_TIME, self.failures, HOLD_TIME_MAX),
            false => HOLD_TIME,
        }
    }
}

fn doubled(time: Duration, times: u32, most: Duration) -> Duration {
    time.saturating_mul(1 << times.min(16)).min(most)
}

impl Writer {
    /// Whom to hold off when the WAL gets large; without it nobody is.
    pub fn attach_readers(&mut self, readers: Arc<Readers>) {
        self.checkpoints.readers = Some(readers);
    }

    /// Those that were attached.
    pub(super) fn readers(&self) -> Option<Arc<Readers>> {
        self.checkpoints.readers.clone()
    }

    /// What can wait until those are answered who wait for the entries just applied: keeps the WAL small. To be called after
    /// each batch. `is_pinned`: something reads the database as it was, and will for long.
    ///
    /// # Errors
    /// The machine failed; the process must stop.
    pub fn tidy_up(&mut self, is_pinned: bool) -> Result<(), Fatal> {
        self.checkpoints.is_pinned = is_pinned;
        self.keep_wal_small(self.wal_pages())
    }

    /// Only one long entry comes here without `tidy_up` in between.
    pub(super) fn tidy_up_within_entry(&mut self) -> Result<(), Fatal> {
        match self.wal_pages() {
            pages if pages >= WITHIN_ENTRY_PAGES => self.keep_wal_small(pages),
            _ => Ok(()),
        }
    }

    fn wal_pages(&self) -> u32 {
        let bytes = u64::from(context::with(|c| c.wal_pages.get())) * u64::from(self.page_bytes);
        u32::try_from(bytes / PAGE_BYTES).unwrap_or(u32::MAX)
    }

    fn keep_wal_small(&mut self, pages: u32) -> Result<(), Fatal> {
        if pages < MOVE_PAGES {
            if self.checkpoints.move_at != MOVE_PAGES {
                self.checkpoints.begin_anew();
            }
            return Ok(());
        }
        if pages >= self.checkpoints.move_at {
            self.checkpoint()?;
            self.checkpoints.move_at = pages.saturating_add(MOVE_INTERVAL_PAGES);
        }
        let may_try = self.checkpoints.retry_at.is_none_or(|at| Instant::now() >= at);
        if pages >= RESTART_PAGES && may_try {
            self.restart_wal(pages)?;
        }
        Ok(())
    }

    /// Moves the WAL's pages into the database file, as far as readers let it.
    ///
    /// SQLite's own automatic checkpoint ignores errors and tries again with the next commit. But a sync that failed once
    /// may succeed the second time though the pages never reached the disk, and then the WAL that still has them is
    /// overwritten. So the checkpoint is ours, and its failure is fatal.
    ///
    /// # Errors
    /// The machine failed; the process must stop.
    pub fn checkpoint(&self) -> Result<(), Fatal> {
        self.connection.checkpoint_passive().map_err(|error| Fatal::sqlite("checkpointing", &error))
    }

    /// Makes a moment without readers, so that the WAL begins anew with the next write.
    fn restart_wal(&mut self, pages: u32) -> Result<(), Fatal> {
        let readers = self.checkpoints.readers.clone();
        let held = readers.as_ref().map(|readers| readers.hold_off());
        if pages >= INTERRUPT_PAGES
            && let Some(readers) = &readers
        {
            let ended = readers.interrupt_older_than(READ_TIME_GRANTED);
            log::warn!(target: "store", "the -wal file has {pages} pages: {ended} long reads were ended");
        }
        let oldest = readers.as_ref().and_then(|readers| readers.oldest_read()).unwrap_or_default();
        let done = self.connection.checkpoint_restart(self.checkpoints.hold_time(oldest), BUSY_TIMEOUT_MS);
        drop(held);
        if done.map_err(|error| Fatal::sqlite("checkpointing", &error))? {
            self.checkpoints.begin_anew();
            context::with(|c| c.wal_pages.set(0));
            return Ok(());
        }
        self.checkpoints.failed();
        if pages >= self.checkpoints.alarm_at {
            self.checkpoints.alarm_at = pages.saturating_mul(2);
            log::warn!(
                target: "store",
                "the -wal file has {} MB and cannot be reused: a read holds it. The oldest read of this node runs for \
                 {:.1} s; a copy for another node, or another process, may read too",
                u64::from(pages) * PAGE_BYTES / 1_000_000,
                oldest.as_secs_f64()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_do_not_wait_for_a_copy_that_is_under_way() {
        let mut checkpoints = Checkpoints::default();
        assert_eq!(checkpoints.hold_time(Duration::ZERO), HOLD_TIME);
        checkpoints.failed();
        assert_eq!(checkpoints.hold_time(Duration::ZERO), 2 * HOLD_TIME);
        assert_eq!(checkpoints.hold_time(LONG_READ_TIME), HOLD_TIME);
        checkpoints.is_pinned = true;
        assert_eq!(checkpoints.hold_time(Duration::ZERO), Duration::ZERO);
        checkpoints.begin_anew();
        assert!(checkpoints.is_pinned, "the copy is still there");
    }
}
