//! One prober per node, which asks only that node and never waits long: from the times of its acknowledgements the report
//! tells how long the cluster took no writes. Patient clients cannot tell that: they all end up waiting at a stopped node.

use super::Worker;
use crate::client::{Outcome, classify};
use crate::http::Client;
use std::time::Duration;

/// Of the server, and of the client beyond it.
const PATH: &str = "/db/execute?timeout=500ms";
const PATIENCE: Duration = Duration::from_millis(700);
const BODY: &str = r#"["INSERT INTO probe(at) VALUES(1)"]"#;
const PAUSE: Duration = Duration::from_millis(20);

/// The worker's number is the node's.
pub fn run(worker: &mut Worker) {
    let node = worker.number as usize;
    let mut client = Client::new(worker.session.context.ports[node]).with_timeout(PATIENCE);
    while worker.running() {
        if worker.session.context.active_nodes().contains(&node) && classify(client.post(PATH, BODY)).0 == Outcome::Ok {
            let context = &worker.session.context;
            context.acknowledged();
            worker.history.probes_us.push(context.now_us());
        }
        std::thread::sleep(PAUSE);
    }
}
