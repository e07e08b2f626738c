//! `POST /verify`: are all copies of the database equal? The leader finds out, whichever node is asked.

use super::nodes::finish;
use crate::http::errors;
use crate::http::front::Call;
use crate::http::reply::{self, Reply};

pub fn handle(call: Call, reply: Reply) {
    let backend = call.api.backend.clone();
    let (caller, timeout) = (call.caller.clone(), call.params.timeout);
    let done = Box::new(move |report: Result<String, _>| {
        reply.send_with(move || match report {
            Ok(report) => reply::json(finish(&call, report.into_bytes())),
            Err(error) => errors::admin_endpoint(&call, &error, "verify: "),
        });
    });
    backend.verify(caller, timeout, done);
}
