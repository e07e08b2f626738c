//! A copy of another node's database on its way in: a file beside the database, written piece by piece, verified, and only
//! then fit to take the database's place (`swap`).
//!
//! Runs on the thread that receives it. It never touches the database itself. What was received before a crash or a broken
//! connection is not asked for again: a small file says how much is surely on disk and with which running checksum.

use super::copy::{CopyHash, CopyMeta, PIECE_BYTES};
use super::copy_progress::{CopyProgress, PROGRESS_FILE};
use super::fatal::Fatal;
use super::record;
use super::sqlite::{Access, Connection, PORTION_BYTES, write_out};
use super::swap::{remove_database, remove_if_there, settle, step};
use raft::LogId;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The file, beside the database.
pub const INCOMING_FILE: &str = "db.sqlite.incoming";
/// How much a copy that breaks off may have to fetch again.
const STATE_INTERVAL_BYTES: u64 = if cfg!(test) { 4 } else { 32 } * PIECE_BYTES as u64;

/// See the module.
pub struct CopyTarget {
    dir: PathBuf,
    meta: CopyMeta,
    file: File,
    progress: CopyProgress,
    hash: CopyHash,
    received: u64,
}

/// A whole copy, verified and on disk, that waits to take the database's place.
#[derive(Debug)]
pub struct Incoming {
    pub(super) path: PathBuf,
    pub(super) applied: LogId,
}

impl Incoming {
    /// The last entry that it holds.
    pub fn applied(&self) -> LogId {
        self.applied
    }
}

/// Removes what earlier copies left behind in `dir`.
///
/// # Errors
/// A file is there and cannot be removed.
pub fn discard(dir: &Path) -> io::Result<()> {
    remove_if_there(&dir.join(PROGRESS_FILE))?;
    remove_database(&dir.join(INCOMING_FILE))
}

impl CopyTarget {
    /// Begins a copy in `dir`, in place of any other.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(dir: &Path, meta: &CopyMeta) -> io::Result<CopyTarget> {
        discard(dir)?;
        let file = OpenOptions::new().write(true).create_new(true).open(dir.join(INCOMING_FILE))?;
        // A disk that is too small says so now, where the file system can tell.
        let reserved = fallocate(&file, FallocateFlags::KEEP_SIZE, 0, meta.bytes().max(1));
        if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) = reserved {
            return Err(error.into());
        }
        let progress = CopyProgress::create(dir)?;
        Ok(CopyTarget::new(dir, meta, file, progress, CopyHash::new(meta), 0))
    }

    /// Goes on with this very copy, if part of it is there. What is not surely on disk is asked for again.
    pub fn resume(dir: &Path, meta: &CopyMeta) -> Option<CopyTarget> {
        let (progress, received, hash) = CopyProgress::resume(dir, meta)?;
        if received > meta.bytes() {
            return None;
        }
        let mut file = OpenOptions::new().write(true).open(dir.join(INCOMING_FILE)).ok()?;
        if file.metadata().ok()?.len() < received {
            return None;
        }
        file.set_len(received).ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(CopyTarget::new(dir, meta, file, progress, hash, received))
    }

    fn new(
        dir: &Path,
        meta: &CopyMeta,
        file: File,
        progress: CopyProgress,
        hash: CopyHash,
        received: u64,
    ) -> CopyTarget {
        let (dir, meta) = (dir.to_owned(), meta.clone());
        CopyTarget { dir, meta, file, progress, hash, received }
    }

    pub fn meta(&self) -> &CopyMeta {
        &self.meta
    }

    /// Pages that are here: where [`CopyTarget::write`] goes on. After [`CopyTarget::resume`] what to ask for next.
    pub fn pages(&self) -> u64 {
        self.received / u64::from(self.meta.page_bytes)
    }

    /// Appends bytes of the copy, divided anyhow. Blocks for the disk, and rests after each portion.
    ///
    /// # Errors
    /// The disk refuses, or the bytes are more than the copy has.
    pub fn write(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        if chunk.len() as u64 > self.meta.bytes() - self.received {
            let text = format!("more than {} bytes were sent for the copy", self.meta.bytes());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let portion = u64::from(PORTION_BYTES);
        while !chunk.is_empty() {
            let room = portion - self.received % portion;
            let (now, later) = chunk.split_at(chunk.len().min(usize::try_from(room).expect("less than a MiB")));
            self.file.write_all(now)?;
            self.hash.add(now);
            self.received += now.len() as u64;
            chunk = later;
            if self.received.is_multiple_of(portion) {
                // Others wait for the same disk, the Raft log of this node for one, perhaps that of the leader as well.
                write_out(&self.file, self.received - portion, portion)?;
            }
            if self.received.is_multiple_of(STATE_INTERVAL_BYTES) {
                self.file.sync_data()?;
                let state = self.hash.state().expect("it is a whole number of pieces");
                self.progress.note(&self.meta, self.received, state)?;
            }
        }
        Ok(())
    }

    /// Verifies the whole copy, marks it as one, and makes it durable.
    ///
    /// # Errors
    /// What is wrong with it; it is of no use then and is removed, except where only the disk failed.
    pub fn finish(self, checksum: [u8; 32]) -> Result<Incoming, String> {
        let CopyTarget { dir, meta, file, hash, received, .. } = self;
        let path = dir.join(INCOMING_FILE);
        if received != meta.bytes() {
            return Err(format!("the copy is not whole: {received} of {} bytes", meta.bytes()));
        }
        if hash.checksum() != checksum {
            // Some of it was damaged on the way or at rest: none of it can be trusted.
            drop(file);
            let _ = discard(&dir);
            return Err("the checksum of the copy does not match".to_owned());
        }
        let on_disk = |error: io::Error| format!("{}: {error}", path.display());
        file.sync_all().map_err(on_disk)?;
        // SQLite's locks would be dropped if this were closed later.
        drop(file);
        // From here on it is no longer the bytes that were sent, so that nobody may go on with it.
        remove_if_there(&dir.join(PROGRESS_FILE)).map_err(on_disk)?;
        step(&dir);
        match mark(&path, &meta) {
            Ok(()) => {}
            Err(fatal) => {
                let _ = discard(&dir);
                return Err(format!("{}: {fatal}", path.display()));
            }
        }
        step(&dir);
        settle(&path).map_err(on_disk)?;
        step(&dir);
        Ok(Incoming { path, applied: meta.applied })
    }
}

/// Looks whether SQLite finds in the copy what its sender said, and marks it as a copy.
fn mark(path: &Path, meta: &CopyMeta) -> Result<(), Fatal> {
    let failed = |error| Fatal::sqlite("opening the copy", &error);
    let connection = Connection::open(path, Access::ReadWrite, None).map_err(failed)?;
    // Nobody else may look at it, and a WAL needs no file for its index then. FULL syncs before and after checkpoints.
    let settings = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; PRAGMA mmap_size = 0; \
                    PRAGMA cell_size_check = ON";
    connection.execute(settings).map_err(failed)?;
    let record = record::read(&connection)?.ok_or_else(|| Fatal::new("the copy holds no applied row"))?;
    if (record.cluster, record.applied) != (meta.cluster, meta.applied) {
        return Err(Fatal::new(format!("the copy holds entry {} and not {}", record.applied, meta.applied)));
    }
    if record::read_membership(&connection)? != meta.membership {
        return Err(Fatal::new("the copy holds another membership"));
    }
    let pages = connection.query_integer("PRAGMA page_count").map_err(failed)?;
    if pages.and_then(|pages| u64::try_from(pages).ok()) != Some(meta.pages) {
        return Err(Fatal::new("the copy holds another number of pages"));
    }
    if connection.query_texts("PRAGMA journal_mode = WAL").map_err(failed)? != ["wal"] {
        return Err(Fatal::new("the copy cannot be put into WAL mode"));
    }
    connection.execute("BEGIN IMMEDIATE").map_err(failed)?;
    record::write_installed(&connection, meta.applied)?;
    connection.execute("COMMIT").map_err(failed)?;
    match connection.checkpoint_truncate().map_err(failed)? {
        true => Ok(()),
        false => Err(Fatal::new("the copy is in use")),
    }
}
