//! A directory of a real file system, held exclusively by one process.
//!
//! Runs on the thread that owns the log. Must never retry a failed sync and never open a file that is not
//! inside its directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Disk, DiskFile};

/// The advisory lock lies in this file; it is never removed, so that two processes always lock the same inode.
const LOCK_FILE: &str = "LOCK";

/// A real directory. The lock is held until this value is dropped.
pub struct FsDisk {
    dir: PathBuf,
    /// Kept open for `fsync` of the directory.
    dir_file: File,
    _lock: File,
}

impl FsDisk {
    /// Opens the directory, creating it if needed, and takes its lock.
    ///
    /// Fails at once with `WouldBlock` and a clear message when another process holds the directory.
    pub fn open(dir: &Path) -> io::Result<FsDisk> {
        create_durably(dir)?;
        let lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(LOCK_FILE))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is in use by another process (its {LOCK_FILE} file is held)", dir.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let dir_file = File::open(dir)?;
        Ok(FsDisk { dir: dir.to_path_buf(), dir_file, _lock: lock })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn path(&self, name: &str) -> PathBuf {
        assert!(!name.is_empty() && !name.contains(['/', '\0']) && name != "..", "a plain file name: {name:?}");
        self.dir.join(name)
    }
}

impl Disk for FsDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FsFile(OpenOptions::new().read(true).write(true).open(self.path(name))?)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FsFile(OpenOptions::new().read(true).write(true).create_new(true).open(self.path(name))?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string()
                && name != LOCK_FILE
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.dir_file.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.dir_file)
    }
}

/// Creates a directory with its ancestors. Each is an entry in its parent, which is synced: else the directory
/// could vanish with everything in it.
fn create_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent()
        && !parent.as_os_str().is_empty()
    {
        create_durably(parent)?;
    }
    fs::create_dir(dir)?;
    let parent = dir.canonicalize()?.parent().map(Path::to_path_buf);
    parent.map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// Bytes that an unprivileged process may still write.
fn free_bytes(dir: &File) -> io::Result<u64> {
    use std::os::fd::AsRawFd;
    // SAFETY: `statvfs` is plain data, for which all zeros is a valid value; the descriptor is open while `dir`
    // is borrowed, and the kernel writes only into the structure that it is given.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        if libc::fstatvfs(dir.as_raw_fd(), &mut stat) != 0 {
            return Err(io::Error::last_os_error());
        }
        stat
    };
    // The fields are 32 bits wide on some targets.
    #[allow(clippy::useless_conversion)]
    Ok(u64::from(stat.f_bavail).saturating_mul(u64::from(stat.f_frsize)))
}

struct FsFile(File);

impl DiskFile for FsFile {
    fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.0.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// A short write goes on with the rest only to learn why it was short: a full disk answers ENOSPC there.
    fn pwrite(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.0.set_len(len_bytes)
    }
}
