//! What the database says of itself, for `/status` (`store.sqlite3`).

use std::path::PathBuf;

/// See spec: `store.sqlite3`. Sizes are bytes; pragma values are texts, as `/status` shows them.
#[derive(Clone, Debug, Default)]
pub struct DbStatus {
    pub path: PathBuf,
    pub version: String,
    pub compile_options: Vec<String>,
    /// page_count * page_size.
    pub db_bytes: u64,
    pub file_bytes: u64,
    pub wal_bytes: u64,
    /// Modification time of the database file, microseconds since the Unix epoch.
    pub last_modified_us: i64,
    pub page_bytes: u64,
    pub page_count: u64,
    pub max_page_count: u64,
    pub freelist_count: u64,
    pub cache_size: i64,
    /// (name, value) in name order.
    pub pragmas_ro: Vec<(String, String)>,
    pub pragmas_rw: Vec<(String, String)>,
    pub readers_max: u32,
    pub readers_open: u32,
    pub readers_in_use: u32,
}
