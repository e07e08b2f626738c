//! How the log fails.
//!
//! Pure values. All but `Purged` and `TooLarge` are fatal to the node: the log refuses everything after them and
//! the process must stop. None of them may ever become a client's result.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::{ClusterId, LogId};

/// Why the log refused a call. Cloneable, because a failed log answers every later call with its first error.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum WalError {
    /// The disk failed. `op` is the system's name of the call.
    Io { op: &'static str, file: String, source: Arc<io::Error> },
    /// No space left, or the quota is used up.
    DiskFull { op: &'static str, file: String },
    /// What was once durable cannot be read back. Never repaired here: the entries are lost on this node and
    /// must come from another one.
    Corrupt { file: String, offset: u64, reason: String },
    /// The file was written by a version that this one does not know.
    Version { file: String, found: u32 },
    /// The log belongs to another cluster.
    ForeignCluster { expected: ClusterId, found: ClusterId },
    /// There is no log in this directory and none was to be created.
    NoLog,
    /// There is a log already where a new one was to be created.
    Exists,
    /// The caller asked for entries that were purged; `first` is the id before the oldest entry.
    Purged { first: LogId },
    /// The payload or the vote's name is larger than a record may be. Nothing was written.
    TooLarge { bytes: u64, bytes_max: u64 },
}

impl WalError {
    /// Whether the process must stop. The others are answers to one call.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, WalError::Purged { .. } | WalError::TooLarge { .. })
    }

    pub(super) fn io(op: &'static str, file: &str, source: io::Error) -> WalError {
        let file = file.to_string();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WalError::DiskFull { op, file },
            _ => WalError::Io { op, file, source: Arc::new(source) },
        }
    }

    pub(super) fn corrupt(file: &str, offset: u64, reason: impl Into<String>) -> WalError {
        WalError::Corrupt { file: file.to_string(), offset, reason: reason.into() }
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalError::Io { op, file, source } => {
                write!(f, "the log cannot go on: {op} of {file} failed: {source}; restart the node once the disk works")
            }
            WalError::DiskFull { op, file } => {
                write!(
                    f,
                    "the log cannot go on: no space left for {op} of {file}; free some space and restart the node"
                )
            }
            WalError::Corrupt { file, offset, reason } => write!(
                f,
                "the log is damaged: {file} at byte {offset}: {reason}. Nothing was cut or repaired. Keep a copy of \
                 the directory, check the disk, then remove this node from the cluster and let it join again as a \
                 new one with an empty directory (or restore a backup if it is the only one)"
            ),
            WalError::Version { file, found } => {
                write!(
                    f,
                    "{file} has log format {found}, which this version does not know; run the version that wrote it"
                )
            }
            WalError::ForeignCluster { expected, found } => {
                write!(f, "the log belongs to cluster {found}, not to {expected}: this is another node's directory")
            }
            WalError::NoLog => write!(f, "there is no log in the directory"),
            WalError::Exists => write!(f, "there is a log in the directory already"),
            WalError::Purged { first } => write!(f, "entries up to {first} are no longer in the log"),
            WalError::TooLarge { bytes, bytes_max } => {
                write!(f, "{bytes} bytes do not fit one record of the log, which holds {bytes_max}")
            }
        }
    }
}

impl std::error::Error for WalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            WalError::Io { source, .. } => Some(source.as_ref()),
            _ => None,
        }
    }
}
