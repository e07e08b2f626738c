//! The one table from errors of the service layer to answers. Pure; any thread.
//!
//! Three shapes: a line of text with a status, a redirect, or 200 with a top-level `error` (an "API error"). Errors of
//! statements are results and never come here.

use super::engine::Response;
use super::front::Call;
use super::json::{ResponseTail, empty_response};
use super::params::Flag;
use super::{headers, reply};
use crate::coordinator::Error;
use crate::vars;

/// How an error of a data endpoint is told.
enum Shape<'a> {
    Text(u16),
    Redirect(&'a str),
    Api,
}

fn shape(error: &Error) -> Shape<'_> {
    match error {
        Error::LeaderNotFound => Shape::Text(503),
        Error::Unauthorized(_) => Shape::Text(401),
        Error::Redirect { leader_url } => Shape::Redirect(leader_url),
        Error::QueueWaitTimeout => Shape::Text(408),
        Error::QueueClosed | Error::RedirectUnknown => Shape::Text(500),
        Error::NotLeader
        | Error::StoreNotOpen
        | Error::StoreNotReady
        | Error::Quarantined
        | Error::StaleRead
        | Error::DisallowedPragma
        | Error::LeadershipLost
        | Error::EnqueueTimeout
        | Error::FsmTimeout { .. }
        | Error::DeadlineExceeded
        | Error::NotEnoughNodes
        | Error::AlreadyLeader
        | Error::NodeNotFound
        | Error::OutcomeUnknown { .. }
        | Error::UnfitDatabase(_)
        | Error::NotSingleNode
        | Error::Request(_) => Shape::Api,
    }
}

/// The answer of `/db/execute`, `/db/query` and `/db/request` to an error of the whole request.
pub fn data_endpoint(call: &Call, error: &Error) -> Response {
    match shape(error) {
        Shape::Text(status) => text(status, error),
        Shape::Redirect(leader_url) => {
            let answer = redirect(call, leader_url);
            reply::with(answer, headers::CONTENT_TYPE, headers::JSON)
        }
        Shape::Api => {
            let text = error.to_string();
            let tail = ResponseTail { error: Some(&text), time: call.time(), ..ResponseTail::default() };
            reply::json(empty_response(&tail, call.params.has(Flag::Pretty)))
        }
    }
}

/// The answer of an endpoint for operators: a line of text, `what` before it where the API has that.
pub fn admin_endpoint(call: &Call, error: &Error, what: &str) -> Response {
    match error {
        Error::LeaderNotFound => text(503, error),
        Error::Unauthorized(_) => text(401, error),
        Error::Redirect { leader_url } => redirect(call, leader_url),
        Error::StoreNotOpen if !what.is_empty() => reply::text_error(503, format_args!("{what}{error}")),
        _ => reply::text_error(500, format_args!("{what}{error}")),
    }
}

fn text(status: u16, error: &Error) -> Response {
    if *error == Error::LeaderNotFound {
        vars::http::LEADER_NOT_FOUND.add(1);
    }
    reply::text_error(status, error)
}

/// The same request at the leader; the query string stays as the client sent it.
fn redirect(call: &Call, leader_url: &str) -> Response {
    let request = &call.request;
    let mark = if request.query.is_empty() { "" } else { "?" };
    let location = format!("{leader_url}{}{mark}{}", request.path, request.query);
    reply::with(reply::empty(301), headers::LOCATION, location)
}
