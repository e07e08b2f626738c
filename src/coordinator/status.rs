//! What a node knows of itself, as plain data for `/status`, `/nodes` and `/readyz`.

use crate::db::DbStatus;
use std::path::PathBuf;

/// A member of the cluster's configuration.
#[derive(Clone, Debug)]
pub struct Member {
    pub id: String,
    /// Raft address, host:port.
    pub addr: String,
    pub voter: bool,
}

/// The `store` part of `/status` that is not configuration. Times are microseconds since the Unix epoch, 0 = never.
#[derive(Clone, Debug)]
pub struct StoreStatus {
    pub dir: PathBuf,
    pub dir_bytes: u64,
    pub ready: bool,
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
    pub raft: RaftStatus,
    pub db: DbStatus,
}

#[derive(Clone, Debug)]
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
