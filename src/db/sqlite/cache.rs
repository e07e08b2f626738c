//! Prepared statements by their text, least recently used out first, and the walk over a string of several statements.
//!
//! A statement is taken out while it runs and put back afterwards, so that nobody can run it twice at once.

use super::{Connection, Error, Statement, connection::nul_in_sql};
use std::collections::HashMap;
use std::ffi::{CStr, CString};

/// Longer strings (bulk inserts with literals) rarely come again and would hold much memory.
const CACHED_SQL_BYTES_MAX: usize = 4096;

/// A statement with what its owner wants to remember of it. Give it back with [`StatementCache::put`], or drop it.
pub struct Cached<M> {
    /// What it is looked up by: the statement and all that follows it in its string. `None`: not worth keeping.
    key: Option<Box<str>>,
    pub statement: Statement,
    /// Bytes of the string that the statement takes.
    used: usize,
    pub meta: M,
}

/// A string of `;`-separated statements and how far it was taken apart. SQLite decides where a statement ends.
pub struct Script<'a> {
    sql: &'a str,
    at: usize,
    /// The string with its NUL, made when something in it has to be prepared.
    copy: Option<CString>,
}

impl<'a> Script<'a> {
    pub fn new(sql: &'a str) -> Script<'a> {
        Script { sql, at: 0, copy: None }
    }

    /// What is left to run.
    pub fn rest(&self) -> &'a str {
        &self.sql[self.at..]
    }

    /// Bytes of the string that the statements so far have taken.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Goes on after statements that have taken as many bytes. False, and nothing is changed, where no statement can end.
    pub fn resume(&mut self, position: usize) -> bool {
        let fits = self.sql.is_char_boundary(position);
        if fits {
            self.at = position;
        }
        fits
    }

    fn rest_nul_terminated(&mut self) -> Result<&CStr, Error> {
        if self.copy.is_none() {
            self.copy = Some(CString::new(self.sql).map_err(|_| nul_in_sql())?);
        }
        let copy = self.copy.as_ref().expect("made above");
        // SAFETY: a CString has one NUL, its last byte, so every suffix of it is NUL-terminated too. Looking for the NUL again
        // with each statement would make a long script quadratic.
        Ok(unsafe { CStr::from_bytes_with_nul_unchecked(&copy.as_bytes_with_nul()[self.at..]) })
    }
}

/// See the module. Bounded by a number of statements.
pub struct StatementCache<M> {
    slots: HashMap<Box<str>, Slot<M>>,
    capacity: usize,
    clock: u64,
}

struct Slot<M> {
    used_at: u64,
    statement: Statement,
    used: usize,
    meta: M,
}

impl<M> StatementCache<M> {
    pub fn new(capacity: usize) -> StatementCache<M> {
        StatementCache { slots: HashMap::new(), capacity, clock: 0 }
    }

    /// The next statement of the script, from the cache or prepared now; `describe` makes what is remembered of a new
    /// one. `None`: only white space, comments and semicolons are left.
    ///
    /// # Errors
    /// SQLite's message for SQL that it refuses; the script then stays where it is.
    pub fn next(
        &mut self,
        connection: &Connection,
        script: &mut Script<'_>,
        mut describe: impl FnMut(&Statement) -> M,
    ) -> Result<Option<Cached<M>>, Error> {
        let worth_keeping = self.capacity > 0 && script.sql.len() <= CACHED_SQL_BYTES_MAX;
        loop {
            let rest = script.rest();
            if rest.bytes().all(|b| b == b';' || b.is_ascii_whitespace()) {
                return Ok(None);
            }
            if worth_keeping && let Some((key, slot)) = self.slots.remove_entry(rest) {
                script.at += slot.used;
                let Slot { statement, used, meta, .. } = slot;
                return Ok(Some(Cached { key: Some(key), statement, used, meta }));
            }
            let (statement, used) = connection.prepare_nul_terminated(script.rest_nul_terminated()?, worth_keeping)?;
            script.at += used;
            if let Some(statement) = statement {
                let meta = describe(&statement);
                return Ok(Some(Cached { key: worth_keeping.then(|| rest.into()), statement, used, meta }));
            }
            // A comment or a lone semicolon: SQLite consumed it and there may be more behind it.
            if used == 0 {
                return Ok(None);
            }
        }
    }

    /// Takes a statement back: reset, without bindings.
    pub fn put(&mut self, cached: Cached<M>) {
        let Cached { key, mut statement, used, meta } = cached;
        let Some(key) = key else { return };
        statement.reset();
        statement.clear_bindings();
        if self.slots.len() >= self.capacity && !self.slots.contains_key(&key) {
            self.evict_oldest();
        }
        self.clock += 1;
        self.slots.insert(key, Slot { used_at: self.clock, statement, used, meta });
    }

    /// Finalises all statements.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    fn evict_oldest(&mut self) {
        let oldest = self.slots.iter().min_by_key(|(_, slot)| slot.used_at).map(|(key, _)| key.clone());
        if let Some(key) = oldest {
            self.slots.remove(&key);
        }
    }
}
