//! `DELETE /remove`: takes a node out of the cluster.

use super::{SMALL_BODY_BYTES_MAX, admin_options};
use crate::coordinator::Error;
use crate::http::engine::Response;
use crate::http::front::Call;
use crate::http::reply::{self, Reply};
use crate::http::{errors, headers};
use serde_json::Value;

pub fn handle(mut call: Call, reply: Reply) {
    let Some(id) = node_id(&mut call) else {
        return reply.send(reply::empty(400));
    };
    let (backend, options) = (call.api.backend.clone(), admin_options(&call));
    let done = Box::new(move |outcome| reply.send_with(move || removed(&call, outcome)));
    backend.remove_node(&id, &options, done);
}

fn removed(call: &Call, outcome: Result<Option<String>, Error>) -> Response {
    match outcome {
        Ok(leader) => {
            let served_by = leader.as_deref().unwrap_or(&call.api.config.http.adv_addr);
            reply::with(reply::empty(200), headers::SERVED_BY, served_by)
        }
        Err(error) => errors::admin_endpoint(call, &error, ""),
    }
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
