//! The applier's database: a writer that can be exchanged for one on another file.

use crate::db::{Fatal, Incoming, Item, Writer, WriterOptions};
use raft::LogId;
use std::ops::{Deref, DerefMut};

/// There is a writer at all times but for the moment of an exchange, whose failure ends the process.
pub struct Database {
    writer: Option<Writer>,
    options: WriterOptions,
}

impl Database {
    pub fn new(writer: Writer, options: WriterOptions) -> Self {
        Database { writer: Some(writer), options }
    }

    /// See [`Writer::replace_with`].
    ///
    /// # Errors
    /// The process must stop.
    pub fn replace_with(&mut self, incoming: Incoming) -> Result<(), Fatal> {
        let writer = self.writer.take().expect("an exchange that failed was the last");
        self.writer = Some(writer.replace_with(incoming, &self.options)?);
        Ok(())
    }

    /// Applies one entry, whatever it is, where nobody reads and nobody waits for what it comes to.
    ///
    /// # Errors
    /// The process must stop.
    pub fn apply(&mut self, id: LogId, item: Item) -> Result<(), Fatal> {
        match self.take_load(id, &item)? {
            Some(incoming) => self.replace_with(incoming),
            None => self.apply_batch(&[(id, item)]).map(drop),
        }
    }
}

impl Deref for Database {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        self.writer.as_ref().expect("an exchange that failed was the last")
    }
}

impl DerefMut for Database {
    fn deref_mut(&mut self) -> &mut Writer {
        self.writer.as_mut().expect("an exchange that failed was the last")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Action, Command, LoadChunk, LoadCommit};
    use crate::db::sqlite::{Access, Connection};
    use raft::{ClusterId, Index, Term};

    /// What an operator recovers by hand may end with a load.
    #[test]
    fn entries_that_exchange_the_database_are_applied_like_all_others() {
        let dir = std::env::temp_dir().join(format!("ferrolite-database-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let loaded = dir.join("loaded");
        Connection::open(&loaded, Access::ReadWrite, None).unwrap().execute("CREATE TABLE t(x)").unwrap();
        let bytes = std::fs::read(&loaded).unwrap();
        let commit =
            LoadCommit { load: 1, chunks: 1, bytes: bytes.len() as u64, hash: *blake3::hash(&bytes).as_bytes() };
        let options = WriterOptions { foreign_keys: false, cluster: ClusterId(1) };
        let writer = Writer::open(&dir.join("db.sqlite"), &options).unwrap();
        let mut database = Database::new(writer, options);
        let chunk = Action::LoadChunk(LoadChunk { load: 1, number: 0, bytes });
        for (index, action) in (1..).zip([chunk, Action::LoadCommit(commit), Action::Barrier]) {
            let id = LogId { term: Term(1), index: Index(index) };
            database.apply(id, Item::Command(Command { unix_time_us: 1, seed: 1, action, request: None })).unwrap();
            assert_eq!(database.applied().id, id);
        }
        assert_eq!(
            database.connection().query_texts("SELECT name FROM sqlite_schema WHERE name = 't'").unwrap(),
            ["t"]
        );
        drop(database);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
