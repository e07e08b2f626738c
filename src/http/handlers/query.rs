//! `GET` and `POST /db/query`: reads at a level of consistency, on a connection that cannot write.

use super::{json_or_plain_statements, read_options, to_request};
use crate::command::{Request, Statement};
use crate::coordinator::ReadPurpose;
use crate::http::front::Call;
use crate::http::reply::Reply;
use crate::http::results;
use crate::vars;

pub fn handle(mut call: Call, reply: Reply) {
    let statements = if call.request.method == "GET" {
        let sql = call.params.q.take().unwrap_or_default();
        vec![Statement { sql, parameters: Vec::new() }]
    } else {
        match json_or_plain_statements(&mut call) {
            Ok(statements) => statements,
            Err(answer) => return reply.send(answer),
        }
    };
    vars::http::QUERY_STMTS_RX.add(statements.len() as u64);
    let request = to_request(&call, statements);
    read(call, reply, request, ReadPurpose::Query);
}

/// Waits without a thread until the level's promise holds, then reads on a worker.
pub(super) fn read(call: Call, reply: Reply, request: Request, purpose: ReadPurpose) {
    let options = read_options(&call, purpose);
    let backend = call.api.backend.clone();
    let later = options.clone();
    let done = Box::new(move |permit| reply.send_with(move || results::read(&call, permit, &request, &later)));
    backend.permit_read(&options, done);
}
