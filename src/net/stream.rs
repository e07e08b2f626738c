//! A connection between nodes as bytes: the one place where connections are made (`dial`) and taken in (`accept`), and the
//! seam at which TLS joins. Any thread.
//!
//! One thread may read while another writes, both through a shared reference. Every call blocks for `IO_TICK` at most, so
//! that callers can look at their deadlines; `shutdown` ends both sides at once, from any thread.

use super::limits::{IO_TICK, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, UNACKNOWLEDGED_MAX};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with, sockopt,
};
use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often an attempt to connect looks whether it is still wanted.
const CONNECT_LOOK: Duration = Duration::from_millis(100);

enum Socket {
    Plain(TcpStream),
}

/// An open connection; closed when the last reference goes.
pub struct Stream {
    socket: Socket,
    number: u64,
    streams: Arc<Streams>,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

/// All open connections of this node, so that `stop` can end them.
#[derive(Default)]
pub struct Streams {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    is_closed: bool,
    next: u64,
    streams: HashMap<u64, Weak<Stream>>,
}

impl Streams {
    fn add(self: &Arc<Streams>, socket: Socket) -> io::Result<Arc<Stream>> {
        let mut open = self.open.lock();
        if open.is_closed {
            return Err(io::Error::other("this node is stopping"));
        }
        open.next += 1;
        let number = open.next;
        let (sent_bytes, received_bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        let stream = Arc::new(Stream { socket, number, streams: Arc::clone(self), sent_bytes, received_bytes });
        open.streams.insert(number, Arc::downgrade(&stream));
        Ok(stream)
    }

    /// Ends every connection, and every one that would still be opened.
    pub fn close(&self) {
        let streams: Vec<Arc<Stream>> = {
            let mut open = self.open.lock();
            open.is_closed = true;
            open.streams.values().filter_map(Weak::upgrade).collect()
        };
        // Outside the lock: the last reference of a stream may go here, and its drop takes the lock.
        for stream in streams {
            stream.shutdown();
        }
    }

    /// How many connections are open, both ways together.
    pub fn count(&self) -> usize {
        self.open.lock().streams.len()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.open.lock().streams.remove(&self.number);
    }
}

/// Connects to `address` (host:port). Gives up at the deadline, or when `is_cancelled`.
///
/// # Errors
/// The name does not resolve, or no address of it takes the connection.
pub fn dial(
    streams: &Arc<Streams>,
    address: &str,
    deadline: Instant,
    is_cancelled: &dyn Fn() -> bool,
) -> io::Result<Arc<Stream>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let resolved: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    for (tried, target) in resolved.iter().enumerate() {
        // Each address gets its share of the time that is left.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(resolved.len() - tried).unwrap_or(u32::MAX);
        match connect_one(*target, Instant::now() + share, is_cancelled) {
            Ok(stream) => {
                tune(&stream)?;
                return streams.add(Socket::Plain(stream));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Takes in a connection from a listener.
///
/// # Errors
/// It is gone already, or this node is stopping.
pub fn accept(streams: &Arc<Streams>, stream: TcpStream) -> io::Result<Arc<Stream>> {
    stream.set_nonblocking(false)?;
    tune(&stream)?;
    streams.add(Socket::Plain(stream))
}

fn connect_one(target: SocketAddr, deadline: Instant, is_cancelled: &dyn Fn() -> bool) -> io::Result<TcpStream> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    limit_segments(&socket);
    match connect(&socket, &target) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the connection attempt timed out"));
            }
            if is_cancelled() {
                return Err(io::Error::other("the connection is no longer wanted"));
            }
            let step = left.min(CONNECT_LOOK);
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(step.subsec_nanos()) };
            let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
            if poll(&mut fds, Some(&timeout)).is_ok_and(|ready| ready > 0) {
                sockopt::socket_error(&socket)??;
                break;
            }
        },
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    // A client port that was chosen equal to the target's connects a socket to itself, when nobody listens there.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
    }
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// On loopback a segment is as large as the first receive window, and a sender then often waits for a timer (40 ms and
/// more) until the window is seen to be open again. Real networks have smaller segments anyway.
#[cfg(target_os = "linux")]
fn limit_segments(socket: &impl AsRawFd) {
    let bytes_max: libc::c_int = 16 << 10;
    // SAFETY: the call reads one integer of the size that it is told, and the descriptor is open. When it fails the
    // connection is only slower.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MAXSEG,
            (&raw const bytes_max).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

#[cfg(not(target_os = "linux"))]
fn limit_segments(_socket: &impl AsRawFd) {}

/// Without delay, with the kernel watching for a peer that has vanished.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IO_TICK))?;
    stream.set_write_timeout(Some(IO_TICK))?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, u32::try_from(UNACKNOWLEDGED_MAX.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

impl Stream {
    /// Reads of this connection block for no longer than this; less than `IO_TICK`.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn be_impatient(&self, patience: Duration) -> io::Result<()> {
        let Socket::Plain(stream) = &self.socket;
        stream.set_read_timeout(Some(patience.min(IO_TICK)))
    }

    /// Ends both directions; whoever reads or writes returns.
    pub fn shutdown(&self) {
        match &self.socket {
            // An error means that the connection is gone already.
            Socket::Plain(stream) => drop(stream.shutdown(Shutdown::Both)),
        }
    }

    /// Says that nothing more will be written; reading goes on.
    pub fn shutdown_write(&self) {
        match &self.socket {
            Socket::Plain(stream) => drop(stream.shutdown(Shutdown::Write)),
        }
    }

    /// Whether the other end has, as far as this machine knows, not closed. Takes nothing from a reader; what waits to be read hides
    /// a close behind it.
    pub fn is_open(&self) -> bool {
        let Socket::Plain(stream) = &self.socket;
        let mut byte = [0u8; 1];
        match recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((_, got)) => got > 0,
            Err(Errno::AGAIN | Errno::INTR) => true,
            Err(_) => false,
        }
    }

    /// The other end, as the kernel names it.
    pub fn remote(&self) -> Option<SocketAddr> {
        let Socket::Plain(stream) = &self.socket;
        stream.peer_addr().ok()
    }

    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// Writes what the kernel takes of `bytes` without waiting; gives how many that were.
    ///
    /// # Errors
    /// It takes nothing now, or the connection is gone.
    pub fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let Socket::Plain(stream) = &self.socket;
        let count = send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        self.sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }

    /// Writes all of `parts`, one after the other. Fails when nothing is taken for `stall`.
    ///
    /// # Errors
    /// How many bytes the kernel has taken, and why no more. What was not wholly taken has certainly not arrived.
    pub fn write_all(&self, parts: &[&[u8]], stall: Duration) -> Result<(), (usize, io::Error)> {
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = &mut slices[..];
        IoSlice::advance_slices(&mut rest, 0);
        let mut taken = 0;
        let mut deadline = Instant::now() + stall;
        while !rest.is_empty() {
            let Socket::Plain(stream) = &self.socket;
            match (&mut &*stream).write_vectored(rest) {
                Ok(0) => return Err((taken, io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    taken += count;
                    self.sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
                    IoSlice::advance_slices(&mut rest, count);
                    if !rest.is_empty() {
                        deadline = Instant::now() + stall;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if Instant::now() < deadline => {}
                    io::ErrorKind::WouldBlock => {
                        let late = io::Error::new(io::ErrorKind::TimedOut, "the other end takes nothing");
                        return Err((taken, late));
                    }
                    _ => return Err((taken, error)),
                },
            }
        }
        Ok(())
    }
}

impl Read for &Stream {
    /// Blocks for `IO_TICK` at most; then `WouldBlock`.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let Socket::Plain(stream) = &self.socket;
        let got = (&mut &*stream).read(room)?;
        self.received_bytes.fetch_add(got as u64, Ordering::Relaxed);
        Ok(got)
    }
}
