//! `POST /db/request`: reads and writes mixed. Reads alone go the way of a query, everything else through the log.

use super::{json_statements, query, to_request};
use crate::coordinator::{Level, ReadPurpose};
use crate::http::front::Call;
use crate::http::reply::Reply;
use crate::http::{errors, results};
use crate::vars;

pub fn handle(mut call: Call, reply: Reply) {
    let statements = match json_statements(&mut call) {
        Ok(statements) => statements,
        Err(answer) => return reply.send(answer),
    };
    vars::http::REQUEST_STMTS_RX.add(statements.len() as u64);
    let request = to_request(&call, statements);
    let backend = call.api.backend.clone();
    if call.params.level != Level::Strong {
        match backend.only_reads(&request) {
            Ok(true) => return query::read(call, reply, request, ReadPurpose::Request),
            Ok(false) => {}
            Err(error) => return reply.send(errors::data_endpoint(&call, &error)),
        }
    }
    let options = match super::write_options(&call) {
        Ok(options) => options,
        Err(answer) => return reply.send(answer),
    };
    let done = Box::new(move |outcome| reply.send_with(move || results::written(&call, outcome)));
    backend.request(request, &options, done);
}
