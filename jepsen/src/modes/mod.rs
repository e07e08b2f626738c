//! Whole runs. Each mode takes its part of the command line, makes a cluster, and gives back a report.

pub mod bench3;
pub mod failover;
pub mod health;
pub mod load;
pub mod outage;
pub mod rebuild;
pub mod rolling;
pub mod run;
pub mod setup;
pub mod verify;

use crate::cluster::Cluster;
use crate::http::Client;
use crate::workload::{SCHEMA, bank};
use std::time::Duration;

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
