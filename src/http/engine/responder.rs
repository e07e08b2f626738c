//! The way of an answer from the handler, or from whoever it passed the duty to, back to the connection.
//!
//! On the worker that handles the request an answer is laid down in the thread and written when the handler returns; from
//! any other thread it is queued for a worker, so that the sender never touches a socket.

use super::config::count;
use super::reply::plain;
use super::shared::{Job, Shared};
use super::slots::Token;
use super::{Responder, Response};
use std::cell::RefCell;
use std::sync::Arc;

/// What a worker has to write.
pub enum Answer {
    Ready(Response),
    /// Still to be made, on the worker.
    Make(Box<dyn FnOnce() -> Response + Send>),
}

/// Where a [`Responder`] leads.
pub(super) enum Target {
    Connection(Arc<Shared>, Token),
    /// A queue of another kind, for the request of this number.
    Queue(Token, Box<dyn FnOnce(Answer) + Send>),
}

impl Target {
    fn token(&self) -> Token {
        match self {
            Target::Connection(_, token) | Target::Queue(token, _) => *token,
        }
    }

    fn give(self, answer: Answer) {
        match self {
            Target::Connection(shared, token) => shared.post(Job::Answer(token, answer)),
            Target::Queue(_, take) => take(answer),
        }
    }
}

/// No request has this number.
const NO_REQUEST: Token = Token(u64::MAX);

/// The request that this worker is handling.
struct Current {
    token: Token,
    answer: Option<Response>,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Runs `handle` as the handling of the request of `token`; gives back the answer if it was made on this thread.
pub(super) fn handling(token: Token, handle: impl FnOnce()) -> Option<Response> {
    CURRENT.set(Some(Current { token, answer: None }));
    handle();
    CURRENT.take().and_then(|current| current.answer)
}

/// Lays the answer down if `token` is being handled on this thread; hands it back otherwise.
fn lay_down(token: Token, response: Response) -> Option<Response> {
    CURRENT.with_borrow_mut(|current| match current {
        Some(current) if current.token == token && current.answer.is_none() => {
            current.answer = Some(response);
            None
        }
        _ => Some(response),
    })
}

fn is_handled_here(token: Token) -> bool {
    CURRENT.with_borrow(|current| matches!(current, Some(current) if current.token == token))
}

impl Responder {
    pub(super) fn to_connection(shared: Arc<Shared>, token: Token) -> Responder {
        Responder { target: Some(Target::Connection(shared, token)) }
    }

    /// A responder that leads to a queue of answers outside this engine, for the request of this number.
    #[cfg(feature = "tiny-http")]
    pub(super) fn to_queue(token: Token, take: impl FnOnce(Answer) + Send + 'static) -> Responder {
        Responder { target: Some(Target::Queue(token, Box::new(take))) }
    }

    /// A responder that leads to a function instead of a connection: for tests of handlers.
    pub fn to_function(take: impl FnOnce(Response) + Send + 'static) -> Responder {
        let take = move |answer| match answer {
            Answer::Ready(response) => take(response),
            Answer::Make(make) => take(make()),
        };
        Responder { target: Some(Target::Queue(NO_REQUEST, Box::new(take))) }
    }

    /// Answers. From any thread; never blocks on a socket outside the engine's workers.
    ///
    /// On the worker that handles the request the bytes leave when the handler returns.
    pub fn send(mut self, response: Response) {
        let Some(target) = self.target.take() else { return };
        if let Some(response) = lay_down(target.token(), response) {
            target.give(Answer::Ready(response));
        }
    }

    /// Runs `make` on a worker and sends what it returns: at once when called on the worker that handles the request,
    /// queued otherwise. For results that arrive on threads which must not encode or block.
    pub fn send_with(mut self, make: impl FnOnce() -> Response + Send + 'static) {
        if self.target.as_ref().is_some_and(|target| is_handled_here(target.token())) {
            // Should `make` panic, dropping `self` answers 500.
            let response = make();
            self.send(response);
        } else if let Some(target) = self.target.take() {
            target.give(Answer::Make(Box::new(make)));
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let Some(target) = self.target.take() else { return };
        if let Target::Connection(shared, _) = &target {
            count(&shared.counters.unanswered);
        }
        Responder { target: Some(target) }.send(plain(500));
    }
}
