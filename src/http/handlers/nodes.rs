//! `GET /nodes`: the members of the cluster and whether they answer. All of them are asked at once; no worker waits.

use crate::coordinator::Error;
use crate::coordinator::peers::NodeReport;
use crate::http::engine::Response;
use crate::http::errors;
use crate::http::front::Call;
use crate::http::json::{self, ObjectWriter};
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};
use crate::text::duration;

pub fn handle(call: Call, reply: Reply) {
    let backend = call.api.backend.clone();
    let (nonvoters, timeout) = (call.params.has(Flag::NonVoters), call.params.timeout);
    let done = Box::new(move |reports| reply.send_with(move || nodes(&call, reports)));
    backend.nodes(nonvoters, timeout, done);
}

fn nodes(call: &Call, reports: Result<Vec<NodeReport>, Error>) -> Response {
    let reports = match reports {
        Ok(reports) => reports,
        Err(error) => return errors::admin_endpoint(call, &error, "store nodes: "),
    };
    let mut out = Vec::new();
    let mut object = ObjectWriter::new(&mut out);
    if call.params.nodes_as_array {
        object.with("nodes", |out| {
            out.push(b'[');
            for (n, report) in reports.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                write(report, out);
            }
            out.push(b']');
        });
    } else {
        for report in &reports {
            object.with(&report.id, |out| write(report, out));
        }
    }
    object.end();
    reply::json(finish(call, out))
}

/// Appends a report as compact JSON; empty texts and zero times are left out.
pub(super) fn write(report: &NodeReport, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out);
    for (name, value) in [("id", &report.id), ("api_addr", &report.api_addr), ("addr", &report.addr)] {
        if !value.is_empty() {
            object.string(name, value);
        }
    }
    object.string("version", &report.version);
    object.bool("voter", report.voter);
    object.bool("reachable", report.reachable);
    object.bool("leader", report.leader);
    if !report.time.is_zero() {
        object.f64("time", report.time.as_secs_f64());
        object.string("time_s", &duration::format(report.time));
    }
    if !report.error.is_empty() {
        object.string("error", &report.error);
    }
    object.end();
}

/// Indents when the client asks for it.
pub(super) fn finish(call: &Call, out: Vec<u8>) -> Vec<u8> {
    if call.params.has(Flag::Pretty) { json::indent(&out) } else { out }
}
