//! Whole runs. Each mode takes its part of the command line, makes a cluster, and gives back a report.

pub mod bench3;
pub mod failover;
pub mod load;
pub mod rebuild;
pub mod rolling;
pub mod run;
pub mod verify;

use crate::args::Args;
use crate::cluster::{Cluster, Plan};
use crate::http::Client;
use crate::report::Report;
use crate::workload::{SCHEMA, bank};
use std::path::PathBuf;
use std::time::Duration;

/// The directory of a run: kept when it failed or when that is wanted.
pub struct Scratch {
    pub dir: PathBuf,
    pub keep: bool,
}

impl Scratch {
    pub fn take(args: &mut Args) -> Result<Scratch, String> {
        let default = std::env::temp_dir().join(format!("ferrolite-jepsen-{}", std::process::id()));
        Ok(Scratch { dir: args.take("dir", default)?, keep: args.take("keep", false)? })
    }

    /// Tells the report and cleans up.
    pub fn finish(self, report: &Report) {
        report.publish(&self.dir);
        if report.passed() && !self.keep {
            // What cannot be removed is only left behind.
            let _ = std::fs::remove_dir_all(&self.dir);
        } else {
            println!("logs, data and reports: {}", self.dir.display());
        }
    }
}

/// A plan from the command line.
pub fn plan(args: &mut Args, scratch: &Scratch, proxied: bool, spares: usize) -> Result<Plan, String> {
    Ok(Plan {
        server: args.server()?,
        dir: scratch.dir.clone(),
        nodes: args.take("nodes", 3)?,
        spares,
        proxied,
        flags: args.flags()?,
    })
}

/// Runs statements through a node until they are acknowledged; they must bear being done twice.
pub fn execute(port: u16, statements: &[String]) -> Result<(), String> {
    let body = serde_json::json!(statements).to_string();
    let mut client = Client::new(port).with_timeout(Duration::from_secs(60));
    let mut last = String::new();
    let done = crate::cluster::wait(Duration::from_secs(60), || match client.post("/db/execute", &body) {
        Ok(reply) if reply.status == 200 && !reply.text().contains("\"error\"") => Some(()),
        Ok(reply) => {
            last = reply.text();
            None
        }
        Err(e) => {
            last = e.to_string();
            None
        }
    });
    done.ok_or_else(|| format!("statements do not get through: {last}"))
}

/// The tables of the workloads.
pub fn create_tables(cluster: &Cluster) -> Result<(), String> {
    let mut statements: Vec<String> = SCHEMA
        .iter()
        .map(|sql| {
            sql.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS")
                .replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS")
        })
        .collect();
    for id in 1..=bank::ACCOUNTS {
        statements.push(format!("INSERT OR IGNORE INTO bank(id, balance) VALUES({id}, {})", bank::START_BALANCE));
    }
    let leader = cluster.leader(crate::cluster::HEALTHY_LIMIT)?;
    execute(cluster.members[leader].http_port, &statements)
}
