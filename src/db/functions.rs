//! SQL functions of the applier's connection whose built-in versions depend on the machine or on earlier entries.
//!
//! They run on the applier thread inside a step and read `context` only.

use super::context;
use super::sqlite::{Arguments, Connection, Error, Volatility};

/// What the connection's `last_insert_rowid` is set to when an entry begins: "nothing inserted yet". A rowid that
/// nobody chooses; an insert of exactly this one reads as 0.
pub const NO_ROWID: i64 = i64::MIN + 0x5eed_f00d;

/// Registers them all.
///
/// # Errors
/// SQLite refuses a registration.
pub fn install(connection: &Connection) -> Result<(), Error> {
    connection.create_function(c"random", 0, Volatility::PerRow, random)?;
    connection.create_function(c"randomblob", 1, Volatility::PerRow, randomblob)?;
    connection.create_function(c"last_insert_rowid", 0, Volatility::PerRow, last_insert_rowid)?;
    connection.create_function(c"total_changes", 0, Volatility::PerRow, total_changes)
}

fn random(arguments: &Arguments<'_>) {
    let value = context::with(|c| c.random.borrow_mut().next_u64()) as i64;
    // As SQLite does: never the one value whose abs() overflows.
    arguments.return_integer(if value < 0 { -(value & i64::MAX) } else { value });
}

fn randomblob(arguments: &Arguments<'_>) {
    let length = arguments.integer(0).max(1);
    if length > arguments.length_max() {
        return arguments.return_too_big();
    }
    let mut bytes = vec![0; usize::try_from(length).expect("bounded by a positive i32")];
    context::with(|c| c.random.borrow_mut().fill(&mut bytes));
    arguments.return_blob(&bytes);
}

/// The rowid of the last insert of this entry (or of the trigger that runs), 0 when there was none.
fn last_insert_rowid(arguments: &Arguments<'_>) {
    let rowid = arguments.last_insert_rowid();
    arguments.return_integer(if rowid == NO_ROWID { 0 } else { rowid });
}

/// Rows changed since the entry began.
fn total_changes(arguments: &Arguments<'_>) {
    let base = context::with(|c| c.total_changes_base.get());
    arguments.return_integer(arguments.total_changes() - base);
}
