//! A thin, safe layer over SQLite's C interface: connections, statements, a statement cache, callbacks.
//!
//! Any thread, but one thread at a time per connection (opened NOMUTEX). All `unsafe` of `db/` lives in this folder.
//! It must never interpret an error: whether a code is a client's SQL error or a failure of this machine is for the
//! callers to say.

mod cache;
mod connection;
mod error;
mod hooks;
mod math;
pub mod memory;
pub mod overlay;
mod statement;
mod vfs;
mod writeback;

pub use cache::{Cached, Script, StatementCache};
pub use connection::{Access, Connection, Interrupter, Limit};
pub use error::Error;
pub use hooks::{Arguments, AuthRequest, ScalarFunction, Verdict, Volatility};
pub use statement::{Statement, Step};
pub use vfs::{disk_failed, forget_disk_failure, localtime_is_utc, register_clock_vfs};
pub use writeback::{PORTION_BYTES, pace, write_out};

/// The name under which [`register_clock_vfs`] registers.
pub fn vfs_name() -> &'static std::ffi::CStr {
    c"ferrolite"
}

/// SQLite's result and action codes, by SQLite's names.
pub mod code {
    pub use rusqlite::ffi::{
        SQLITE_ABORT, SQLITE_AUTH, SQLITE_BUSY, SQLITE_CANTOPEN, SQLITE_CONSTRAINT, SQLITE_CORRUPT, SQLITE_ERROR,
        SQLITE_FULL, SQLITE_INTERNAL, SQLITE_INTERRUPT, SQLITE_IOERR, SQLITE_LOCKED, SQLITE_MISUSE, SQLITE_NOLFS,
        SQLITE_NOMEM, SQLITE_NOTADB, SQLITE_PERM, SQLITE_PROTOCOL, SQLITE_READONLY, SQLITE_SCHEMA, SQLITE_TOOBIG,
    };
    pub use rusqlite::ffi::{
        SQLITE_ALTER_TABLE, SQLITE_ANALYZE, SQLITE_ATTACH, SQLITE_CREATE_INDEX, SQLITE_CREATE_TABLE,
        SQLITE_CREATE_TEMP_INDEX, SQLITE_CREATE_TEMP_TABLE, SQLITE_CREATE_TEMP_TRIGGER, SQLITE_CREATE_TEMP_VIEW,
        SQLITE_CREATE_VTABLE, SQLITE_DELETE, SQLITE_DETACH, SQLITE_DROP_TEMP_INDEX, SQLITE_DROP_TEMP_TABLE,
        SQLITE_DROP_TEMP_TRIGGER, SQLITE_DROP_TEMP_VIEW, SQLITE_DROP_VTABLE, SQLITE_FUNCTION, SQLITE_INSERT,
        SQLITE_PRAGMA, SQLITE_READ, SQLITE_SAVEPOINT, SQLITE_SELECT, SQLITE_TRANSACTION, SQLITE_UPDATE,
    };
}
