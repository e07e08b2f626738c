//! The one IO seam of the crate: one directory of files, as the log needs it.
//!
//! Runs on whichever thread owns the log. Nothing above this module may name `std::fs`; nothing here may retry
//! a failed write or sync. `FsDisk` is the real one, `SimDisk` the one that crashes on request.

mod fs;
mod sim;

use std::io;

pub use fs::FsDisk;
pub use sim::{Fault, PendingUnit, SECTOR_BYTES, SimDisk};

/// One directory. Every name is a plain file name inside it, without separators.
pub trait Disk: Send + Sync {
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Creates an empty file; fails with `AlreadyExists` when the name is taken.
    /// The name is durable only after `sync_dir`.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Moves a file over `to`, which is replaced if it exists. Atomic; durable only after `sync_dir`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name. Durable only after `sync_dir`.
    fn unlink(&self, name: &str) -> io::Result<()>;

    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes every create, rename and unlink so far durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that this process may still write to the file system.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// One open file. Dropping it closes it and syncs nothing.
pub trait DiskFile: Send {
    /// Fills `buf` from `offset`; returns fewer bytes only where the file ends.
    fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes the whole of `buf` at `offset`. After an error any part of it may have been written.
    fn pwrite(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// `fdatasync`: the contents and the length are durable when it returns.
    fn sync_data(&self) -> io::Result<()>;

    fn len_bytes(&self) -> io::Result<u64>;

    /// Cuts the file or extends it with a hole that reads as zeros.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;

    /// Writes zeros over the first `len_bytes` bytes, so that later writes and syncs there change no metadata:
    /// on ext4 that makes `fdatasync` a third cheaper than on allocated but unwritten extents.
    fn preallocate(&self, len_bytes: u64) -> io::Result<()> {
        let zeros = [0u8; ZERO_BYTES];
        let mut offset = 0;
        while offset < len_bytes {
            let part_bytes = (len_bytes - offset).min(ZERO_BYTES as u64);
            self.pwrite(&zeros[..part_bytes as usize], offset)?;
            offset += part_bytes;
        }
        self.set_len(len_bytes)
    }
}

/// How much `preallocate` writes at once; lives on the stack.
const ZERO_BYTES: usize = 64 * 1024;
