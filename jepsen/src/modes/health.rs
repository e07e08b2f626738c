//! What the nodes themselves say at the end of a run: the divergence check through every node, and whether any of them is
//! or ever was in quarantine, or has raised an alarm that no fault of a run may cause.

use crate::check::Verdict;
use crate::cluster::{Cluster, wait};
use crate::http::Client;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// For hashing the largest database of a run.
const VERIFY_LIMIT: Duration = Duration::from_secs(180);
/// What the server says while it checks by itself, as it does after each copy.
const BUSY: &str = "another check is under way";
/// What no fault of a run may ever bring into a log: a copy that differs, two leaders, a log that was set back.
const ALARMS: [&str; 3] = ["differs from the majority", "claims to lead term", "had acknowledged the log up to"];

pub fn check(cluster: &Cluster) -> Verdict {
    let mut verdict = Verdict::new("the nodes' own view: copies equal, nobody in quarantine, no alarm");
    for at in cluster.awake() {
        let id = &cluster.members[at].id;
        match ask(cluster.members[at].http_port) {
            Ok(report) => {
                verdict.checked += 1;
                judge(id, &report, cluster.awake().len(), &mut verdict);
            }
            Err(text) => verdict.violation(format!("POST /verify through {id}: {text}")),
        }
        for path in ["/status", "/readyz"] {
            match Client::new(cluster.members[at].http_port).get(path) {
                Ok(reply) if reply.status == 200 && !reply.text().contains("quarantine") => {}
                Ok(reply) => verdict.violation(format!("{path} of {id}: {} {:.2000}", reply.status, reply.text())),
                Err(e) => verdict.violation(format!("{path} of {id}: {e}")),
            }
        }
    }
    for (at, member) in cluster.members.iter().enumerate() {
        if member.dir.join("quarantine").exists() {
            verdict.violation(format!("{} is in quarantine", member.id));
        }
        // Also those that have healed, or do not run any more.
        alarms(&cluster.log_path(at)).into_iter().for_each(|line| verdict.violation(format!("{}: {line}", member.id)));
    }
    verdict
}

fn ask(port: u16) -> Result<Value, String> {
    let mut client = Client::new(port).with_timeout(VERIFY_LIMIT);
    let mut last = String::new();
    let path = format!("/verify?timeout={}s", VERIFY_LIMIT.as_secs());
    let report = wait(VERIFY_LIMIT, || match client.post(&path, "") {
        Ok(reply) if reply.status == 200 => Some(Ok(reply)),
        Ok(reply) if reply.text().contains(BUSY) => {
            last = reply.text();
            std::thread::sleep(Duration::from_millis(100));
            None
        }
        Ok(reply) => Some(Err(format!("{} {}", reply.status, reply.text()))),
        Err(e) => Some(Err(e.to_string())),
    });
    let reply = report.unwrap_or(Err(last))?;
    serde_json::from_slice(&reply.body).map_err(|e| format!("{e}: {}", reply.text()))
}

/// Every node has told its hash, and all are the same. One node alone has no majority to differ from.
fn judge(id: &str, report: &Value, nodes: usize, verdict: &mut Verdict) {
    let none = serde_json::Map::new();
    let hashes = report["nodes"].as_object().unwrap_or(&none);
    let told: Vec<&Value> = hashes.values().filter(|hash| hash.is_string()).collect();
    let equal = told.windows(2).all(|pair| pair[0] == pair[1]);
    let says_so = report["equal"] == true || nodes == 1;
    let nobody_differs = report["diverged"].as_array().is_some_and(Vec::is_empty);
    if !(equal && says_so && nobody_differs && told.len() == nodes && hashes.len() == nodes) {
        verdict.violation(format!("POST /verify through {id}: {report}"));
    }
}

fn alarms(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| ALARMS.iter().any(|alarm| line.contains(alarm))).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(report: Value, nodes: usize) -> bool {
        let mut verdict = Verdict::new("t");
        judge("n1", &report, nodes, &mut verdict);
        verdict.holds()
    }

    #[test]
    fn only_equal_hashes_of_all_nodes_pass() {
        assert!(holds(json!({"equal": true, "diverged": [], "nodes": {"n1": "ab", "n2": "ab"}}), 2));
        assert!(holds(json!({"equal": null, "diverged": [], "nodes": {"n1": "ab"}}), 1));
        assert!(!holds(json!({"equal": true, "diverged": [], "nodes": {"n1": "ab", "n2": null}}), 2), "not told");
        assert!(!holds(json!({"equal": true, "diverged": [], "nodes": {"n1": "ab"}}), 2), "not asked");
        assert!(!holds(json!({"equal": true, "diverged": [], "nodes": {"n1": "ab", "n2": "ac"}}), 2));
        assert!(!holds(json!({"equal": false, "diverged": ["n2"], "nodes": {"n1": "ab", "n2": "ac"}}), 2));
        assert!(!holds(json!({"equal": null, "diverged": [], "nodes": {"n1": "ab", "n2": "ac"}}), 2));
        assert!(!holds(json!({"error": "leader not found"}), 1));
    }
}
