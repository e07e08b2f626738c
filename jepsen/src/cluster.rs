//! N real `ferrolite serve` processes on loopback, each with its own directory: start, kill, stop, wipe, look at.
//!
//! Belongs to one thread. A cluster kills all its processes when dropped.

use crate::http::Client;
use crate::ports::free_port;
use crate::proxy::Network;
use crate::shim::Env;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest wait for what a healthy cluster does within a second or two.
pub const HEALTHY_LIMIT: Duration = Duration::from_secs(60);
const STATUS_LIMIT: Duration = Duration::from_millis(1500);
const POLL_PAUSE: Duration = Duration::from_millis(10);

/// How to make a cluster.
#[derive(Clone)]
pub struct Plan {
    pub server: PathBuf,
    pub dir: PathBuf,
    pub nodes: usize,
    /// Directories and ports for nodes that may be added later.
    pub spares: usize,
    /// Whether the links between nodes go through proxies that can cut them.
    pub proxied: bool,
    /// More flags for every node.
    pub flags: Vec<String>,
}

/// One node, whether its process runs or not.
pub struct Member {
    pub id: String,
    pub dir: PathBuf,
    pub http_port: u16,
    raft_port: u16,
    advertised_port: u16,
    child: Option<Child>,
    pub paused: bool,
}

/// See the module.
pub struct Cluster {
    pub plan: Plan,
    pub members: Vec<Member>,
    pub network: Arc<Network>,
    /// Nodes that ended although nobody told them to.
    pub deaths: Vec<String>,
}

impl Cluster {
    /// Ports and directories; no process yet.
    pub fn new(plan: Plan) -> Cluster {
        let count = plan.nodes + plan.spares;
        let network = Network::new(count);
        let members: Vec<Member> = (0..count)
            .map(|at| {
                let raft_port = free_port();
                let advertised_port = if plan.proxied { free_port() } else { raft_port };
                Member {
                    id: format!("n{}", at + 1),
                    dir: plan.dir.join(format!("n{}", at + 1)),
                    http_port: free_port(),
                    raft_port,
                    advertised_port,
                    child: None,
                    paused: false,
                }
            })
            .collect();
        fs::create_dir_all(&plan.dir).expect("the directory of the run can be made");
        if plan.proxied {
            for (at, member) in members.iter().enumerate() {
                network.stand_for(at, member.advertised_port, member.raft_port);
            }
        }
        Cluster { plan, members, network, deaths: Vec::new() }
    }

    /// Starts all nodes but the spares and waits until each is ready.
    pub fn form(plan: Plan) -> Result<Cluster, String> {
        let mut cluster = Cluster::new(plan);
        for at in 0..cluster.plan.nodes {
            cluster.start(at, &Vec::new());
        }
        cluster.wait_ready(HEALTHY_LIMIT)?;
        cluster.leader(HEALTHY_LIMIT)?;
        Ok(cluster)
    }

    pub fn ports(&self) -> Vec<u16> {
        self.members.iter().map(|member| member.http_port).collect()
    }

    pub fn log_path(&self, at: usize) -> PathBuf {
        self.members[at].dir.with_extension("log")
    }

    /// The flags stay the same over the whole life of a node, as in a unit file.
    pub fn start(&mut self, at: usize, env: &Env) {
        let out = OpenOptions::new().create(true).append(true).open(self.log_path(at)).expect("the log can be written");
        let member = &self.members[at];
        assert!(member.child.is_none(), "{} runs already", member.id);
        let mut command = Command::new(&self.plan.server);
        command
            .args(["serve", "-node-id", &member.id])
            .arg(format!("-http-addr=127.0.0.1:{}", member.http_port))
            .arg(format!("-raft-addr=127.0.0.1:{}", member.raft_port))
            .arg(format!("-raft-adv-addr=127.0.0.1:{}", member.advertised_port))
            .args(self.forming_flags(at))
            .args(&self.plan.flags)
            .arg(&member.dir)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a descriptor is free"))
            .stderr(out);
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.plan.server.display()));
        self.network.set_pid(at, child.id());
        self.members[at].child = Some(child);
        self.members[at].paused = false;
    }

    fn forming_flags(&self, at: usize) -> Vec<String> {
        let founders = &self.members[..self.plan.nodes];
        if founders.len() == 1 && at == 0 {
            return Vec::new();
        }
        let targets: Vec<String> = founders.iter().map(|m| format!("127.0.0.1:{}", m.advertised_port)).collect();
        let mut flags = vec![format!("-join={}", targets.join(","))];
        if at < self.plan.nodes {
            flags.push(format!("-bootstrap-expect={}", self.plan.nodes));
        }
        flags
    }

    pub fn runs(&self, at: usize) -> bool {
        self.members[at].child.is_some()
    }

    /// Running and not stopped by a signal.
    pub fn awake(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|at| self.runs(*at) && !self.members[*at].paused).collect()
    }

    pub fn pid(&self, at: usize) -> Option<u32> {
        self.members[at].child.as_ref().map(Child::id)
    }

    pub fn signal(&self, at: usize, signal: i32) {
        if let Some(pid) = self.pid(at) {
            // SAFETY: a plain system call on a process that is ours and not yet waited for.
            unsafe { libc::kill(pid as i32, signal) };
        }
    }

    /// SIGKILL, and wait until the process is gone.
    pub fn kill9(&mut self, at: usize) {
        if let Some(mut child) = self.members[at].child.take() {
            // It may have ended already; then there is nothing to kill.
            let _ = child.kill();
            child.wait().expect("the child is ours");
        }
        self.network.set_pid(at, 0);
        self.members[at].paused = false;
    }

    pub fn pause(&mut self, at: usize) {
        self.signal(at, libc::SIGSTOP);
        self.members[at].paused = true;
    }

    pub fn resume(&mut self, at: usize) {
        self.signal(at, libc::SIGCONT);
        self.members[at].paused = false;
    }

    /// SIGTERM, and wait for the end; how long it took, or what went wrong.
    pub fn terminate(&mut self, at: usize, limit: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        self.signal(at, libc::SIGTERM);
        let Some(status) = self.wait_exit(at, limit) else {
            self.kill9(at);
            return Err(format!("n{} still ran {limit:?} after SIGTERM", at + 1));
        };
        match status.code() {
            Some(0) => Ok(began.elapsed()),
            _ => Err(format!("n{} ended with {status} on SIGTERM", at + 1)),
        }
    }

    /// Waits for a process to end by itself.
    pub fn wait_exit(&mut self, at: usize, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            let status = match self.members[at].child.as_mut() {
                Some(child) => child.try_wait().expect("the child is ours"),
                None => return None,
            };
            if status.is_some() {
                self.members[at].child = None;
                self.network.set_pid(at, 0);
                return status;
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(POLL_PAUSE);
        }
    }

    /// Removes everything that a node has stored; it must not run.
    pub fn wipe(&mut self, at: usize) {
        assert!(!self.runs(at), "a node is wiped while it runs");
        // It may never have started.
        let _ = fs::remove_dir_all(&self.members[at].dir);
    }

    /// Notes nodes that ended by themselves.
    pub fn look_for_deaths(&mut self, when: &str) {
        for at in 0..self.members.len() {
            if let Some(status) = self.wait_exit(at, Duration::ZERO) {
                self.deaths.push(format!("n{} ended by itself with {status} ({when})", at + 1));
            }
        }
    }

    /// A part of `/status`, or `None` when the node does not answer in time.
    pub fn status(&self, at: usize, key: &str) -> Option<Value> {
        let mut client = Client::new(self.members[at].http_port).with_timeout(STATUS_LIMIT);
        let reply = client.get(&format!("/status?key={key}")).ok()?;
        serde_json::from_slice(&reply.body).ok()
    }

    /// A counter of `/debug/vars`, since the node's start.
    pub fn counter(&self, at: usize, group: &str, name: &str) -> Option<u64> {
        let mut client = Client::new(self.members[at].http_port).with_timeout(STATUS_LIMIT);
        let reply = client.get(&format!("/debug/vars?key={group}")).ok()?;
        let vars: Value = serde_json::from_slice(&reply.body).ok()?;
        vars.get(group).unwrap_or(&vars).get(name)?.as_u64()
    }

    /// The node that leads in the highest term, if one says so now.
    pub fn leader_now(&self) -> Option<usize> {
        let raft = self.awake().into_iter().filter_map(|at| Some((at, self.status(at, "store.raft")?)));
        let leaders = raft.filter(|(_, raft)| raft["state"] == "Leader");
        leaders.max_by_key(|(_, raft)| raft["term"].as_u64()).map(|(at, _)| at)
    }

    pub fn leader(&self, limit: Duration) -> Result<usize, String> {
        wait(limit, || self.leader_now()).ok_or_else(|| format!("no leader within {limit:?}"))
    }

    /// Highest term that a node tells.
    pub fn term(&self) -> u64 {
        let terms = self.awake().into_iter().filter_map(|at| self.status(at, "store.raft.term")?.as_u64());
        terms.max().unwrap_or(0)
    }

    /// Waits until every running node says that it is ready and in step.
    pub fn wait_ready(&mut self, limit: Duration) -> Result<(), String> {
        for at in self.awake() {
            self.wait_node_ready(at, limit)?;
        }
        Ok(())
    }

    pub fn wait_node_ready(&mut self, at: usize, limit: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        let mut client = Client::new(self.members[at].http_port).with_timeout(Duration::from_secs(5));
        let mut last = String::new();
        loop {
            match client.get("/readyz?sync&timeout=2s") {
                Ok(reply) if reply.status == 200 => return Ok(began.elapsed()),
                Ok(reply) => last = format!("{} {}", reply.status, reply.text()),
                Err(e) if last.is_empty() => last = e.to_string(),
                Err(_) => {}
            }
            if let Some(status) = self.wait_exit(at, Duration::ZERO) {
                return Err(format!("n{} ended with {status} before it was ready; last {last:?}", at + 1));
            }
            if began.elapsed() > limit {
                return Err(format!("n{} is not ready after {limit:?}: {last:?}", at + 1));
            }
            std::thread::sleep(POLL_PAUSE);
        }
    }

    /// Waits until all running nodes have applied the same index and nothing moves any more.
    pub fn wait_in_step(&self, limit: Duration) -> Result<u64, String> {
        let mut last = String::new();
        let found = wait(limit, || {
            let look = || -> Vec<_> { self.awake().into_iter().map(|at| self.applied(at)).collect() };
            let first = look();
            std::thread::sleep(Duration::from_millis(200));
            last = format!("{first:?}");
            let all = first.first().copied().flatten().filter(|index| *index > 0)?;
            (first.iter().all(|index| *index == Some(all)) && look() == first).then_some(all)
        });
        found.ok_or_else(|| format!("the nodes are not in step after {limit:?}: applied {last}"))
    }

    fn applied(&self, at: usize) -> Option<u64> {
        self.status(at, "store.raft.applied_index")?.as_u64()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.network.stop();
        for at in 0..self.members.len() {
            self.kill9(at);
        }
    }
}

/// Calls `probe` until it gives something or the time is over.
pub fn wait<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        let found = probe();
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        std::thread::sleep(POLL_PAUSE);
    }
}
