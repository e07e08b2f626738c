//! `GET /readyz`: may a load balancer send requests here? Plain text, one line per check, ending at the first failure.
//!
//! The checks wait for each other by continuations; a worker is held only by the look into the database.

use crate::command::{Request, Statement, StatementResult};
use crate::coordinator::{Error, Level, ReadOptions, ReadPermit};
use crate::http::engine::Response;
use crate::http::front::Call;
use crate::http::headers;
use crate::http::params::Flag;
use crate::http::reply::{self, Reply};
use raft::Index;

/// A request on its way through the checks.
struct Check {
    call: Call,
    reply: Reply,
    lines: Vec<String>,
}

pub fn handle(call: Call, reply: Reply) {
    let mut check = Check { call, reply, lines: Vec::new() };
    check.pass("node ok");
    if check.call.params.has(Flag::NoLeader) {
        return check.reply.send(answer(200, check.lines));
    }
    let (backend, timeout) = (check.call.api.backend.clone(), check.call.params.timeout);
    backend.leader_commit(timeout, Box::new(move |commit| check.leader_answered(commit)));
}

impl Check {
    fn pass(&mut self, what: &str) {
        self.lines.push(format!("[+]{what}"));
    }

    fn fail(mut self, what: String) {
        self.lines.push(format!("[+]{what}"));
        self.reply.send(answer(503, self.lines));
    }

    fn leader_answered(mut self, commit: Result<Index, Error>) {
        let commit = match commit {
            Ok(commit) => commit,
            Err(Error::LeaderNotFound) => return self.fail("leader does not exist".to_owned()),
            Err(error) => return self.fail(format!("leader not contactable: {error}")),
        };
        self.pass("leader ok");
        let backend = self.call.api.backend.clone();
        if !backend.is_ready() {
            return self.fail("store not ready".to_owned());
        }
        self.pass("store ok");
        if !self.call.params.has(Flag::Sync) {
            return self.read();
        }
        let timeout = self.call.params.timeout;
        backend.wait_synced(commit, timeout, Box::new(move |synced| self.synced(synced)));
    }

    fn synced(mut self, synced: Result<(), Error>) {
        match synced {
            Ok(()) => {
                self.pass("sync ok");
                self.read();
            }
            Err(Error::FsmTimeout { .. }) => self.fail("sync timeout waiting for commit index".to_owned()),
            Err(error) => self.fail(format!("sync {error}")),
        }
    }

    fn read(self) {
        let Check { call, reply, lines } = self;
        let options = ReadOptions { level: Level::None, ..ReadOptions::default() };
        let backend = call.api.backend.clone();
        let done = Box::new(move |permit| reply.send_with(move || check_database(&call, permit, lines)));
        backend.permit_read(&options, done);
    }
}

fn check_database(call: &Call, permit: Result<ReadPermit, Error>, mut lines: Vec<String>) -> Response {
    let statement = Statement { sql: "SELECT 1".to_owned(), parameters: Vec::new() };
    let request = Request { statements: vec![statement], ..Request::default() };
    let options = ReadOptions { level: Level::None, db_timeout: call.params.timeout, ..ReadOptions::default() };
    let mut results: Vec<StatementResult> = Vec::new();
    let read = permit.and_then(|permit| call.api.backend.read(&permit, &request, &options, &mut results));
    let problem = match (read, results.first()) {
        (Ok(()), Some(StatementResult::Rows { .. })) => {
            lines.push("[+]db ok".to_owned());
            return answer(200, lines);
        }
        (Ok(()), Some(StatementResult::Error { text, .. })) => text.clone(),
        (Ok(()), _) => "no rows".to_owned(),
        (Err(error), _) => error.to_string(),
    };
    lines.push(format!("[+]db not ok: ({problem}, [])"));
    answer(503, lines)
}

fn answer(status: u16, lines: Vec<String>) -> Response {
    reply::body(status, headers::TEXT, lines.join("\n"))
}
