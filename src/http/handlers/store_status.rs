//! The `store` part of `/status`: Raft, the state machine and SQLite.
//!
//! Pure but for the zone of the machine. Names that belong to an engine which this server does not have carry the
//! values that a script takes for "nothing to see".

use crate::coordinator::StoreStatus;
use crate::coordinator::status::RaftStatus;
use crate::db::DbStatus;
use crate::http::front::Api;
use crate::text::time::{Digits, ZERO, rfc3339_local};
use crate::text::{duration, size};
use serde_json::{Map, Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// Entries that this build keeps behind a snapshot when the request names no number: whole segments of the log stay, so
/// that there is no such count.
const TRAILING_LOGS: u64 = 0;
/// Version of what this server writes into its log.
const PROTOCOL_VERSION: u64 = 3;

/// The document of an open store.
pub fn store(api: &Api, status: &StoreStatus) -> Value {
    let mut store = summary(api, status);
    let mut more = settings(api);
    let members = store.as_object_mut().expect("a document is an object");
    members.append(more.as_object_mut().expect("a document is an object"));
    members.insert("raft".to_owned(), raft(api, status));
    members.insert("sqlite3".to_owned(), sqlite3(api, &status.db));
    // Only in an emergency, so that whoever looks for the word finds nothing else.
    if let Some(why) = &status.quarantine {
        members.insert("quarantine".to_owned(), json!(why));
    }
    if let Some(interval) = api.config.db.auto_vacuum_interval {
        members.insert("auto_vacuum".to_owned(), auto_vacuum(api, status, interval));
    }
    store
}

fn summary(api: &Api, status: &StoreStatus) -> Value {
    let (leader_id, leader_addr) = status.leader.clone().unwrap_or_default();
    let mut members: Vec<_> = status.members.iter().collect();
    members.sort_by(|a, b| a.id.as_bytes().cmp(b.id.as_bytes()));
    let nodes: Vec<Value> = members
        .iter()
        .map(|member| json!({"id": member.id, "addr": member.addr, "suffrage": suffrage(member.voter)}))
        .collect();
    json!({
        "addr": api.config.raft.adv_addr,
        "cdc": {"enabled": false, "registered": false},
        "db_applied_index": status.db_applied_index,
        "dir": status.dir.to_string_lossy(),
        "dir_size": status.dir_bytes,
        "dir_size_friendly": size::friendly(status.dir_bytes),
        "fsm_index": status.fsm_index,
        "fsm_term": status.fsm_term,
        "fsm_update_time": time(status.fsm_update_time_us),
        "leader": {"addr": leader_addr, "node_id": leader_id},
        "leader_appended_at_time": time(status.leader_appended_at_us),
        "node_id": api.config.node_id,
        "nodes": nodes,
        "observer": {"dropped": 0, "observed": 0},
        "open": true,
        "ready": status.ready,
        "snapshot_cas": {"owner": null},
        "snapshot_store": snapshot_store(status),
        "strong_read_term": status.strong_read_term,
    })
}

fn settings(api: &Api) -> Value {
    let (config, timing) = (&api.config, &api.config.timing);
    json!({
        "apply_timeout": duration::format(config.raft.apply_timeout),
        "commit_timeout": duration::format(timing.commit_timeout),
        "db_conf": {"fk_constraints": config.db.foreign_keys},
        "election_timeout": duration::format(timing.election_timeout),
        "heartbeat_timeout": duration::format(timing.heartbeat_timeout),
        "no_freelist_sync": false,
        "reap_read_only_timeout": duration::format(config.raft.reap_read_only_timeout.unwrap_or_default()),
        "reap_timeout": duration::format(config.raft.reap_timeout.unwrap_or_default()),
        "request_marshaler": {"compression_batch": 0, "compression_size": 0, "force_compression": false},
        "snapshot_interval": duration::format(config.snapshot.interval),
        "snapshot_threshold": config.snapshot.entries,
        "trailing_logs": TRAILING_LOGS,
    })
}

fn suffrage(voter: bool) -> &'static str {
    if voter { "voter" } else { "nonvoter" }
}

/// The database file is the one snapshot there is, once the log in front of it was let go.
fn snapshot_store(status: &StoreStatus) -> Value {
    let raft = &status.raft;
    let snapshots = match raft.last_snapshot_index {
        0 => Vec::new(),
        index => vec![format!("{}-{index}", raft.last_snapshot_term)],
    };
    json!({
        "dir": status.db.path.parent().unwrap_or(&status.dir).to_string_lossy(),
        "dir_size": status.db.file_bytes,
        "snapshots": snapshots,
    })
}

fn auto_vacuum(api: &Api, status: &StoreStatus, interval: Duration) -> Value {
    // A database that was never written to has no age: then it is this process's.
    let started_us = api.launch.started_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let from_us = match status.last_vacuum_us.max(status.created_us) {
        0 => i64::try_from(started_us).unwrap_or(i64::MAX),
        known => known,
    };
    let interval_us = i64::try_from(interval.as_micros()).unwrap_or(i64::MAX);
    let mut document = json!({"next_vacuum_after": time(from_us.saturating_add(interval_us))});
    if status.last_vacuum_us > 0 {
        document["last_vacuum"] = json!(time(status.last_vacuum_us));
    }
    document
}

fn raft(api: &Api, status: &StoreStatus) -> Value {
    let raft = &status.raft;
    json!({
        "applied_index": raft.applied_index,
        "bolt": {},
        "commit_index": raft.commit_index,
        "config": raft_config(api),
        "fsm_pending": raft.fsm_pending,
        "last_contact": last_contact(raft),
        "last_log_index": raft.last_log_index,
        "last_log_term": raft.last_log_term,
        "last_snapshot_index": raft.last_snapshot_index,
        "last_snapshot_term": raft.last_snapshot_term,
        "latest_configuration": latest_configuration(status),
        "latest_configuration_index": raft.configuration_index,
        "log_size": raft.log_bytes,
        "log_size_friendly": size::friendly(raft.log_bytes),
        "num_peers": raft.num_peers,
        "protocol_version": PROTOCOL_VERSION,
        "protocol_version_max": PROTOCOL_VERSION,
        "protocol_version_min": PROTOCOL_VERSION,
        "snapshot_version_max": 1,
        "snapshot_version_min": 1,
        "state": raft.state,
        "term": raft.term,
        "transport": {
            "command_commit_index": raft.commit_index,
            "compress_snap": api.config.cluster.compress_snapshots,
            "leader_commit_index": raft.commit_index,
        },
        "voter": raft.voter,
    })
}

/// Durations are nanoseconds here, and only here.
fn raft_config(api: &Api) -> Value {
    let (config, timing) = (&api.config, &api.config.timing);
    let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    json!({
        "CommitTimeout": ns(timing.commit_timeout),
        "ElectionTimeout": ns(timing.election_timeout),
        "HeartbeatTimeout": ns(timing.heartbeat_timeout),
        "LeaderLeaseTimeout": ns(timing.leader_lease_timeout),
        "LocalID": config.node_id,
        "LogLevel": config.raft.log_level_text,
        "MaxAppendEntries": 64,
        "NoSnapshotRestoreOnStart": true,
        "ShutdownOnRemove": config.raft.remove_shutdown,
        "SnapshotInterval": ns(config.snapshot.interval),
        "SnapshotThreshold": config.snapshot.entries,
    })
}

/// The number 0 on the leader, else a text.
fn last_contact(raft: &RaftStatus) -> Value {
    match raft.last_contact_ms {
        None => json!(0),
        Some(None) => json!("never"),
        Some(Some(ms)) => json!(duration::format(Duration::from_millis(ms))),
    }
}

fn latest_configuration(status: &StoreStatus) -> String {
    let member = |member: &crate::coordinator::status::Member| {
        let suffrage = if member.voter { "Voter" } else { "Nonvoter" };
        format!("{{Suffrage:{suffrage} ID:{} Address:{}}}", member.id, member.addr)
    };
    let members: Vec<String> = status.members.iter().map(member).collect();
    format!("[{}]", members.join(" "))
}

fn sqlite3(api: &Api, db: &DbStatus) -> Value {
    let path = db.path.to_string_lossy();
    let open = u64::from(db.readers_open);
    json!({
        "compile_options": db.compile_options,
        "conn_pool_stats": {
            "ro": pool(api.config.db.readers_max.unwrap_or(0) as u64, open, u64::from(db.readers_in_use)),
            "rw": pool(1, 1, 0),
        },
        "db_size": db.db_bytes,
        "db_size_friendly": size::friendly(db.db_bytes),
        "extensions": [],
        "last_modified": time(db.last_modified_us),
        "mem_stats": {
            "cache_size": db.cache_size,
            "freelist_count": db.freelist_count,
            "hard_heap_limit": 0,
            "max_page_count": db.max_page_count,
            "page_count": db.page_count,
            "page_size": db.page_bytes,
            "soft_heap_limit": 0,
        },
        "path": path,
        "pragmas": {"ro": pragmas(&db.pragmas_ro), "rw": pragmas(&db.pragmas_rw)},
        "ro_dsn": format!("file:{path}?mode=ro"),
        "rw_dsn": format!("file:{path}?mode=rwc"),
        "size": db.file_bytes,
        "transaction": {"ro": false, "rw": false},
        "version": db.version,
        "wal_size": db.wal_bytes,
    })
}

fn pragmas(list: &[(String, String)]) -> Map<String, Value> {
    list.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
}

fn pool(max: u64, open: u64, in_use: u64) -> Value {
    json!({
        "idle": open.saturating_sub(in_use),
        "in_use": in_use,
        "max_idle_closed": 0,
        "max_idle_time_closed": 0,
        "max_lifetime_closed": 0,
        "max_open_connections": max,
        "open_connections": open,
        "wait_count": 0,
        "wait_duration": 0,
    })
}

/// Microseconds since the epoch as a text; 0 is a time that never was.
fn time(unix_time_us: i64) -> String {
    match u64::try_from(unix_time_us) {
        Ok(0) | Err(_) => ZERO.to_owned(),
        Ok(us) => rfc3339_local(UNIX_EPOCH + Duration::from_micros(us), Digits::Nanos),
    }
}
