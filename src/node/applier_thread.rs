//! The applier: owns the only read-write SQLite connection. Takes all committed entries that wait into one transaction,
//! commits, publishes the index, then answers.
//!
//! It never blocks on anything but its inbox and the disk, and runs nobody else's code but the short completions, which
//! only hand over.

use super::database::Database;
use super::handle::{Applied, ApplyDone, NodeError, ReadDone, Shared, SnapshotDone};
use super::inbox::{Inbox, InboxSender, Quiet};
use super::raft_peers::ArrivedCopy;
use super::raft_thread::RaftInput;
use super::spawn::stop_process;
use super::verify;
use crate::command::{Action, Command, Outcome};
use crate::db::{Fatal, HashSource, Incoming, Item, Readers, pace};
use crate::vars;
use raft::{Entry, LogId};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Hand-overs from the raft thread that may wait here; it keeps the rest and goes on.
pub const APPLIER_INBOX_MAX: usize = 64;

/// One SQLite transaction takes at most this many entries, and at most this many bytes of them: the bound on how long
/// the first of them waits for the last.
const BATCH_ENTRIES_MAX: usize = 1024;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long reads under way may go on when the database is to be replaced.
const READERS_GRACE: Duration = Duration::from_secs(1);

/// Entries of the log that are kept behind a loaded database. The parts of it are a megabyte each, and who lags far behind
/// gets the database sooner than them.
const TRAILING_LOADED: u64 = 64;

/// Log bytes applied since the last durable commit that force the next one, between the timer's looks.
const UNCOMPACTED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A committed entry, and who waits for it here.
pub struct Committed {
    pub entry: Entry,
    pub done: Option<ApplyDone>,
}

pub enum ApplierInput {
    /// In log order, without gaps.
    Committed(Vec<Committed>),
    /// Everything before this in the inbox is what the reads must see.
    Readable(Vec<ReadDone>),
    /// The log that was there at start has been handed over.
    CaughtUp,
    /// Exchange the database for a copy that came from a peer.
    Install(Box<ArrivedCopy>),
    Snapshot {
        trailing: Option<u64>,
        done: SnapshotDone,
    },
    Stop,
}

impl ApplierInput {
    /// Answers an input that was not taken.
    pub fn refuse(self, error: &NodeError) {
        match self {
            // What is committed will be applied, by the next start.
            ApplierInput::Committed(entries) => {
                entries.into_iter().filter_map(|c| c.done).for_each(|done| done(Err(NodeError::LeadershipLost)));
            }
            ApplierInput::Readable(reads) => reads.into_iter().for_each(|done| done(Err(error.clone()))),
            ApplierInput::Snapshot { done, .. } => done(Err(error.clone())),
            ApplierInput::Install(copy) => (copy.done)(Err(error.to_string())),
            ApplierInput::CaughtUp | ApplierInput::Stop => {}
        }
    }
}

/// When to make the database durable and let the log go (spec: `-raft-snap*`).
#[derive(Clone, Debug)]
pub struct CompactionPolicy {
    pub entries: u64,
    /// 0: this trigger is off.
    pub log_bytes: u64,
    pub interval: Duration,
}

/// See the module.
pub struct ApplierThread {
    writer: Database,
    readers: Arc<Readers>,
    inbox: Inbox<ApplierInput>,
    raft_tx: InboxSender<RaftInput>,
    shared: Arc<Shared>,
    policy: CompactionPolicy,
    /// The applied position that is known to survive a power cut.
    durable: LogId,
    bytes_since_durable: u64,
    /// Not to be applied but to fail: what the operator wants of an entry that stops the node each time.
    skip: Option<LogId>,
}

impl ApplierThread {
    pub fn new(
        writer: Database,
        readers: Arc<Readers>,
        inbox: Inbox<ApplierInput>,
        raft_tx: InboxSender<RaftInput>,
        shared: Arc<Shared>,
        policy: CompactionPolicy,
        durable: LogId,
    ) -> Self {
        ApplierThread { writer, readers, inbox, raft_tx, shared, policy, durable, bytes_since_durable: 0, skip: None }
    }

    /// Lets this entry fail when its turn comes.
    pub fn skip(&mut self, entry: Option<LogId>) {
        self.skip = entry;
    }

    pub fn run(mut self) {
        let mut next_look = Instant::now() + self.policy.interval;
        let mut batch = Vec::new();
        loop {
            let first = match self.inbox.recv_deadline(next_look) {
                Ok(input) => Some(input),
                Err(Quiet::Timeout) => None,
                Err(Quiet::Disconnected) => return self.close(),
            };
            let mut next = first;
            while let Some(input) = next.take() {
                match input {
                    ApplierInput::Committed(entries) => {
                        batch.extend(entries);
                        if batch_is_full(&batch) {
                            self.apply(&mut batch);
                        }
                    }
                    other => {
                        // Order matters: what came before is applied first.
                        self.apply(&mut batch);
                        if self.handle(other) {
                            return self.close();
                        }
                    }
                }
                next = self.inbox.try_recv();
            }
            self.apply(&mut batch);
            // Also when nothing of it was an entry: the raft thread may wait for room in this inbox.
            self.tell_raft();
            if self.bytes_since_durable >= UNCOMPACTED_BYTES_MAX {
                self.make_durable(None);
            }
            if Instant::now() >= next_look {
                self.look();
                next_look = Instant::now() + self.policy.interval;
            }
        }
    }

    /// Handles what is not an entry; true when the thread must end.
    fn handle(&mut self, input: ApplierInput) -> bool {
        match input {
            ApplierInput::Committed(_) => unreachable!("handled by the caller"),
            ApplierInput::Readable(reads) => {
                let applied = self.shared.applied.get();
                for done in reads {
                    done(Ok(applied));
                }
            }
            ApplierInput::Install(copy) => self.install(*copy),
            ApplierInput::CaughtUp => self.shared.caught_up.store(true, Ordering::Release),
            ApplierInput::Snapshot { trailing, done } => {
                let new = self.writer.applied().id.index > self.durable.index;
                if new {
                    self.make_durable(trailing);
                }
                done(Ok(new));
            }
            ApplierInput::Stop => return true,
        }
        false
    }

    /// Applies everything in `batch`, in transactions of bounded size, and answers.
    fn apply(&mut self, batch: &mut Vec<Committed>) {
        while !batch.is_empty() {
            if self.skip.is_some_and(|skip| skip == batch[0].entry.id) {
                self.skip_entry(batch.remove(0));
                continue;
            }
            let mut take = bounded_prefix(batch, self.skip);
            let mut items = Vec::with_capacity(take);
            let mut waiters = Vec::with_capacity(take);
            for (at, committed) in batch[..take].iter_mut().enumerate() {
                let item = Item::decode(&committed.entry).unwrap_or_else(|error| {
                    stop_process(&format!("log entry {} cannot be read", committed.entry.id), &error)
                });
                if at > 0 && item.may_exchange() {
                    take = at;
                    break;
                }
                self.bytes_since_durable += committed.entry.payload.len() as u64;
                let ends_batch = is_check(&item) || item.may_exchange();
                items.push((committed.entry.id, item));
                waiters.push(committed.done.take());
                if ends_batch {
                    take = at + 1;
                    break;
                }
            }
            batch.drain(..take);
            let exchanged = match items.as_slice() {
                [(id, item)] if item.may_exchange() => self.exchange_for(*id, item, &mut waiters),
                _ => false,
            };
            if exchanged {
                continue;
            }
            self.apply_items(&items, waiters);
            if let Some((id, Item::Command(command))) = items.last() {
                self.check_copy(*id, &command.action);
            }
        }
    }

    /// The divergence check: what is in the database after exactly this entry, and what the majority found there.
    fn check_copy(&mut self, id: LogId, action: &Action) {
        match action {
            Action::Hash => {
                self.shared.hashes.begin(id.index);
                let Some(pin) = self.shared.pins.take() else { return self.shared.hashes.end(id.index, None) };
                match HashSource::pin(self.writer.path()) {
                    Ok(source) => {
                        assert_eq!(source.applied(), id, "nobody else writes this database");
                        verify::hash_in_background(source, pin, Arc::clone(&self.shared));
                    }
                    // Without descriptors, for one: this node then has nothing to say in this check.
                    Err(fatal) => {
                        self.shared.hashes.end(id.index, None);
                        log::warn!(target: "store", "the database cannot be hashed at {id}: {fatal}");
                    }
                }
            }
            Action::Verdict { index, hash } => match self.shared.hashes.get(*index) {
                Some(own) if own != *hash => {
                    self.shared.quarantine.begin(&format!("the database differs from the majority's at index {index}"));
                    // No copy of it must reach another node, and no further hash of it says anything.
                    self.shared.pins.cancel();
                    let _ = self.raft_tx.send(RaftInput::Distrust);
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Takes over a copy of the leader's database. Readers finish first, new ones wait. A failure after the exchange has
    /// begun stops the process: the next start finds the old database or the new one.
    fn install(&mut self, copy: ArrivedCopy) {
        let ArrivedCopy { meta, incoming, done } = copy;
        let began = Instant::now();
        let applied = self.exchange(incoming);
        assert_eq!(applied, meta.last, "the copy is what was offered");
        self.shared.hashes.begin_at(applied.index);
        self.publish(applied);
        self.shared.quarantine.end();
        log::info!(target: "store", "took over a copy of the leader's database up to {applied} in {:?}", began.elapsed());
        vars::store::NUM_RESTORES.add(1);
        let _ = self.raft_tx.send(RaftInput::CopyInstalled(meta));
        done(Ok(()));
    }

    /// Exchanges the database for the one that a load has brought, if this entry asks for it and all of it is there. False: the
    /// entry is to be applied as any other.
    fn exchange_for(&mut self, id: LogId, item: &Item, waiters: &mut Vec<Option<ApplyDone>>) -> bool {
        let began = Instant::now();
        let incoming = match self.writer.take_load(id, item) {
            Ok(Some(incoming)) => incoming,
            Ok(None) => return false,
            Err(fatal) => self.stop(&fatal),
        };
        let applied = self.exchange(incoming);
        assert_eq!(applied, id, "the loaded database holds the entry that brought it");
        self.publish(applied);
        log::info!(target: "store", "the database was replaced by a loaded one at {applied} in {:?}", began.elapsed());
        let is_alone = self.shared.members.lock().len() <= 1;
        let trailing = (!is_alone).then_some(TRAILING_LOADED);
        let _ = self.raft_tx.send(RaftInput::DatabaseDurable { durable: applied, trailing });
        for done in waiters.drain(..).flatten() {
            done(Ok(Applied { id, outcome: Outcome::default() }));
        }
        true
    }

    /// Puts a whole database on disk in the place of this one, and gives the entry up to which it is applied. Readers finish
    /// first, new ones wait.
    fn exchange(&mut self, incoming: Incoming) -> LogId {
        self.shared.pins.clear();
        self.readers.hold(READERS_GRACE);
        if let Err(fatal) = self.writer.replace_with(incoming) {
            self.stop(&fatal);
        }
        self.readers.reopen();
        self.shared.pins.allow();
        let applied = self.writer.applied().id;
        self.durable = applied;
        self.bytes_since_durable = 0;
        applied
    }

    fn skip_entry(&mut self, committed: Committed) {
        let Committed { entry, done } = committed;
        self.skip = None;
        // It may be that it cannot even be read.
        let command = Command::decode(&entry.payload).ok();
        let outcome = match self.writer.skip(entry.id, command.as_ref()) {
            Ok(outcome) => outcome,
            Err(fatal) => self.stop(&fatal),
        };
        log::warn!(
            target: "store",
            "entry {} was not applied but failed, as -skip-entry wants it: do the same on every node of the cluster, and \
             leave the flag out from now on",
            entry.id.index
        );
        self.publish(entry.id);
        if let Some(done) = done {
            done(Ok(Applied { id: entry.id, outcome }));
        }
    }

    fn apply_items(&mut self, items: &[(LogId, Item)], waiters: Vec<Option<ApplyDone>>) {
        // A follower that catches up writes as fast as the disk lets it. The Raft logs on the same disk - its own, and those of
        // other nodes of the machine - must get their turn in between: a log that waits for long costs a leader its office. Nobody
        // waits for this node's applier as they do for the leader's.
        pace(!self.shared.is_leader.load(Ordering::Acquire));
        let started = Instant::now();
        let outcomes = match self.writer.apply_batch(items) {
            Ok(outcomes) => outcomes,
            Err(fatal) => self.stop(&fatal),
        };
        assert_eq!(outcomes.len(), items.len(), "an outcome for each entry");
        let last = items.last().expect("never called with nothing").0;
        self.publish(last);
        vars::store::FSM_APPLY_DURATION_US.set(started.elapsed().as_micros() as u64);
        for ((outcome, done), (id, _)) in outcomes.into_iter().zip(waiters).zip(items) {
            if let Some(done) = done {
                done(Ok(Applied { id: *id, outcome }));
            }
        }
        if let Err(fatal) = self.writer.tidy_up(self.shared.pins.is_any()) {
            self.stop(&fatal);
        }
    }

    fn publish(&self, last: LogId) {
        let shared = &self.shared;
        let now = self.writer.applied();
        shared.last_entry_time_us.store(now.time_us, Ordering::Relaxed);
        shared.changed_index.store(now.changed.0, Ordering::Relaxed);
        shared.last_vacuum_us.store(now.vacuum_us, Ordering::Relaxed);
        shared.last_optimize_us.store(now.optimize_us, Ordering::Relaxed);
        shared.created_us.store(now.created_us, Ordering::Relaxed);
        shared.applied_time_us.store(now_us(), Ordering::Relaxed);
        shared.applied_term.store(last.term.0, Ordering::Relaxed);
        shared.applied.publish(last.index);
        self.tell_raft();
    }

    /// Wakes the raft thread if it waits for what this thread has done.
    fn tell_raft(&self) {
        if self.shared.wants_applied.swap(false, Ordering::SeqCst) {
            let _ = self.raft_tx.send(RaftInput::Applied);
        }
    }

    /// The timer's look at the two triggers.
    fn look(&mut self) {
        let entries = self.writer.applied().id.index.0 - self.durable.index.0;
        let by_entries = entries >= self.policy.entries;
        let by_bytes = self.policy.log_bytes > 0 && self.bytes_since_durable >= self.policy.log_bytes;
        if entries > 0 && (by_entries || by_bytes) {
            self.make_durable(None);
        }
    }

    /// Commits with a sync, so that the database alone holds everything applied, and lets the log before it go.
    fn make_durable(&mut self, trailing: Option<u64>) {
        let started = Instant::now();
        match self.writer.commit_full() {
            Ok(durable) => {
                self.durable = durable;
                self.bytes_since_durable = 0;
                vars::store::NUM_SNAPSHOTS.add(1);
                vars::store::SNAPSHOT_CREATE_DURATION.set(started.elapsed().as_millis() as u64);
                let _ = self.raft_tx.send(RaftInput::DatabaseDurable { durable, trailing });
            }
            Err(fatal) => self.stop(&fatal),
        }
    }

    fn close(mut self) {
        if self.writer.applied().id.index > self.durable.index
            && let Err(fatal) = self.writer.commit_full()
        {
            self.stop(&fatal);
        }
        // So that who copies the file of a stopped node has all of it.
        if let Err(fatal) = self.writer.checkpoint() {
            self.stop(&fatal);
        }
    }

    fn stop(&self, fatal: &Fatal) -> ! {
        let what = format!("the database {} cannot be kept", self.writer.path().display());
        stop_process(&what, &format!("{fatal}; {}", fatal.advice()))
    }
}

/// Whether the database must be looked at between this entry and the next, or the entry looks at what was found.
fn is_check(item: &Item) -> bool {
    item.ends_batch() || matches!(item, Item::Command(Command { action: Action::Verdict { .. }, .. }))
}

fn batch_is_full(batch: &[Committed]) -> bool {
    batch.len() >= BATCH_ENTRIES_MAX
}

/// How many entries at the front fit one transaction; at least one. Ends before an entry that is to be skipped.
fn bounded_prefix(batch: &[Committed], skip: Option<LogId>) -> usize {
    let mut bytes = 0;
    for (i, committed) in batch.iter().enumerate() {
        bytes += committed.entry.payload.len();
        let is_skipped = Some(committed.entry.id) == skip;
        if i == BATCH_ENTRIES_MAX || (i > 0 && (is_skipped || bytes > BATCH_BYTES_MAX)) {
            return i;
        }
    }
    batch.len()
}

/// This machine's wall clock, microseconds since the Unix epoch.
pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}
