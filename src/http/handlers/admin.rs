//! `POST /snapshot` and `POST /reap`: housekeeping of the node that is asked, never forwarded. Blocks a worker.

use crate::http::errors;
use crate::http::front::Call;
use crate::http::reply::{self, Reply};

/// Makes what is applied durable in the database file and shortens the log: 204 when there is nothing new.
pub fn snapshot(call: Call, reply: Reply) {
    let answer = match call.api.backend.snapshot(call.params.trailing_logs) {
        Ok(true) => reply::empty(200),
        Ok(false) => reply::empty(204),
        Err(error) => errors::admin_endpoint(&call, &error, ""),
    };
    reply.send(answer);
}

/// The database file is the snapshot, so that there are never old ones to clear away.
pub fn reap(call: Call, reply: Reply) {
    let answer = match call.api.backend.store_status() {
        Some(_) => reply::json("{\"snapshots_reaped\":0,\"wals_checkpointed\":0}\n"),
        None => reply::text_error(500, crate::coordinator::Error::StoreNotOpen),
    };
    reply.send(answer);
}
