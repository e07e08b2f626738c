//! Answers: the few shapes that they have, and the duty to give exactly one. Any thread; only `send_with` runs code of
//! the caller, and that on a worker.

use super::engine::{Responder, Response, ResponseBody};
use super::headers::{self, CommonHeaders};
use std::fmt::Display;
use std::sync::Arc;

/// Where the answer to one request goes; adds what every answer carries.
pub struct Reply {
    responder: Responder,
    common: Arc<CommonHeaders>,
}

impl Reply {
    pub fn new(responder: Responder, common: Arc<CommonHeaders>) -> Reply {
        Reply { responder, common }
    }

    /// Answers, from any thread.
    pub fn send(self, mut response: Response) {
        self.common.add_to(&mut response);
        self.responder.send(response);
    }

    /// Makes the answer on a worker: for results that arrive on threads which must not encode or block.
    pub fn send_with(self, make: impl FnOnce() -> Response + Send + 'static) {
        let common = self.common;
        self.responder.send_with(move || {
            let mut response = make();
            common.add_to(&mut response);
            response
        });
    }
}

/// A status without a body.
pub fn empty(status: u16) -> Response {
    Response { status, headers: Vec::with_capacity(8), body: ResponseBody::Empty }
}

/// A body of some type.
pub fn body(status: u16, content_type: &str, bytes: impl Into<Vec<u8>>) -> Response {
    let mut response = empty(status);
    response.headers.push((headers::CONTENT_TYPE, content_type.to_owned()));
    response.body = ResponseBody::Bytes(bytes.into());
    response
}

/// 200 with JSON.
pub fn json(bytes: impl Into<Vec<u8>>) -> Response {
    body(200, headers::JSON, bytes)
}

/// An error as one line of text.
pub fn text_error(status: u16, message: impl Display) -> Response {
    let mut response = body(status, headers::TEXT, format!("{message}\n"));
    response.headers.push((headers::CONTENT_TYPE_OPTIONS, "nosniff".to_owned()));
    response
}

/// Adds a header.
pub fn with(mut response: Response, name: &'static str, value: impl Into<String>) -> Response {
    response.headers.push((name, value.into()));
    response
}
