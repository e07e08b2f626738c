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
    Function(Box<dyn FnOnce(Response) + Send>),
}

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

    /// A responder that leads to a function instead of a connection: for another engine, and for tests of handlers.
    pub fn to_function(take: impl FnOnce(Response) + Send + 'static) -> Responder {
        Responder { target: Some(Target::Function(Box::new(take))) }
    }

    /// Answers. From any thread; never blocks on a socket outside the engine's workers.
    ///
    /// On the worker that handles the request the bytes leave when the handler returns.
    pub fn send(mut self, response: Response) {
        match self.target.take() {
            Some(Target::Connection(shared, token)) => {
                if let Some(response) = lay_down(token, response) {
                    shared.post(Job::Answer(token, Answer::Ready(response)));
                }
            }
            Some(Target::Function(take)) => take(response),
            None => {}
        }
    }

    /// Runs `make` on a worker and sends what it returns: at once when called on the worker that handles the request,
    /// queued otherwise. For results that arrive on threads which must not encode or block.
    pub fn send_with(mut self, make: impl FnOnce() -> Response + Send + 'static) {
        match &self.target {
            Some(Target::Connection(_, token)) if !is_handled_here(*token) => {
                if let Some(Target::Connection(shared, token)) = self.target.take() {
                    shared.post(Job::Answer(token, Answer::Make(Box::new(make))));
                }
            }
            // Should `make` panic, dropping `self` answers 500.
            _ => {
                let response = make();
                self.send(response);
            }
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
