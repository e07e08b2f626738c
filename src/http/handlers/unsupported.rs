//! Endpoints whose feature is not in this build: they say so, instead of pretending that the path is unknown. What can be
//! said before the feature matters (another node leads, there is no leader) is said as ever.

use super::read_options;
use crate::coordinator::{Level, ReadOptions, ReadPurpose};
use crate::http::engine::Response;
use crate::http::errors;
use crate::http::front::Call;
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};

pub fn load(call: Call, reply: Reply) {
    at_the_leader(call, reply, "loading a database or a dump");
}

pub fn boot(call: Call, reply: Reply) {
    let members = call.api.backend.store_status().map_or(0, |status| status.members.len());
    reply.send(match members {
        0 | 1 => refusal("booting from a database file"),
        _ => reply::text_error(503, "not single-node"),
    });
}

fn at_the_leader(call: Call, reply: Reply, what: &'static str) {
    if call.params.has(Flag::NoLeader) {
        return reply.send(refusal(what));
    }
    let options = ReadOptions { level: Level::Weak, ..read_options(&call, ReadPurpose::Load) };
    let backend = call.api.backend.clone();
    let done = Box::new(move |permit| {
        reply.send_with(move || match permit {
            Ok(_) => refusal(what),
            Err(error) => errors::admin_endpoint(&call, &error, ""),
        });
    });
    backend.permit_read(&options, done);
}

fn refusal(what: &str) -> Response {
    reply::text_error(501, format_args!("not supported yet: {what}"))
}
