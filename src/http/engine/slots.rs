//! The table of connections. Each slot is an actor: whoever sets the first signal on it drives the connection, everyone
//! else only leaves signals, so that one connection is never driven by two threads and nobody waits for its lock.
//!
//! Memory is taken in chunks as connections come; an idle connection costs a slot and its `Conn`, no buffer.

use super::conn::Conn;
use super::responder::Answer;
use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

pub const READABLE: u32 = 1;
pub const WRITABLE: u32 = 1 << 1;
/// The peer has sent its last byte.
pub const HANGUP: u32 = 1 << 2;
/// The connection is broken in both directions.
pub const BROKEN: u32 = 1 << 3;
/// An answer lies in the mailbox.
pub const ANSWERED: u32 = 1 << 4;
/// The deadline has passed.
pub const LATE: u32 = 1 << 5;
/// Go on where you stopped.
pub const RESUME: u32 = 1 << 6;
/// Close if idle, to make room.
pub const EVICT: u32 = 1 << 7;
/// The engine stops: close if idle.
pub const STOP: u32 = 1 << 8;
/// The engine's patience is over: close.
pub const CUT: u32 = 1 << 9;
/// Somebody is driving.
const OWNED: u32 = 1 << 31;

/// What a connection is doing, as far as others need to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    Free = 0,
    /// Between requests.
    Idle = 1,
    /// In the middle of a head.
    Head = 2,
    /// In the middle of a request's body, its handling or its answer.
    Busy = 3,
    /// Answered for the last time.
    Linger = 4,
}

/// No deadline.
pub const NEVER: u64 = u64::MAX;

pub struct Slot {
    signals: AtomicU32,
    /// How often the slot was freed; part of the token, so that nothing meant for an earlier connection gets through.
    generation: AtomicU32,
    /// Milliseconds since the engine's start.
    pub deadline_ms: AtomicU64,
    phase: AtomicU8,
    pub mailbox: Mutex<Option<Answer>>,
    pub conn: Mutex<Option<Box<Conn>>>,
}

impl Slot {
    fn new() -> Slot {
        Slot {
            signals: AtomicU32::new(0),
            generation: AtomicU32::new(0),
            deadline_ms: AtomicU64::new(NEVER),
            phase: AtomicU8::new(Phase::Free as u8),
            mailbox: Mutex::new(None),
            conn: Mutex::new(None),
        }
    }

    /// Leaves signals. `true`: nobody drives this connection, so the caller must.
    #[must_use]
    pub fn signal(&self, signals: u32) -> bool {
        self.signals.fetch_or(signals | OWNED, Ordering::AcqRel) & OWNED == 0
    }

    /// The driver takes what was signalled.
    pub fn take_signals(&self) -> u32 {
        self.signals.swap(OWNED, Ordering::AcqRel) & !OWNED
    }

    /// The driver leaves. `false`: there are new signals, go on.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.signals.compare_exchange(OWNED, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    pub fn is_phase(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) == phase as u8
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Free,
            1 => Phase::Idle,
            2 => Phase::Head,
            3 => Phase::Busy,
            _ => Phase::Linger,
        }
    }

    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }
}

/// Names a connection for good: slot and generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token(pub u64);

impl Token {
    pub fn new(index: u32, generation: u32) -> Token {
        Token(u64::from(generation) << 32 | u64::from(index))
    }

    pub fn index(self) -> u32 {
        (self.0 & u64::from(u32::MAX)) as u32
    }

    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

const CHUNK_SLOTS: usize = 64;

pub struct Slots {
    chunks: Box<[OnceLock<Box<[Slot]>>]>,
    free: Mutex<Free>,
}

struct Free {
    returned: Vec<u32>,
    /// Slots from here on were never used.
    fresh: u32,
    in_use: usize,
    in_use_max: usize,
}

impl Slots {
    pub fn new(in_use_max: usize) -> Slots {
        let chunks = (0..in_use_max.div_ceil(CHUNK_SLOTS)).map(|_| OnceLock::new()).collect();
        Slots { chunks, free: Mutex::new(Free { returned: Vec::new(), fresh: 0, in_use: 0, in_use_max }) }
    }

    /// The slot of a token that came from [`Slots::take`]; it may hold another connection by now.
    pub fn at(&self, index: u32) -> &Slot {
        let chunk = &self.chunks[index as usize / CHUNK_SLOTS];
        &chunk.get().expect("a slot that was taken")[index as usize % CHUNK_SLOTS]
    }

    /// A free slot's token; `None` when all are in use.
    pub fn take(&self) -> Option<Token> {
        let mut free = self.free.lock();
        if free.in_use >= free.in_use_max {
            return None;
        }
        free.in_use += 1;
        let index = free.returned.pop().unwrap_or_else(|| {
            let index = free.fresh;
            free.fresh += 1;
            self.chunks[index as usize / CHUNK_SLOTS].get_or_init(|| (0..CHUNK_SLOTS).map(|_| Slot::new()).collect());
            index
        });
        Some(Token::new(index, self.at(index).generation()))
    }

    /// The driver gives a slot back, its connection taken out already.
    pub fn give_back(&self, token: Token) {
        let slot = self.at(token.index());
        slot.deadline_ms.store(NEVER, Ordering::Release);
        slot.set_phase(Phase::Free);
        let answer = {
            let mut mailbox = slot.mailbox.lock();
            slot.generation.fetch_add(1, Ordering::AcqRel);
            mailbox.take()
        };
        drop(answer);
        let mut free = self.free.lock();
        free.in_use -= 1;
        free.returned.push(token.index());
    }

    /// Puts an answer into the mailbox of the connection that `token` names, if it is still there.
    pub fn deliver(&self, token: Token, answer: Answer) -> bool {
        let slot = self.at(token.index());
        let mut mailbox = slot.mailbox.lock();
        if slot.generation() != token.generation() {
            drop(mailbox);
            return false;
        }
        *mailbox = Some(answer);
        true
    }

    pub fn in_use(&self) -> usize {
        self.free.lock().in_use
    }

    /// Every slot that was ever used, free ones included.
    pub fn each(&self) -> impl Iterator<Item = (Token, &Slot)> {
        let fresh = self.free.lock().fresh;
        (0..fresh).map(|index| {
            let slot = self.at(index);
            (Token::new(index, slot.generation()), slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_driver_at_a_time_and_no_signal_lost() {
        let slot = Slot::new();
        assert!(slot.signal(READABLE));
        assert!(!slot.signal(WRITABLE));
        assert_eq!(slot.take_signals(), READABLE | WRITABLE);
        assert!(!slot.signal(LATE));
        assert!(!slot.leave());
        assert_eq!(slot.take_signals(), LATE);
        assert!(slot.leave());
        assert!(slot.signal(RESUME));
    }

    #[test]
    fn a_slot_that_was_given_back_takes_no_answer_for_its_former_connection() {
        let slots = Slots::new(2);
        let first = slots.take().expect("free");
        let second = slots.take().expect("free");
        assert!(slots.take().is_none());
        assert_ne!(first.index(), second.index());
        slots.give_back(first);
        let third = slots.take().expect("free again");
        assert_eq!(third.index(), first.index());
        assert_ne!(third, first);
        assert!(!slots.deliver(first, Answer::Ready(crate_plain())));
        assert!(slots.deliver(third, Answer::Ready(crate_plain())));
        assert_eq!(slots.in_use(), 2);
    }

    fn crate_plain() -> super::super::Response {
        super::super::reply::plain(200)
    }
}
