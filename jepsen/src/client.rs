//! One client: connections to all nodes, and the one place that says what an answer means for the history.
//!
//! A session belongs to one thread. It sends each request once; whether to send it again is the workload's decision.

use crate::context::Context;
use crate::http::{Client, Reply};
use crate::rng::Rng;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What is asked of the server as its own limit (`timeout=`).
pub const SERVER_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for an answer: beyond it the server has not kept its own limit, and the request counts as stuck. Also above
/// the longest time for which a process is ever stopped.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Before the next request after a node refused the connection.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// What a client knows about its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// It was not done and never will be.
    Fail(String),
    /// It may have been done, or may still be.
    Unknown(String),
}

/// An answer with its place in time.
#[derive(Clone, Debug)]
pub struct Answer {
    pub outcome: Outcome,
    pub json: Value,
    pub node: usize,
    /// Microseconds since the start of the run.
    pub began_us: u64,
    pub ended_us: u64,
}

/// Counts of what a client saw, by kind of operation.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub ok: u64,
    pub fail: u64,
    pub unknown: u64,
    /// How often each text of an error came.
    pub errors: BTreeMap<String, u64>,
    /// Requests that got no answer within [`ANSWER_LIMIT`].
    pub stuck: Vec<String>,
    /// Longest wait for an answer of any kind, microseconds.
    pub slowest_us: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.ok += other.ok;
        self.fail += other.fail;
        self.unknown += other.unknown;
        self.stuck.extend(other.stuck.iter().cloned());
        self.slowest_us = self.slowest_us.max(other.slowest_us);
        for (text, count) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += count;
        }
    }

    pub fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Ok => self.ok += 1,
            Outcome::Fail(text) => {
                self.fail += 1;
                *self.errors.entry(format!("fail: {}", shape(text))).or_default() += 1;
            }
            Outcome::Unknown(text) => {
                self.unknown += 1;
                *self.errors.entry(format!("unknown: {}", shape(text))).or_default() += 1;
            }
        }
    }
}

/// An error's text without the numbers in it, so that equal errors count together.
fn shape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(160) {
        match c.is_ascii_digit() {
            true if out.ends_with('#') => {}
            true => out.push('#'),
            false => out.push(c),
        }
    }
    out
}

/// See the module.
pub struct Session {
    pub context: Arc<Context>,
    pub rng: Rng,
    clients: Vec<Client>,
    /// By kind of operation.
    pub tallies: BTreeMap<&'static str, Tally>,
}

impl Session {
    pub fn new(context: &Arc<Context>, rng: Rng) -> Session {
        let clients = context.ports.iter().map(|port| Client::new(*port).with_timeout(ANSWER_LIMIT)).collect();
        Session { context: Arc::clone(context), rng, clients, tallies: BTreeMap::new() }
    }

    /// One of the members, whoever leads.
    pub fn any_node(&mut self) -> usize {
        let nodes = self.context.active_nodes();
        nodes[self.rng.next_u64() as usize % nodes.len()]
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.rng.between(0, 99) < percent
    }

    pub fn think(&mut self) {
        let think_ms = self.context.think_ms;
        std::thread::sleep(Duration::from_micros(self.rng.between(0, think_ms * 1000)));
    }

    /// Posts to `path` (with parameters) of a node. `kind` names the operation in the report.
    pub fn post(&mut self, kind: &'static str, node: usize, path: &str, body: &str, key: Option<&str>) -> Answer {
        let began_us = self.context.now_us();
        let reply = send(&mut self.clients[node], path, body, key);
        self.finish(kind, node, began_us, path, reply)
    }

    /// The same on a connection of its own that is given up after `limit`.
    pub fn post_hastily(
        &mut self,
        kind: &'static str,
        node: usize,
        path: &str,
        body: &str,
        key: Option<&str>,
        limit: Duration,
    ) -> Answer {
        let mut client = Client::new(self.context.ports[node]).with_timeout(limit);
        let began_us = self.context.now_us();
        let reply = send(&mut client, path, body, key);
        self.finish(kind, node, began_us, "", reply)
    }

    fn finish(
        &mut self,
        kind: &'static str,
        node: usize,
        began_us: u64,
        path: &str,
        reply: io::Result<Reply>,
    ) -> Answer {
        let ended_us = self.context.now_us();
        let timed_out =
            matches!(&reply, Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        let (outcome, json) = classify(reply);
        let tally = self.tallies.entry(kind).or_default();
        tally.count(&outcome);
        if !path.is_empty() {
            tally.slowest_us = tally.slowest_us.max(ended_us - began_us);
            if timed_out {
                tally.stuck.push(format!("{kind} on n{} from {began_us} us on: no answer to {path}", node + 1));
            }
        }
        if matches!(outcome, Outcome::Fail(_)) {
            std::thread::sleep(REFUSED_PAUSE);
        }
        Answer { outcome, json, node, began_us, ended_us }
    }
}

fn send(client: &mut Client, path: &str, body: &str, key: Option<&str>) -> io::Result<Reply> {
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(key.map(|key| ("Idempotency-Key", key)));
    client.call("POST", path, &headers, body.as_bytes())
}

/// What an answer says. The server must mark every outcome that it does not know; an error without such a mark is taken
/// at its word.
pub fn classify(reply: io::Result<Reply>) -> (Outcome, Value) {
    let reply = match reply {
        Ok(reply) => reply,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotConnected | io::ErrorKind::ConnectionRefused) => {
            return (Outcome::Fail(format!("not connected: {}", e.kind())), Value::Null);
        }
        Err(e) => return (Outcome::Unknown(format!("no answer: {}", e.kind())), Value::Null),
    };
    let Ok(json) = serde_json::from_slice::<Value>(&reply.body) else {
        let text = format!("{} {}", reply.status, reply.text().trim());
        let unknown = reply.status != 503 || says_unknown(&text);
        return (if unknown { Outcome::Unknown(text) } else { Outcome::Fail(text) }, Value::Null);
    };
    let error = json["error"].as_str().or_else(|| {
        let results = json["results"].as_array()?;
        results.iter().find_map(|result| result["error"].as_str())
    });
    let outcome = match error {
        None if reply.status == 200 => Outcome::Ok,
        None => Outcome::Unknown(format!("status {}", reply.status)),
        Some(text) if says_unknown(text) => Outcome::Unknown(text.to_owned()),
        Some(text) => Outcome::Fail(text.to_owned()),
    };
    (outcome, json)
}

fn says_unknown(text: &str) -> bool {
    text.contains("outcome unknown") || text.contains("leadership lost while committing")
}

/// Rows of the first result.
pub fn rows(json: &Value) -> Vec<Vec<Value>> {
    let values = json["results"][0]["values"].as_array().cloned().unwrap_or_default();
    values.into_iter().map(|row| row.as_array().cloned().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> io::Result<Reply> {
        Ok(Reply { status, headers: Vec::new(), body: body.as_bytes().to_vec() })
    }

    #[test]
    fn answers_mean_what_they_say() {
        assert_eq!(classify(reply(200, r#"{"results":[{"rows_affected":1}]}"#)).0, Outcome::Ok);
        assert!(matches!(classify(reply(503, "leader not found\n")).0, Outcome::Fail(_)));
        assert!(matches!(classify(reply(408, "queue wait timeout\n")).0, Outcome::Unknown(_)));
        assert!(matches!(classify(reply(200, r#"{"results":[],"error":"not leader"}"#)).0, Outcome::Fail(_)));
        let lost = r#"{"results":[],"error":"leadership lost while committing log"}"#;
        assert!(matches!(classify(reply(200, lost)).0, Outcome::Unknown(_)));
        assert!(matches!(classify(reply(200, r#"{"results":[{"error":"no such table"}]}"#)).0, Outcome::Fail(_)));
        assert!(matches!(classify(Err(io::ErrorKind::NotConnected.into())).0, Outcome::Fail(_)));
        assert!(matches!(classify(Err(io::ErrorKind::UnexpectedEof.into())).0, Outcome::Unknown(_)));
    }

    #[test]
    fn errors_count_together() {
        assert_eq!(shape("index 1234: timeout after 5.5s"), "index #: timeout after #.#s");
    }
}
