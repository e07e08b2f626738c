//! From the parts of a load to a file that is fit to take the database's place (`swap`).
//!
//! Applier thread only. The old database is read and not changed: a crash repeats all of it.

use super::parts;
use crate::command::{Action, Command, LoadCommit, Outcome};
use crate::db::fatal::Fatal;
use crate::db::incoming::Incoming;
use crate::db::record::{self, Progress, Record};
use crate::db::sqlite::{Access, Connection};
use crate::db::swap::{dir_of, remove_database, settle, step};
use crate::db::{Item, Writer, retries};
use raft::LogId;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// The file, beside the database.
const FILE: &str = "db.sqlite.loaded";
/// So much is written between two syncs: the Raft log waits for the same disk, and must not wait for all of a large file.
const SYNC_BYTES: usize = 8 * 1024 * 1024;

const ADVICE_FULL: &str = "free space on its disk, then start the node again: nothing that was acknowledged is lost";

/// Removes what a process that died over a load has left behind in `dir`.
///
/// # Errors
/// A file is there and cannot be removed.
pub fn discard(dir: &Path) -> io::Result<()> {
    remove_database(&dir.join(FILE))
}

impl Writer {
    /// To be asked for each entry whose [`Item::may_exchange`]: if it exchanges the database, makes the file that is to take its
    /// place, with [`Writer::replace_with`], and in which the entry is applied. `None`: it is to be applied as any other.
    ///
    /// # Errors
    /// The machine failed, or the entry does not follow; the process must stop.
    pub fn take_load(&mut self, id: LogId, item: &Item) -> Result<Option<Incoming>, Fatal> {
        let Item::Command(command) = item else { return Ok(None) };
        let Action::LoadCommit(commit) = &command.action else { return Ok(None) };
        self.check_follows(id)?;
        if self.repeat(command)?.is_some() || !self.parts.has(commit) {
            return Ok(None);
        }
        let incoming = self.assemble(id, command, commit).map_err(|fatal| fatal.at_entry(id.index))?;
        if incoming.is_none() {
            self.parts.damaged = Some(commit.load);
        }
        Ok(incoming)
    }

    fn assemble(&mut self, id: LogId, command: &Command, commit: &LoadCommit) -> Result<Option<Incoming>, Fatal> {
        let dir = dir_of(self.path()).to_owned();
        let path = dir.join(FILE);
        discard(&dir).map_err(|error| on_disk(&error))?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(|error| on_disk(&error))?;
        let mut hasher = blake3::Hasher::new();
        let mut unsynced_bytes = 0;
        parts::for_each(&self.connection, |part| {
            hasher.update(part);
            file.write_all(part).map_err(|error| on_disk(&error))?;
            unsynced_bytes += part.len();
            if unsynced_bytes >= SYNC_BYTES {
                unsynced_bytes = 0;
                file.sync_data().map_err(|error| on_disk(&error))?;
            }
            Ok(())
        })?;
        // SQLite's locks would be dropped if this were closed later.
        drop(file);
        if hasher.finalize().as_bytes() != &commit.hash {
            discard(&dir).map_err(|error| on_disk(&error))?;
            return Ok(None);
        }
        step(&dir);
        self.furnish(&path, id, command)?;
        step(&dir);
        settle(&path).map_err(|error| on_disk(&error))?;
        step(&dir);
        Ok(Some(Incoming { path, applied: id }))
    }

    /// Gives the loaded database our own table: everything of it that is not of the data it replaces.
    fn furnish(&mut self, path: &Path, id: LogId, command: &Command) -> Result<(), Fatal> {
        let failed = |error| Fatal::sqlite("opening the loaded database", &error);
        let connection = Connection::open(path, Access::ReadWrite, None).map_err(failed)?;
        // Nobody else may look at it, and a WAL needs no file for its index then. It is synced as a whole at the end, and made
        // anew after a crash.
        let settings = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; \
                        PRAGMA mmap_size = 0; PRAGMA cell_size_check = ON; PRAGMA foreign_keys = OFF";
        connection.execute(settings).map_err(failed)?;
        let time_us = self.record.time_us.max(command.unix_time_us);
        let record = Record {
            applied: id,
            time_us,
            changed: id.index,
            last_insert_id: 0,
            rows_affected: 0,
            progress: Progress::default(),
            ..self.record.clone()
        };
        record.create(&connection)?;
        connection.execute("BEGIN IMMEDIATE").map_err(failed)?;
        let membership = record::read_membership(&self.connection)?;
        record::write_membership(&connection, record::read_membership_index(&self.connection)?, &membership)?;
        retries::copy(&self.connection, &connection)?;
        if let Some(request) = &command.request {
            self.retries.keep_elsewhere(&connection, request, id, time_us, &Outcome::default())?;
        }
        connection.execute("COMMIT").map_err(failed)?;
        if connection.query_texts("PRAGMA journal_mode = WAL").map_err(failed)? != ["wal"] {
            return Err(Fatal::new("the loaded database cannot be put into WAL mode"));
        }
        match connection.checkpoint_truncate().map_err(failed)? {
            true => Ok(()),
            false => Err(Fatal::new("the loaded database is in use")),
        }
    }
}

fn on_disk(error: &io::Error) -> Fatal {
    let fatal = Fatal::new(format!("making a file of the loaded database: {error}"));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            fatal.with_advice(ADVICE_FULL)
        }
        _ => fatal,
    }
}
