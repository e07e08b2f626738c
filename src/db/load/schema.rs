//! The schema of a database that a client has sent: one that clients could have made through the API, and nothing else.
//!
//! Everything in it is made again, in an empty database in memory, with all that holds for clients' own statements: the
//! authorizer, the limits, the modules and functions that there are. What is refused there is refused here, and so is a
//! catalogue that says something else than the definitions in it. Runs on the thread that checks the file.

use super::upload::told;
use crate::db::authorizer::{self, RESERVED_TABLE};
use crate::db::context::{self, As, Authority, Noticed};
use crate::db::shadow::{self, Names};
use crate::db::sqlite::{Access, Connection, Error, Step, code};
use crate::db::{functions, limits};
use std::path::Path;

/// Tables that SQLite itself keeps in a database, and their definitions.
const OF_SQLITE: [(&str, &str); 5] = [
    ("sqlite_sequence", "CREATE TABLE sqlite_sequence(name,seq)"),
    ("sqlite_stat1", "CREATE TABLE sqlite_stat1(tbl,idx,stat)"),
    ("sqlite_stat2", "CREATE TABLE sqlite_stat2(tbl,idx,sampleno,sample)"),
    ("sqlite_stat3", "CREATE TABLE sqlite_stat3(tbl,idx,neq,nlt,ndlt,sample)"),
    ("sqlite_stat4", "CREATE TABLE sqlite_stat4(tbl,idx,neq,nlt,ndlt,sample)"),
];
const AUTOMATIC_INDEX: &str = "sqlite_autoindex_";

/// A row of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    kind: String,
    name: String,
    table: String,
    /// `None`: an index that comes with its table.
    sql: Option<String>,
}

/// Does it hold our own table, as a copy of a node's database file does? This also reads the schema for the first time.
///
/// # Errors
/// The schema cannot be read; something else has that name.
pub(super) fn has_own_table(connection: &Connection) -> Result<bool, String> {
    let objects = read(connection)?;
    let starts_like_ours =
        |name: &str| name.get(..RESERVED_TABLE.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_TABLE));
    let ours: Vec<_> = objects.iter().filter(|o| starts_like_ours(&o.name) || starts_like_ours(&o.table)).collect();
    match ours.as_slice() {
        [] => Ok(false),
        [only] if only.kind == "table" && only.name == RESERVED_TABLE => Ok(true),
        _ => Err(format!("names that begin with {RESERVED_TABLE} are reserved")),
    }
}

/// Checks all of it, but for our own table, which must be gone.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(connection: &Connection) -> Result<(), String> {
    let objects = read(connection)?;
    let names = Names::read(connection).map_err(|fatal| fatal.text)?;
    if shadow::is_tampered(connection, &names).map_err(|fatal| fatal.text)? {
        return Err(shadow::TEXT_SHADOW.to_owned());
    }
    for object in &objects {
        let is_defined_so = |(name, sql): &(&str, &str)| object.name == *name && object.sql.as_deref() == Some(sql);
        let is_known = object.kind == "table" && OF_SQLITE.iter().any(is_defined_so)
            || object.kind == "index" && object.sql.is_none() && object.name.starts_with(AUTOMATIC_INDEX);
        if is_of_sqlite(&object.name) && !is_known {
            return Err(format!("the name {} is reserved", object.name));
        }
    }
    let wanted: Vec<_> = objects.into_iter().filter(|o| !is_of_sqlite(&o.name) && !names.is_shadow(&o.name)).collect();
    let made = {
        // What belongs to virtual tables comes with them, and is looked at above.
        let before = context::with(|c| c.names.replace(Names::NONE));
        let made = make_again(connection, &wanted, &names);
        context::with(|c| {
            c.names.replace(before);
            c.noticed.set(Noticed::NOTHING);
            c.refusal.set(None);
        });
        made?
    };
    let listed = |objects: Vec<Object>| {
        let mut listed: Vec<_> = objects.into_iter().map(|o| (o.kind, o.name, o.table)).collect();
        listed.sort();
        listed
    };
    let made = made.into_iter().filter(|o| !is_of_sqlite(&o.name) && !names.is_shadow(&o.name)).collect();
    let (wanted, made) = (listed(wanted), listed(made));
    match wanted.iter().find(|object| !made.contains(object)) {
        Some((kind, name, _)) => {
            Err(format!("the catalogue is damaged: its {kind} {name} is defined as something else"))
        }
        None if wanted.len() != made.len() => Err("the catalogue is damaged: something is missing in it".to_owned()),
        None => Ok(()),
    }
}

fn is_of_sqlite(name: &str) -> bool {
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

/// The catalogue in its own order.
fn read(connection: &Connection) -> Result<Vec<Object>, String> {
    let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY rowid";
    let (statement, _) = connection.prepare(sql).map_err(told)?;
    let mut rows = statement.expect("a query of our own is not empty");
    let mut objects = Vec::new();
    while rows.step().map_err(told)? == Step::Row {
        let text = |column| match std::str::from_utf8(rows.column_bytes(column)) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err("a name or a definition in the database is not UTF-8".to_owned()),
        };
        let sql = text(3)?;
        objects.push(Object { kind: text(0)?, name: text(1)?, table: text(2)?, sql: (!sql.is_empty()).then_some(sql) });
    }
    Ok(objects)
}

/// What comes before what: that which others may be made of.
fn rank(object: &Object, names: &Names) -> u8 {
    match object.kind.as_str() {
        "table" if names.is_virtual(&object.name) => 1,
        "table" => 0,
        "index" => 2,
        "view" => 3,
        _ => 4,
    }
}

fn make_again(connection: &Connection, objects: &[Object], names: &Names) -> Result<Vec<Object>, String> {
    let empty = Connection::open(Path::new(":memory:"), Access::ReadWrite, None).map_err(told)?;
    limits::set_all(&empty, 0);
    empty.harden(false).map_err(told)?;
    functions::install(&empty).map_err(told)?;
    empty.set_authorizer(authorizer::authorize_write);
    let computes = "SELECT s.name FROM sqlite_schema AS s, pragma_table_xinfo(s.name) AS c \
                    WHERE s.type = 'table' AND s.rootpage > 0 AND c.hidden IN (2, 3)";
    let computed = connection.query_texts(computes).map_err(told)?;
    let mut ordered: Vec<_> = objects.iter().collect();
    ordered.sort_by_key(|object| rank(object, names));
    for object in ordered {
        let Object { kind, name, sql, .. } = object;
        let Some(sql) = sql else {
            return Err(format!("the catalogue is damaged: its {kind} {name} has no definition"));
        };
        // Where `"text"` could come to mean a column later, an index over it would no longer agree with its table. A
        // constraint would only mean something else.
        let is_lasting = kind == "index" || computed.contains(name);
        empty.allow_strings_in_definitions(!is_lasting).map_err(told)?;
        make(&empty, sql).map_err(|text| format!("its {kind} {name}: {text}"))?;
    }
    read(&empty)
}

fn make(empty: &Connection, sql: &str) -> Result<(), String> {
    let begins = sql.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("create"));
    if !begins {
        return Err("its definition makes nothing".to_owned());
    }
    if let Some(refusal) = authorizer::ddl_refusal(sql) {
        return Err(refusal.to_owned());
    }
    let _as = As::new(Authority::Client);
    context::with(|c| c.refusal.set(None));
    let (statement, used) = empty.prepare(sql).map_err(refused)?;
    if !sql[used..].bytes().all(|byte| byte == b';' || byte.is_ascii_whitespace()) {
        return Err("its definition has something behind it".to_owned());
    }
    let Some(mut statement) = statement else { return Err("its definition is empty".to_owned()) };
    while statement.step().map_err(refused)? == Step::Row {}
    Ok(())
}

/// The authorizer's own words, where it was the one.
fn refused(error: Error) -> String {
    let refusal = context::with(|c| c.refusal.take());
    match refusal {
        Some(refusal) if error.primary() == code::SQLITE_AUTH => refusal.to_owned(),
        _ => told(error),
    }
}
