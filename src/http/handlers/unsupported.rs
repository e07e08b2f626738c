//! Endpoints whose feature is not in this build: they say so, instead of pretending that the path is unknown.

use crate::http::front::Call;
use crate::http::reply::{self, Reply};

pub fn backup(_: Call, reply: Reply) {
    refuse(reply, "backup over HTTP");
}

pub fn load(_: Call, reply: Reply) {
    refuse(reply, "loading a database or a dump");
}

pub fn boot(_: Call, reply: Reply) {
    refuse(reply, "booting from a database file");
}

fn refuse(reply: Reply, what: &str) {
    reply.send(reply::text_error(501, format_args!("not supported yet: {what}")));
}
