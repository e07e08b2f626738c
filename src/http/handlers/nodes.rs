//! `GET /nodes`: the members of the cluster and whether they answer.

use crate::config::build_info;
use crate::coordinator::StoreStatus;
use crate::coordinator::status::Member;
use crate::http::engine::Response;
use crate::http::front::Call;
use crate::http::json::{self, ObjectWriter};
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};
use crate::text::duration;
use std::time::{Duration, Instant};

/// A member as `/nodes` and `/leader` show it; empty texts and zero times are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NodeReport {
    id: String,
    /// URL of its API.
    api_addr: String,
    /// Raft address.
    addr: String,
    version: String,
    voter: bool,
    reachable: bool,
    leader: bool,
    /// How long it took to answer.
    time: Duration,
    error: String,
}

pub fn handle(call: Call, reply: Reply) {
    reply.send(nodes(&call));
}

fn nodes(call: &Call) -> Response {
    let Some(status) = call.api.backend.store_status() else {
        return reply::text_error(503, "store nodes: store not open");
    };
    let mut members: Vec<&Member> =
        status.members.iter().filter(|member| member.voter || call.params.has(Flag::NonVoters)).collect();
    members.sort_by(|a, b| a.id.as_bytes().cmp(b.id.as_bytes()));
    let reports: Vec<NodeReport> = members.iter().map(|member| report(call, &status, member)).collect();

    let mut out = Vec::new();
    let mut object = ObjectWriter::new(&mut out);
    if call.params.nodes_as_array {
        object.with("nodes", |out| {
            out.push(b'[');
            for (n, report) in reports.iter().enumerate() {
                if n > 0 {
                    out.push(b',');
                }
                report.write(out);
            }
            out.push(b']');
        });
    } else {
        for report in &reports {
            object.with(&report.id, |out| report.write(out));
        }
    }
    object.end();
    reply::json(finish(call, out))
}

/// Asks a member. This node answers for itself; another one is asked over the port between nodes, which a node of this
/// build does not open.
pub(super) fn report(call: &Call, status: &StoreStatus, member: &Member) -> NodeReport {
    let started = Instant::now();
    let config = &call.api.config;
    let mut report =
        NodeReport { id: member.id.clone(), addr: member.addr.clone(), voter: member.voter, ..NodeReport::default() };
    if member.id != config.node_id {
        report.error = "timeout waiting for node to respond".to_owned();
        return report;
    }
    report.api_addr = format!("http://{}", config.http.adv_addr);
    report.version = build_info::VERSION.to_owned();
    report.reachable = true;
    report.leader = status.leader.as_ref().is_some_and(|(id, _)| *id == member.id);
    // A time of zero would be left out.
    report.time = started.elapsed().max(Duration::from_nanos(1));
    report
}

impl NodeReport {
    /// Appends compact JSON.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(out);
        for (name, value) in [("id", &self.id), ("api_addr", &self.api_addr), ("addr", &self.addr)] {
            if !value.is_empty() {
                object.string(name, value);
            }
        }
        object.string("version", &self.version);
        object.bool("voter", self.voter);
        object.bool("reachable", self.reachable);
        object.bool("leader", self.leader);
        if !self.time.is_zero() {
            object.f64("time", self.time.as_secs_f64());
            object.string("time_s", &duration::format(self.time));
        }
        if !self.error.is_empty() {
            object.string("error", &self.error);
        }
        object.end();
    }
}

/// Indents when the client asks for it.
pub(super) fn finish(call: &Call, out: Vec<u8>) -> Vec<u8> {
    if call.params.has(Flag::Pretty) { json::indent(&out) } else { out }
}
