//! `POST /db/execute`: writes, through the log; with `queue`, later and in batches.

use super::{json_or_plain_statements, json_statements, to_request};
use crate::coordinator::Error;
use crate::http::engine::Response;
use crate::http::front::Call;
use crate::http::json::{ResponseTail, empty_response};
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};
use crate::http::statements::BodyError;
use crate::http::{errors, results, statements};
use crate::vars;

pub fn handle(mut call: Call, reply: Reply) {
    if call.params.has(Flag::Queue) {
        return queue(call, reply);
    }
    let statements = match json_or_plain_statements(&mut call) {
        Ok(statements) => statements,
        Err(answer) => return reply.send(answer),
    };
    vars::http::EXECUTE_STMTS_RX.add(statements.len() as u64);
    let request = to_request(&call, statements);
    let options = match super::write_options(&call) {
        Ok(options) => options,
        Err(answer) => return reply.send(answer),
    };
    let backend = call.api.backend.clone();
    let done = Box::new(move |outcome| reply.send_with(move || results::written(&call, outcome)));
    backend.execute(request, &options, done);
}

/// A queued write is acknowledged when it waits in memory, or, with `wait`, when its batch is written.
fn queue(mut call: Call, reply: Reply) {
    vars::http::QUEUED_EXECUTIONS.add(1);
    let backend = call.api.backend.clone();
    if !call.params.has(Flag::NoLeader) && backend.leader().is_none() {
        vars::http::QUEUED_EXECUTIONS_NO_LEADER.add(1);
        return reply.send(errors::data_endpoint(&call, &Error::LeaderNotFound));
    }
    let wait = call.params.has(Flag::Wait);
    let statements = match queued_statements(&mut call, wait) {
        Ok(statements) => statements,
        Err(answer) => return reply.send(answer),
    };
    vars::http::QUEUED_EXECUTIONS_NUM_STMTS_RX.add(statements.len() as u64);
    if wait {
        vars::http::QUEUED_EXECUTIONS_WAIT.add(1);
    }
    let (statements, timeout) = (to_request(&call, statements).statements, call.params.timeout);
    let caller = call.caller.clone();
    let done = Box::new(move |outcome| reply.send_with(move || queued(&call, outcome)));
    backend.enqueue(caller, statements, wait, timeout, done);
}

/// An empty list is a barrier for a client that waits, and a mistake of one that does not.
fn queued_statements(call: &mut Call, wait: bool) -> Result<Vec<crate::command::Statement>, Response> {
    if !wait {
        return json_statements(call);
    }
    let body = super::body(call)?;
    match statements::parse_statements(&body) {
        Err(BodyError::NoStatements) => Ok(Vec::new()),
        parsed => parsed.map_err(super::bad_body),
    }
}

fn queued(call: &Call, outcome: Result<u64, Error>) -> Response {
    match outcome {
        Ok(sequence_number) => {
            let sequence_number = i64::try_from(sequence_number).unwrap_or(i64::MAX);
            let tail =
                ResponseTail { time: call.time(), sequence_number: Some(sequence_number), ..ResponseTail::default() };
            reply::json(empty_response(&tail, call.params.has(Flag::Pretty)))
        }
        Err(error) => {
            if error == Error::QueueWaitTimeout {
                vars::http::QUEUED_EXECUTIONS_WAIT_TIMEOUT.add(1);
            }
            errors::data_endpoint(call, &error)
        }
    }
}
