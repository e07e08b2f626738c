//! Is this program's SQLite the one that the state machine needs?
//!
//! Checked when a database is opened for writing, so that a wrong build never applies an entry. `fingerprint` is what
//! nodes compare before they talk.

use super::sqlite::{Access, Connection};
use std::path::Path;

/// Older ones can lose committed pages when the WAL restarts during a checkpoint.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Features that clients may rely on, and settings that results depend on.
const OPTIONS_REQUIRED: [&str; 14] = [
    "ENABLE_COLUMN_METADATA",
    "ENABLE_DBPAGE_VTAB",
    "ENABLE_DBSTAT_VTAB",
    "ENABLE_FTS3",
    "ENABLE_FTS3_PARENTHESIS",
    "ENABLE_FTS4",
    "ENABLE_FTS5",
    "ENABLE_GEOPOLY",
    "ENABLE_MATH_FUNCTIONS",
    "ENABLE_PREUPDATE_HOOK",
    "ENABLE_RTREE",
    "ENABLE_STAT4",
    "MAX_ATTACHED=1",
    "THREADSAFE=1",
];

/// Options that name the compiler rather than the behaviour.
const OPTIONS_OF_THE_TOOLCHAIN: [&str; 2] = ["COMPILER=", "ATOMIC_INTRINSICS="];

/// Some functions (`matchinfo`, `geopoly_blob`) give numbers in the machine's order of bytes.
const _: () = assert!(cfg!(target_endian = "little"), "replicas are little-endian");

/// # Errors
/// What is wrong with the build.
pub fn check() -> Result<(), String> {
    let version = rusqlite::version_number();
    if version < SQLITE_VERSION_MIN {
        return Err(format!("SQLite {} is too old", rusqlite::version()));
    }
    let options = compile_options()?;
    match OPTIONS_REQUIRED.iter().find(|o| !options.iter().any(|have| have == *o)) {
        Some(missing) => Err(format!("SQLite was compiled without {missing}")),
        None => Ok(()),
    }
}

/// `PRAGMA compile_options`, in SQLite's order.
///
/// # Errors
/// SQLite cannot open a database in memory.
pub fn compile_options() -> Result<Vec<String>, String> {
    let connection = Connection::open(Path::new(":memory:"), Access::ReadWrite, None).map_err(|e| e.to_string())?;
    connection.query_texts("PRAGMA compile_options").map_err(|e| e.to_string())
}

/// One line that is equal on two nodes exactly when they carry the same SQLite with the same options.
///
/// # Errors
/// As [`compile_options`].
pub fn fingerprint() -> Result<String, String> {
    let mut options = compile_options()?;
    options.retain(|o| !OPTIONS_OF_THE_TOOLCHAIN.iter().any(|t| o.starts_with(t)));
    Ok(format!("{} {}", rusqlite::version(), options.join(" ")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_build_fits() {
        assert_eq!(super::check(), Ok(()));
        assert!(super::fingerprint().unwrap().contains("MAX_ATTACHED=1"));
    }
}
