//! A bounded queue between many threads that put and one that takes all there is. Any thread puts, never waiting; one
//! thread takes, asleep while there is nothing.
//!
//! A channel would do for single items; here the taker gets everything at once, for one write, is woken only when it
//! sleeps, and the bytes that wait are bounded too.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

pub struct Spool<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
    items_max: usize,
    bytes_max: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    is_asleep: bool,
    is_closed: bool,
    dropped: u64,
}

/// There was no room; the item is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Some,
    Timeout,
    Closed,
}

impl<T> Spool<T> {
    /// Room for `items_max` items of together `bytes_max` bytes; one item alone may be larger.
    pub fn new(items_max: usize, bytes_max: usize) -> Spool<T> {
        let state = State { items: VecDeque::new(), bytes: 0, is_asleep: false, is_closed: false, dropped: 0 };
        Spool { state: Mutex::new(state), bell: Condvar::new(), items_max, bytes_max }
    }

    /// Puts an item of `bytes` bytes at the end. After `close` it is dropped silently.
    ///
    /// # Errors
    /// There is no room: the item is dropped and counted.
    pub fn push(&self, item: T, bytes: usize) -> Result<(), Full> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Ok(());
        }
        let is_alone = state.items.is_empty();
        if !is_alone && (state.items.len() >= self.items_max || state.bytes + bytes > self.bytes_max) {
            state.dropped += 1;
            return Err(Full);
        }
        self.put(&mut state, item, bytes);
        Ok(())
    }

    /// As `push`, but makes room by dropping the oldest items.
    pub fn push_over_oldest(&self, item: T, bytes: usize) {
        let mut state = self.state.lock();
        if state.is_closed {
            return;
        }
        while !state.items.is_empty() && (state.items.len() >= self.items_max || state.bytes + bytes > self.bytes_max) {
            let (_, bytes) = state.items.pop_front().expect("it is not empty");
            state.bytes -= bytes;
            state.dropped += 1;
        }
        self.put(&mut state, item, bytes);
    }

    fn put(&self, state: &mut State<T>, item: T, bytes: usize) {
        state.items.push_back((item, bytes));
        state.bytes += bytes;
        if state.is_asleep {
            state.is_asleep = false;
            self.bell.notify_one();
        }
    }

    /// Moves all there is to `into`; sleeps for `timeout` at most until there is something.
    pub fn take(&self, into: &mut VecDeque<T>, timeout: Duration) -> Taken {
        let deadline = Instant::now() + timeout;
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return Taken::Closed;
            }
            if !state.items.is_empty() {
                into.extend(state.items.drain(..).map(|(item, _)| item));
                state.bytes = 0;
                return Taken::Some;
            }
            state.is_asleep = true;
            let late = self.bell.wait_until(&mut state, deadline).timed_out();
            state.is_asleep = false;
            if late && state.items.is_empty() && !state.is_closed {
                return Taken::Timeout;
            }
        }
    }

    /// Drops all there is, and `more` items that the taker had already taken.
    pub fn give_up(&self, more: usize) {
        let mut state = self.state.lock();
        state.dropped += (state.items.len() + more) as u64;
        state.items.clear();
        state.bytes = 0;
    }

    /// Sleeps for `pause`; returns early, and true, when the queue is closed. Items do not end the sleep.
    pub fn pause(&self, pause: Duration) -> bool {
        let deadline = Instant::now() + pause;
        let mut state = self.state.lock();
        while !state.is_closed {
            if self.bell.wait_until(&mut state, deadline).timed_out() {
                break;
            }
        }
        state.is_closed
    }

    /// Nothing is taken in any more, what is there is dropped, and the taker is woken.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.items.clear();
        state.bytes = 0;
        self.bell.notify_all();
    }

    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Nothing waits, and the taker sleeps: whatever it took before is done with.
    pub fn is_quiet(&self) -> bool {
        let state = self.state.lock();
        state.is_asleep && state.items.is_empty() && !state.is_closed
    }

    /// How many items wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().items.len()
    }

    /// How many items were dropped for lack of room or given up.
    pub fn dropped(&self) -> u64 {
        self.state.lock().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_full_queue_drops_as_it_is_told_and_one_large_item_alone_is_taken() {
        let spool = Spool::new(2, 10);
        assert_eq!(spool.push(1, 100), Ok(()));
        assert_eq!(spool.push(2, 1), Err(Full));
        spool.push_over_oldest(3, 5);
        spool.push_over_oldest(4, 5);
        spool.push_over_oldest(5, 5);
        let mut taken = VecDeque::new();
        assert_eq!(spool.take(&mut taken, SOON), Taken::Some);
        assert_eq!(taken, [4, 5]);
        assert_eq!(spool.dropped(), 3);
        assert_eq!(spool.take(&mut taken, Duration::from_millis(2)), Taken::Timeout);
        spool.close();
        assert_eq!(spool.push(6, 1), Ok(()));
        assert_eq!(spool.take(&mut taken, SOON), Taken::Closed);
        assert!(spool.pause(SOON), "a closed queue ends a pause");
    }

    #[test]
    fn no_wake_up_is_lost() {
        let there = Arc::new(Spool::new(10, 10));
        let back = Arc::new(Spool::new(10, 10));
        let (to, from) = (Arc::clone(&there), Arc::clone(&back));
        let echo = std::thread::spawn(move || {
            let mut items = VecDeque::new();
            while to.take(&mut items, SOON) == Taken::Some {
                items.drain(..).for_each(|item: u32| from.push(item, 1).expect("there is room"));
            }
        });
        let mut items = VecDeque::new();
        for n in 0..5000 {
            there.push(n, 1).expect("there is room");
            assert_eq!(back.take(&mut items, SOON), Taken::Some);
            assert_eq!(items.pop_front(), Some(n));
        }
        there.close();
        echo.join().expect("no panic");
    }
}
