//! What a node knows of itself, as plain data for `/status`, `/nodes` and `/readyz`.

use super::Coordinator;
use crate::db::DbStatus;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

/// A member of the cluster's configuration.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub id: String,
    /// Raft address, host:port.
    pub addr: String,
    pub voter: bool,
    /// It will be a voter as soon as it has caught up.
    pub learner: bool,
    pub incarnation: raft::Incarnation,
}

/// The `store` part of `/status` that is not configuration. Times are microseconds since the Unix epoch, 0 = never.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    pub dir: PathBuf,
    pub dir_bytes: u64,
    pub ready: bool,
    /// Why this copy of the database serves nothing: it differs from the majority's.
    pub quarantine: Option<String>,
    pub leader: Option<(String, String)>,
    pub members: Vec<Member>,
    pub fsm_index: u64,
    pub fsm_term: u64,
    pub fsm_update_time_us: i64,
    /// Index of the last applied entry that could change data.
    pub db_applied_index: u64,
    pub strong_read_term: u64,
    pub leader_appended_at_us: i64,
    pub last_vacuum_us: i64,
    /// Time of the first write: where the interval of a VACUUM begins that never ran.
    pub created_us: i64,
    pub raft: RaftStatus,
    pub db: DbStatus,
}

#[derive(Clone, Debug, Default)]
pub struct RaftStatus {
    /// `Leader`, `Follower`, `Candidate` or `Shutdown`.
    pub state: &'static str,
    pub voter: bool,
    pub term: u64,
    pub last_log_index: u64,
    pub last_log_term: u64,
    pub commit_index: u64,
    pub applied_index: u64,
    pub fsm_pending: u64,
    /// Where the log starts: the last index that the database file alone is known to hold durably.
    pub last_snapshot_index: u64,
    pub last_snapshot_term: u64,
    pub configuration_index: u64,
    pub num_peers: u64,
    pub log_bytes: u64,
    /// `None` on the leader; else milliseconds since the leader was heard, if ever.
    pub last_contact_ms: Option<Option<u64>>,
}

impl Coordinator {
    /// Everything that `/status` says under `store`; `None` until the store is open.
    pub fn store_status(&self) -> Option<StoreStatus> {
        let node = self.node.get()?;
        let shared = node.shared();
        let mut raft = shared.raft.lock().clone();
        raft.applied_index = shared.applied.get().0;
        raft.last_contact_ms = match shared.is_leader.load(Ordering::Acquire) {
            true => None,
            false => Some(shared.leader_heard()),
        };
        raft.fsm_pending = raft.commit_index.saturating_sub(raft.applied_index);
        Some(StoreStatus {
            dir: self.settings.data_dir.clone(),
            dir_bytes: directory_bytes(&self.settings.data_dir),
            ready: self.is_ready(),
            quarantine: shared.quarantine.why(),
            leader: self.leader(),
            members: shared.members.lock().clone(),
            fsm_index: raft.applied_index,
            fsm_term: shared.applied_term.load(Ordering::Relaxed),
            fsm_update_time_us: shared.applied_time_us.load(Ordering::Relaxed),
            db_applied_index: shared.changed_index.load(Ordering::Relaxed),
            strong_read_term: shared.strong_read_term.load(Ordering::Relaxed),
            leader_appended_at_us: shared.last_entry_time_us.load(Ordering::Relaxed),
            last_vacuum_us: shared.last_vacuum_us.load(Ordering::Relaxed),
            created_us: shared.created_us.load(Ordering::Relaxed),
            raft,
            db: node.readers().database_status(shared.pragmas_rw.clone()).unwrap_or_default(),
        })
    }
}

/// Bytes of all files below a directory; what cannot be read counts nothing. Only sizes are asked for: opening the
/// database file here would drop SQLite's locks on it.
fn directory_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => directory_bytes(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}
