//! The files of the log: names, creation, recycling.
//!
//! Runs on the thread that owns the log. A segment gets its name only when its header is durable, so a damaged
//! header is never the trace of a crash. Must never write into a file whose old name may still be durable.

use std::sync::Arc;

use super::WalError;
use super::format::{PAGE_BYTES, SegmentHeader};
use crate::disk::{Disk, DiskFile};

const SEGMENT_SUFFIX: &str = ".wal";
const SPARE_SUFFIX: &str = ".spare";

/// A file that is being filled with zeros; worthless after a crash.
const NEW_FILE: &str = "new.tmp";

pub(super) fn segment_name(seq: u64) -> String {
    format!("{seq:016x}{SEGMENT_SUFFIX}")
}

fn number_in(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// The directory and the files that wait for their next use.
pub(super) struct Pool {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    spares_max: usize,
    spares: Vec<String>,
    spare_next: u64,
    /// A name was changed and the directory was not synced since.
    dir_dirty: bool,
}

impl Pool {
    /// Looks at the directory; returns the numbers of all segments, sorted. Whatever it lists is durable.
    pub fn open(disk: Arc<dyn Disk>, segment_bytes: u64, spares_max: usize) -> Result<(Pool, Vec<u64>), WalError> {
        // A process that died may have changed names that only the cache knows; nothing may be built on those.
        disk.sync_dir().map_err(|error| WalError::io("fsync", "the directory", error))?;
        let names = disk.list().map_err(|error| WalError::io("readdir", "the directory", error))?;
        let mut pool = Pool { disk, segment_bytes, spares_max, spares: Vec::new(), spare_next: 0, dir_dirty: false };
        let mut seqs = Vec::new();
        for name in names {
            if let Some(seq) = number_in(&name, SEGMENT_SUFFIX) {
                seqs.push(seq);
            } else if let Some(number) = number_in(&name, SPARE_SUFFIX) {
                pool.spare_next = pool.spare_next.max(number.saturating_add(1));
                pool.adopt_spare(name)?;
            } else if name == NEW_FILE {
                pool.unlink(&name)?;
            }
        }
        seqs.sort_unstable();
        Ok((pool, seqs))
    }

    pub fn open_file(&self, name: &str) -> Result<(Box<dyn DiskFile>, u64), WalError> {
        let file = self.disk.open(name).map_err(|error| WalError::io("open", name, error))?;
        let len_bytes = file.len_bytes().map_err(|error| WalError::io("fstat", name, error))?;
        Ok((file, len_bytes))
    }

    pub fn spare_count(&self) -> usize {
        self.spares.len()
    }

    /// Keeps a spare if it can serve as a segment and there is room in the pool.
    fn adopt_spare(&mut self, name: String) -> Result<(), WalError> {
        let (_, len_bytes) = self.open_file(&name)?;
        if len_bytes == self.segment_bytes && self.spares.len() < self.spares_max {
            self.spares.push(name);
            return Ok(());
        }
        self.unlink(&name)
    }

    fn unlink(&mut self, name: &str) -> Result<(), WalError> {
        self.disk.unlink(name).map_err(|error| WalError::io("unlink", name, error))?;
        self.dir_dirty = true;
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), WalError> {
        self.disk.rename(from, to).map_err(|error| WalError::io("rename", from, error))?;
        self.dir_dirty = true;
        Ok(())
    }

    pub fn sync_dir(&mut self) -> Result<(), WalError> {
        if self.dir_dirty {
            self.disk.sync_dir().map_err(|error| WalError::io("fsync", "the directory", error))?;
            self.dir_dirty = false;
        }
        Ok(())
    }

    /// A file of the usual size, filled with zeros that are durable.
    fn create_filled(&mut self) -> Result<Box<dyn DiskFile>, WalError> {
        let file = self.disk.create(NEW_FILE).map_err(|error| WalError::io("create", NEW_FILE, error))?;
        self.dir_dirty = true;
        file.preallocate(self.segment_bytes).map_err(|error| WalError::io("pwrite", NEW_FILE, error))?;
        file.sync_data().map_err(|error| WalError::io("fdatasync", NEW_FILE, error))?;
        Ok(file)
    }

    /// Puts a fresh file into an empty pool, so that the next roll need not fill one.
    pub fn prepare_spare(&mut self) -> Result<(), WalError> {
        self.create_filled()?;
        let name = self.spare_name();
        self.rename(NEW_FILE, &name)?;
        self.spares.push(name);
        Ok(())
    }

    fn spare_name(&mut self) -> String {
        self.spare_next += 1;
        format!("{:016x}{SPARE_SUFFIX}", self.spare_next - 1)
    }

    /// Makes a segment with this header; it exists, durably and under its name, when this returns.
    /// `records_bytes` is the least room that it must have.
    pub fn create_segment(
        &mut self,
        header: &SegmentHeader,
        records_bytes: u64,
    ) -> Result<(Box<dyn DiskFile>, u64), WalError> {
        let need_bytes = (PAGE_BYTES + records_bytes).next_multiple_of(PAGE_BYTES);
        let (file, name, len_bytes) = if need_bytes > self.segment_bytes {
            // Filling it with zeros first would write everything twice, for a file that is never recycled.
            let file = self.disk.create(NEW_FILE).map_err(|error| WalError::io("create", NEW_FILE, error))?;
            file.set_len(need_bytes).map_err(|error| WalError::io("ftruncate", NEW_FILE, error))?;
            (file, NEW_FILE.to_string(), need_bytes)
        } else if let Some(name) = self.spares.pop() {
            // The spare may be a purged segment whose old name is still the durable one: were its header replaced
            // now, a crash would show a damaged segment in the middle of the log.
            self.sync_dir()?;
            let (file, _) = self.open_file(&name)?;
            (file, name, self.segment_bytes)
        } else {
            (self.create_filled()?, NEW_FILE.to_string(), self.segment_bytes)
        };
        file.pwrite(&header.encode(), 0).map_err(|error| WalError::io("pwrite", &name, error))?;
        file.sync_data().map_err(|error| WalError::io("fdatasync", &name, error))?;
        // Before the new name is durable no record may be written: such a record would come back to life when
        // the number is given out again after a crash.
        self.rename(&name, &segment_name(header.seq))?;
        if !mutant!("log_directory_not_synced") {
            self.sync_dir()?;
        }
        Ok((file, len_bytes))
    }

    /// Takes a segment that the log no longer needs. The caller hands them over from the oldest on.
    pub fn retire(&mut self, seq: u64, len_bytes: u64) -> Result<(), WalError> {
        // One name at a time: a power cut may keep a later change and lose an earlier one, which would leave a
        // gap between segments.
        self.sync_dir()?;
        let name = segment_name(seq);
        if len_bytes == self.segment_bytes && self.spares.len() < self.spares_max {
            let spare = self.spare_name();
            self.rename(&name, &spare)?;
            self.spares.push(spare);
            return Ok(());
        }
        self.unlink(&name)
    }
}
