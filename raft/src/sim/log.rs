//! The WAL thread of a node, as an actor: takes what waits, writes it into the production log, syncs once, reports.
//!
//! Each of these is an event of its own, so that a crash, a hang or a message can come between any two. Syncs finish
//! late and out of step with the network, as on a real machine.

use super::node::Input;
use super::world::{Event, World};
use crate::wal::{Batch, Wal, WalError};
use crate::{Append, Index, LogId, LogRange, LogRead};
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) enum Job {
    Append(Append),
    ReadForApplier(LogRange),
    ReadForPeer(LogRead),
    Purge(Index),
}

/// See the module.
pub(super) struct LogThread {
    pub(super) wal: Wal,
    jobs: VecDeque<Job>,
    /// Appends that were not reported yet, and since when by the node's own clock.
    waiting: VecDeque<(u64, u64)>,
    /// The segment that is written, and how many syncs went into it.
    pub(super) synced: (u64, u32),
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    /// Woken up, has taken nothing yet.
    Waking,
    /// Written up to this append; the sync is under way.
    Syncing {
        seq: u64,
        last: LogId,
    },
}

impl LogThread {
    pub(super) fn new(wal: Wal) -> LogThread {
        LogThread { wal, jobs: VecDeque::new(), waiting: VecDeque::new(), synced: (0, 0), stage: Stage::Idle }
    }

    /// The raft thread heard that all up to `seq` is durable.
    pub(super) fn heard(&mut self, seq: u64) {
        self.waiting.retain(|(waiting, _)| *waiting > seq);
    }

    /// For how long the oldest append has been waiting.
    pub(super) fn waiting_us(&self, local_us: u64) -> u64 {
        self.waiting.front().map_or(0, |(_, since_us)| local_us - since_us)
    }
}

impl World {
    pub(super) fn log_job(&mut self, at: usize, job: Job) {
        let local_us = self.nodes[at].clock.local_us(self.now_us);
        let Some(process) = &mut self.nodes[at].process else { return };
        if let Job::Append(append) = &job {
            process.log.waiting.push_back((append.seq, local_us));
        }
        process.log.jobs.push_back(job);
        self.wake_log(at);
    }

    fn wake_log(&mut self, at: usize) {
        let life = self.nodes[at].life;
        let Some(process) = &mut self.nodes[at].process else { return };
        if process.log.stage == Stage::Idle && !process.log.jobs.is_empty() {
            process.log.stage = Stage::Waking;
            let after_us = self.chance.between(20, 300);
            self.push(after_us, Event::Log { at, life });
        }
    }

    pub(super) fn log_goes_on(&mut self, at: usize) {
        let life = self.nodes[at].life;
        if self.nodes[at].hangs_until_us > self.now_us {
            return self.push_at(self.nodes[at].hangs_until_us, Event::Log { at, life });
        }
        let Some(process) = &mut self.nodes[at].process else { return };
        let outcome = match process.log.stage {
            Stage::Waking => self.log_takes(at),
            Stage::Syncing { seq, last } => self.log_syncs(at, seq, last),
            Stage::Idle => Ok(()),
        };
        match outcome {
            Ok(()) => self.wake_log(at),
            Err(error) => self.log_failed(at, &error),
        }
    }

    /// Everything that waits shares one sync.
    fn log_takes(&mut self, at: usize) -> Result<(), WalError> {
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        let jobs = std::mem::take(&mut process.log.jobs);
        process.log.stage = Stage::Idle;
        let mut unsynced = None;
        for job in jobs {
            match job {
                Job::Append(append) => {
                    unsynced = Some((append.seq, append.last));
                    self.log_appends(at, append)?;
                }
                Job::ReadForApplier(range) => {
                    let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
                    let entries = process.log.wal.read(range.first..range.last.next(), u64::MAX)?;
                    self.applier_fed(at, range.first, entries);
                }
                Job::ReadForPeer(read) => {
                    let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
                    let read_end = read.range.first..read.range.last.next();
                    let entries = match process.log.wal.read(read_end, read.bytes_max) {
                        Ok(entries) => entries,
                        Err(WalError::Purged { .. }) => Vec::new(),
                        Err(error) => return Err(error),
                    };
                    self.log_reports(at, Input::LogRead { peer: read.peer, entries });
                }
                Job::Purge(index) => {
                    self.nodes[at].shadow.purgeable = index;
                    let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
                    process.log.wal.purge_to(index)?;
                    let first = process.log.wal.first();
                    self.nodes[at].shadow.purged_to(first);
                    self.log_reports(at, Input::Purged(first));
                }
            }
        }
        if let Some((seq, last)) = unsynced {
            let slow_us = match self.nodes[at].slow {
                slow if slow.until_us > self.now_us => self.chance.below(slow.sync_us + 1),
                _ => 0,
            };
            let after_us = self.chance.between(100, 1500) + slow_us;
            let life = self.nodes[at].life;
            let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
            process.log.stage = Stage::Syncing { seq, last };
            self.push(after_us, Event::Log { at, life });
        }
        Ok(())
    }

    fn log_appends(&mut self, at: usize, append: Append) -> Result<(), WalError> {
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return Ok(()) };
        node.shadow.unsynced.push(append.clone());
        let wal = &mut process.log.wal;
        let mut hard_state = append.hard_state.as_ref();
        if let Some(to) = append.reset_to {
            wal.append(&Batch { hard_state: hard_state.take(), ..Batch::default() })?;
            wal.reset_to(to)?;
        }
        let batch = Batch { truncate_after: append.truncate_after, entries: &append.entries, hard_state };
        wal.append(&batch)
    }

    fn log_syncs(&mut self, at: usize, seq: u64, last: LogId) -> Result<(), WalError> {
        let node = &mut self.nodes[at];
        let Some(process) = &mut node.process else { return Ok(()) };
        process.log.stage = Stage::Idle;
        let durable = process.log.wal.sync()?;
        assert_eq!(durable.last, last, "the log holds what the replica gave it");
        node.shadow.synced();
        let segment = process.log.wal.newest_segment();
        let synced = &mut process.log.synced;
        *synced = if synced.0 == segment { (segment, synced.1 + 1) } else { (segment, 1) };
        self.log_reports(at, Input::Durable { seq, last });
        // As the server does when its log is idle: marks the end, so that damage there is told from a torn write.
        let mark = self.chance.percent(10);
        let Some(process) = &mut self.nodes[at].process else { return Ok(()) };
        if process.log.jobs.is_empty() && mark {
            process.log.wal.mark_durable()?;
            process.log.wal.prepare_spare()?;
        }
        Ok(())
    }

    fn log_reports(&mut self, at: usize, input: Input) {
        let life = self.nodes[at].life;
        let after_us = self.chance.between(10, 200);
        self.push(after_us, Event::Input { at, life, input });
    }
}
