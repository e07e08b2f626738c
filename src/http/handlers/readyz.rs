//! `GET /readyz`: may a load balancer send requests here? Plain text, one line per check, ending at the first failure.
//!
//! Blocks a worker while it waits with `sync`.

use crate::command::{Request, Statement, StatementResult};
use crate::coordinator::{Error, Level, ReadOptions, ReadPermit};
use crate::http::engine::Response;
use crate::http::front::Call;
use crate::http::headers;
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};

pub fn handle(call: Call, reply: Reply) {
    let mut lines = vec!["[+]node ok".to_owned()];
    if call.params.has(Flag::NoLeader) {
        return reply.send(answer(200, lines));
    }
    if let Err(problem) = check_store(&call, &mut lines) {
        lines.push(problem);
        return reply.send(answer(503, lines));
    }
    let options = ReadOptions { level: Level::None, ..ReadOptions::default() };
    let backend = call.api.backend.clone();
    let done = Box::new(move |permit| reply.send_with(move || check_database(&call, permit, lines)));
    backend.permit_read(&options, done);
}

fn check_store(call: &Call, lines: &mut Vec<String>) -> Result<(), String> {
    let backend = &call.api.backend;
    if backend.leader().is_none() {
        return Err("[+]leader does not exist".to_owned());
    }
    lines.push("[+]leader ok".to_owned());
    if !backend.is_ready() {
        return Err("[+]store not ready".to_owned());
    }
    lines.push("[+]store ok".to_owned());
    if call.params.has(Flag::Sync) {
        backend.wait_synced(call.params.timeout).map_err(|error| match error {
            Error::FsmTimeout { .. } => "[+]sync timeout waiting for commit index".to_owned(),
            error => format!("[+]sync {error}"),
        })?;
        lines.push("[+]sync ok".to_owned());
    }
    Ok(())
}

fn check_database(call: &Call, permit: Result<ReadPermit, Error>, mut lines: Vec<String>) -> Response {
    let statement = Statement { sql: "SELECT 1".to_owned(), parameters: Vec::new() };
    let request = Request { statements: vec![statement], ..Request::default() };
    let options = ReadOptions { level: Level::None, db_timeout: call.params.timeout, ..ReadOptions::default() };
    let mut results: Vec<StatementResult> = Vec::new();
    let read = permit.and_then(|permit| call.api.backend.read(&permit, &request, &options, &mut results));
    let problem = match (read, results.first()) {
        (Ok(()), Some(StatementResult::Rows { .. })) => {
            lines.push("[+]db ok".to_owned());
            return answer(200, lines);
        }
        (Ok(()), Some(StatementResult::Error { text, .. })) => text.clone(),
        (Ok(()), _) => "no rows".to_owned(),
        (Err(error), _) => error.to_string(),
    };
    lines.push(format!("[+]db not ok: ({problem}, [])"));
    answer(503, lines)
}

fn answer(status: u16, lines: Vec<String>) -> Response {
    reply::body(status, headers::TEXT, lines.join("\n"))
}
