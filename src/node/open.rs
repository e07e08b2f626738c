//! Start and stop of a node: finds out what the log and the database hold, makes them agree, starts the threads.
//!
//! Recovery asks two things only: what the log holds (`raft::wal`) and what the database says that it has applied (one
//! row, written in the same transaction as the entries). Nothing else decides, so nothing else can contradict them.

use super::applied::AppliedIndex;
use super::applier_thread::{APPLIER_INBOX_MAX, ApplierThread, CompactionPolicy};
use super::clock::EntryClock;
use super::handle::{NodeHandle, Shared};
use super::inbox::inbox;
use super::outbox::Outbox;
use super::raft_thread::{LogBounds, RAFT_INBOX_MAX, RaftInput, RaftThread};
use super::spawn::spawn_critical;
use super::wal_thread::{WAL_INBOX_MAX, WalThread};
use crate::config::{RaftTiming, SnapshotConfig};
use crate::coordinator::status::{Member as MemberStatus, RaftStatus};
use crate::db::{Fatal, ReaderOptions, Readers, Writer, WriterOptions};
use parking_lot::Mutex;
use raft::disk::FsDisk;
use raft::wal::{Wal, WalError, WalOptions};
use raft::{
    ClusterId, Config, EntryKind, Incarnation, Index, LogId, Member, Membership, NodeId, Recovered, Replica, Suffrage,
    Timing,
};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::thread::JoinHandle;
use std::time::Duration;

/// The directory of the log, inside the data directory; its `LOCK` file guards both.
pub const WAL_DIR: &str = "raft-wal";
/// The database, as in rqlite: other processes may open it read-only.
pub const DATABASE_FILE: &str = "db.sqlite";

/// Log bytes that one read brings into memory while the log is searched at start.
const SCAN_BYTES_MAX: u64 = 1024 * 1024;

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    pub data_dir: PathBuf,
    pub node_id: String,
    /// Advertised Raft address, host:port.
    pub raft_address: String,
    pub foreign_keys: bool,
    /// 0 = unlimited.
    pub readers_max: usize,
    /// Every read ends by then.
    pub read_timeout: Duration,
    pub wal_segment_bytes: u64,
    pub apply_timeout: Duration,
    pub timing: RaftTiming,
    pub snapshot: SnapshotConfig,
    /// An entry of the log that is to fail instead of being applied.
    pub skip_entry: Option<Index>,
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
            OpenError::Wal(error) => error.fmt(f),
            OpenError::Database(error) => write!(f, "{error}; {}", error.advice()),
            OpenError::Mismatch(text) => f.write_str(text),
        }
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

/// The exclusive right to a data directory.
pub struct Lock {
    disk: Arc<FsDisk>,
}

/// A running node. Dropping it does not stop it; [`Node::stop`] does.
pub struct Node {
    handle: NodeHandle,
    threads: Vec<JoinHandle<()>>,
}

impl Node {
    /// Takes the data directory for this process; makes it when it is missing.
    ///
    /// # Errors
    /// Another process holds it (at once, without waiting), or it cannot be made.
    pub fn lock(data_dir: &Path) -> io::Result<Lock> {
        create_durably(data_dir)?;
        Ok(Lock { disk: Arc::new(FsDisk::open(&data_dir.join(WAL_DIR))?) })
    }

    /// Opens log and database and starts the threads. A new directory becomes a cluster of one.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed then, but for a torn end of the log that was cut off.
    pub fn open(lock: Lock, options: NodeOptions) -> Result<Node, OpenError> {
        let path = options.data_dir.join(DATABASE_FILE);
        let (mut wal, found) = open_wal(lock, &options, path.exists())?;
        let writer_options = WriterOptions { foreign_keys: options.foreign_keys, cluster: found.cluster_id };
        let agree = |applied| check_agreement(&found, applied, &options);
        let writer = Writer::open_if(&path, &writer_options, agree)?;
        let skip = entry_to_skip(&mut wal, &found, writer.applied().id, options.skip_entry)?;
        start(wal, found, writer, options, &path, skip)
    }

    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Finishes what is committed, makes the database durable, closes the files.
    pub fn stop(self) {
        let _ = self.handle.raft_tx.send(RaftInput::Stop);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Makes a directory and those above it, each durable in its parent: or a power cut could take the whole directory, with
/// everything that was acknowledged in it.
fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_durably(parent)?;
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::File::open(parent)?.sync_all()
}

/// A log that was lost while the database stayed must not be made anew: what this node promised would be forgotten.
fn open_wal(
    lock: Lock,
    options: &NodeOptions,
    database_exists: bool,
) -> Result<(Wal, raft::wal::Recovered), OpenError> {
    let fresh_id = (!database_exists).then(random_u128).transpose()?.map(ClusterId);
    let wal_options = WalOptions { segment_bytes: options.wal_segment_bytes, ..WalOptions::new(None, random_u64()?) };
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

/// The log must reach from where the database ends, or further back, to where it ends, or further on.
fn check_agreement(found: &raft::wal::Recovered, applied: LogId, options: &NodeOptions) -> Result<(), OpenError> {
    let dir = options.data_dir.display();
    if applied.index < found.first.index {
        return Err(OpenError::Mismatch(format!(
            "the database in {dir} holds the log up to {applied}, but the raft log begins only after {}: the database was \
             replaced by an older one, or lost. Restore the directory from a copy or a backup",
            found.first
        )));
    }
    if applied.index > found.last.index {
        return Err(OpenError::Mismatch(format!(
            "the database in {dir} holds the log up to {applied}, but the raft log ends at {}: acknowledged entries were \
             lost from the log. Do not start this copy; restore the directory from a copy or a backup",
            found.last
        )));
    }
    Ok(())
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

fn start(
    mut wal: Wal,
    found: raft::wal::Recovered,
    mut writer: Writer,
    options: NodeOptions,
    path: &Path,
    skip: Option<LogId>,
) -> Result<Node, OpenError> {
    if let Some(torn) = &found.torn {
        log::warn!(
            target: "raft",
            "the end of the log was torn by a crash and cut off: {} at byte {}: {}",
            torn.file, torn.offset, torn.reason
        );
    }
    let applied = writer.applied().id;
    let recovered = recovered(&mut wal, &found, &writer)?;
    let replica = replica(&options, recovered)?;
    let members = members(&replica);
    log::info!(
        target: "store",
        "raft log is {} bytes, first index is {}, last index is {}, database holds index {applied}",
        wal.segments_bytes(), found.first.index.next(), found.last.index,
    );

    let (raft_tx, raft_rx) = inbox(RAFT_INBOX_MAX);
    let (wal_tx, wal_rx) = inbox(WAL_INBOX_MAX);
    let (applier_tx, applier_rx) = inbox(APPLIER_INBOX_MAX);
    let shared = Arc::new(shared(&writer, members)?);
    let readers = Arc::new(Readers::open(
        path,
        ReaderOptions {
            foreign_keys: options.foreign_keys,
            connections_max: options.readers_max,
            read_time_max: options.read_timeout,
            ..ReaderOptions::default()
        },
    ));
    writer.attach_readers(Arc::clone(&readers));
    let bounds = LogBounds {
        purged_to: found.first,
        bytes: wal.segments_bytes(),
        database_durable: found.first,
        trailing_entries: options.snapshot.entries + options.snapshot.entries / 4,
        last_at_start: found.last.index,
    };
    let clock = EntryClock::new(writer.applied().time_us, random_u64()?);
    let raft = RaftThread::new(replica, raft_rx, Outbox::new(wal_tx, applier_tx), Arc::clone(&shared), clock, bounds);
    let wal = WalThread { wal, inbox: wal_rx, raft_tx: raft_tx.clone() };
    let policy = CompactionPolicy {
        entries: options.snapshot.entries,
        log_bytes: options.snapshot.wal_bytes.unwrap_or(0),
        interval: options.snapshot.interval,
    };
    // Of what the database holds, only that is surely on disk of which the log was once let go.
    let durable = found.first;
    let mut applier = ApplierThread::new(writer, applier_rx, raft_tx.clone(), Arc::clone(&shared), policy, durable);
    applier.skip(skip);
    let threads = vec![
        spawn_critical("wal", move || wal.run())?,
        spawn_critical("applier", move || applier.run())?,
        spawn_critical("raft", move || raft.run())?,
    ];
    let handle = NodeHandle { raft_tx, shared, readers, apply_timeout: options.apply_timeout };
    Ok(Node { handle, threads })
}

/// What the replica must know: the log's ends and terms, what is applied, and every membership from there on.
fn recovered(wal: &mut Wal, found: &raft::wal::Recovered, writer: &Writer) -> Result<Recovered, OpenError> {
    let applied = writer.applied().id;
    let mut memberships = Vec::new();
    let in_force = writer.membership()?;
    if !in_force.is_empty() {
        // It stands for everything applied, and what is applied is never taken back.
        memberships.push((applied.index, decode_membership(&in_force)?));
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

fn decode_membership(bytes: &[u8]) -> Result<Membership, OpenError> {
    Membership::decode(bytes).map_err(|error| OpenError::Mismatch(format!("a membership cannot be read: {error}")))
}

fn replica(options: &NodeOptions, recovered: Recovered) -> Result<Replica, OpenError> {
    let id = NodeId(options.node_id.as_str().into());
    let in_force = recovered.memberships.last().map(|(_, m)| m.clone());
    let incarnation = match in_force.as_ref().and_then(|m| m.get(&id)) {
        Some(member) => member.incarnation,
        None => Incarnation(random_u64()?.max(1)),
    };
    if let Some(membership) = &in_force
        && membership.get(&id).is_none()
    {
        let names: Vec<_> = membership.members().iter().map(|m| m.id.to_string()).collect();
        return Err(OpenError::Mismatch(format!(
            "the directory belongs to the cluster of {}, in which there is no node {id}: start it with the -node-id that \
             it had before",
            names.join(", ")
        )));
    }
    let mut config = Config::new(id.clone(), incarnation, random_u64()?);
    config.timing = timing(&options.timing);
    let mismatch = |error: &dyn fmt::Display| OpenError::Mismatch(format!("log and database do not fit: {error}"));
    let mut replica = Replica::new(config, recovered).map_err(|e| mismatch(&e))?;
    if in_force.is_none() {
        log::info!(target: "store", "bootstrapping single new node");
        let member =
            Member { id, incarnation, suffrage: Suffrage::Voter, address: options.raft_address.as_str().into() };
        let membership = Membership::new(vec![member]).map_err(|e| mismatch(&e))?;
        replica.bootstrap(membership).expect("the replica is pristine and the only voter");
    }
    Ok(replica)
}

/// The flags speak of timeouts; the replica also wants to know how often to send.
fn timing(flags: &RaftTiming) -> Timing {
    let ms = |d: Duration| (d.as_millis() as u64).max(1);
    let heartbeat_interval_ms = (ms(flags.heartbeat_timeout) / 10).max(1);
    Timing {
        heartbeat_interval_ms,
        election_timeout_ms: ms(flags.election_timeout),
        leader_lease_ms: ms(flags.leader_lease_timeout).max(2 * heartbeat_interval_ms),
        disk_stall_ms: ms(flags.election_timeout),
        commit_notify_ms: ms(flags.commit_timeout),
    }
}

fn members(replica: &Replica) -> Vec<MemberStatus> {
    let membership = replica.membership();
    let members = membership.iter().flat_map(|(_, m)| m.members());
    members
        .map(|m| MemberStatus {
            id: m.id.to_string(),
            addr: m.address.to_string(),
            voter: m.suffrage == Suffrage::Voter,
        })
        .collect()
}

fn shared(writer: &Writer, members: Vec<MemberStatus>) -> Result<Shared, OpenError> {
    let applied = writer.applied();
    Ok(Shared {
        applied: AppliedIndex::new(applied.id.index),
        applied_term: AtomicU64::new(applied.id.term.0),
        applied_time_us: AtomicI64::new(0),
        last_entry_time_us: AtomicI64::new(applied.time_us),
        changed_index: AtomicU64::new(applied.changed.0),
        last_vacuum_us: AtomicI64::new(applied.vacuum_us),
        last_optimize_us: AtomicI64::new(applied.optimize_us),
        created_us: AtomicI64::new(applied.created_us),
        strong_read_term: AtomicU64::new(0),
        caught_up: AtomicBool::new(false),
        syncing: AtomicBool::new(false),
        room: Arc::default(),
        wants_applied: AtomicBool::new(false),
        is_leader: AtomicBool::new(false),
        raft: Mutex::new(RaftStatus { state: "Follower", voter: true, ..RaftStatus::default() }),
        members: Mutex::new(members),
        leader: Mutex::new(None),
        pragmas_rw: writer.pragmas()?,
    })
}

fn random_u64() -> io::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(bytes))
}

fn random_u128() -> io::Result<u128> {
    Ok(u128::from(random_u64()?) << 64 | u128::from(random_u64()?))
}
