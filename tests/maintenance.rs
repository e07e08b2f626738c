//! VACUUM and `PRAGMA optimize` by the clock: they run through the log, and a restart neither repeats them nor starts
//! their intervals anew.

mod support;

use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use support::fault::shift_clock;
use support::{Launch, Node, TempDir, poll};

const LIMIT: Duration = Duration::from_secs(20);
const HOUR_S: i64 = 3600;

fn get(node: &Node, path: &str) -> Value {
    node.client().get(path).expect("the node answers").json()
}

fn counter(node: &Node, name: &str) -> u64 {
    let vars = get(node, "/debug/vars");
    vars["store"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {}", vars["store"]))
}

fn wait_for(node: &Node, name: &str, at_least: u64) {
    poll(name, LIMIT, || (counter(node, name) >= at_least).then_some(()));
}

/// A database of some age and use, and its process ended.
fn make(dir: &Path) {
    let mut node = Node::start(dir, &["-auto-optimize-int=0s"]);
    node.execute(r#"["CREATE TABLE t(a, b)", "CREATE INDEX t_a ON t(a)", "INSERT INTO t VALUES(1, 2), (3, 4)"]"#);
    assert_eq!(counter(&node, "num_auto_optimizes"), 0);
    assert_eq!(node.terminate().code, Some(0));
}

#[test]
fn short_intervals_run_both_jobs_through_the_log() {
    let dir = TempDir::new("maintenance");
    let node = Node::start(&dir.path().join("data"), &["-auto-vacuum-int=1s", "-auto-optimize-int=1s"]);
    node.execute(r#"["CREATE TABLE t(a, b)", "CREATE INDEX t_a ON t(a)", "INSERT INTO t VALUES(1, 2), (3, 4)"]"#);
    let before = get(&node, "/status")["store"]["raft"]["last_log_index"].as_u64().expect("the log has an end");
    wait_for(&node, "num_auto_vacuums", 2);
    wait_for(&node, "num_auto_optimizes", 2);
    let store = get(&node, "/status")["store"].take();
    let after = store["raft"]["last_log_index"].as_u64().expect("the log has an end");
    assert!(after >= before + 3, "nothing else writes to the log: {before} to {after}");
    assert!(store["auto_vacuum"]["last_vacuum"].is_string(), "{}", store["auto_vacuum"]);
    assert!(store["auto_vacuum"]["next_vacuum_after"].is_string(), "{}", store["auto_vacuum"]);
    assert_eq!(node.number("SELECT count(*) FROM sqlite_stat1"), 1, "the first optimize analyses every table");
    assert_eq!(counter(&node, "num_auto_vacuums_failed") + counter(&node, "num_auto_optimizes_failed"), 0);
}

#[test]
fn intervals_go_on_over_a_restart() {
    let dir = TempDir::new("maintenance-restart");
    let data = dir.path().join("data");
    make(&data);
    // The database is older than the interval, the process is not.
    let flags = ["-auto-optimize-int=24h", "-auto-vacuum-int=24h"];
    let later = shift_clock(Launch::new(&data, &flags), 25 * HOUR_S);
    let mut node = later.start();
    wait_for(&node, "num_auto_vacuums", 1);
    wait_for(&node, "num_auto_optimizes", 1);
    let last_vacuum = get(&node, "/status")["store"]["auto_vacuum"]["last_vacuum"].take();
    assert!(last_vacuum.is_string(), "{last_vacuum}");
    assert_eq!(node.terminate().code, Some(0));

    // Both are done. Each round looks at VACUUM first, so that two of these prove a whole round.
    let flags = ["-auto-optimize-int=24h", "-auto-vacuum-int=1s"];
    let mut node = shift_clock(Launch::new(&data, &flags), 25 * HOUR_S).start();
    wait_for(&node, "num_auto_vacuums", 2);
    assert_eq!(counter(&node, "num_auto_optimizes"), 0, "it was done before the restart");
    assert_eq!(node.terminate().code, Some(0));

    // A day later it is due again, for the second time.
    let flags = ["-auto-optimize-int=24h"];
    let node = shift_clock(Launch::new(&data, &flags), 50 * HOUR_S).start();
    wait_for(&node, "num_auto_optimizes", 1);
}
