//! The tables in which virtual tables keep their data ("shadow tables").
//!
//! Applier thread only. SQLite refuses to write, alter or drop them and to put triggers on them, but neither indexes nor
//! foreign keys. With those, SQLite takes a savepoint around a write; FTS5 writes on each savepoint, and so without end until
//! the stack is used up.

use super::context;
use super::fatal::Fatal;
use super::rowids;
use super::sqlite::{Connection, Error};
use super::tokens::{Token, Tokens};

pub const TEXT_SHADOW: &str = "indexes and foreign keys on tables that belong to virtual tables are not allowed";
pub const TEXT_TAMPERED: &str =
    "an index or a foreign key on a table that belongs to a virtual table stands against this: drop it first";

/// Modules and the endings of their tables' names.
const MODULES: [(&[&str], &[&str]); 3] = [
    (&["fts5"], &["config", "content", "data", "docsize", "idx"]),
    (&["fts3", "fts4"], &["content", "docsize", "segdir", "segments", "stat"]),
    (&["rtree", "rtree_i32", "geopoly"], &["node", "parent", "rowid"]),
];

/// Names of the database's virtual tables, and of the tables that belong to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub virtual_tables: Vec<String>,
    pub shadow_tables: Vec<String>,
}

impl Names {
    pub const NONE: Names = Names { virtual_tables: Vec::new(), shadow_tables: Vec::new() };

    pub fn read(connection: &Connection) -> Result<Names, Fatal> {
        let of_virtual = "FROM sqlite_schema WHERE type = 'table' AND rootpage = 0 ORDER BY rowid";
        let failed = |error: Error| Fatal::sqlite("looking for virtual tables", &error);
        let virtual_tables = connection.query_texts(&format!("SELECT name {of_virtual}")).map_err(failed)?;
        let sql = connection.query_texts(&format!("SELECT sql {of_virtual}")).map_err(failed)?;
        let mut shadow_tables = Vec::new();
        for (name, sql) in virtual_tables.iter().zip(&sql) {
            shadow_tables.extend(endings(module(sql)).iter().map(|ending| format!("{name}_{ending}")));
        }
        Ok(Names { virtual_tables, shadow_tables })
    }

    pub fn is_virtual(&self, name: &str) -> bool {
        self.virtual_tables.iter().any(|table| table.eq_ignore_ascii_case(name))
    }

    pub fn is_shadow(&self, name: &str) -> bool {
        self.shadow_tables.iter().any(|table| table.eq_ignore_ascii_case(name))
    }
}

/// The module in the text of a CREATE VIRTUAL TABLE as SQLite keeps it.
fn module(sql: &str) -> &str {
    // CREATE VIRTUAL TABLE name USING module: the name may itself be "using".
    let mut tokens = Tokens::new(sql).skip(4);
    tokens.find(|token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("using")));
    match tokens.next() {
        Some(Token::Word(module) | Token::Quoted(module)) => module,
        _ => "",
    }
}

fn endings(module: &str) -> &'static [&'static str] {
    let known = MODULES.iter().find(|(modules, _)| modules.iter().any(|m| m.eq_ignore_ascii_case(module)));
    known.map_or(&[], |(_, endings)| endings)
}

/// The parents of all foreign keys in the database.
fn parents(connection: &Connection) -> Result<Vec<String>, Fatal> {
    let sql = "SELECT DISTINCT f.\"table\" FROM sqlite_schema AS s, pragma_foreign_key_list(s.name) AS f \
               WHERE s.type = 'table' AND s.sql LIKE '%references%'";
    connection.query_texts(sql).map_err(|error| Fatal::sqlite("looking for foreign keys", &error))
}

/// Would this CREATE VIRTUAL TABLE, or this ALTER TABLE of one, give a table to a virtual table that foreign keys already
/// name as their parent?
pub(super) fn takes_parents(connection: &Connection, sql: &str) -> Result<bool, Fatal> {
    let parents = parents(connection)?;
    if parents.is_empty() {
        return Ok(false);
    }
    let names = Tokens::new(sql).filter_map(|token| match token {
        Token::Word(name) => Some(name.to_owned()),
        Token::Quoted(name) => Some(["\"", "'", "`"].iter().fold(name.to_owned(), |n, q| n.replace(&q.repeat(2), q))),
        Token::Symbol(_) => None,
    });
    let names: Vec<_> = names.collect();
    for parent in parents {
        let Some((name, ending)) = parent.rsplit_once('_') else { continue };
        let is_ending = MODULES.iter().any(|(_, known)| known.iter().any(|e| e.eq_ignore_ascii_case(ending)));
        if is_ending && names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
            let exists =
                format!("SELECT 1 FROM sqlite_schema WHERE name = {} COLLATE NOCASE", rowids::literal(&parent));
            let exists = connection.query_integer(&exists);
            if exists.map_err(|error| Fatal::sqlite("looking for a table", &error))?.is_none() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Does the database hold an index or a foreign key on a shadow table? Clients cannot make such any more.
pub(super) fn is_tampered(connection: &Connection, names: &Names) -> Result<bool, Fatal> {
    if names.shadow_tables.is_empty() {
        return Ok(false);
    }
    let indexed = "SELECT tbl_name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL";
    let indexed = connection.query_texts(indexed).map_err(|error| Fatal::sqlite("looking for indexes", &error))?;
    Ok(indexed.iter().chain(&parents(connection)?).any(|name| names.is_shadow(name)))
}

/// For the authorizer.
pub(super) fn is_shadow(name: &str) -> bool {
    context::with(|c| c.names.borrow().is_shadow(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_found_behind_any_name() {
        for (sql, expected) in [
            ("CREATE VIRTUAL TABLE ft USING fts5(a)", "fts5"),
            ("CREATE VIRTUAL TABLE \"using\" USING rtree(a, b, c)", "rtree"),
            ("CREATE VIRTUAL TABLE using/*using*/ USING \"FTS4\"", "FTS4"),
            ("CREATE VIRTUAL TABLE x", ""),
        ] {
            assert_eq!(module(sql), expected, "{sql}");
        }
        assert_eq!(endings("RTREE_i32").len(), 3);
        assert!(endings("fts5vocab").is_empty());
    }
}
