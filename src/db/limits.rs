//! SQLite's run-time limits. They are constants that all nodes share: a limit that fails a statement while an entry is
//! applied must fail it on every node.

use super::sqlite::{Connection, Limit};

/// Longest text, blob or row, in bytes. Bounds also what one uninterruptible opcode can cost (`hex(zeroblob(N))`), and
/// how much memory: an expression may hold several of them at a time.
pub const VALUE_BYTES_MAX: i32 = 16 * 1024 * 1024;
/// Longest single SQL statement, in bytes.
pub const SQL_BYTES_MAX: i32 = 16 * 1024 * 1024;
/// Columns of a table, index, view or result; SQLite's default.
pub const COLUMNS_MAX: i32 = 2000;
/// Depth of an expression's parse tree; SQLite's default.
pub const EXPR_DEPTH_MAX: i32 = 1000;
/// Terms of a compound SELECT; SQLite's default.
pub const COMPOUND_SELECT_MAX: i32 = 500;
/// Opcodes of a prepared statement.
pub const VDBE_OPS_MAX: i32 = 25_000_000;
/// Arguments of a function; as in SQLite before 3.48. JSON builders take many.
pub const FUNCTION_ARGS_MAX: i32 = 1000;
/// Length of a LIKE or GLOB pattern in bytes. Longer ones can take quadratic time, and each `%` in one is a call on the
/// stack that matches it.
pub const LIKE_PATTERN_BYTES_MAX: i32 = 5_000;
/// The largest parameter number; SQLite's default.
pub const VARIABLES_MAX: i32 = 32_766;
/// Recursion of triggers, and how many may be nested while they are compiled, which is done on the stack; SQLite's
/// default.
pub const TRIGGER_DEPTH_MAX: i32 = 1000;

/// Most bytes of rows that one log entry may answer; they are held in memory until the client has them.
pub const ENTRY_RESULT_BYTES_MAX: usize = crate::command::outcome::VALUES_BYTES_MAX;

/// Sets every limit. `attached` is 1 only where VACUUM has to run, which attaches its scratch file.
pub fn set_all(connection: &Connection, attached: i32) {
    let limits = [
        (Limit::Length, VALUE_BYTES_MAX),
        (Limit::SqlLength, SQL_BYTES_MAX),
        (Limit::Column, COLUMNS_MAX),
        (Limit::ExprDepth, EXPR_DEPTH_MAX),
        (Limit::CompoundSelect, COMPOUND_SELECT_MAX),
        (Limit::VdbeOp, VDBE_OPS_MAX),
        (Limit::FunctionArg, FUNCTION_ARGS_MAX),
        (Limit::Attached, attached),
        (Limit::LikePatternLength, LIKE_PATTERN_BYTES_MAX),
        (Limit::VariableNumber, VARIABLES_MAX),
        (Limit::TriggerDepth, TRIGGER_DEPTH_MAX),
        (Limit::WorkerThreads, 0),
    ];
    for (limit, value) in limits {
        connection.set_limit(limit, value);
    }
}
