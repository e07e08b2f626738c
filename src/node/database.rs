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
}

impl Database {
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
