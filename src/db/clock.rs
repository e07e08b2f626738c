//! The database's clock: the entry's time on the applier while an entry is applied, the machine's time elsewhere.
//!
//! It reaches `datetime('now')`, `CURRENT_TIMESTAMP`, defaults, triggers and generated values through the VFS, which
//! SQLite asks once per statement.

use super::{context, sqlite};

/// Makes the clock (and UTC as the meaning of `localtime`) known to SQLite. Any number of times, from any thread.
pub fn install() {
    sqlite::register_clock_vfs(|| context::with(|c| c.now_us.get()));
    sqlite::localtime_is_utc();
}
