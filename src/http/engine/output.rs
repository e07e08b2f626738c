//! What is left of an answer that the socket did not take at once: in memory while there is room, else in a scratch
//! file, so that clients who read slowly cannot fill the memory. Used by the worker that drives the connection.

use super::budget::{Charge, Scratch};
use super::shared::Shared;
use super::socket::Socket;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

pub struct Output {
    store: Store,
    /// Bytes of the store that have gone out.
    at: u64,
    bytes: u64,
    _charge: Charge,
}

/// Bytes read from a scratch file at a time.
const FILE_ROOM_BYTES: usize = 64 * 1024;

enum Store {
    Memory(Vec<u8>),
    File(File),
}

/// Did everything go out?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    Done,
    Blocked,
}

impl Output {
    /// Keeps `head` and then `body` from `at` on, counted over both. The flag says whether it went to a file.
    ///
    /// # Errors
    /// No room in memory, and the scratch file cannot be written or too many are being written.
    pub fn keep(head: &[u8], body: Vec<u8>, at: usize, shared: &Shared) -> io::Result<(Output, bool)> {
        let head_rest = head.get(at..).unwrap_or(&[]);
        let body_at = at.saturating_sub(head.len());
        let bytes = head_rest.len() + body.len() - body_at;
        let mut charge = Charge::none(&shared.memory);
        if charge.set((body.capacity() + head_rest.len()) as u64) {
            if head_rest.is_empty() {
                let bytes = body.len() as u64;
                return Ok((Output { store: Store::Memory(body), at: body_at as u64, bytes, _charge: charge }, false));
            }
            let mut all = Vec::with_capacity(bytes);
            all.extend_from_slice(head_rest);
            all.extend_from_slice(&body[body_at..]);
            return Ok((Output { store: Store::Memory(all), at: 0, bytes: bytes as u64, _charge: charge }, false));
        }
        let mut charge = Charge::none(&shared.scratch.space);
        if !charge.set(bytes as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if !shared.disk.try_enter() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let file = write_file(head_rest, &body[body_at..], &shared.scratch);
        shared.leave_gate(&shared.disk);
        let file = file?;
        Ok((Output { store: Store::File(file), at: 0, bytes: bytes as u64, _charge: charge }, true))
    }

    /// Bytes that have gone out of here.
    pub fn moved(&self) -> u64 {
        self.at
    }

    /// Writes until all is out or the socket takes no more.
    ///
    /// # Errors
    /// The connection is broken, or the scratch file cannot be read.
    pub fn write(&mut self, socket: &mut Socket) -> io::Result<Progress> {
        let mut room = match self.store {
            Store::Memory(_) => Vec::new(),
            Store::File(_) => vec![0; FILE_ROOM_BYTES],
        };
        while self.at < self.bytes {
            let wrote = match &self.store {
                Store::Memory(all) => socket.write(&all[self.at as usize..], &[]),
                Store::File(file) => {
                    let got = file.read_at(&mut room, self.at)?;
                    if got == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                    }
                    socket.write(&room[..got], &[])
                }
            };
            match wrote {
                Ok(count) => self.at += count as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Progress::Blocked),
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::Done)
    }
}

fn write_file(head_rest: &[u8], body: &[u8], scratch: &Scratch) -> io::Result<File> {
    let mut file = scratch.file()?;
    file.write_all(head_rest)?;
    file.write_all(body)?;
    Ok(file)
}
