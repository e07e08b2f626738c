//! `/debug/vars` and `/debug/pprof`: counters for charts, and what a native program can say of itself.

use crate::http::front::Call;
use crate::http::headers;
use crate::http::json::to_json;
use crate::http::reply::{self, Reply};
use crate::vars;
use serde_json::Value;

pub fn vars(call: Call, reply: Reply) {
    let words = call.api.launch.words.iter().cloned().map(Value::String).collect();
    let extras = [("cmdline", to_json(&Value::Array(words), false)), ("memstats", vars::memstats())];
    reply.send(reply::json(vars::render(&extras, call.params.key.as_deref())));
}

pub fn pprof(call: Call, reply: Reply) {
    let text = match call.request.path.as_str() {
        "/debug/pprof/cmdline" => call.api.launch.words.join("\0"),
        _ => "profiles of this server are taken from outside, with perf\n".to_owned(),
    };
    reply.send(reply::body(200, headers::TEXT, text));
}
