//! Start and stop of a node: its directory, its threads. What log and database hold is found out in `recover`.

use super::applied::AppliedIndex;
use super::applier_thread::{APPLIER_INBOX_MAX, ApplierThread, CompactionPolicy};
use super::clock::EntryClock;
use super::handle::{NodeHandle, Shared, Started};
use super::inbox::inbox;
use super::net_peers::NetPeers;
use super::outbox::Outbox;
use super::raft_peers::PeerNotes;
use super::raft_thread::{LogBounds, RAFT_INBOX_MAX, RaftInput, RaftThread};
use super::recover::{OpenError, Store};
use super::spawn::spawn_critical;
use super::verify::{Hashes, Quarantine};
use super::wal_thread::{WAL_INBOX_MAX, WalThread};
use crate::config::{RaftTiming, SnapshotConfig};
use crate::coordinator::status::{Member as MemberStatus, RaftStatus};
use crate::db::{ReaderOptions, Readers, Writer};
use crate::net::{Identity, NetHandle};
use crate::random;
use parking_lot::Mutex;
use raft::disk::FsDisk;
use raft::{
    ClusterId, Config, Incarnation, Index, LogId, Member, Membership, NodeId, Recovered, Replica, Suffrage, Timing,
};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The directory of the log, inside the data directory; its `LOCK` file guards both.
pub const WAL_DIR: &str = "raft-wal";
/// The database, as in rqlite: other processes may open it read-only.
pub const DATABASE_FILE: &str = "db.sqlite";

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
    /// No other node is to be joined: a directory without a cluster becomes one of its own.
    pub is_alone: bool,
    /// `-raft-remove-shutdown`.
    pub retires_when_removed: bool,
    pub timing: RaftTiming,
    pub snapshot: SnapshotConfig,
    /// An entry of the log that is to fail instead of being applied.
    pub skip_entry: Option<Index>,
}

/// Where a node comes from: decided before its log and database are made, because both belong to one cluster for ever.
#[derive(Clone, Debug)]
pub enum Origin {
    /// It has lived before.
    Existing,
    /// It becomes a cluster of its own.
    Single,
    /// An existing cluster has taken it in.
    Joined { cluster: ClusterId },
    /// It is one of those that form a cluster together.
    Formed { cluster: ClusterId, membership: Membership },
}

/// The exclusive right to a data directory; clones share it.
#[derive(Clone)]
pub struct Lock {
    pub(super) disk: Arc<FsDisk>,
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
        let disk = Arc::new(FsDisk::open(&data_dir.join(WAL_DIR))?);
        // Only the holder of the lock may: others' files may be in use.
        crate::db::backup::discard(data_dir)?;
        crate::db::load::discard(data_dir)?;
        Ok(Lock { disk })
    }

    /// Has a node lived in this directory before?
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn exists(data_dir: &Path) -> io::Result<bool> {
        if data_dir.join(DATABASE_FILE).exists() {
            return Ok(true);
        }
        for file in std::fs::read_dir(data_dir.join(WAL_DIR))? {
            if file?.path().extension().is_some_and(|extension| extension == "wal") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Starts the threads of a node on what was found or made; `recovered` is what the store holds now.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn start(
        store: Store,
        recovered: Recovered,
        incarnation: Incarnation,
        net: NetHandle,
    ) -> Result<Node, OpenError> {
        start(store, recovered, incarnation, net)
    }

    pub fn handle(&self) -> NodeHandle {
        self.handle.clone()
    }

    /// Finishes what is committed, makes the database durable, closes the files.
    pub fn stop(self) {
        self.handle.shared.stopping.store(true, Ordering::Release);
        self.handle.shared.pins.cancel();
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

fn start(store: Store, recovered: Recovered, incarnation: Incarnation, net: NetHandle) -> Result<Node, OpenError> {
    let Store { wal, found, mut writer, options, origin, skip } = store;
    let path = options.data_dir.join(DATABASE_FILE);
    let path = path.as_path();
    let replica = replica(&options, incarnation, recovered, &origin)?;
    let members = replica.membership().map_or_else(Vec::new, |(_, m)| member_statuses(m));
    log::info!(
        target: "store",
        "raft log is {} bytes, first index is {}, last index is {}, database holds index {}",
        wal.segments_bytes(), found.first.index.next(), found.last.index, writer.applied().id,
    );

    let (raft_tx, raft_rx) = inbox(RAFT_INBOX_MAX);
    let (wal_tx, wal_rx) = inbox(WAL_INBOX_MAX);
    let (applier_tx, applier_rx) = inbox(APPLIER_INBOX_MAX);
    let shared = Arc::new(shared(&writer, members, &options, &found)?);
    shared.hashes.begin_at(writer.applied().id.index);
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
    let clock = EntryClock::new(writer.applied().time_us, random::u64()?);
    net.identify(Identity { cluster: found.cluster_id, incarnation });
    let peers = NetPeers::new(net, path.to_owned(), raft_tx.clone(), Arc::clone(&shared));
    let notes = PeerNotes::new(Box::new(peers), options.retires_when_removed);
    let outbox = Outbox::new(wal_tx, applier_tx);
    let raft = RaftThread::new(replica, raft_rx, outbox, Arc::clone(&shared), clock, bounds, notes);
    let wal = WalThread { wal, inbox: wal_rx, raft_tx: raft_tx.clone() };
    let policy = CompactionPolicy {
        entries: options.snapshot.entries,
        log_bytes: options.snapshot.wal_bytes.unwrap_or(0),
        interval: options.snapshot.interval,
    };
    // Of what the database holds, only that is surely on disk of which the log was once let go.
    let durable = found.first;
    let mut applier = ApplierThread::new(
        writer,
        Arc::clone(&readers),
        applier_rx,
        raft_tx.clone(),
        Arc::clone(&shared),
        policy,
        durable,
    );
    applier.skip(skip);
    let threads = vec![
        spawn_critical("wal", move || wal.run())?,
        spawn_critical("applier", move || applier.run())?,
        spawn_critical("raft", move || raft.run())?,
    ];
    let handle = NodeHandle { raft_tx, shared, readers, apply_timeout: options.apply_timeout };
    Ok(Node { handle, threads })
}

fn replica(
    options: &NodeOptions,
    incarnation: Incarnation,
    recovered: Recovered,
    origin: &Origin,
) -> Result<Replica, OpenError> {
    let id = NodeId(options.node_id.as_str().into());
    let pristine = recovered.memberships.is_empty();
    let empty = recovered.last == LogId::default();
    let mut config = Config::new(id.clone(), incarnation, random::u64()?);
    config.timing = timing(&options.timing);
    let mismatch = |error: &dyn fmt::Display| OpenError::Mismatch(format!("log and database do not fit: {error}"));
    let mut replica = Replica::new(config, recovered).map_err(|e| mismatch(&e))?;
    let founding = match origin {
        _ if !pristine => None,
        // The process ended after it had made its log, and before the first entry was in it.
        Origin::Existing if !(empty && options.is_alone) => None,
        Origin::Joined { .. } => None,
        Origin::Single | Origin::Existing => {
            log::info!(target: "store", "bootstrapping single new node");
            let address = options.raft_address.as_str().into();
            let member = Member { id, incarnation, suffrage: Suffrage::Voter, address };
            Some(Membership::new(vec![member]).map_err(|e| mismatch(&e))?)
        }
        Origin::Formed { membership, .. } => Some(membership.clone()),
    };
    if let Some(membership) = founding {
        replica.bootstrap(membership).map_err(|e| mismatch(&format!("{e:?}")))?;
    }
    Ok(replica)
}

/// The flags speak of timeouts; the replica also wants to know how often to send.
fn timing(flags: &RaftTiming) -> Timing {
    let ms = |d: Duration| (d.as_millis() as u64).max(1);
    // Ten in a timeout of a second. Where less is asked for, four: a follower whose leader's connection ends asks for votes
    // after one interval, and that is no sooner than clients reckon who want a copy of 100 ms (`freshness`).
    let heartbeat_timeout_ms = ms(flags.heartbeat_timeout);
    let heartbeat_interval_ms = (heartbeat_timeout_ms / 10).max(100).min(heartbeat_timeout_ms / 4).max(1);
    Timing {
        heartbeat_interval_ms,
        election_timeout_ms: ms(flags.election_timeout),
        leader_lease_ms: ms(flags.leader_lease_timeout).max(2 * heartbeat_interval_ms),
        disk_stall_ms: ms(flags.election_timeout),
        commit_notify_ms: ms(flags.commit_timeout),
    }
}

/// The members as others see them.
pub fn member_statuses(membership: &Membership) -> Vec<MemberStatus> {
    let members = membership.members().iter();
    members
        .map(|m| MemberStatus {
            id: m.id.to_string(),
            addr: m.address.to_string(),
            voter: m.suffrage == Suffrage::Voter,
            learner: m.suffrage == Suffrage::Learner,
            incarnation: m.incarnation,
        })
        .collect()
}

fn shared(
    writer: &Writer,
    members: Vec<MemberStatus>,
    options: &NodeOptions,
    found: &raft::wal::Recovered,
) -> Result<Shared, OpenError> {
    let applied = writer.applied();
    let (last_log_index, last_log_term) = (found.last.index.0, found.last.term.0);
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
        gathers: AtomicBool::new(false),
        room: Arc::default(),
        wants_applied: AtomicBool::new(false),
        is_leader: AtomicBool::new(false),
        // Until the raft thread says more: a node that announces itself must not seem to have lost its log.
        raft: Mutex::new(RaftStatus {
            state: "Follower",
            voter: true,
            last_log_index,
            last_log_term,
            ..RaftStatus::default()
        }),
        members: Mutex::new(members),
        configuration: Mutex::default(),
        leader: Mutex::new(None),
        peers: Mutex::default(),
        leader_heard_ms: AtomicU64::new(0),
        started: Started::default(),
        cluster: found.cluster_id,
        hashes: Hashes::default(),
        quarantine: Quarantine::open(&options.data_dir),
        verify_wanted: AtomicBool::new(false),
        stopping: AtomicBool::new(false),
        pins: Arc::default(),
        pragmas_rw: writer.pragmas()?,
    })
}
