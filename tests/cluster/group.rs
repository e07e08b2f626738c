//! Several nodes on loopback, each a real process.

use crate::support::{Launch, Node, TempDir, poll};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// Far above what is demanded; a slow machine must not fail a test.
pub const LIMIT: Duration = Duration::from_secs(40);

/// Nodes `n1`, `n2`, ... of one cluster.
pub struct Group {
    dir: TempDir,
    pub launches: Vec<Launch>,
    pub nodes: Vec<Option<Node>>,
}

impl Group {
    /// `n1` makes the cluster, the others join it through `n1`, one after the other.
    pub fn start(name: &str, count: usize, flags: &[&str]) -> Group {
        let mut group = Group { dir: TempDir::new(name), launches: Vec::new(), nodes: Vec::new() };
        for _ in 0..count {
            group.add(flags);
        }
        group.wait_voters(count);
        group
    }

    /// Directories and ports, no processes.
    pub fn plan(name: &str) -> Group {
        Group { dir: TempDir::new(name), launches: Vec::new(), nodes: Vec::new() }
    }

    /// The directory of node `at`.
    pub fn data(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("n{}", at + 1))
    }

    pub fn raft_address(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.launches[at].raft_port)
    }

    /// Starts one more node, which joins through the first one that is there.
    pub fn add(&mut self, flags: &[&str]) -> usize {
        let at = self.launches.len();
        let mut own = vec![format!("-node-id=n{}", at + 1)];
        if at > 0 {
            own.push(format!("-join={}", self.raft_address(0)));
        }
        own.extend(flags.iter().map(|flag| (*flag).to_owned()));
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        self.launches.push(Launch::new(&self.data(at), &own));
        self.nodes.push(Some(self.launches[at].start()));
        at
    }

    pub fn node(&self, at: usize) -> &Node {
        self.nodes[at].as_ref().expect("the node runs")
    }

    pub fn kill(&mut self, at: usize) {
        self.nodes[at].take().expect("the node runs").kill9();
    }

    pub fn stop(&mut self, at: usize) {
        let exit = self.nodes[at].take().expect("the node runs").terminate();
        assert_eq!(exit.code, Some(0), "{}", exit.log);
    }

    pub fn restart(&mut self, at: usize) {
        self.nodes[at] = Some(self.launches[at].start());
    }

    /// The same for a node that others or a fault keep from getting ready.
    pub fn spawn(&mut self, at: usize) {
        self.nodes[at] = Some(self.launches[at].spawn());
    }

    /// Other flags for a node that is down; its ports stay.
    pub fn replan(&mut self, at: usize, flags: &[&str]) {
        let (http_port, raft_port) = (self.launches[at].http_port, self.launches[at].raft_port);
        let id = format!("-node-id=n{}", at + 1);
        let flags: Vec<&str> = [id.as_str()].into_iter().chain(flags.iter().copied()).collect();
        let mut launch = Launch::new(&self.data(at), &flags);
        (launch.http_port, launch.raft_port) = (http_port, raft_port);
        self.launches[at] = launch;
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().enumerate().filter_map(|(at, node)| node.as_ref().map(|node| (at, node)))
    }

    /// Which of the running nodes leads, as all of them agree.
    pub fn leader(&self) -> usize {
        poll("one leader that all know", LIMIT, || {
            let ids: Vec<_> = self.running().map(|(_, node)| leader_id(node)).collect();
            let first = ids.first()?.clone()?;
            let agreed = ids.iter().all(|id| id.as_ref() == Some(&first));
            let at = self.running().find(|(at, _)| format!("n{}", at + 1) == first)?.0;
            agreed.then_some(at)
        })
    }

    /// A running node that does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.leader();
        self.running().map(|(at, _)| at).find(|at| *at != leader).expect("there are several")
    }

    pub fn wait_voters(&self, count: usize) {
        poll("all voters", LIMIT, || {
            let all = self.running().all(|(_, node)| voters(node) == count);
            all.then_some(())
        });
    }

    /// Waits until every running node has applied what the leader has, then compares all rows of `tables`.
    pub fn assert_equal_copies(&self, tables: &[&str]) {
        let leader = self.leader();
        let goal = applied(self.node(leader));
        for (at, node) in self.running() {
            poll(&format!("n{} to apply {goal}", at + 1), LIMIT, || (applied(node) >= goal).then_some(()));
        }
        for table in tables {
            let dumps: Vec<_> = self.running().map(|(at, node)| (at, local_rows(node, table))).collect();
            for (at, dump) in &dumps {
                assert_eq!(dump, &dumps[0].1, "{table} on n{}", at + 1);
            }
        }
    }
}

pub fn status(node: &Node, key: &str) -> Value {
    let reply = node.client().get(&format!("/status?key={key}")).expect("the node answers");
    reply.json()
}

pub fn applied(node: &Node) -> u64 {
    status(node, "store.raft.applied_index").as_u64().unwrap_or(0)
}

fn leader_id(node: &Node) -> Option<String> {
    let reply = node.client().with_timeout(Duration::from_secs(5)).get("/status?key=store.leader.node_id").ok()?;
    reply.json().as_str().filter(|id| !id.is_empty()).map(str::to_owned)
}

fn voters(node: &Node) -> usize {
    let nodes = status(node, "store.nodes");
    nodes.as_array().map_or(0, |nodes| nodes.iter().filter(|n| n["suffrage"] == "voter").count())
}

pub fn local_rows(node: &Node, table: &str) -> Value {
    let body = format!("[\"SELECT * FROM {table} ORDER BY 1\"]");
    let reply = node.client().post("/db/query?level=none", &body).expect("the node answers");
    // No results where the node refuses the whole request.
    reply.json()["results"].get(0).map_or(Value::Null, |result| result["values"].clone())
}

pub fn query(node: &Node, params: &str, sql: &str) -> Value {
    let body = serde_json::json!([sql]).to_string();
    let reply = node.client().post(&format!("/db/query?{params}"), &body).expect("the node answers");
    assert_eq!(reply.status, 200, "{sql}: {}", reply.text());
    reply.json()
}

/// Writes until it is acknowledged; the statement must bear being done twice.
pub fn execute_until_done(node: &Node, statement: &str) {
    let body = serde_json::json!([statement]).to_string();
    poll("a write to get through", LIMIT, || {
        let reply = node.client().post("/db/execute", &body).ok()?;
        (reply.status == 200 && !reply.text().contains("\"error\"")).then_some(())
    });
}
