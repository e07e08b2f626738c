//! `POST /boot`: a database file takes the place of the database of a node that is alone.

use super::{cannot_read_body, source};
use crate::coordinator::{Error, START_BYTES, has_magic};
use crate::http::engine::Response;
use crate::http::front::Call;
use crate::http::reply::{self, Reply};

/// What has fewer bytes is not even looked at.
const BODY_BYTES_MIN: u64 = 32;

pub fn handle(mut call: Call, reply: Reply) {
    let sent = &call.request.body;
    if sent.len() < BODY_BYTES_MIN {
        return reply.send(reply::text_error(400, "invalid SQLite data"));
    }
    match sent.start(START_BYTES).map(|start| has_magic(&start)) {
        Ok(true) => {}
        Ok(false) => return reply.send(reply::text_error(400, "invalid SQLite data")),
        Err(error) => return reply.send(cannot_read_body(&error)),
    }
    let source = source(&mut call);
    let boot = call.api.backend.boot(source, call.caller.clone().into());
    // A worker's work: the file is read whole, and each part of it waits for the log.
    reply.send_with(move || match boot() {
        Ok(()) => reply::empty(200),
        Err(error) => refusal(&error),
    });
}

fn refusal(error: &Error) -> Response {
    match error {
        Error::UnfitDatabase(text) => reply::text_error(503, format_args!("error swapping database file: {text}")),
        error => reply::text_error(503, error),
    }
}
