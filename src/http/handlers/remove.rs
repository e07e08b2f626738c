//! `DELETE /remove`: takes a node out of the cluster.

use super::SMALL_BODY_BYTES_MAX;
use crate::http::front::Call;
use crate::http::reply::{self, Reply};
use crate::http::{errors, headers};
use serde_json::Value;

pub fn handle(mut call: Call, reply: Reply) {
    let Some(id) = node_id(&mut call) else {
        return reply.send(reply::empty(400));
    };
    let answer = match call.api.backend.remove_node(&id, call.params.timeout) {
        Ok(()) => reply::with(reply::empty(200), headers::SERVED_BY, &call.api.config.http.adv_addr),
        Err(error) => errors::admin_endpoint(&call, &error, ""),
    };
    reply.send(answer);
}

/// The body must be an object with the one member `id`, a string.
fn node_id(call: &mut Call) -> Option<String> {
    if call.request.body.len() > SMALL_BODY_BYTES_MAX {
        return None;
    }
    let body = call.take_body().ok()?;
    match serde_json::from_slice(&body).ok()? {
        Value::Object(members) if members.len() == 1 => match members.get("id")? {
            Value::String(id) => Some(id.clone()),
            _ => None,
        },
        _ => None,
    }
}
