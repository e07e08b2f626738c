//! A client's connection as bytes, never blocking. The seam at which TLS joins: another variant of [`Socket`] that
//! answers `WouldBlock` while its handshake or its records are incomplete lives under the same deadlines.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

pub enum Socket {
    Plain(TcpStream),
}

impl Socket {
    /// # Errors
    /// `WouldBlock` when there is nothing yet; others are the end of the connection.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => retry(|| stream.read(room)),
        }
    }

    /// # Errors
    /// As for `read`.
    pub fn write(&mut self, head: &[u8], body: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) if body.is_empty() => retry(|| stream.write(head)),
            Socket::Plain(stream) if head.is_empty() => retry(|| stream.write(body)),
            Socket::Plain(stream) => retry(|| stream.write_vectored(&[IoSlice::new(head), IoSlice::new(body)])),
        }
    }

    /// What a poller has to watch.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Plain(stream) => stream.as_fd(),
        }
    }

    /// Says that nothing more will be written; reading goes on.
    pub fn shutdown_write(&mut self) {
        match self {
            // An error means that the connection is gone already.
            Socket::Plain(stream) => drop(stream.shutdown(Shutdown::Write)),
        }
    }

    /// Blocks until bytes can be written, or the connection is broken, or the time has passed. For streams only.
    pub fn wait_writable(&self, timeout_ms: u32) {
        let Socket::Plain(stream) = self;
        let timeout =
            Timespec { tv_sec: i64::from(timeout_ms / 1000), tv_nsec: i64::from(timeout_ms % 1000) * 1_000_000 };
        // A signal or an error ends the wait early: the caller writes again and sees for itself.
        let _ = poll(&mut [PollFd::new(stream, PollFlags::OUT)], Some(&timeout));
    }
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
