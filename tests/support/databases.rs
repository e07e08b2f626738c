//! Database files that clients send.

use super::{Node, Reply};
use ferrolite::db::sqlite::{Access, Connection};
use std::time::Duration;

/// The time that a load may take: far above what is demanded.
const LOAD_LIMIT: Duration = Duration::from_secs(120);

/// A database file made by SQL.
///
/// # Panics
/// The SQL fails.
pub fn made(sql: &str) -> Vec<u8> {
    let dir = super::TempDir::new("made");
    let path = dir.path().join("db");
    let connection = Connection::open(&path, Access::ReadWrite, None).expect("a file can be made");
    connection.execute(sql).expect(sql);
    drop(connection);
    std::fs::read(&path).expect("it is there")
}

/// Sends a body to `/db/load`.
///
/// # Panics
/// There is no answer.
pub fn load(node: &Node, params: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let mut client = node.client().with_timeout(LOAD_LIMIT);
    client.call("POST", &format!("/db/load{params}"), headers, body).expect("an answer")
}
