//! `POST /db/load`: SQL, or a database file that takes the place of the database. The body says which it is.

use super::{body, cannot_read_body, source, write_options};
use crate::command::{Request, Statement};
use crate::coordinator::{Error, LoadRequest, LoadSource, LoadStart, START_BYTES, Written, is_database};
use crate::http::engine::Response;
use crate::http::errors;
use crate::http::front::Call;
use crate::http::reply::{self, Reply};
use crate::http::results;

pub fn handle(mut call: Call, reply: Reply) {
    match call.request.body.start(START_BYTES).map(|start| is_database(&start)) {
        Ok(true) => {
            let source = source(&mut call);
            load_file(call, source, reply);
        }
        Ok(false) => load_text(call, reply),
        Err(error) => reply.send(cannot_read_body(&error)),
    }
}

fn load_file(call: Call, source: LoadSource, reply: Reply) {
    let options = match write_options(&call) {
        Ok(options) => options,
        Err(answer) => return reply.send(answer),
    };
    let request = LoadRequest {
        source,
        redirect: options.redirect,
        callers: options.callers,
        timeout: options.timeout,
        idempotency_key: options.idempotency_key,
    };
    let backend = call.api.backend.clone();
    let done = Box::new(move |start: Result<LoadStart, _>| {
        // A worker's work: the file is read whole, and each part of it waits for the log.
        reply.send_with(move || match start.and_then(|start| start()) {
            Ok(written) => results::written(&call, Ok(written)),
            Err(Error::UnfitDatabase(text)) => reply::text_error(500, format_args!("error swapping databases: {text}")),
            Err(error) => errors::admin_endpoint(&call, &error, ""),
        });
    });
    backend.load_file(request, done);
}

fn load_text(mut call: Call, reply: Reply) {
    let bytes_max = call.api.config.http.body_bytes_max;
    if call.request.body.len() > bytes_max {
        let text = format_args!("SQL of more than {bytes_max} bytes: send it in parts, or as a database file");
        return reply.send(reply::text_error(413, text));
    }
    let sql = match body(&mut call).map(String::from_utf8) {
        Ok(Ok(sql)) => sql,
        Ok(Err(_)) => {
            let error = Error::Request("the body is neither a SQLite database nor SQL in UTF-8".to_owned());
            return reply.send(errors::data_endpoint(&call, &error));
        }
        Err(answer) => return reply.send(answer),
    };
    let options = match write_options(&call) {
        Ok(options) => options,
        Err(answer) => return reply.send(answer),
    };
    let statements = if sql.is_empty() { Vec::new() } else { vec![Statement { sql, parameters: Vec::new() }] };
    let request = Request { statements, ..Request::default() };
    let backend = call.api.backend.clone();
    let done = Box::new(move |outcome| reply.send_with(move || text_loaded(&call, outcome)));
    backend.load_text(request, &options, done);
}

fn text_loaded(call: &Call, outcome: Result<Written, Error>) -> Response {
    match outcome {
        // Where clients are sent elsewhere this endpoint says no type of content.
        Err(error @ Error::Redirect { .. }) => errors::admin_endpoint(call, &error, ""),
        outcome => results::written(call, outcome),
    }
}
