//! Where a request's body collects while it arrives: in memory while it is small and there is room, in a scratch file
//! otherwise. Used by the worker that drives the connection; writing to the scratch file may block on the disk.

use super::Body;
use super::budget::{Budget, Charge, Scratch};
use super::config::{BODY_MEMORY_BYTES_MAX, DISK_LOOK_BYTES};
use super::head::Refusal;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;

pub struct BodySink {
    memory: Vec<u8>,
    memory_charge: Charge,
    file: Option<File>,
    file_charge: Charge,
    bytes: u64,
}

/// The body cannot be kept: no room on the scratch disk.
const NO_ROOM: Refusal = Refusal(503);

impl BodySink {
    pub fn new(memory: &Arc<Budget>, scratch: &Scratch) -> BodySink {
        BodySink {
            memory: Vec::new(),
            memory_charge: Charge::none(memory),
            file: None,
            file_charge: Charge::none(&scratch.space),
            bytes: 0,
        }
    }

    /// Adds bytes; says whether this was the moment at which the body moved to a file.
    ///
    /// # Errors
    /// 503 when it has to go to a file and cannot.
    pub fn push(&mut self, data: &[u8], scratch: &Scratch) -> Result<bool, Refusal> {
        let looked = self.bytes / DISK_LOOK_BYTES;
        self.bytes += data.len() as u64;
        let mut moved = false;
        if self.file.is_none() {
            if self.fits(data.len()) {
                self.memory.extend_from_slice(data);
                return Ok(false);
            }
            self.file = Some(scratch.file().map_err(|error| no_room(&error))?);
            moved = true;
        }
        if !self.file_charge.set(self.bytes) || looked < self.bytes / DISK_LOOK_BYTES && !scratch.has_room() {
            return Err(NO_ROOM);
        }
        let file = self.file.as_mut().expect("just made");
        if moved {
            file.write_all(&self.memory).map_err(|error| no_room(&error))?;
            self.memory = Vec::new();
            let given_back = self.memory_charge.set(0);
            assert!(given_back, "a share can always shrink");
        }
        file.write_all(data).map_err(|error| no_room(&error))?;
        Ok(moved)
    }

    /// Will `more` bytes have to go to the scratch file, as far as the size of the body says?
    pub fn needs_disk(&self, more: usize) -> bool {
        self.file.is_some() || self.memory.len() + more > BODY_MEMORY_BYTES_MAX
    }

    /// Makes room in memory for `more` bytes if the limits allow it. Doubles, but never for bytes merely announced.
    fn fits(&mut self, more: usize) -> bool {
        let need = self.memory.len() + more;
        if need > BODY_MEMORY_BYTES_MAX {
            return false;
        }
        if need > self.memory.capacity() {
            let room = if self.memory.is_empty() { need } else { (need * 2).min(BODY_MEMORY_BYTES_MAX) };
            if !self.memory_charge.set(room as u64) {
                return false;
            }
            self.memory.reserve_exact(room - self.memory.len());
        }
        true
    }

    /// The whole body, ready to be read from its start. The handler holds it from here on; what handlers may hold is
    /// bounded by their number.
    ///
    /// # Errors
    /// 503 when the scratch file cannot be rewound.
    pub fn finish(self) -> Result<Body, Refusal> {
        match self.file {
            None => Ok(Body::Memory(self.memory)),
            Some(mut file) => {
                file.seek(SeekFrom::Start(0)).map_err(|error| no_room(&error))?;
                Ok(Body::File { file, bytes: self.bytes })
            }
        }
    }
}

fn no_room(error: &std::io::Error) -> Refusal {
    log::warn!("a request's body cannot be kept in the scratch folder: {error}");
    NO_ROOM
}
