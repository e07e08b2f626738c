//! The text format: SQL that makes the database anew.
//!
//! Order: tables by name, each with its rows; `sqlite_sequence`; planner statistics; then indexes, views and triggers as they
//! were made, so that no trigger fires while rows come in. Chosen tables bring with them what belongs to them alone: their
//! indexes and triggers, their rows of `sqlite_sequence`, and views that read no other table.
//!
//! Virtual tables are written as what they hold, not as the tables in which they keep it: those are made by `CREATE VIRTUAL
//! TABLE`, and cannot be written by SQL wherever SQLite protects itself. Columns that are computed have no place in an INSERT.

use super::{BUFFER_BYTES, MayGoOn, depends};
use crate::command::ValueRef;
use crate::db::authorizer::RESERVED_TABLE;
use crate::db::rowids::{identifier, literal};
use crate::db::shadow::Names;
use crate::db::sqlite::{Connection, Error, Statement, Step};
use std::io::{self, BufWriter, Write};

/// Writes the text; of all tables when `only` names none.
pub(super) fn write(
    connection: &Connection,
    only: &[String],
    may_go_on: &MayGoOn,
    out: &mut dyn Write,
) -> io::Result<()> {
    let names = Names::read(connection).map_err(|error| io::Error::other(error.to_string()))?;
    let real = prepare(connection, "SELECT quote(?1)")?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, out);
    let mut dump = Dump { connection, only, names, may_go_on, real, out };
    dump.all()?;
    dump.out.into_inner().map(drop).map_err(io::IntoInnerError::into_error)
}

struct Dump<'a, 'o> {
    connection: &'a Connection,
    only: &'a [String],
    names: Names,
    may_go_on: &'a MayGoOn,
    /// SQLite's own text of a number that is none of integers.
    real: Statement,
    out: BufWriter<&'o mut (dyn Write + 'o)>,
}

/// A line of the catalogue.
struct Made {
    kind: String,
    name: String,
    /// The table that it belongs to.
    table: String,
    sql: String,
}

impl Dump<'_, '_> {
    fn all(&mut self) -> io::Result<()> {
        self.out.write_all(b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n")?;
        let tables = self.catalogue("type = 'table' ORDER BY name")?;
        for table in &tables {
            if !self.is_chosen(&table.name) || is_internal(&table.name) || self.names.is_shadow(&table.name) {
                continue;
            }
            writeln!(self.out, "{};", table.sql)?;
            match self.names.is_virtual(&table.name) {
                true => self.virtual_rows(&table.name)?,
                false => self.rows(&table.name)?,
            }
        }
        let has = |name: &str| tables.iter().any(|table| table.name == name);
        if has("sqlite_sequence") {
            self.sequence()?;
        }
        if has("sqlite_stat1") && self.is_chosen("sqlite_stat1") {
            self.out.write_all(b"ANALYZE \"sqlite_master\";\n")?;
            self.select("sqlite_stat1", "SELECT * FROM main.sqlite_stat1", "")?;
        }
        self.rest()?;
        self.out.write_all(b"COMMIT;\n")
    }

    fn is_chosen(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn catalogue(&self, which: &str) -> io::Result<Vec<Made>> {
        let sql = format!("SELECT type, name, tbl_name, sql FROM main.sqlite_schema WHERE sql NOT NULL AND {which}");
        let mut statement = prepare(self.connection, &sql)?;
        let mut made = Vec::new();
        while step(&mut statement)? {
            let text = |column| String::from_utf8_lossy(statement.column_bytes(column)).into_owned();
            made.push(Made { kind: text(0), name: text(1), table: text(2), sql: text(3) });
        }
        Ok(made)
    }

    fn rows(&mut self, table: &str) -> io::Result<()> {
        let (shown, all) = self.columns(table)?;
        // The table itself, not an index that happens to hold all columns: rows come in the order of their keys.
        let from = format!("FROM main.{} NOT INDEXED", identifier(table));
        match shown.len() == all {
            true => self.select(table, &format!("SELECT * {from}"), ""),
            false => {
                let list = list(&shown);
                self.select(table, &format!("SELECT {list} {from}"), &format!("({list})"))
            }
        }
    }

    fn virtual_rows(&mut self, table: &str) -> io::Result<()> {
        let from = format!("main.{}", identifier(table));
        // What only shows the content of others takes no rows; nothing of this is run.
        if self.connection.prepare(&format!("DELETE FROM {from}")).is_err() {
            return Ok(());
        }
        let list = list(&self.columns(table)?.0);
        for columns in [format!("rowid,{list}"), list] {
            let sql = format!("SELECT {columns} FROM {from}");
            if self.connection.prepare(&sql).is_ok() {
                return self.select(table, &sql, &format!("({columns})"));
            }
        }
        Ok(())
    }

    /// Names of the columns that an INSERT may give, and how many columns `SELECT *` has.
    fn columns(&self, table: &str) -> io::Result<(Vec<String>, usize)> {
        let sql = format!("SELECT name, hidden FROM pragma_table_xinfo({}, 'main')", literal(table));
        let mut statement = prepare(self.connection, &sql)?;
        let (mut given, mut all) = (Vec::new(), 0);
        while step(&mut statement)? {
            // 1: hidden, of a virtual table; 2 and 3: computed.
            let hidden = statement.column_integer(1);
            all += usize::from(hidden != Some(1));
            if hidden == Some(0) {
                given.push(String::from_utf8_lossy(statement.column_bytes(0)).into_owned());
            }
        }
        Ok((given, all))
    }

    fn sequence(&mut self) -> io::Result<()> {
        let mut which = String::new();
        if !self.is_chosen("sqlite_sequence") {
            let names: Vec<String> = self.only.iter().map(|name| literal(name)).collect();
            which = format!(" WHERE name IN ({})", names.join(","));
        }
        let sql = format!("SELECT * FROM main.sqlite_sequence{which}");
        // Without rows there may be no table that makes it.
        if !step(&mut prepare(self.connection, &sql)?)? {
            return Ok(());
        }
        writeln!(self.out, "DELETE FROM \"sqlite_sequence\"{which};")?;
        self.select("sqlite_sequence", &sql, "")
    }

    /// Indexes, views and triggers.
    fn rest(&mut self) -> io::Result<()> {
        let made = self.catalogue("type IN ('index', 'trigger', 'view') ORDER BY rowid")?;
        let views: Vec<&str> = made.iter().filter(|made| made.kind == "view").map(|made| &*made.name).collect();
        let mut chosen_views = Vec::new();
        for view in &views {
            if self.is_chosen(view) || self.reads_chosen_only(view, &views) {
                chosen_views.push(*view);
            }
        }
        for made in &made {
            let belongs = match made.kind.as_str() {
                "view" => chosen_views.contains(&&*made.name),
                _ => chosen_views.contains(&&*made.table) || self.is_chosen(&made.table),
            };
            if belongs && made.table != RESERVED_TABLE && !self.names.is_shadow(&made.table) {
                writeln!(self.out, "{};", made.sql)?;
            }
        }
        Ok(())
    }

    fn reads_chosen_only(&self, view: &str, views: &[&str]) -> bool {
        let Some(read) = depends::of_view(self.connection, view) else { return false };
        read.iter().all(|table| views.contains(&&**table) || self.is_chosen(table))
    }

    /// One line for each row; `columns` stands behind the table's name.
    fn select(&mut self, table: &str, sql: &str, columns: &str) -> io::Result<()> {
        let mut statement = prepare(self.connection, sql)?;
        let head = format!("INSERT INTO {}{columns} VALUES(", identifier(table));
        while step(&mut statement)? {
            (self.may_go_on)()?;
            self.out.write_all(head.as_bytes())?;
            for column in 0..statement.column_count() {
                if column > 0 {
                    self.out.write_all(b",")?;
                }
                self.value(statement.column(column))?;
            }
            self.out.write_all(b");\n")?;
        }
        Ok(())
    }

    /// A value as `quote()` writes it, but for text that no SQL string can hold.
    fn value(&mut self, value: ValueRef<'_>) -> io::Result<()> {
        match value {
            ValueRef::Null => self.out.write_all(b"NULL"),
            ValueRef::Integer(i) => self.out.write_all(itoa::Buffer::new().format(i).as_bytes()),
            ValueRef::Real(_) => {
                self.real.bind(1, value).map_err(broken)?;
                step(&mut self.real)?;
                self.out.write_all(self.real.column_bytes(0))?;
                self.real.reset();
                Ok(())
            }
            // A NUL would end the string, and a request's body must be UTF-8.
            ValueRef::Text(bytes) if bytes.contains(&0) || std::str::from_utf8(bytes).is_err() => {
                self.out.write_all(b"CAST(")?;
                self.blob(bytes)?;
                self.out.write_all(b" AS TEXT)")
            }
            ValueRef::Text(bytes) => {
                self.out.write_all(b"'")?;
                for (number, piece) in bytes.split(|byte| *byte == b'\'').enumerate() {
                    if number > 0 {
                        self.out.write_all(b"''")?;
                    }
                    self.out.write_all(piece)?;
                }
                self.out.write_all(b"'")
            }
            ValueRef::Blob(bytes) => self.blob(bytes),
        }
    }

    fn blob(&mut self, bytes: &[u8]) -> io::Result<()> {
        const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
        self.out.write_all(b"X'")?;
        for piece in bytes.chunks(512) {
            let mut hex = [0; 1024];
            for (byte, digits) in piece.iter().zip(hex.chunks_exact_mut(2)) {
                digits.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            self.out.write_all(&hex[..2 * piece.len()])?;
        }
        self.out.write_all(b"'")
    }
}

/// SQLite's own tables, and ours.
fn is_internal(name: &str) -> bool {
    name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
}

fn list(columns: &[String]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
    columns.join(",")
}

fn prepare(connection: &Connection, sql: &str) -> io::Result<Statement> {
    let (statement, _) = connection.prepare(sql).map_err(broken)?;
    Ok(statement.expect("SQL of our own is not empty"))
}

fn step(statement: &mut Statement) -> io::Result<bool> {
    Ok(statement.step().map_err(broken)? == Step::Row)
}

fn broken(error: Error) -> io::Error {
    io::Error::other(format!("reading the database: {error}"))
}
