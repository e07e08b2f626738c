//! The counters of `/debug/vars`, as one table of data: every name that clients chart, present from the start.
//!
//! A counter is a static that any thread may add to at any time, without locks; none of them guards anything. Names are
//! those of the API. Counters of things that cannot happen in this server stay at zero.

use super::Counter;

/// Declares a module of counters and the list of them, in the order of their names.
macro_rules! group {
    ($(#[$doc:meta])* $module:ident, $group:literal: $($constant:ident $name:literal,)*) => {
        $(#[$doc])*
        pub mod $module {
            use super::Counter;

            $(pub static $constant: Counter = Counter::new();)*

            pub(in crate::vars) static GROUP: super::Group = super::Group {
                name: $group,
                counters: &[$(($name, &$constant),)*],
            };
        }
    };
}

/// An entry of `/debug/vars`.
pub(super) struct Group {
    pub(super) name: &'static str,
    /// In the order of their names.
    pub(super) counters: &'static [(&'static str, &'static Counter)],
}

/// Every group, in the order of their names.
pub(super) static GROUPS: [&Group; 15] = [
    &cdc_service::GROUP,
    &cluster::GROUP,
    &db::GROUP,
    &db_wal::GROUP,
    &downloader::GROUP,
    &http::GROUP,
    &mux::GROUP,
    &proto::GROUP,
    &proxy::GROUP,
    &queue::GROUP,
    &snapshot::GROUP,
    &snapshot_plan::GROUP,
    &sql_processor::GROUP,
    &store::GROUP,
    &uploader::GROUP,
];

group! {
    /// Change data capture.
    cdc_service, "cdc.service":
        BATCHER_EVENTS_WRITE "batcher_events_write",
        BATCHER_READS "batcher_reads",
        BATCHER_WRITE_IGNORED "batcher_write_ignored",
        BATCHER_WRITES "batcher_writes",
        DROPPED_FAILED_TO_SEND "dropped_failed_to_send",
        FIFO_ENQUEUE_IGNORED "fifo_enqueue_ignored",
        FIFO_SIZE "fifo_size",
        HWM_IGNORED "hwm_ignored",
        NUM_BYTES_TX "num_bytes_tx",
        NUM_EVENTS_TX_FAILED "num_events_tx_failed",
        NUM_EVENTS_TX_OK "num_events_tx_ok",
        RETRIES "retries",
        SNAPSHOT_SYNC "snapshot_sync",
}

group! {
    /// Requests between nodes.
    cluster, "cluster":
        NUM_BACKUP_REQ "num_backup_req",
        NUM_BROADCAST_HWM_REQ "num_broadcast_hwm_req",
        NUM_CLIENT_EXECUTE_RETRIES "num_client_execute_retries",
        NUM_CLIENT_FORCE_NEW_CONN "num_client_force_new_conn",
        NUM_CLIENT_LOAD_RETRIES "num_client_load_retries",
        NUM_CLIENT_QUERY_RETRIES "num_client_query_retries",
        NUM_CLIENT_READ_TIMEOUTS "num_client_read_timeouts",
        NUM_CLIENT_REQUEST_RETRIES "num_client_request_retries",
        NUM_CLIENT_RETRIES "num_client_retries",
        NUM_CLIENT_WRITE_TIMEOUTS "num_client_write_timeouts",
        NUM_CONN_REJECTED "num_conn_rejected",
        NUM_EXECUTE_REQ "num_execute_req",
        NUM_GET_NODE_API_REQ "num_get_node_api_req",
        NUM_GET_NODE_API_REQ_LOCAL "num_get_node_api_req_local",
        NUM_GET_NODE_API_REQ_RETRIES "num_get_node_api_req_retries",
        NUM_GET_NODE_API_RESP "num_get_node_api_resp",
        NUM_HWM_UPDATE_DROPPED "num_hwm_update_dropped",
        NUM_JOIN_REQ "num_join_req",
        NUM_LOAD_REQ "num_load_req",
        NUM_NOTIFY_REQ "num_notify_req",
        NUM_QUERY_REQ "num_query_req",
        NUM_REMOVE_NODE_REQ "num_remove_node_req",
        NUM_REQUEST_REQ "num_request_req",
        NUM_STEPDOWN_REQ "num_stepdown_req",
}

group! {
    /// SQLite.
    db, "db":
        BACKUP_SLEEPS "backup_sleeps",
        BACKUP_STEP_DONES "backup_step_dones",
        BACKUP_STEP_ERRORS "backup_step_errors",
        CHECKPOINT_BUSY_ERRORS "checkpoint_busy_errors",
        CHECKPOINT_DURATION_MS "checkpoint_duration_ms",
        CHECKPOINT_ERRORS "checkpoint_errors",
        CHECKPOINT_INVARIANT_ERRORS "checkpoint_invariant_errors",
        CHECKPOINT_PARTIAL "checkpoint_partial",
        CHECKPOINT_TOTAL "checkpoint_total",
        CHECKPOINT_WAL_TRUNCATED "checkpoint_wal_truncated",
        CHECKPOINTED_MOVES "checkpointed_moves",
        CHECKPOINTS "checkpoints",
        COMMIT_HOOKS "commit_hooks",
        COMPACTED_WAL_SIZE "compacted_wal_size",
        CREATE_COMPACTED_WAL_DURATION_MS "create_compacted_wal_duration_ms",
        DROPPED_CDC_EVENTS "dropped_cdc_events",
        EXECUTE_TRANSACTIONS "execute_transactions",
        EXECUTION_ERRORS "execution_errors",
        EXECUTIONS "executions",
        EXECUTIONS_FORCE_QUERIES "executions_force_queries",
        OPEN_DURATION_MS "open_duration_ms",
        PRECOMPACT_WAL_SIZE "precompact_wal_size",
        PREUPDATES "preupdates",
        PREUPDATES_CALLBACK_ERRORS "preupdates_callback_errors",
        PREUPDATES_ERRORS "preupdates_errors",
        QUERIES "queries",
        QUERY_ERRORS "query_errors",
        QUERY_TRANSACTIONS "query_transactions",
        REQUEST_TRANSACTIONS "request_transactions",
        REQUESTS "requests",
        UPDATE_HOOKS "update_hooks",
        UPDATE_HOOKS_CALLBACK_ERRORS "update_hooks_callback_errors",
        UPDATE_HOOKS_ERRORS "update_hooks_errors",
}

group! {
    /// SQLite's write-ahead log.
    db_wal, "db.wal":
        COMPACT_FRAMES_INPUT "compact_frames_input",
        COMPACT_FRAMES_OUTPUT "compact_frames_output",
        COMPACT_FRAMES_RATIO "compact_frames_ratio",
        COMPACT_SCAN_DURATION_MS "compact_scan_duration_ms",
        COMPACT_SCAN_ERRORS "compact_scan_errors",
        COMPACT_WRITE_DURATION_MS "compact_write_duration_ms",
}

group! {
    /// Automatic restores.
    downloader, "downloader":
        DOWNLOAD_BYTES "download_bytes",
        NUM_DOWNLOADS_FAIL "num_downloads_fail",
        NUM_DOWNLOADS_OK "num_downloads_ok",
}

group! {
    /// What clients asked of the API.
    http, "http":
        AUTH_FAIL "auth_fail",
        AUTH_OK "auth_ok",
        BACKUPS "backups",
        BOOT "boot",
        EXECUTE_STMTS_RX "execute_stmts_rx",
        EXECUTIONS "executions",
        LEADER_NOT_FOUND "leader_not_found",
        LOADS "loads",
        NUM_READYZ "num_readyz",
        NUM_STATUS "num_status",
        QUERIES "queries",
        QUERY_STMTS_RX "query_stmts_rx",
        QUEUED_EXECUTIONS "queued_executions",
        QUEUED_EXECUTIONS_FAILED "queued_executions_failed",
        QUEUED_EXECUTIONS_LEADERSHIP_LOST "queued_executions_leadership_lost",
        QUEUED_EXECUTIONS_NO_LEADER "queued_executions_no_leader",
        QUEUED_EXECUTIONS_NOT_LEADER "queued_executions_not_leader",
        QUEUED_EXECUTIONS_NUM_STMTS_RX "queued_executions_num_stmts_rx",
        QUEUED_EXECUTIONS_NUM_STMTS_TX "queued_executions_num_stmts_tx",
        QUEUED_EXECUTIONS_OK "queued_executions_ok",
        QUEUED_EXECUTIONS_UNKNOWN_ERROR "queued_executions_unknown_error",
        QUEUED_EXECUTIONS_WAIT "queued_executions_wait",
        QUEUED_EXECUTIONS_WAIT_TIMEOUT "queued_executions_wait_timeout",
        REQUEST_STMTS_RX "request_stmts_rx",
        REQUESTS "requests",
        SQL_ANALYZE "sql_analyze",
        TLS_CERT_FETCHED "tls_cert_fetched",
        UI "ui",
        USER_REAPS "user_reaps",
        USER_SNAPSHOTS "user_snapshots",
}

group! {
    /// Connections between nodes.
    mux, "mux":
        NUM_CONNECTIONS_HANDLED "num_connections_handled",
        NUM_TLS_CERT_FETCHED "num_tls_cert_fetched",
        NUM_UNREGISTERED_HANDLERS "num_unregistered_handlers",
}

group! {
    /// Encoding of log entries.
    proto, "proto":
        NUM_COMPRESSED_BYTES "num_compressed_bytes",
        NUM_COMPRESSED_REQUESTS "num_compressed_requests",
        NUM_COMPRESSION_MISSES "num_compression_misses",
        NUM_PRECOMPRESSED_BYTES "num_precompressed_bytes",
        NUM_REQUESTS "num_requests",
        NUM_UNCOMPRESSED_BYTES "num_uncompressed_bytes",
        NUM_UNCOMPRESSED_REQUESTS "num_uncompressed_requests",
}

group! {
    /// Requests that were passed on to the leader.
    proxy, "proxy":
        REMOTE_BACKUPS "remote_backups",
        REMOTE_EXECUTIONS "remote_executions",
        REMOTE_EXECUTIONS_FAILED "remote_executions_failed",
        REMOTE_LOADS "remote_loads",
        REMOTE_QUERIES "remote_queries",
        REMOTE_QUERIES_FAILED "remote_queries_failed",
        REMOTE_REMOVE_NODE "remote_remove_node",
        REMOTE_REQUESTS "remote_requests",
        REMOTE_REQUESTS_FAILED "remote_requests_failed",
        REMOTE_STEPDOWNS "remote_stepdowns",
}

group! {
    /// Queued writes.
    queue, "queue":
        NUM_FLUSH "num_flush",
        NUM_TIMEOUT "num_timeout",
        OBJECTS_RX "objects_rx",
        OBJECTS_TX "objects_tx",
}

group! {
    /// Snapshots.
    snapshot, "snapshot":
        AUTO_REAP_DURATION_MS "auto_reap_duration_ms",
        PERSIST_DURATION_MS "persist_duration_ms",
        PERSIST_SIZE "persist_size",
        READ_TIMEOUT_TOTAL "read_timeout_total",
        REAP_ERRORS "reap_errors",
        REAP_EXECUTE_DURATION_MS "reap_execute_duration_ms",
        REAP_PLAN_RECOVERED "reap_plan_recovered",
        REAP_SNAPSHOTS "reap_snapshots",
        REAP_TOTAL "reap_total",
        REAP_WALS "reap_wals",
        SINK_ERRORS "sink_errors",
        SINK_FULL_CRC32_DURATION_MS "sink_full_crc32_duration_ms",
        SINK_FULL_TOTAL "sink_full_total",
        SINK_INCREMENTAL_TOTAL "sink_incremental_total",
        UPGRADE_FAIL "upgrade_fail",
        UPGRADE_OK "upgrade_ok",
}

group! {
    /// Steps of snapshots.
    snapshot_plan, "snapshot.plan":
        CALC_CRC32_DURATION_MS "calc_crc32_duration_ms",
        CHECKPOINT_DURATION_MS "checkpoint_duration_ms",
}

group! {
    /// Rewriting of SQL, which this server does not need.
    sql_processor, "sql.processor":
        NUM_PARSER_PANICS "num_parser_panics",
        NUM_REWRITTEN_STMTS "num_rewritten_stmts",
}

group! {
    /// The replicated store.
    store, "store":
        AUTO_OPTIMIZE_DURATION "auto_optimize_duration",
        AUTO_VACUUM_DURATION "auto_vacuum_duration",
        FAILED_HEARTBEAT_OBSERVED "failed_heartbeat_observed",
        FSM_APPLY_DURATION_US "fsm_apply_duration_us",
        LEADER_CHANGES_DROPPED "leader_changes_dropped",
        LEADER_CHANGES_OBSERVED "leader_changes_observed",
        NODES_REAPED_FAILED "nodes_reaped_failed",
        NODES_REAPED_OK "nodes_reaped_ok",
        NUM_AUTO_OPTIMIZES "num_auto_optimizes",
        NUM_AUTO_OPTIMIZES_FAILED "num_auto_optimizes_failed",
        NUM_AUTO_RESTORES "num_auto_restores",
        NUM_AUTO_RESTORES_FAILED "num_auto_restores_failed",
        NUM_AUTO_RESTORES_SKIPPED "num_auto_restores_skipped",
        NUM_AUTO_VACUUMS "num_auto_vacuums",
        NUM_AUTO_VACUUMS_FAILED "num_auto_vacuums_failed",
        NUM_BACKUPS "num_backups",
        NUM_BOOTS "num_boots",
        NUM_COMPRESSED_COMMANDS "num_compressed_commands",
        NUM_DB_STATS_ERRORS "num_db_stats_errors",
        NUM_IGNORED_JOINS "num_ignored_joins",
        NUM_JOINS "num_joins",
        NUM_LOADS "num_loads",
        NUM_PROVIDER_CHECKS "num_provider_checks",
        NUM_PROVIDER_PROVIDES "num_provider_provides",
        NUM_PROVIDER_PROVIDES_FAIL "num_provider_provides_fail",
        NUM_RECOVERIES "num_recoveries",
        NUM_REMOVED_BEFORE_JOINS "num_removed_before_joins",
        NUM_RESTORES "num_restores",
        NUM_RESTORES_FAILED "num_restores_failed",
        NUM_RESTORES_START "num_restores_start",
        NUM_RESTORES_START_SKIPPED "num_restores_start_skipped",
        NUM_SNAPSHOT_PERSISTS "num_snapshot_persists",
        NUM_SNAPSHOT_PERSISTS_FAILED "num_snapshot_persists_failed",
        NUM_SNAPSHOTS "num_snapshots",
        NUM_SNAPSHOTS_FAILED "num_snapshots_failed",
        NUM_SNAPSHOTS_FULL "num_snapshots_full",
        NUM_SNAPSHOTS_INCREMENTAL "num_snapshots_incremental",
        NUM_UNCOMPRESSED_COMMANDS "num_uncompressed_commands",
        NUM_USER_SNAPSHOTS "num_user_snapshots",
        NUM_USER_SNAPSHOTS_FAILED "num_user_snapshots_failed",
        NUM_VERIFY_LEADER "num_verify_leader",
        NUM_VERIFY_LEADER_FAILED "num_verify_leader_failed",
        NUM_WAL_SNAPSHOTS "num_wal_snapshots",
        NUM_WAL_SNAPSHOTS_FAILED "num_wal_snapshots_failed",
        SNAPSHOT_CRC32_CREATE_DURATION "snapshot_crc32_create_duration",
        SNAPSHOT_CREATE_DURATION "snapshot_create_duration",
        SNAPSHOT_PERSIST_DURATION "snapshot_persist_duration",
        SNAPSHOT_SYNC_DURATION "snapshot_sync_duration",
        VERIFY_LEADER_DURATION "verify_leader_duration",
}

group! {
    /// Automatic backups.
    uploader, "uploader":
        LAST_UPLOAD_BYTES "last_upload_bytes",
        NUM_SUM_GET_FAIL "num_sum_get_fail",
        NUM_UPLOADS_FAIL "num_uploads_fail",
        NUM_UPLOADS_OK "num_uploads_ok",
        NUM_UPLOADS_SKIPPED "num_uploads_skipped",
        NUM_UPLOADS_SKIPPED_ID "num_uploads_skipped_id",
        TOTAL_UPLOAD_BYTES "total_upload_bytes",
}
