//! VACUUM and optimize run as log entries when they are due, and their times survive a restart.
//!
//! Prevents: a node that is restarted more often than its interval and so never tidies up, and one that does it at once
//! after every start.

mod support;

use std::time::Duration;
use support::fault::shift_clock;
use support::{Launch, Node, TempDir, poll};

const LIMIT: Duration = Duration::from_secs(30);
const HOUR_S: i64 = 3600;

fn counter(node: &Node, name: &str) -> i64 {
    let reply = node.client().get("/debug/vars?key=store").expect("an answer");
    reply.json()["store"][name].as_i64().expect("a counter")
}

fn last_vacuum(node: &Node) -> Option<String> {
    let reply = node.client().get("/status").expect("an answer");
    reply.json()["store"]["auto_vacuum"]["last_vacuum"].as_str().map(str::to_owned)
}

#[test]
fn vacuum_and_optimize_run_in_the_log_and_their_times_are_kept() {
    let dir = TempDir::new("maintenance");
    let data = dir.path().join("data");
    let mut node = Node::start(&data, &["-auto-vacuum-int=1s", "-auto-optimize-int=1s"]);
    node.execute(r#"["CREATE TABLE t(x)", "INSERT INTO t VALUES(1), (2)", "DELETE FROM t WHERE x = 1"]"#);
    poll("both jobs", Duration::from_secs(30), || {
        (counter(&node, "num_auto_vacuums") >= 1 && counter(&node, "num_auto_optimizes") >= 1).then_some(())
    });
    assert_eq!(counter(&node, "num_auto_vacuums_failed") + counter(&node, "num_auto_optimizes_failed"), 0);
    let vacuumed = last_vacuum(&node).expect("the time of the last VACUUM");
    node.kill9();

    // With a long interval nothing is due, since the times are known.
    let node = Node::start(&data, &["-auto-vacuum-int=1h", "-auto-optimize-int=1h"]);
    let kept = last_vacuum(&node).expect("the time survives a restart");
    assert!(kept >= vacuumed, "{kept} after {vacuumed}");
    assert_eq!(node.rows("SELECT x FROM t"), vec![vec![serde_json::json!(2)]]);
    assert_eq!(counter(&node, "num_auto_vacuums") + counter(&node, "num_auto_optimizes"), 0);
}

fn wait_for(node: &Node, name: &str, at_least: i64) {
    poll(name, LIMIT, || (counter(node, name) >= at_least).then_some(()));
}

#[test]
fn intervals_go_on_over_a_restart() {
    let dir = TempDir::new("maintenance-restart");
    let data = dir.path().join("data");
    let mut node = Node::start(&data, &["-auto-optimize-int=0s"]);
    node.execute(r#"["CREATE TABLE t(a, b)", "CREATE INDEX t_a ON t(a)", "INSERT INTO t VALUES(1, 2), (3, 4)"]"#);
    assert_eq!(counter(&node, "num_auto_optimizes"), 0);
    assert_eq!(node.terminate().code, Some(0));
    // The database is older than the interval, the process is not.
    let flags = ["-auto-optimize-int=24h", "-auto-vacuum-int=24h"];
    let later = shift_clock(Launch::new(&data, &flags), 25 * HOUR_S);
    let mut node = later.start();
    wait_for(&node, "num_auto_vacuums", 1);
    wait_for(&node, "num_auto_optimizes", 1);
    assert!(last_vacuum(&node).is_some());
    assert_eq!(node.number("SELECT count(*) FROM sqlite_stat1"), 1, "the first optimize analyses every table");
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
