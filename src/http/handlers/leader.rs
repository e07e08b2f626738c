//! `/leader`: who leads (`GET`), and asking it to hand over (`POST`).

use super::SMALL_BODY_BYTES_MAX;
use super::nodes::{finish, report};
use crate::coordinator::Error;
use crate::coordinator::status::Member;
use crate::http::engine::Response;
use crate::http::front::Call;
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};
use crate::http::{errors, headers};
use serde_json::Value;

pub fn handle(mut call: Call, reply: Reply) {
    let answer = if call.request.method == "GET" { show(&call) } else { step_down(&mut call) };
    reply.send(answer);
}

fn show(call: &Call) -> Response {
    let status = call.api.backend.store_status();
    let Some((status, (id, addr))) = status.and_then(|status| status.leader.clone().map(|leader| (status, leader)))
    else {
        return errors::admin_endpoint(call, &Error::LeaderNotFound, "");
    };
    let member = match status.members.iter().find(|member| member.id == id) {
        Some(member) => member.clone(),
        None => Member { id, addr, voter: true },
    };
    let mut out = Vec::new();
    report(call, &status, &member).write(&mut out);
    reply::json(finish(call, out))
}

fn step_down(call: &mut Call) -> Response {
    let target = match target(call) {
        Ok(target) => target,
        Err(problem) => return reply::text_error(400, format_args!("invalid JSON: {problem}")),
    };
    match call.api.backend.step_down(target.as_deref(), call.params.has(Flag::Wait)) {
        Ok(()) => {
            let answer = reply::with(reply::empty(200), headers::CONTENT_TYPE, headers::JSON);
            reply::with(answer, headers::SERVED_BY, &call.api.config.http.adv_addr)
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
