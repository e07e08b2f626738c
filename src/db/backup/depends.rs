//! Which tables a view reads. SQLite says so itself while it compiles a SELECT from the view.

use crate::db::rowids::identifier;
use crate::db::sqlite::{AuthRequest, Connection, Verdict, code};
use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static READ: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

fn note(request: &AuthRequest<'_>) -> Verdict {
    if request.action == code::SQLITE_READ
        && let Some(table) = request.first
    {
        READ.with_borrow_mut(|read| read.insert(table.to_owned()));
    }
    Verdict::Allow
}

/// Names of the tables and views that `view` reads, itself perhaps among them. `None`: it cannot be compiled. From here on
/// the connection notes what it compiles, which does nothing.
pub(super) fn of_view(connection: &Connection, view: &str) -> Option<BTreeSet<String>> {
    READ.take();
    connection.set_authorizer(note);
    let compiled = connection.prepare(&format!("SELECT * FROM main.{}", identifier(view)));
    let read = READ.take();
    compiled.is_ok().then_some(read)
}
