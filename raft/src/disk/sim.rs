//! A disk in memory that can lose power, tear writes and fail on request.
//!
//! For every file it keeps what is durable, what was written since the last sync, and what a running process
//! reads (the page cache); the same for the directory. Deterministic: it draws no random numbers, the caller
//! chooses what a power cut keeps. Used by tests and by the simulator; never by the server.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile};

/// What the medium writes atomically, unless the disk was made with another size.
pub const SECTOR_BYTES: usize = 512;

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO. A failing sync of a file drops what it should have written from the list of dirty data, as Linux
    /// does: a later sync would succeed and yet write nothing.
    Io,
    /// ENOSPC.
    Full,
    /// A write stores its first half and then fails.
    Short,
    /// The power is gone: this operation and all later ones fail, until `crash` restarts the disk.
    PowerCut,
}

/// Something that a power cut may keep or lose on its own. `op` counts the operations that were not synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingUnit {
    /// One sector of one write.
    Sector { op: usize, file: Arc<str>, sector: u64 },
    /// A change of a file's length; the data behind it is lost if this is.
    Length { op: usize, file: Arc<str>, len_bytes: u64 },
    /// A create, rename or unlink.
    Name { op: usize, change: String },
}

impl PendingUnit {
    /// Numbers the operation that this is a part of; counts up in program order.
    pub fn op(&self) -> usize {
        match self {
            PendingUnit::Sector { op, .. } | PendingUnit::Length { op, .. } | PendingUnit::Name { op, .. } => *op,
        }
    }
}

/// A handle; clones share the disk. `fork` copies it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::with_sector_bytes(SECTOR_BYTES)
    }
}

#[derive(Clone)]
struct World {
    sector_bytes: usize,
    inodes: Vec<Inode>,
    /// What a running process sees.
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<(usize, NameChange)>,
    op_next: usize,
    /// Operations so far, reads included.
    op_count: u64,
    faults: BTreeMap<u64, Fault>,
    powered_off: bool,
    free_bytes: Option<u64>,
}

#[derive(Clone, Default)]
struct Inode {
    cache: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<(usize, FileChange)>,
}

#[derive(Clone)]
enum FileChange {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(String, usize),
    Rename(String, String, usize),
    Unlink(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            NameChange::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            NameChange::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}

impl SimDisk {
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    /// A disk that writes so many bytes atomically; fewer than 512 show writes that are torn within a sector.
    pub fn with_sector_bytes(sector_bytes: usize) -> SimDisk {
        assert!(sector_bytes > 0, "a medium writes something");
        SimDisk(Arc::new(Mutex::new(World {
            sector_bytes,
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            op_next: 0,
            op_count: 0,
            faults: BTreeMap::new(),
            powered_off: false,
            free_bytes: None,
        })))
    }

    /// A separate disk in the same state.
    pub fn fork(&self) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(self.world().clone())))
    }

    /// Operations so far, reads included. The next one has this number.
    pub fn op_count(&self) -> u64 {
        self.world().op_count
    }

    /// Lets operation number `op` (see `op_count`) fail.
    pub fn fail_at(&self, op: u64, fault: Fault) {
        self.world().faults.insert(op, fault);
    }

    pub fn clear_faults(&self) {
        self.world().faults.clear();
    }

    /// Limits what may still be written beyond the current sizes; `None` for no limit.
    pub fn set_free_bytes(&self, free_bytes: Option<u64>) {
        self.world().free_bytes = free_bytes;
    }

    /// Everything that a power cut may keep or lose now, in program order.
    pub fn pending(&self) -> Vec<PendingUnit> {
        let world = self.world();
        let mut units = Vec::new();
        for (inode, file) in world.inodes.iter().enumerate() {
            for (op, change) in &file.pending {
                units.extend(change.units(*op, &world.name_of(inode), world.sector_bytes));
            }
        }
        for (op, change) in &world.pending_names {
            units.push(PendingUnit::Name { op: *op, change: format!("{change:?}") });
        }
        units.sort_by_key(PendingUnit::op);
        units
    }

    /// Cuts the power and restarts: of all that was not synced, exactly those units survive that `keep` accepts.
    /// Sectors, lengths and names are independent of each other, so that choices stand for orders too: a later write of
    /// a sector that reached the disk before an earlier one looks like the earlier one alone.
    /// Faults are cleared. Files that are open keep working on what is then their content.
    pub fn crash(&self, keep: &mut dyn FnMut(&PendingUnit) -> bool) {
        let mut world = self.world();
        for inode in 0..world.inodes.len() {
            let (name, sector_bytes) = (world.name_of(inode), world.sector_bytes);
            let pending = std::mem::take(&mut world.inodes[inode].pending);
            let file = &mut world.inodes[inode];
            for (op, change) in pending {
                let units = change.units(op, &name, sector_bytes);
                let kept: Vec<bool> = units.iter().map(&mut *keep).collect();
                change.apply_kept(&mut file.durable, &kept, sector_bytes);
            }
            file.cache = file.durable.clone();
        }
        for (op, change) in std::mem::take(&mut world.pending_names) {
            if keep(&PendingUnit::Name { op, change: format!("{change:?}") }) {
                change.apply(&mut world.durable_names);
            }
        }
        world.names = world.durable_names.clone();
        world.faults.clear();
        world.powered_off = false;
        world.forget_nameless();
    }

    /// The process dies and the machine lives: the page cache stays, and with it all that was written.
    pub fn kill_process(&self) {
        let mut world = self.world();
        world.faults.clear();
        world.powered_off = false;
    }

    /// What a process reads from a file now, or `None` if there is no such name.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let world = self.world();
        world.names.get(name).map(|inode| world.inodes[*inode].cache.clone())
    }

    /// Changes bytes on the medium behind the back of everyone: bit rot, a misdirected write, a restored copy.
    pub fn rot(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world();
        let inode = *world.names.get(name).expect("the file to damage exists");
        let file = &mut world.inodes[inode];
        assert!(file.pending.is_empty(), "only what is durable can rot");
        change(&mut file.durable);
        file.cache = file.durable.clone();
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no holder of the simulated disk panics")
    }
}

impl World {
    fn name_of(&self, inode: usize) -> Arc<str> {
        self.names
            .iter()
            .find(|(_, other)| **other == inode)
            .map_or_else(|| Arc::from(format!("nameless {inode}")), |(name, _)| Arc::from(name.as_str()))
    }

    /// Files without a name hold no memory; their handles read nothing any more.
    fn forget_nameless(&mut self) {
        let live: std::collections::BTreeSet<usize> = self.names.values().copied().collect();
        for (inode, file) in self.inodes.iter_mut().enumerate() {
            if !live.contains(&inode) {
                *file = Inode::default();
            }
        }
    }

    /// Counts an operation and says how it must fail, if it must.
    fn begin(&mut self) -> Result<(), Fault> {
        let op = self.op_count;
        self.op_count += 1;
        if self.powered_off {
            return Err(Fault::PowerCut);
        }
        match self.faults.get(&op) {
            None => Ok(()),
            Some(fault) => {
                self.powered_off = *fault == Fault::PowerCut;
                Err(*fault)
            }
        }
    }

    fn op_number(&mut self) -> usize {
        self.op_next += 1;
        self.op_next - 1
    }

    fn change_names(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        let op = self.op_number();
        self.pending_names.push((op, change));
    }

    fn change_file(&mut self, inode: usize, change: FileChange) {
        let op = self.op_number();
        let file = &mut self.inodes[inode];
        change.apply_whole(&mut file.cache);
        file.pending.push((op, change));
    }

    /// Takes what a file grows by from the free space.
    fn grow(&mut self, inode: usize, len_bytes: usize) -> io::Result<()> {
        let grown_bytes = len_bytes.saturating_sub(self.inodes[inode].cache.len()) as u64;
        if let Some(free_bytes) = &mut self.free_bytes {
            if grown_bytes > *free_bytes {
                return Err(error_of(Fault::Full));
            }
            *free_bytes -= grown_bytes;
        }
        Ok(())
    }

    fn write(&mut self, inode: usize, buf: &[u8], offset: usize) -> io::Result<()> {
        let end = offset + buf.len();
        self.grow(inode, end)?;
        if end > self.inodes[inode].cache.len() {
            self.change_file(inode, FileChange::Length(end));
        }
        self.change_file(inode, FileChange::Write { offset, bytes: buf.to_vec() });
        Ok(())
    }
}

impl FileChange {
    fn units(&self, op: usize, file: &Arc<str>, sector_bytes: usize) -> Vec<PendingUnit> {
        match self {
            FileChange::Length(len) => {
                vec![PendingUnit::Length { op, file: file.clone(), len_bytes: *len as u64 }]
            }
            FileChange::Write { offset, bytes } => sectors(*offset, bytes.len(), sector_bytes)
                .map(|(start, _)| PendingUnit::Sector { op, file: file.clone(), sector: (start / sector_bytes) as u64 })
                .collect(),
        }
    }

    fn apply_whole(&self, image: &mut Vec<u8>) {
        match self {
            FileChange::Length(len) => image.resize(*len, 0),
            FileChange::Write { offset, bytes } => image[*offset..offset + bytes.len()].copy_from_slice(bytes),
        }
    }

    /// Applies all of it to what is durable. A write whose length a failed sync forgot is clipped.
    fn apply_clipped(&self, image: &mut Vec<u8>) {
        match self {
            FileChange::Write { offset, bytes } => {
                let end = (offset + bytes.len()).min(image.len());
                if *offset < end {
                    image[*offset..end].copy_from_slice(&bytes[..end - offset]);
                }
            }
            FileChange::Length(_) => self.apply_whole(image),
        }
    }

    /// Applies the kept parts. Data behind the end of the image is lost: its length was not kept.
    fn apply_kept(&self, image: &mut Vec<u8>, kept: &[bool], sector_bytes: usize) {
        match self {
            FileChange::Length(len) => {
                if kept[0] {
                    image.resize(*len, 0);
                }
            }
            FileChange::Write { offset, bytes } => {
                for ((start, end), _) in
                    sectors(*offset, bytes.len(), sector_bytes).zip(kept).filter(|(_, kept)| **kept)
                {
                    let end = end.min(image.len());
                    if start < end {
                        image[start..end].copy_from_slice(&bytes[start - offset..end - offset]);
                    }
                }
            }
        }
    }
}

/// The parts of `[offset, offset + len)` that lie in different sectors, as (start, end).
fn sectors(offset: usize, len: usize, sector_bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut start = offset;
    std::iter::from_fn(move || {
        if start >= offset + len {
            return None;
        }
        let end = ((start / sector_bytes + 1) * sector_bytes).min(offset + len);
        let part = (start, end);
        start = end;
        Some(part)
    })
}

fn error_of(fault: Fault) -> io::Error {
    match fault {
        Fault::Full => io::Error::from(io::ErrorKind::StorageFull),
        Fault::Io => io::Error::other("simulated EIO"),
        Fault::Short => io::Error::new(io::ErrorKind::WriteZero, "simulated short write"),
        Fault::PowerCut => io::Error::other("simulated power cut"),
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.begin().map_err(error_of)?;
        let inode = *world.names.get(name).ok_or_else(|| not_found(name))?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.world();
        world.begin().map_err(error_of)?;
        if world.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let inode = world.inodes.len();
        world.inodes.push(Inode::default());
        world.change_names(NameChange::Create(name.to_string(), inode));
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        world.begin().map_err(error_of)?;
        let inode = *world.names.get(from).ok_or_else(|| not_found(from))?;
        world.change_names(NameChange::Rename(from.to_string(), to.to_string(), inode));
        Ok(())
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        world.begin().map_err(error_of)?;
        let inode = *world.names.get(name).ok_or_else(|| not_found(name))?;
        let freed_bytes = world.inodes[inode].cache.len() as u64;
        if let Some(free_bytes) = &mut world.free_bytes {
            *free_bytes += freed_bytes;
        }
        world.change_names(NameChange::Unlink(name.to_string()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut world = self.world();
        world.begin().map_err(error_of)?;
        Ok(world.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut world = self.world();
        // Names live in the file system's journal: a sync that fails forgets none of them (unlike file contents).
        world.begin().map_err(error_of)?;
        let pending = std::mem::take(&mut world.pending_names);
        for (_, change) in pending {
            change.apply(&mut world.durable_names);
        }
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let mut world = self.world();
        world.begin().map_err(error_of)?;
        Ok(world.free_bytes.unwrap_or(u64::MAX))
    }
}

struct SimFile {
    disk: SimDisk,
    inode: usize,
}

impl DiskFile for SimFile {
    fn pread(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut world = self.disk.world();
        world.begin().map_err(error_of)?;
        let image = &world.inodes[self.inode].cache;
        let start = usize::try_from(offset).map_or(image.len(), |offset| offset.min(image.len()));
        let count = buf.len().min(image.len() - start);
        buf[..count].copy_from_slice(&image[start..start + count]);
        Ok(count)
    }

    fn pwrite(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        let offset = usize::try_from(offset).expect("a simulated file fits memory");
        match world.begin() {
            Ok(()) => world.write(self.inode, buf, offset),
            Err(Fault::Short) => {
                world.write(self.inode, &buf[..buf.len() / 2], offset)?;
                Err(error_of(Fault::Short))
            }
            Err(fault) => Err(error_of(fault)),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        let begun = world.begin();
        if begun == Err(Fault::PowerCut) {
            return Err(error_of(Fault::PowerCut));
        }
        let file = &mut world.inodes[self.inode];
        let pending = std::mem::take(&mut file.pending);
        begun.map_err(error_of)?;
        for (_, change) in pending {
            change.apply_clipped(&mut file.durable);
        }
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        let mut world = self.disk.world();
        world.begin().map_err(error_of)?;
        Ok(world.inodes[self.inode].cache.len() as u64)
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        world.begin().map_err(error_of)?;
        let len = usize::try_from(len_bytes).expect("a simulated file fits memory");
        if len == world.inodes[self.inode].cache.len() {
            return Ok(());
        }
        world.grow(self.inode, len)?;
        world.change_file(self.inode, FileChange::Length(len));
        Ok(())
    }
}
