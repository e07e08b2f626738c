//! Asks the kernel to begin writing the WAL to disk early. Runs on the applier.
//!
//! A checkpoint must sync the WAL first. Left alone, the kernel keeps all of its pages dirty until then, and every write
//! waits while the whole file goes to the disk at once. A hint along the way spreads that. It is only a hint: it waits for
//! nothing, promises nothing, and its failure means nothing, since the checkpoint's own sync still counts.

use std::fs::File;
use std::path::Path;

/// Pages between two hints: 256 KiB.
const PAGES_MIN: u32 = 64;
/// A frame of the WAL: its header and a page of the usual size. Only the place of the hint depends on it.
const FRAME_BYTES: u64 = 24 + 4096;

/// The WAL file, opened beside SQLite. Nothing is read or written through it, and SQLite holds no lock on this file that
/// closing it could drop (its locks lie on the database and the shared-memory file).
pub struct Writeback {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code))]
    wal: Option<File>,
    hinted_pages: u32,
}

impl Writeback {
    /// The WAL of the database at `path`; without one there will be no hints.
    pub fn open(path: &Path) -> Writeback {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        Writeback { wal: File::open(name).ok(), hinted_pages: 0 }
    }

    /// The WAL now holds `pages` pages.
    pub fn grown_to(&mut self, pages: u32) {
        if pages < self.hinted_pages {
            self.hinted_pages = 0;
        }
        if pages - self.hinted_pages >= PAGES_MIN {
            self.hint(u64::from(self.hinted_pages) * FRAME_BYTES, u64::from(pages - self.hinted_pages) * FRAME_BYTES);
            self.hinted_pages = pages;
        }
    }

    #[cfg(target_os = "linux")]
    fn hint(&self, offset: u64, bytes: u64) {
        use std::os::fd::AsRawFd;
        let Some(wal) = &self.wal else { return };
        // SAFETY: the descriptor is open, and the call touches no memory of ours.
        unsafe {
            libc::sync_file_range(wal.as_raw_fd(), offset as i64, bytes as i64, libc::SYNC_FILE_RANGE_WRITE);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn hint(&self, _offset: u64, _bytes: u64) {}
}
