//! Calls to other nodes: for each address two links, one for small calls and one for large ones. Any thread calls.
//!
//! A call is over exactly once: its continuation is owned by one place at a time, and whoever takes it out runs it.

use super::call::{Answer, CallAs};
use super::codec::{call_bytes, encode_call};
use super::frame;
use super::limits::{CALL_FRAME_BYTES_MAX, CALL_TIMEOUT_MAX, LARGE_CALL_BYTES, LINKS_MAX};
use super::link::Link;
use super::service::{CallError, PeerLink};
use super::shared::Shared;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is to be done with the outcome of a call.
pub type Continuation = Box<dyn FnOnce(Result<Answer, CallError>) + Send>;

/// A continuation that runs once, whatever happens: at the latest when it is dropped.
pub struct Done(Option<Continuation>);

impl Done {
    pub fn new(continuation: Continuation) -> Done {
        Done(Some(continuation))
    }

    pub fn finish(mut self, outcome: Result<Answer, CallError>) {
        if let Some(continuation) = self.0.take() {
            continuation(outcome);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(continuation) = self.0.take() {
            continuation(Err(CallError::Unknown("the call was given up".to_owned())));
        }
    }
}

/// An encoded call that waits to be written.
pub struct Outgoing {
    pub tag: u64,
    /// The whole frame.
    pub bytes: Vec<u8>,
    /// It was already taken up once by a connection that turned out to be dead.
    pub is_retried: bool,
}

#[derive(Default)]
pub struct Links {
    next_tag: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_closed: bool,
    small: HashMap<String, Arc<Link>>,
    large: HashMap<String, Arc<Link>>,
}

impl State {
    fn of(&mut self, is_large: bool) -> &mut HashMap<String, Arc<Link>> {
        if is_large { &mut self.large } else { &mut self.small }
    }
}

/// Calls the node at `address`; `continuation` runs exactly once, by the deadline.
pub fn call(shared: &Arc<Shared>, address: &str, call: CallAs, timeout: Duration, continuation: Continuation) {
    let mut done = Done::new(continuation);
    let deadline = Instant::now() + timeout.min(CALL_TIMEOUT_MAX);
    let mut bytes = Vec::with_capacity(frame::HEADER_BYTES + call_bytes(&call));
    let at = frame::begin(&mut bytes);
    if call_bytes(&call) > CALL_FRAME_BYTES_MAX {
        return done.finish(Err(CallError::NotSent("it is too large to be sent to another node".to_owned())));
    }
    if let Err(error) = encode_call(&call, &mut bytes) {
        return done.finish(Err(CallError::NotSent(error.to_string())));
    }
    drop(call);
    let tag = shared.links.next_tag.fetch_add(1, Ordering::Relaxed);
    frame::finish(&mut bytes, at, frame::Kind::Call, shared.cluster(), tag);
    let is_large = bytes.len() >= LARGE_CALL_BYTES;
    let mut outgoing = Outgoing { tag, bytes, is_retried: false };
    loop {
        let link = match shared.links.link(shared, address, is_large) {
            Ok(link) => link,
            Err(text) => return done.finish(Err(CallError::NotSent(text))),
        };
        // A link that is about to end for idleness gives the call back; the next look makes a new one.
        match link.take_in(shared, outgoing, deadline, done) {
            None => return,
            Some(back) => (outgoing, done) = back,
        }
    }
}

impl Links {
    fn link(&self, shared: &Arc<Shared>, address: &str, is_large: bool) -> Result<Arc<Link>, String> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err("this node is stopping".to_owned());
        }
        if let Some(link) = state.of(is_large).get(address) {
            return Ok(Arc::clone(link));
        }
        if state.small.len() + state.large.len() >= LINKS_MAX {
            return Err("there are connections to too many addresses".to_owned());
        }
        let link = Arc::new(Link::new(address, is_large));
        let (run, owner) = (Arc::clone(&link), Arc::clone(shared));
        let started = shared.threads.spawn(&format!("call-{address}"), move || run.run(&owner));
        started.map_err(|error| format!("no thread for the connection: {error}"))?;
        state.of(is_large).insert(address.to_owned(), Arc::clone(&link));
        Ok(link)
    }

    /// Forgets a link that has ended by itself.
    pub fn forget(&self, address: &str, is_large: bool) {
        self.state.lock().of(is_large).remove(address);
    }

    pub fn all(&self) -> Vec<Arc<Link>> {
        let state = self.state.lock();
        state.small.values().chain(state.large.values()).cloned().collect()
    }

    /// Ends all links; calls under way end with what is known of them.
    pub fn close(&self) {
        let links: Vec<Arc<Link>> = {
            let mut state = self.state.lock();
            state.is_closed = true;
            let small: Vec<Arc<Link>> = state.small.drain().map(|(_, link)| link).collect();
            small.into_iter().chain(state.large.drain().map(|(_, link)| link)).collect()
        };
        for link in links {
            link.close("this node is stopping");
        }
    }

    pub fn status(&self) -> Vec<PeerLink> {
        self.all().iter().map(|link| link.status()).collect()
    }
}
