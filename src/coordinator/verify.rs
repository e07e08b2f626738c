//! The divergence check on demand: made by the leader, whoever is asked.

use super::{Coordinator, Error, access};
use crate::auth::{Credentials, Operation};
use crate::net::CallError;
use crate::net::call::{Answer, Call};
use crate::node::verify::Report;
use std::fmt::Write;
use std::time::Duration;

/// Called exactly once, with a JSON object.
pub type VerifyDone = Box<dyn FnOnce(Result<String, Error>) + Send>;

impl Coordinator {
    /// `POST /verify`: hashes all copies at one place in the log and says which differ. Takes as long as reading the
    /// database. The leader must permit it to `caller`, should it be asked.
    pub fn verify(&self, caller: Credentials, timeout: Duration, done: VerifyDone) {
        let node = match self.node() {
            Ok(node) => node,
            Err(error) => return done(Err(error)),
        };
        if node.is_leader() {
            return self.verify_here(done);
        }
        let (Some((_, address)), Some(net)) = (self.leader(), self.net()) else {
            return done(Err(Error::LeaderNotFound));
        };
        let told = Box::new(move |answer| {
            done(match answer {
                Ok(Answer::Verified { report }) => Ok(report),
                Ok(Answer::NotLeader { .. }) => Err(Error::NotLeader),
                Ok(Answer::Failed(failure)) => Err(access::failed(failure, Operation::Verify)),
                Ok(_) => Err(Error::Request("the leader gave an answer to another question".into())),
                Err(error) => Err(Error::Request(CallError::into_text(error))),
            });
        });
        net.call(&address, Call::Verify.in_name_of(caller), timeout, told);
    }

    /// The same on the leader.
    pub(super) fn verify_here(&self, done: VerifyDone) {
        match self.verifier.get() {
            Some(verifier) => verifier.check(Box::new(move |report| {
                done(report.map(|report| to_json(&report)).map_err(Error::Request));
            })),
            None => done(Err(Error::StoreNotOpen)),
        }
    }
}

/// `{"index":7,"equal":true,"diverged":[],"nodes":{"n1":"<hex>","n2":null}}`; `equal` is null without a majority.
fn to_json(report: &Report) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let diverged = report.diverged();
    let equal = report.majority.map(|_| diverged.is_empty());
    let mut out = format!("{{\"index\":{},\"equal\":", report.index);
    out.push_str(match equal {
        Some(true) => "true",
        Some(false) => "false",
        None => "null",
    });
    let diverged: Vec<_> = diverged.into_iter().map(text).collect();
    let nodes: Vec<_> = report
        .hashes
        .iter()
        .map(|(id, hash)| match hash {
            Some(hash) => format!("{}:\"{}\"", text(id), hex(hash)),
            None => format!("{}:null", text(id)),
        })
        .collect();
    let _ = write!(out, ",\"diverged\":[{}],\"nodes\":{{{}}}}}", diverged.join(","), nodes.join(","));
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::Index;
    use std::collections::BTreeMap;

    #[test]
    fn a_report_is_told_as_json() {
        let hashes = BTreeMap::from([
            ("a".to_owned(), Some([0xab; 32])),
            ("b\"".to_owned(), Some([1; 32])),
            ("c".to_owned(), Some([0xab; 32])),
            ("d".to_owned(), None),
        ]);
        let report = Report { index: Index(7), hashes, majority: Some([0xab; 32]) };
        let value: serde_json::Value = serde_json::from_str(&to_json(&report)).expect("it is JSON");
        assert_eq!(value["index"], 7);
        assert_eq!(value["equal"], false);
        assert_eq!(value["diverged"][0], "b\"");
        assert_eq!(value["nodes"]["a"], "ab".repeat(32));
        assert!(value["nodes"]["d"].is_null());
    }
}
