//! Bounds what all connections together hold: bytes of memory and bytes of scratch files. Any thread; only counts.

use super::config::DISK_FREE_BYTES_MIN;
use crate::limits::free_disk_bytes;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes that may be held at one time.
#[derive(Debug)]
pub struct Budget {
    used: AtomicU64,
    max: u64,
}

impl Budget {
    pub fn new(max: u64) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicU64::new(0), max })
    }

    /// Bytes held now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// A share of a budget; given back on drop.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Charge {
    pub fn none(budget: &Arc<Budget>) -> Charge {
        Charge { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Makes the share `bytes` large. `false`, and nothing changed, when the budget does not allow it.
    #[must_use]
    pub fn set(&mut self, bytes: u64) -> bool {
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let before = self.budget.used.fetch_add(more, Ordering::Relaxed);
            if before.saturating_add(more) > self.budget.max {
                self.budget.used.fetch_sub(more, Ordering::Relaxed);
                return false;
            }
        } else {
            self.budget.used.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where scratch files come from: they have no name, so nothing is left behind by a process that dies.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    pub space: Arc<Budget>,
    made: AtomicU64,
}

impl Scratch {
    pub fn new(dir: PathBuf, bytes_max: u64) -> Scratch {
        Scratch { dir, space: Budget::new(bytes_max), made: AtomicU64::new(0) }
    }

    /// Is there room on the disk for more?
    pub fn has_room(&self) -> bool {
        // A disk that cannot be asked is found out by the write.
        free_disk_bytes(&self.dir).map_or(true, |bytes| bytes >= DISK_FREE_BYTES_MIN)
    }

    /// A new empty file for reading and writing.
    ///
    /// # Errors
    /// The folder is missing or not writable, or there is no descriptor left.
    pub fn file(&self) -> io::Result<File> {
        use rustix::fs::{Mode, OFlags, open};
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match open(&self.dir, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => Ok(File::from(fd)),
            // Some file systems have no nameless files.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
                let number = self.made.fetch_add(1, Ordering::Relaxed);
                named_then_unlinked(&self.dir.join(format!(".http-scratch-{}-{number}", std::process::id())))
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn named_then_unlinked(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn a_budget_is_never_exceeded_and_always_given_back() {
        let budget = Budget::new(100);
        let mut first = Charge::none(&budget);
        let mut second = Charge::none(&budget);
        assert!(first.set(60));
        assert!(!second.set(41));
        assert!(second.set(40));
        assert!(first.set(10));
        assert_eq!(budget.used(), 50);
        drop(first);
        drop(second);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn scratch_files_have_no_name() {
        let dir = std::env::temp_dir().join(format!("ferrolite-scratch-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let scratch = Scratch::new(dir.clone(), 10);
        for mut file in [scratch.file().expect("a file"), named_then_unlinked(&dir.join("x")).expect("a file")] {
            file.write_all(b"hello").expect("written");
            file.seek(SeekFrom::Start(0)).expect("sought");
            let mut text = String::new();
            file.read_to_string(&mut text).expect("read");
            assert_eq!(text, "hello");
        }
        assert_eq!(std::fs::read_dir(&dir).expect("a listing").count(), 0);
        std::fs::remove_dir(&dir).expect("removed");
    }
}
