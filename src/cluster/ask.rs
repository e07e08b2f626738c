//! How this module asks other nodes: a seam, so that forming is tested without sockets. It is also the one place that knows in
//! whose name this node asks for itself (`-join-as`).

use crate::auth::Credentials;
use crate::net::call::{Answer, Call, CallAs, Failure};
use crate::net::{CallError, NetHandle};
use std::time::{Duration, Instant};

/// Gets the answer to a call, or why there is none; exactly once, on any thread.
pub type Asked = Box<dyn FnOnce(Result<Answer, CallError>) + Send>;

const HAND_OVER: Duration = Duration::from_millis(100);

/// Whoever can carry a call to another node.
pub trait Ask: Send + Sync + 'static {
    /// Asks the node at a Raft address and waits for its answer, for `timeout` at most.
    fn ask(&self, address: &str, call: Call, timeout: Duration) -> Result<Answer, CallError>;

    /// Does not wait: `done` gets the answer.
    fn ask_then(&self, address: &str, call: Call, timeout: Duration, done: Asked);

    /// Whether it asks in nobody's name.
    fn is_anonymous(&self) -> bool {
        true
    }
}

/// The network, and in whose name this node uses it.
pub struct NetAsk {
    net: NetHandle,
    user: Credentials,
}

impl NetAsk {
    /// Without a `user` it asks in nobody's name.
    pub fn new(net: NetHandle, user: Option<Credentials>) -> NetAsk {
        NetAsk { net, user: user.unwrap_or_default() }
    }

    /// A password goes only where it is looked at.
    fn signed(&self, call: Call) -> CallAs {
        if matches!(call, Call::Meta) { call.into() } else { call.in_name_of(self.user.clone()) }
    }
}

impl Ask for NetAsk {
    fn ask(&self, address: &str, call: Call, timeout: Duration) -> Result<Answer, CallError> {
        self.net.call_wait(address, self.signed(call), timeout)
    }

    fn ask_then(&self, address: &str, call: Call, timeout: Duration, done: Asked) {
        self.net.call(address, self.signed(call), timeout, done);
    }

    fn is_anonymous(&self) -> bool {
        self.user.is_anonymous()
    }
}

/// Asks several nodes at once and waits for all answers, for `timeout` at most; the answers stand in the order of the
/// questions.
pub fn ask_all(ask: &dyn Ask, questions: Vec<(String, Call)>, timeout: Duration) -> Vec<Result<Answer, CallError>> {
    let (answer_tx, answer_rx) = crossbeam_channel::bounded(questions.len());
    let mut answers: Vec<Result<Answer, CallError>> =
        questions.iter().map(|_| Err(CallError::Unknown("timeout waiting for node to respond".to_owned()))).collect();
    for (place, (address, call)) in questions.into_iter().enumerate() {
        let answer_tx = answer_tx.clone();
        let done = Box::new(move |answer| {
            // Nobody listens any more when the answer is late.
            let _ = answer_tx.send((place, answer));
        });
        ask.ask_then(&address, call, timeout, done);
    }
    drop(answer_tx);
    // The network ends every call by its timeout; the little more is for the hand-over between threads.
    let until = Instant::now() + timeout + HAND_OVER;
    while let Ok((place, answer)) = answer_rx.recv_deadline(until) {
        answers[place] = answer;
    }
    answers
}

/// What an answer that is not the one hoped for says, as a text.
pub fn complaint(answer: &Answer) -> String {
    match answer {
        Answer::NotLeader { .. } => "not leader".to_owned(),
        Answer::Failed(Failure { text, .. }) => text.clone(),
        _ => "unexpected answer".to_owned(),
    }
}
