//! Readiness of descriptors: the only file that knows epoll and eventfd, so that another kernel's poller can stand in.
//!
//! Edge-triggered: an event says "something has changed since the last event", and is given to one waiting thread.

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fd::{AsFd, OwnedFd};
use std::io;

/// One readiness event.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What [`Poller::add`] was told.
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    /// The peer has sent its last byte.
    pub hangup: bool,
    /// Both directions are gone.
    pub broken: bool,
}

pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// # Errors
    /// No descriptor left.
    pub fn new() -> io::Result<Poller> {
        Ok(Poller { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Watches a connection for input. Closing the descriptor ends it.
    ///
    /// # Errors
    /// No kernel memory left.
    pub fn add_connection(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), flags)?)
    }

    /// Watches it for room to write as well, from now on. (Not from the start: every new connection has room, and the
    /// event that says so would wake a worker for nothing.)
    ///
    /// # Errors
    /// No kernel memory left.
    pub fn watch_output(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::modify(&self.epoll, source, EventData::new_u64(token), flags)?)
    }

    /// Watches a wake-up: one waiting thread gets an event per [`Waker::wake`].
    ///
    /// # Errors
    /// No kernel memory left.
    pub fn add_waker(&self, waker: &Waker, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, &waker.eventfd, EventData::new_u64(token), EventFlags::IN | EventFlags::ET)?)
    }

    /// Watches a listener; reported for as long as somebody waits to be accepted.
    ///
    /// # Errors
    /// No kernel memory left.
    pub fn add_listener(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Waits for one event; `None` when `timeout_ms` have passed or a signal came.
    ///
    /// One at a time, because what follows an event may block this thread for long: the others must stay in the
    /// kernel, where the next thread finds them.
    pub fn wait(&self, timeout_ms: Option<u64>) -> Option<Event> {
        let timeout = timeout_ms
            .map(|ms| Timespec { tv_sec: (ms / 1000).cast_signed(), tv_nsec: ((ms % 1000) * 1_000_000).cast_signed() });
        let mut room = [std::mem::MaybeUninit::uninit(); 1];
        match epoll::wait(&self.epoll, &mut room, timeout.as_ref()) {
            Ok((events, _)) => events.first().map(|event| {
                let flags = event.flags;
                Event {
                    token: event.data.u64(),
                    readable: flags.contains(EventFlags::IN),
                    writable: flags.contains(EventFlags::OUT),
                    hangup: flags.contains(EventFlags::RDHUP),
                    broken: flags.intersects(EventFlags::HUP | EventFlags::ERR),
                }
            }),
            Err(rustix::io::Errno::INTR) => None,
            // The descriptor is ours and valid, the arguments are too: nothing else can be wrong.
            Err(error) => panic!("epoll_wait: {error}"),
        }
    }
}

/// Wakes a thread that waits in a [`Poller`]. Never read: with edge triggering every write is an event.
pub struct Waker {
    eventfd: OwnedFd,
}

impl Waker {
    /// # Errors
    /// No descriptor left.
    pub fn new() -> io::Result<Waker> {
        Ok(Waker { eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// One system call; from any thread.
    pub fn wake(&self) {
        // Fails only when the counter is full, after 2^64 wake-ups.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }
}
