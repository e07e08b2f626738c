//! What a start finds, or makes: the log and the database of a node, made to agree. Main thread, before the node's own.
//!
//! Recovery asks two things only: what the log holds (`raft::wal`) and what the database says that it has applied (one
//! row, written in the same transaction as the entries). Nothing else decides, so nothing else can contradict them.

use super::database::Database;
use super::open::{DATABASE_FILE, Lock, NodeOptions, Origin, WAL_DIR};
use crate::db::{Fatal, Item, Writer, WriterOptions};
use crate::random;
use raft::wal::{Wal, WalError, WalOptions};
use raft::{ClusterId, EntryKind, Incarnation, Index, LogId, Member, Membership, NodeId, Recovered};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Log bytes that one read brings into memory while the log is searched at start.
const SCAN_BYTES_MAX: u64 = 1024 * 1024;

/// Log and database of a node that does not run yet.
pub struct Store {
    pub(super) wal: Wal,
    pub(super) found: raft::wal::Recovered,
    pub(super) writer: Database,
    pub(super) options: NodeOptions,
    pub(super) origin: Origin,
    /// The entry that is to fail instead of being applied.
    pub(super) skip: Option<LogId>,
}

/// Why a node does not start. Each says what to do.
#[derive(Debug)]
pub enum OpenError {
    Io(io::Error),
    Wal(WalError),
    Database(Fatal),
    /// The log and the database do not belong together, or one of them is missing.
    Mismatch(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io(error) => error.fmt(f),
            OpenError::Wal(error @ WalError::Corrupt { .. }) => {
                write!(f, "{error}. In a cluster the flags -rejoin and -join do this")
            }
            OpenError::Wal(error) => error.fmt(f),
            OpenError::Database(error) => write!(f, "{error}; {}", error.advice()),
            OpenError::Mismatch(text) => f.write_str(text),
        }
    }
}

impl OpenError {
    /// The node's own files are at fault, so that others of the cluster can make it whole.
    pub fn is_damage(&self) -> bool {
        !matches!(self, OpenError::Io(_))
    }
}

impl std::error::Error for OpenError {}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        OpenError::Io(error)
    }
}

impl From<WalError> for OpenError {
    fn from(error: WalError) -> Self {
        OpenError::Wal(error)
    }
}

impl From<Fatal> for OpenError {
    fn from(error: Fatal) -> Self {
        OpenError::Database(error)
    }
}

/// Moves log and database of a directory aside, into a directory of their own beside them, so that the node can begin
/// anew. Gives that directory's name. Nothing is deleted.
///
/// # Errors
/// A file cannot be moved; those that were moved before it lie in the new directory.
pub fn set_aside(data_dir: &Path) -> io::Result<PathBuf> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let aside = data_dir.join(format!("damaged-{}", since_epoch.as_millis()));
    std::fs::create_dir(&aside)?;
    for name in [DATABASE_FILE, "db.sqlite-wal", "db.sqlite-shm"] {
        match std::fs::rename(data_dir.join(name), aside.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // The directory of the log stays, with its lock.
    let (log, log_aside) = (data_dir.join(WAL_DIR), aside.join(WAL_DIR));
    std::fs::create_dir(&log_aside)?;
    for file in std::fs::read_dir(&log)? {
        let file = file?;
        if file.path().extension().is_some_and(|extension| extension == "wal" || extension == "spare") {
            std::fs::rename(file.path(), log_aside.join(file.file_name()))?;
        }
    }
    for dir in [&log, &log_aside, &aside, data_dir] {
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(aside)
}

impl Store {
    /// Opens log and database, makes them when `origin` says so.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed then, but for a torn end of the log that was cut off.
    pub fn open(lock: Lock, options: NodeOptions, origin: Origin) -> Result<Store, OpenError> {
        let path = options.data_dir.join(DATABASE_FILE);
        let (mut wal, found) = open_wal(lock, &options, &origin, path.exists())?;
        let writer_options = WriterOptions { foreign_keys: options.foreign_keys, cluster: found.cluster_id };
        let writer = Writer::open_if(&path, &writer_options, |applied| check_agreement(&found, applied, &options))?;
        check_no_entry_lost(&found, &writer, &options)?;
        let skip = entry_to_skip(&mut wal, &found, writer.applied().id, options.skip_entry)?;
        if let Some(torn) = &found.torn {
            log::warn!(
                target: "raft",
                "the end of the log was torn by a crash and cut off: {} at byte {}: {}",
                torn.file, torn.offset, torn.reason
            );
        }
        let writer = Database::new(writer, writer_options);
        Ok(Store { wal, found, writer, options, origin, skip })
    }

    pub fn cluster(&self) -> ClusterId {
        self.found.cluster_id
    }

    /// What the replica must know: the log's ends and terms, what is applied, and every membership from there on. Reads
    /// all that is not applied yet: once per start.
    ///
    /// # Errors
    /// Log or database cannot be read.
    pub fn recovered(&mut self) -> Result<Recovered, OpenError> {
        recovered(&mut self.wal, &self.found, &self.writer)
    }

    /// Makes `members` the cluster, by an operator's word: for a cluster that has lost its quorum for good. Everything in
    /// the log counts as committed; the log begins anew behind it. Done twice it comes to the same, so that a crash in
    /// the middle is mended by the next start.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn recover_by_hand(&mut self, members: Vec<Member>) -> Result<(), OpenError> {
        let membership = Membership::new(members).map_err(|error| OpenError::Mismatch(error.to_string()))?;
        let mut next = self.writer.applied().id.index.next();
        while next <= self.found.last.index {
            let entries = self.wal.read(next..self.found.last.index.next(), SCAN_BYTES_MAX)?;
            for entry in &entries {
                let item = Item::decode(entry)
                    .map_err(|error| OpenError::Mismatch(format!("log entry {} cannot be read: {error}", entry.id)))?;
                self.writer.apply(entry.id, item)?;
                next = entry.id.index.next();
            }
        }
        let applied = self.writer.force_membership(&membership.encode())?;
        if applied.index > self.found.first.index {
            self.wal.reset_to(applied)?;
        }
        (self.found.first, self.found.last) = (applied, applied);
        Ok(())
    }
}

/// A log that was lost while the database stayed must not be made anew: what this node promised would be forgotten.
fn open_wal(
    lock: Lock,
    options: &NodeOptions,
    origin: &Origin,
    database_exists: bool,
) -> Result<(Wal, raft::wal::Recovered), OpenError> {
    let fresh_id = match origin {
        _ if database_exists => None,
        Origin::Existing => None,
        Origin::Single => Some(ClusterId(random::u128()?)),
        Origin::Joined { cluster } | Origin::Formed { cluster, .. } => Some(*cluster),
    };
    let wal_options = WalOptions { segment_bytes: options.wal_segment_bytes, ..WalOptions::new(None, random::u64()?) };
    match Wal::open(lock.disk.clone(), &wal_options) {
        Err(WalError::NoLog) => match fresh_id {
            Some(cluster_id) => {
                let wal_options = WalOptions { cluster_id: Some(cluster_id), ..wal_options };
                Ok(Wal::open(lock.disk, &wal_options)?)
            }
            None => Err(OpenError::Mismatch(format!(
                "there is a database in {} but no raft log in its {WAL_DIR} directory: the log was lost. Restore both \
                 from a copy, or move both away, start on an empty directory and write the data anew",
                options.data_dir.display()
            ))),
        },
        other => Ok(other?),
    }
}

/// The log must reach from where the database ends, or further back.
fn check_agreement(found: &raft::wal::Recovered, applied: LogId, options: &NodeOptions) -> Result<(), OpenError> {
    if applied.index >= found.first.index {
        return Ok(());
    }
    Err(OpenError::Mismatch(format!(
        "the database in {} holds the log up to {applied}, but the raft log begins only after {}: the database was \
         replaced by an older one, or lost. Restore the directory from a copy or a backup",
        options.data_dir.display(),
        found.first
    )))
}

/// And on to where it ends, or further. But a copy that was just taken over stands for a log that is not there yet: the
/// replica resets its own behind it.
fn check_no_entry_lost(found: &raft::wal::Recovered, writer: &Writer, options: &NodeOptions) -> Result<(), OpenError> {
    let applied = writer.applied().id;
    if applied.index <= found.last.index || writer.installed_snapshot()? == Some(applied) {
        return Ok(());
    }
    Err(OpenError::Mismatch(format!(
        "the database in {} holds the log up to {applied}, but the raft log ends at {}: acknowledged entries were lost \
         from the log. Do not start this copy; restore the directory from a copy or a backup",
        options.data_dir.display(),
        found.last
    )))
}

/// The incarnation of a node as the newest membership in log and database has it.
pub fn known_incarnation(recovered: &Recovered, id: &NodeId) -> Option<Incarnation> {
    let (_, newest) = recovered.memberships.last()?;
    newest.get(id).map(|member| member.incarnation)
}

fn recovered(wal: &mut Wal, found: &raft::wal::Recovered, writer: &Writer) -> Result<Recovered, OpenError> {
    let applied = writer.applied().id;
    let mut memberships = Vec::new();
    let in_force = writer.membership()?;
    if !in_force.is_empty() {
        // It stands for everything applied, and what is applied is never taken back.
        let index = match writer.membership_index()? {
            Index(0) => applied.index,
            index => index,
        };
        memberships.push((index, decode_membership(&in_force)?));
    }
    let mut next = applied.index.next();
    while next <= found.last.index {
        let entries = wal.read(next..found.last.index.next(), SCAN_BYTES_MAX)?;
        for entry in &entries {
            if entry.kind == EntryKind::Membership {
                memberships.push((entry.id.index, decode_membership(&entry.payload)?));
            }
        }
        next = entries.last().expect("the log answers for every index that it holds").id.index.next();
    }
    Ok(Recovered {
        hard_state: found.hard_state.clone(),
        purged_to: found.first,
        last: found.last,
        terms: term_starts(wal, found)?,
        applied,
        applied_is_snapshot: writer.installed_snapshot()? == Some(applied),
        memberships,
        ..Recovered::default()
    })
}

/// The first entry of each term in the log, by bisection: terms never fall along the log.
fn term_starts(wal: &mut Wal, found: &raft::wal::Recovered) -> Result<Vec<LogId>, OpenError> {
    let mut starts = Vec::new();
    let mut from = found.first.index.next();
    while from <= found.last.index {
        let start = id_at(wal, from)?;
        starts.push(start);
        // The first index of a later term lies in (low, high]; high may be one past the end.
        let (mut low, mut high) = (from, found.last.index.next());
        while low.next() < high {
            let middle = Index(low.0 + (high.0 - low.0) / 2);
            if id_at(wal, middle)?.term == start.term { low = middle } else { high = middle }
        }
        from = high;
    }
    Ok(starts)
}

fn id_at(wal: &mut Wal, index: Index) -> Result<LogId, OpenError> {
    Ok(wal.id_at(index)?.expect("the index lies in the log"))
}

/// The entry that the operator wants to fail: a command in the log that is not applied yet.
fn entry_to_skip(
    wal: &mut Wal,
    found: &raft::wal::Recovered,
    applied: LogId,
    wanted: Option<Index>,
) -> Result<Option<LogId>, OpenError> {
    let Some(index) = wanted else { return Ok(None) };
    if index <= applied.index {
        log::warn!(
            target: "store",
            "-skip-entry {index} has no effect: the database holds the log up to {applied}; leave the flag out from now on"
        );
        return Ok(None);
    }
    if index > found.last.index {
        let text = format!("-skip-entry {index}: the raft log ends at {}, there is no such entry to skip", found.last);
        return Err(OpenError::Mismatch(text));
    }
    let entry = wal.read(index..index.next(), SCAN_BYTES_MAX)?.pop().expect("the index lies in the log");
    if entry.kind != EntryKind::Command {
        let text = format!("-skip-entry {index}: this entry is Raft's own and changes no data, it cannot be skipped");
        return Err(OpenError::Mismatch(text));
    }
    log::warn!(target: "store", "entry {index} will not be applied but fail (-skip-entry)");
    Ok(Some(entry.id))
}

fn decode_membership(bytes: &[u8]) -> Result<Membership, OpenError> {
    Membership::decode(bytes).map_err(|error| OpenError::Mismatch(format!("a membership cannot be read: {error}")))
}
