//! What clients send and what an entry carries.

use super::{RequestId, Value};
use raft::Index;

/// A value for a placeholder. Item `n` of a statement's list (counted over all items, named ones included) binds
/// parameter number `n` when it has no name (or an empty one), and `:name`, `@name`, `$name` when it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    pub name: Option<String>,
    pub value: Value,
}

/// One SQL string as the client wrote it (it may hold several `;`-separated statements) with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub sql: String,
    pub parameters: Vec<Parameter>,
}

/// The statements of one HTTP request: applied as one log entry, never interleaved with others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    pub statements: Vec<Statement>,
    /// One transaction around all statements: any error rolls all of them back.
    pub transaction: bool,
    /// Prefix result columns with the table they come from (reads only).
    pub qualify_columns: bool,
    /// Most VM steps that all statements together may take while the entry is applied; 0 = no limit. `db_timeout` becomes
    /// this count before the entry is proposed, so that every replica stops at the same step.
    pub vm_steps_max: u64,
}

/// What to do to the database.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// `/db/execute`: rows only from statements that write and return rows (RETURNING).
    Execute(Request),
    /// `/db/request` with at least one write: rows from every statement that has columns.
    Request(Request),
    /// Changes nothing: a strong read waits for its place in the log, then reads (see coordinator).
    Barrier,
    /// Rebuild the database file, at the same index on every node (VACUUM renumbers rowids).
    Vacuum,
    /// `PRAGMA optimize` with this mask, at the same index on every node (statistics change plans).
    Optimize { mask: u32 },
    /// Compute the logical hash of the database at this index (`db::hash`). Changes nothing, but ends the applier's batch, so
    /// that the hash is of this index and no later one.
    Hash,
    /// What the majority holds the hash at `index` to be. Changes nothing.
    Verdict { index: Index, hash: [u8; 32] },
    /// `/db/load` with SQL: its strings run as those of `Execute`, but BEGIN, COMMIT and ROLLBACK hold in them, and so does
    /// `PRAGMA foreign_keys` up to their end. They answer numbers and no rows.
    Script(Request),
    /// Keeps a part of a database file that is on its way (`db::load`). The data stays as it is.
    LoadChunk(LoadChunk),
    /// Puts the file whose parts were kept in the place of the database.
    LoadCommit(LoadCommit),
}

/// One part of a database file: all parts but the last have [`LOAD_CHUNK_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadChunk {
    /// Drawn for each load, so that parts of two never mix.
    pub load: u128,
    /// Counted from 0.
    pub number: u32,
    /// 1 to [`LOAD_CHUNK_BYTES`].
    pub bytes: Vec<u8>,
}

/// What the parts make up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadCommit {
    pub load: u128,
    pub chunks: u32,
    /// The size of the file.
    pub bytes: u64,
    /// BLAKE3 of the file.
    pub hash: [u8; 32],
}

/// The size of a part: a multiple of every page size of SQLite, and far below what an entry may hold.
pub const LOAD_CHUNK_BYTES: usize = 1024 * 1024;

impl Action {
    /// The entry must be the last of its batch: something is to be done with exactly the database that it leaves.
    pub fn ends_batch(&self) -> bool {
        matches!(self, Action::Hash)
    }
}

/// The content of one log entry of kind `Command`.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The leader's wall clock in microseconds since the Unix epoch; never lower than in the entry before. The
    /// database's `now` while this entry is applied.
    pub unix_time_us: i64,
    /// Seeds `random()` and `randomblob()` while this entry is applied.
    pub seed: u64,
    pub action: Action,
    /// By what a repeat of it is known; `None`: it is applied as often as it stands in the log.
    pub request: Option<RequestId>,
}
