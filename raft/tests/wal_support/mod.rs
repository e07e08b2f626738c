//! Shared by the tests of the log: a generator, a plain model of what the log may hold, and a driver that keeps both
//! in step. Runs on the test's thread; must never share code with the log that it judges.
#![allow(dead_code)]

use std::sync::Arc;

use raft::disk::SimDisk;
use raft::wal::{Batch, Recovered, Wal, WalError, WalOptions};
use raft::{ClusterId, Entry, EntryKind, HardState, Index, LogId, NodeId, Term};

pub const CLUSTER: ClusterId = ClusterId(0x1234_5678_9abc_def0);

/// splitmix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

pub fn options(boot_salt: u64) -> WalOptions {
    let mut options = WalOptions::new(Some(CLUSTER), boot_salt);
    options.segment_bytes = 8192;
    options
}

pub fn id(term: u64, index: u64) -> LogId {
    LogId { term: Term(term), index: Index(index) }
}

pub fn hard_state(term: u64, vote: Option<&str>) -> HardState {
    HardState { term: Term(term), voted_for: vote.map(|name| NodeId(Arc::from(name))) }
}

/// An entry whose payload depends on its id and on nothing else.
pub fn entry(term: u64, index: u64, payload_bytes: usize) -> Entry {
    let mut rng = Rng(term << 32 | index);
    let payload: Vec<u8> = (0..payload_bytes).map(|_| rng.next() as u8).collect();
    let kind = match index % 5 {
        0 => EntryKind::Noop,
        1 => EntryKind::Membership,
        _ => EntryKind::Command,
    };
    Entry { id: id(term, index), kind, payload: Arc::from(payload) }
}

/// What a log holds after some step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The log was started (or reset) after this.
    pub base: LogId,
    pub entries: Vec<Entry>,
    pub hard_state: HardState,
}

impl State {
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    pub fn id_at(&self, index: u64) -> LogId {
        match index.checked_sub(self.base.index.0 + 1) {
            None => self.base,
            Some(position) => self.entries[position as usize].id,
        }
    }

    fn cut(&mut self, after: u64) {
        self.entries.truncate((after - self.base.index.0) as usize);
    }
}

/// All states that the log went through, step by step, and how many of them are acknowledged.
#[derive(Clone, Default)]
pub struct History {
    pub steps: Vec<State>,
    /// A recovery must find this step or a later one.
    pub durable: usize,
    /// No entry after this one was ever given up.
    pub purged_to: u64,
}

impl History {
    pub fn new() -> History {
        History { steps: vec![State::default()], durable: 0, purged_to: 0 }
    }

    pub fn now(&self) -> &State {
        self.steps.last().expect("a history has a first state")
    }

    fn step(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.now().clone();
        change(&mut state);
        self.steps.push(state);
    }

    /// Every step that this batch may stop at.
    pub fn note_batch(&mut self, batch: &Batch<'_>) {
        if let Some(hard_state) = batch.hard_state {
            self.step(|state| state.hard_state = hard_state.clone());
        }
        let mut cut = batch.truncate_after;
        if batch.entries.is_empty()
            && let Some(after) = cut
        {
            self.step(|state| state.cut(after.0));
        }
        for entry in batch.entries {
            self.step(|state| {
                if let Some(after) = cut.take() {
                    state.cut(after.0);
                }
                state.entries.push(entry.clone());
            });
        }
    }

    pub fn note_reset(&mut self, base: LogId) {
        self.step(|state| {
            state.base = base;
            state.entries.clear();
        });
    }

    pub fn note_sync(&mut self) {
        self.durable = self.steps.len() - 1;
    }

    /// Finds the step that a recovery shows, and goes on from there; panics if there is none.
    pub fn check(&mut self, wal: &mut Wal, recovered: &Recovered) -> Result<(), WalError> {
        assert_eq!(recovered.cluster_id, CLUSTER);
        let entries = read_all(wal, 700)?;
        let fits = |state: &State| {
            let first = recovered.first;
            if state.hard_state != recovered.hard_state || state.last() != recovered.last {
                return false;
            }
            if first.index.0 < state.base.index.0 || first.index.0 > self.purged_to.max(state.base.index.0) {
                return false;
            }
            state.id_at(first.index.0) == first
                && state.entries[(first.index.0 - state.base.index.0) as usize..] == entries[..]
        };
        let Some(step) = (self.durable..self.steps.len()).find(|step| fits(&self.steps[*step])) else {
            let ids: Vec<LogId> = entries.iter().map(|entry| entry.id).collect();
            panic!(
                "recovered {recovered:?} with {ids:?} is none of the steps {}..{}; acknowledged: last {} {:?}, now last {} {:?}",
                self.durable,
                self.steps.len(),
                self.steps[self.durable].last(),
                self.steps[self.durable].hard_state,
                self.now().last(),
                self.now().hard_state,
            );
        };
        // All later steps are lost for good: none of them may show up again.
        self.steps.truncate(step + 1);
        self.durable = step;
        Ok(())
    }
}

pub fn read_all(wal: &mut Wal, bytes_max: u64) -> Result<Vec<Entry>, WalError> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut next = wal.first().index.next();
    while next <= wal.last().index {
        let part = wal.read(next..wal.last().index.next(), bytes_max)?;
        assert!(!part.is_empty(), "a read makes progress");
        let bytes: usize = part.iter().map(|entry| entry.payload.len()).sum();
        assert!(part.len() == 1 || bytes as u64 <= bytes_max, "a read is bounded");
        next = part[part.len() - 1].id.index.next();
        entries.extend(part);
    }
    Ok(entries)
}

/// The log and its model side by side; every call may fail at the power cut.
pub struct Driver {
    pub disk: SimDisk,
    pub wal: Wal,
    pub history: History,
}

impl Driver {
    pub fn open(disk: &SimDisk, history: History, boot_salt: u64) -> Result<Driver, (WalError, History)> {
        Driver::open_with(disk, history, &options(boot_salt))
    }

    pub fn open_with(
        disk: &SimDisk,
        mut history: History,
        options: &WalOptions,
    ) -> Result<Driver, (WalError, History)> {
        match Wal::open(Arc::new(disk.clone()), options) {
            Ok((mut wal, recovered)) => {
                if let Err(error) = history.check(&mut wal, &recovered) {
                    return Err((error, history));
                }
                Ok(Driver { disk: disk.clone(), wal, history })
            }
            Err(error) => Err((error, history)),
        }
    }

    pub fn append(
        &mut self,
        truncate_after: Option<u64>,
        entries: &[Entry],
        hard_state: Option<HardState>,
    ) -> Result<(), WalError> {
        let batch = Batch { truncate_after: truncate_after.map(Index), entries, hard_state: hard_state.as_ref() };
        self.history.note_batch(&batch);
        self.wal.append(&batch)
    }

    pub fn sync(&mut self) -> Result<(), WalError> {
        let durable = self.wal.sync()?.clone();
        self.history.note_sync();
        assert_eq!(durable.last, self.history.now().last());
        assert_eq!(durable.hard_state, self.history.now().hard_state);
        Ok(())
    }

    pub fn purge_to(&mut self, index: u64) -> Result<(), WalError> {
        self.history.purged_to = self.history.purged_to.max(index);
        self.wal.purge_to(Index(index))
    }

    pub fn reset_to(&mut self, base: LogId) -> Result<(), WalError> {
        self.history.note_reset(base);
        self.wal.reset_to(base)?;
        self.history.note_sync();
        Ok(())
    }

    /// The log shows exactly the model's last state.
    pub fn check_now(&mut self) -> Result<(), WalError> {
        let state = self.history.now().clone();
        assert_eq!(self.wal.last(), state.last());
        let first = self.wal.first().index.0;
        assert!(first >= state.base.index.0 && first <= self.history.purged_to.max(state.base.index.0));
        assert_eq!(self.wal.first(), state.id_at(first));
        assert_eq!(read_all(&mut self.wal, 3000)?, state.entries[(first - state.base.index.0) as usize..]);
        Ok(())
    }
}

/// One random legal operation.
pub fn random_op(driver: &mut Driver, rng: &mut Rng) -> Result<(), WalError> {
    let state = driver.history.now().clone();
    let term = state.hard_state.term.0;
    let last = state.last();
    match rng.below(20) {
        0..=9 => {
            let new_term = if rng.chance(4) { term + 1 } else { term.max(1) };
            let hard_state = (new_term != term)
                .then(|| hard_state(new_term, [None, Some("a"), Some("node-b")][rng.below(3) as usize]));
            let floor = driver.wal.first().index.0;
            let cut = (rng.chance(3) && last.index.0 > floor).then(|| floor + rng.below(last.index.0 - floor + 1));
            let mut index = cut.unwrap_or(last.index.0);
            let count = rng.below(5);
            let entries: Vec<Entry> = (0..count)
                .map(|_| {
                    index += 1;
                    let payload_bytes = match rng.below(12) {
                        0 => rng.below(9000),
                        1..=4 => rng.below(1500),
                        _ => rng.below(100),
                    };
                    entry(new_term.max(1), index, payload_bytes as usize)
                })
                .collect();
            // Entries need a saved term.
            let hard_state = hard_state.or_else(|| (term == 0).then(|| self::hard_state(1, None)));
            driver.append(cut, &entries, hard_state)
        }
        10..=14 => driver.sync(),
        15 => {
            let span = last.index.0 - state.base.index.0;
            driver.sync()?;
            driver.purge_to(state.base.index.0 + rng.below(span + 1))
        }
        16 => driver.wal.prepare_spare().map(|_| ()),
        17 => driver.wal.mark_durable(),
        18 if rng.chance(4) => driver.reset_to(id(last.term.0.max(1), last.index.0 + rng.below(20))),
        _ => driver.check_now(),
    }
}
