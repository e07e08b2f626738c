//! A copy of another node's database on its way in: a file beside the database, written piece by piece, verified, and only
//! then fit to take the database's place (`swap`).
//!
//! Runs on the thread that receives it. It never touches the database itself. What was received before a crash or a broken
//! connection is not asked for again: a small file says how much is surely on disk and with which running checksum.

use super::copy::{CopyHash, CopyMeta, PIECE_BYTES};
use super::fatal::Fatal;
use super::record;
use super::sqlite::{Access, Connection};
use super::swap::{remove_if_there, step, sync_dir};
use raft::LogId;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file, beside the database.
pub const INCOMING_FILE: &str = "db.sqlite.incoming";
/// What is known of it: see [`CopyTarget::resume`].
const STATE_FILE: &str = "db.sqlite.incoming-state";
const STATE_FILE_NEW: &str = "db.sqlite.incoming-state-new";

/// So much is written between two syncs: little enough that nobody else waits long for the disk, and that nothing is
/// left for the end.
const SYNC_BYTES: u64 = 1024 * 1024;
/// How much a copy that breaks off may have to fetch again.
const STATE_INTERVAL_BYTES: u64 = if cfg!(test) { 4 } else { 32 } * SYNC_BYTES;
/// Longest pause after a sync.
const PAUSE_MAX: Duration = Duration::from_millis(500);
const _: () = assert!(SYNC_BYTES.is_multiple_of(PIECE_BYTES as u64), "the checksum can be taken up at every sync");

/// Longest state file that is read, in bytes.
const STATE_BYTES_MAX: u64 = 2 * 1024 * 1024;
const STATE_MAGIC: [u8; 8] = *b"ferrcpy1";
/// Magic, length, running checksum, checksum of the state file.
const STATE_HEAD_BYTES: usize = 8 + 8 + 32 + 32;

/// See the module.
pub struct CopyTarget {
    dir: PathBuf,
    meta: CopyMeta,
    file: File,
    hash: CopyHash,
    received: u64,
    synced: u64,
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
    remove_if_there(&dir.join(STATE_FILE))?;
    remove_if_there(&dir.join(STATE_FILE_NEW))?;
    for suffix in ["", "-wal", "-shm", "-journal"] {
        remove_if_there(&dir.join(format!("{INCOMING_FILE}{suffix}")))?;
    }
    Ok(())
}

impl CopyTarget {
    /// Begins a copy in `dir`, in place of any other.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn create(dir: &Path, meta: &CopyMeta) -> io::Result<CopyTarget> {
        discard(dir)?;
        let file = OpenOptions::new().write(true).create_new(true).open(dir.join(INCOMING_FILE))?;
        let hash = CopyHash::new(meta);
        let target = CopyTarget { dir: dir.to_owned(), meta: meta.clone(), file, hash, received: 0, synced: 0 };
        target.write_state()?;
        Ok(target)
    }

    /// Goes on with this very copy, if part of it is there. What is not surely on disk is asked for again.
    pub fn resume(dir: &Path, meta: &CopyMeta) -> Option<CopyTarget> {
        let state = File::open(dir.join(STATE_FILE)).ok()?;
        if state.metadata().ok()?.len() > STATE_BYTES_MAX {
            return None;
        }
        let bytes = std::fs::read(dir.join(STATE_FILE)).ok()?;
        let (received, hash) = decode_state(&bytes, meta)?;
        let mut file = OpenOptions::new().write(true).open(dir.join(INCOMING_FILE)).ok()?;
        if received > meta.bytes() || file.metadata().ok()?.len() < received {
            return None;
        }
        file.set_len(received).ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(CopyTarget { dir: dir.to_owned(), meta: meta.clone(), file, hash, received, synced: received })
    }

    pub fn meta(&self) -> &CopyMeta {
        &self.meta
    }

    /// Pages that are here: where [`CopyTarget::write`] goes on. After [`CopyTarget::resume`] what to ask for next.
    pub fn pages(&self) -> u64 {
        self.received / u64::from(self.meta.page_bytes)
    }

    /// Appends bytes of the copy, divided anyhow. Blocks for the disk every few MiB.
    ///
    /// # Errors
    /// The disk refuses, or the bytes are more than the copy has.
    pub fn write(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        if chunk.len() as u64 > self.meta.bytes() - self.received {
            let text = format!("more than {} bytes were sent for the copy", self.meta.bytes());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        while !chunk.is_empty() {
            let room = SYNC_BYTES - (self.received - self.synced);
            let (now, later) = chunk.split_at(chunk.len().min(usize::try_from(room).expect("a few MiB")));
            self.file.write_all(now)?;
            self.hash.add(now);
            self.received += now.len() as u64;
            chunk = later;
            if self.received - self.synced == SYNC_BYTES {
                let began = Instant::now();
                self.file.sync_data()?;
                self.synced = self.received;
                if self.received.is_multiple_of(STATE_INTERVAL_BYTES) {
                    self.write_state()?;
                }
                // Others wait for the same disk, the Raft log of this node for one, perhaps that of the leader as well: it is
                // theirs for longer than it was ours.
                std::thread::sleep((2 * began.elapsed()).min(PAUSE_MAX));
            }
        }
        Ok(())
    }

    fn write_state(&self) -> io::Result<()> {
        let state = self.hash.state().expect("syncs fall between pieces");
        let mut bytes = STATE_MAGIC.to_vec();
        bytes.extend_from_slice(&self.received.to_le_bytes());
        bytes.extend_from_slice(&state);
        bytes.extend_from_slice(&self.meta.encode());
        let checksum = *blake3::hash(&bytes).as_bytes();
        bytes.extend_from_slice(&checksum);
        let new = self.dir.join(STATE_FILE_NEW);
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        // It need not survive a power cut, but what it says must be true if it does: the rename comes after its content.
        file.sync_data()?;
        std::fs::rename(new, self.dir.join(STATE_FILE))
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
        remove_if_there(&dir.join(STATE_FILE)).map_err(on_disk)?;
        step(&dir);
        match mark(&path, &meta) {
            Ok(()) => {}
            Err(fatal) => {
                let _ = discard(&dir);
                return Err(format!("{}: {fatal}", path.display()));
            }
        }
        step(&dir);
        for suffix in ["-wal", "-shm"] {
            let name = dir.join(format!("{INCOMING_FILE}{suffix}"));
            if suffix == "-wal" && std::fs::metadata(&name).is_ok_and(|file| file.len() > 0) {
                return Err(format!("{} is not empty", name.display()));
            }
            remove_if_there(&name).map_err(on_disk)?;
        }
        File::open(&path).and_then(|file| file.sync_all()).map_err(on_disk)?;
        sync_dir(&dir).map_err(on_disk)?;
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
    // The first column says whether somebody stood in the way.
    match connection.query_integer("PRAGMA wal_checkpoint(TRUNCATE)").map_err(failed)? {
        Some(0) => Ok(()),
        _ => Err(Fatal::new("the copy is in use")),
    }
}

/// Bytes that are surely on disk, and the running checksum there; `None`: of another copy, or damaged.
fn decode_state(bytes: &[u8], meta: &CopyMeta) -> Option<(u64, CopyHash)> {
    if bytes.len() < STATE_HEAD_BYTES {
        return None;
    }
    let (content, checksum) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(content).as_bytes() != checksum {
        return None;
    }
    let (magic, rest) = content.split_first_chunk::<8>()?;
    let (received, rest) = rest.split_first_chunk()?;
    let (state, encoded_meta) = rest.split_first_chunk()?;
    let is_this = *magic == STATE_MAGIC && encoded_meta == meta.encode();
    is_this.then(|| (u64::from_le_bytes(*received), CopyHash::resume(*state)))
}
