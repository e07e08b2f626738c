//! `/leader`: who leads (`GET`), and asking it to hand over (`POST`).

use super::nodes::{finish, write};
use super::{SMALL_BODY_BYTES_MAX, admin_options};
use crate::coordinator::Error;
use crate::coordinator::peers::NodeReport;
use crate::http::engine::Response;
use crate::http::front::Call;
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};
use crate::http::{errors, headers};
use serde_json::Value;

pub fn handle(call: Call, reply: Reply) {
    if call.request.method == "GET" { show(call, reply) } else { step_down(call, reply) }
}

fn show(call: Call, reply: Reply) {
    let (backend, timeout) = (call.api.backend.clone(), call.params.timeout);
    let done = Box::new(move |report: Result<NodeReport, Error>| {
        reply.send_with(move || match report {
            Ok(report) => {
                let mut out = Vec::new();
                write(&report, &mut out);
                reply::json(finish(&call, out))
            }
            Err(error) => errors::admin_endpoint(&call, &error, ""),
        });
    });
    backend.leader_report(timeout, done);
}

fn step_down(mut call: Call, reply: Reply) {
    let target = match target(&mut call) {
        Ok(target) => target,
        Err(problem) => return reply.send(reply::text_error(400, format_args!("invalid JSON: {problem}"))),
    };
    let (backend, wait, options) = (call.api.backend.clone(), call.params.has(Flag::Wait), admin_options(&call));
    let done = Box::new(move |outcome| reply.send_with(move || stepped_down(&call, outcome)));
    backend.step_down(target.as_deref(), wait, &options, done);
}

fn stepped_down(call: &Call, outcome: Result<Option<String>, Error>) -> Response {
    match outcome {
        Ok(leader) => {
            let served_by = leader.as_deref().unwrap_or(&call.api.config.http.adv_addr);
            let answer = reply::with(reply::empty(200), headers::CONTENT_TYPE, headers::JSON);
            reply::with(answer, headers::SERVED_BY, served_by)
        }
        Err(error @ Error::Redirect { .. }) => {
            reply::with(errors::admin_endpoint(call, &error, ""), headers::CONTENT_TYPE, headers::JSON)
        }
        Err(error) => errors::admin_endpoint(call, &error, "stepdown: "),
    }
}

/// The node named in the body. A body counts only when its type is exactly JSON and its length was announced.
fn target(call: &mut Call) -> Result<Option<String>, String> {
    let headers = &call.request.headers;
    let is_json = headers.get("content-type") == Some("application/json");
    if !is_json || headers.get("content-length").is_none() || call.request.body.is_empty() {
        return Ok(None);
    }
    if call.request.body.len() > SMALL_BODY_BYTES_MAX {
        return Err(format!("more than {SMALL_BODY_BYTES_MAX} bytes"));
    }
    let body = call.take_body().map_err(|error| error.to_string())?;
    match serde_json::from_slice::<Value>(&body).map_err(|error| error.to_string())? {
        Value::Object(members) => match members.get("id") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) if id.is_empty() => Ok(None),
            Some(Value::String(id)) => Ok(Some(id.clone())),
            Some(_) => Err("id is not a string".to_owned()),
        },
        Value::Null => Ok(None),
        _ => Err("not an object".to_owned()),
    }
}
