//! Writes a streamed answer: chunked, or up to the end of the connection for HTTP/1.0. Runs on a worker and blocks it,
//! but never longer than the client may take; the number of streams at one time is bounded (`StreamGate`).

use super::config::Deadlines;
use super::shared::Shared;
use super::socket::Socket;
use std::io::{self, Write};

/// Bytes collected before they go out as one chunk.
const CHUNK_BYTES: usize = 32 * 1024;
/// Room for a chunk's size line in front of its data.
const SIZE_LINE_BYTES: usize = 8;
/// How often a blocked stream looks up whether it is to be cut.
const LOOK_UP_MS: u32 = 200;

pub struct StreamWriter<'a> {
    socket: &'a mut Socket,
    shared: &'a Shared,
    chunked: bool,
    /// The head of the answer goes out in front of the first chunk.
    pending: Vec<u8>,
    /// Where the current chunk starts in `pending`: its size line first.
    chunk: usize,
    moved: u64,
    window_ends_ms: u64,
    window_start_moved: u64,
    total_ends_ms: u64,
    /// An earlier write failed: the answer has a hole and must not be ended as if it were whole.
    failed: bool,
}

impl<'a> StreamWriter<'a> {
    pub fn new(socket: &'a mut Socket, shared: &'a Shared, chunked: bool, head: &[u8]) -> StreamWriter<'a> {
        let Deadlines { window_ms, stream_ms, .. } = shared.config.deadlines;
        let now = shared.now_ms();
        let mut pending = Vec::with_capacity(head.len() + SIZE_LINE_BYTES + CHUNK_BYTES + 2);
        pending.extend_from_slice(head);
        let mut writer = StreamWriter {
            socket,
            shared,
            chunked,
            chunk: 0,
            pending,
            moved: 0,
            window_ends_ms: now + window_ms,
            window_start_moved: 0,
            total_ends_ms: now + stream_ms,
            failed: false,
        };
        writer.open_chunk();
        writer
    }

    fn open_chunk(&mut self) {
        self.chunk = self.pending.len();
        if self.chunked {
            self.pending.resize(self.chunk + SIZE_LINE_BYTES, 0);
        }
    }

    fn collected(&self) -> usize {
        self.pending.len() - self.chunk - if self.chunked { SIZE_LINE_BYTES } else { 0 }
    }

    /// Puts the size line and the line end around what was collected.
    fn close_chunk(&mut self) {
        let bytes = self.collected();
        if self.chunked && bytes == 0 {
            self.pending.truncate(self.chunk);
        } else if self.chunked {
            // Leading zeros are allowed (RFC 9112 section 7.1) and keep the size line's length fixed.
            let line = format!("{bytes:06x}\r\n");
            self.pending[self.chunk..self.chunk + SIZE_LINE_BYTES].copy_from_slice(line.as_bytes());
            self.pending.extend_from_slice(b"\r\n");
        }
    }

    fn send_chunk(&mut self) -> io::Result<()> {
        self.close_chunk();
        self.write_out()?;
        self.pending.clear();
        self.open_chunk();
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.failed = true;
        let mut at = 0;
        while at < self.pending.len() {
            match self.socket.write(&self.pending[at..], &[]) {
                Ok(count) => {
                    at += count;
                    self.moved += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.check_deadlines()?;
                    self.socket.wait_writable(LOOK_UP_MS);
                }
                Err(error) => return Err(error),
            }
        }
        self.failed = false;
        Ok(())
    }

    fn check_deadlines(&mut self) -> io::Result<()> {
        let now = self.shared.now_ms();
        let deadlines = &self.shared.config.deadlines;
        let stalled = now >= self.window_ends_ms && self.moved - self.window_start_moved < deadlines.window_bytes;
        if stalled || now >= self.total_ends_ms || self.shared.is_cutting() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if now >= self.window_ends_ms {
            self.window_ends_ms = now + deadlines.window_ms;
            self.window_start_moved = self.moved;
        }
        Ok(())
    }

    /// The stream has ended well: the last chunk.
    ///
    /// # Errors
    /// The connection is broken or the client too slow.
    pub fn finish(mut self) -> io::Result<()> {
        self.close_chunk();
        if self.chunked {
            self.pending.extend_from_slice(b"0\r\n\r\n");
        }
        self.write_out()
    }
}

impl Write for StreamWriter<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = CHUNK_BYTES.saturating_sub(self.collected());
        if self.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let take = room.min(data.len());
        self.pending.extend_from_slice(&data[..take]);
        if self.collected() >= CHUNK_BYTES {
            self.send_chunk()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_chunk()
    }
}
