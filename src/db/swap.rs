//! Puts a verified copy in the place of the database.
//!
//! Runs on the applier thread, or before there is one. At every moment one whole database stands under the name: the old one up
//! to the rename, the new one from there on; a crash anywhere leaves one of them.

use super::context;
use super::fatal::Fatal;
use super::incoming::Incoming;
use super::writer::{Writer, WriterOptions};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Readers are gone by now, but for some other process that looks in, or copies the file. Nothing is applied meanwhile, but
/// to give up is to stop the process, and the next start would meet the same.
const BUSY_TIMEOUT_MS: i32 = if cfg!(test) { 1000 } else { 60_000 };

impl Writer {
    /// Replaces the database by a copy and opens that.
    ///
    /// Nobody else may have the database open meanwhile. In this order:
    /// 1. every [`super::copy::CopySource`] and [`super::hash::HashSource`] is dropped
    /// 2. [`super::Readers::hold`]: reads under way end, new ones wait
    /// 3. this function
    /// 4. [`super::Readers::reopen`]
    ///
    /// # Errors
    /// The old database could not be closed, or the new one not be put in its place or opened. The process must stop; at its
    /// next start one of them stands there, whole.
    pub fn replace_with(self, incoming: Incoming, options: &WriterOptions) -> Result<Writer, Fatal> {
        let path = self.path().to_owned();
        let readers = self.readers();
        replace(self, &incoming, &path).map_err(|fatal| fatal.within(&path))?;
        let mut writer = Writer::open(&path, options)?;
        if writer.applied().id != incoming.applied() {
            return Err(Fatal::new("the copy changed while it was put in place").within(&path));
        }
        // The new WAL is empty.
        context::with(|c| c.wal_pages.set(0));
        if let Some(readers) = readers {
            writer.attach_readers(readers);
        }
        Ok(writer)
    }
}

fn replace(writer: Writer, incoming: &Incoming, path: &Path) -> Result<(), Fatal> {
    let dir = dir_of(path);
    // Everything into the database file, so that it is whole without its WAL: a WAL that stayed would be taken for the
    // new database's. FULL syncs the file before the WAL is cut off.
    let failed = |error| Fatal::sqlite("closing the old database", &error);
    writer.connection().set_busy_timeout_ms(BUSY_TIMEOUT_MS);
    writer.connection().execute("PRAGMA synchronous = FULL").map_err(failed)?;
    step(dir);
    if !writer.connection().checkpoint_truncate().map_err(failed)? {
        return Err(Fatal::new("the old database cannot be closed: others read it"));
    }
    step(dir);
    drop(writer);
    step(dir);
    let on_disk = |error: io::Error| Fatal::new(format!("replacing the database: {error}"));
    for suffix in ["-wal", "-shm"] {
        let name = with_suffix(path, suffix);
        if suffix == "-wal" && std::fs::metadata(&name).is_ok_and(|wal| wal.len() > 0) {
            return Err(Fatal::new("the old database was written while it was being closed"));
        }
        remove_if_there(&name).map_err(on_disk)?;
        step(dir);
    }
    // The WAL must be gone for good before the new database comes.
    sync_dir(dir).map_err(on_disk)?;
    std::fs::rename(&incoming.path, path).map_err(on_disk)?;
    step(dir);
    sync_dir(dir).map_err(on_disk)?;
    step(dir);
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The directory in which a file lies.
pub(super) fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Removes a database that is not in use, and what SQLite may have left beside it.
pub(super) fn remove_database(path: &Path) -> io::Result<()> {
    ["", "-wal", "-shm", "-journal"].iter().try_for_each(|suffix| remove_if_there(&with_suffix(path, suffix)))
}

/// Makes a database durable that is to take the place of another: one file, with nothing beside it, since all of its WAL was
/// moved into it and nobody has it open.
pub(super) fn settle(path: &Path) -> io::Result<()> {
    let wal = with_suffix(path, "-wal");
    if std::fs::metadata(&wal).is_ok_and(|file| file.len() > 0) {
        return Err(io::Error::other(format!("{} is not empty", wal.display())));
    }
    remove_if_there(&wal)?;
    remove_if_there(&with_suffix(path, "-shm"))?;
    File::open(path)?.sync_all()?;
    sync_dir(dir_of(path))
}

pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A moment at which the process may end. Tests look at what it would leave behind.
pub(super) fn step(_dir: &Path) {
    #[cfg(test)]
    super::copy_tests::crash_here(_dir);
}
