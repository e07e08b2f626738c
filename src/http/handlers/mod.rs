//! One file per endpoint. Handlers run on workers; they never wait for the log there, but hand on a continuation.

pub mod admin;
pub mod backup;
pub mod boot;
pub mod console;
pub mod debug;
pub mod execute;
mod interfaces;
pub mod leader;
pub mod licenses;
pub mod load;
pub mod nodes;
pub mod query;
pub mod readyz;
pub mod remove;
pub mod request;
pub mod sql;
pub mod status;
mod store_status;
pub mod verify;

use super::engine::{Body, Response};
use super::front::Call;
use super::params::Flag;
use super::reply;
use super::statements::{self, BodyError};
use crate::command::{Request, Statement};
use crate::coordinator::{AdminOptions, LoadSource, ReadOptions, ReadPurpose};
use crate::limits;
use std::io;

/// Most bytes in the body of an endpoint that takes one small JSON object.
const SMALL_BODY_BYTES_MAX: u64 = 64 * 1024;

/// Longest `Idempotency-Key`.
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 200;

/// The body as a JSON list of statements; the error is the answer.
fn json_statements(call: &mut Call) -> Result<Vec<Statement>, Response> {
    let body = body(call)?;
    statements::parse_statements(&body).map_err(bad_body)
}

/// The same, or one string of SQL when the client says `text/plain`.
fn json_or_plain_statements(call: &mut Call) -> Result<Vec<Statement>, Response> {
    let content_type = call.request.headers.get("content-type").unwrap_or_default();
    if !content_type.starts_with("text/plain") {
        return json_statements(call);
    }
    let body = body(call)?;
    statements::plain_statement(body).map(|statement| vec![statement]).map_err(bad_body)
}

fn body(call: &mut Call) -> Result<Vec<u8>, Response> {
    if call.request.body.len() > limits::LARGE_BODY_BYTES {
        call.turn = limits::LARGE_BODIES.enter();
        if call.turn.is_none() {
            return Err(reply::text_error(503, "busy with other large requests: try again, or send smaller ones"));
        }
    }
    call.take_body().map_err(|error| cannot_read_body(&error))
}

fn cannot_read_body(error: &io::Error) -> Response {
    reply::text_error(500, format_args!("cannot read the request body: {error}"))
}

/// The body where it lies.
fn source(call: &mut Call) -> LoadSource {
    match std::mem::replace(&mut call.request.body, Body::Memory(Vec::new())) {
        Body::Memory(bytes) => LoadSource::Memory(bytes),
        Body::File { file, bytes } => LoadSource::File { file, bytes },
    }
}

fn bad_body(error: BodyError) -> Response {
    reply::text_error(400, error)
}

/// How a read is to be served: the parameters, and who wants it for what.
fn read_options(call: &Call, purpose: ReadPurpose) -> ReadOptions {
    ReadOptions { callers: call.caller.clone().into(), purpose, ..call.params.read_options() }
}

/// How a write is to be served: the parameters, and the key under which it is done once however often it is sent.
fn write_options(call: &Call) -> Result<ReadOptions, Response> {
    let mut options = read_options(call, ReadPurpose::default());
    if let Some(key) = call.request.headers.get("idempotency-key") {
        if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
            let text = format_args!("Idempotency-Key must have between 1 and {IDEMPOTENCY_KEY_BYTES_MAX} bytes");
            return Err(reply::text_error(400, text));
        }
        options.idempotency_key = Some(key.as_bytes().into());
    }
    Ok(options)
}

/// How a request that only the leader can serve is to get there.
fn admin_options(call: &Call) -> AdminOptions {
    AdminOptions {
        timeout: call.params.timeout,
        redirect: call.params.has(Flag::Redirect),
        caller: call.caller.clone(),
    }
}

/// What goes to the node. Empty statements leave no result, so they do not even go there.
fn to_request(call: &Call, mut statements: Vec<Statement>) -> Request {
    statements.retain(|statement| !statement.sql.is_empty());
    Request {
        statements,
        transaction: call.params.has(Flag::Transaction),
        qualify_columns: call.params.has(Flag::QualifyColumns),
        vm_steps_max: 0,
    }
}
