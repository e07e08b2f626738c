//! What SQLite's callbacks need to know while a statement runs: the entry's clock and random numbers, on whose behalf
//! SQL is compiled, and what was noticed on the way.
//!
//! One per thread, because callbacks run on the thread that steps. The applier fills it around each statement; on all
//! other threads it stays at its defaults (real time, internal authority unless set).

use super::random::Random;
use super::shadow::Names;
use std::cell::{Cell, RefCell};

/// On whose behalf SQL is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// Our own SQL: everything is allowed.
    Internal,
    /// A client's statement.
    Client,
    /// A statement of a client's script, which may also end and begin transactions.
    Script,
    /// VACUUM while it runs: SQLite attaches a nameless scratch database.
    Vacuum,
}

/// What a statement of a script does to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    Begin,
    Commit,
    Rollback,
}

/// What compiling a statement showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noticed {
    /// `PRAGMA optimize` with this mask was asked for.
    pub optimize: Option<u32>,
    /// Planner statistics are written (ANALYZE, or DML on `sqlite_stat*`).
    pub statistics: bool,
    /// `PRAGMA defer_foreign_keys` was set.
    pub defer_foreign_keys: bool,
    /// A column is read; the clock is asked.
    pub reads: bool,
    pub asks_clock: bool,
    /// A virtual table is created, written or dropped.
    pub writes_virtual: bool,
    /// A table is created; something is selected. Both: CREATE TABLE AS SELECT.
    pub creates_table: bool,
    pub selects: bool,
    /// In a script: BEGIN, COMMIT or ROLLBACK; `PRAGMA foreign_keys` with this value.
    pub control: Option<Control>,
    pub foreign_keys: Option<bool>,
}

impl Noticed {
    pub const NOTHING: Noticed = Noticed {
        optimize: None,
        statistics: false,
        defer_foreign_keys: false,
        reads: false,
        asks_clock: false,
        writes_virtual: false,
        creates_table: false,
        selects: false,
        control: None,
        foreign_keys: None,
    };
}

impl Noticed {
    /// Planner statistics are made anew, or may be.
    pub fn gathers_statistics(&self) -> bool {
        self.statistics || self.optimize.is_some()
    }
}

pub struct Context {
    /// The database's `now` in microseconds since the Unix epoch; `None`: the machine's.
    pub now_us: Cell<Option<i64>>,
    pub authority: Cell<Authority>,
    /// Why the authorizer refused, when SQLite's own text would say too little.
    pub refusal: Cell<Option<&'static str>>,
    pub noticed: Cell<Noticed>,
    /// The connection's `total_changes` when the entry began.
    pub total_changes_base: Cell<i64>,
    pub random: RefCell<Random>,
    /// Pages in the WAL after the last commit.
    pub wal_pages: Cell<u32>,
    /// VM steps that the running statement may still take.
    pub steps_left: Cell<u64>,
    /// The same for statements that run inside it.
    pub inner_steps_left: Cell<u64>,
    pub steps_exceeded: Cell<bool>,
    /// See `rowids`: ordinary tables that (may) hold the largest rowid, and a digest of the rowids of other rows that
    /// the running statement wrote into them; 0: none.
    pub full_tables: RefCell<Vec<String>>,
    pub suspect_digest: Cell<u64>,
    /// Of virtual tables and what belongs to them.
    pub(super) names: RefCell<Names>,
}

thread_local! {
    static CONTEXT: Context = const {
        Context {
            now_us: Cell::new(None),
            authority: Cell::new(Authority::Internal),
            refusal: Cell::new(None),
            noticed: Cell::new(Noticed::NOTHING),
            total_changes_base: Cell::new(0),
            random: RefCell::new(Random::new([0; 8])),
            steps_left: Cell::new(0),
            inner_steps_left: Cell::new(0),
            wal_pages: Cell::new(0),
            steps_exceeded: Cell::new(false),
            full_tables: RefCell::new(Vec::new()),
            suspect_digest: Cell::new(0),
            names: RefCell::new(Names::NONE),
        }
    };
}

/// Runs `f` on this thread's context.
pub fn with<T>(f: impl FnOnce(&Context) -> T) -> T {
    CONTEXT.with(f)
}

/// Gives the thread an authority until dropped; then the one before comes back.
pub struct As(Authority);

impl As {
    pub fn new(authority: Authority) -> As {
        As(with(|c| c.authority.replace(authority)))
    }
}

impl Drop for As {
    fn drop(&mut self) {
        with(|c| c.authority.set(self.0));
    }
}
