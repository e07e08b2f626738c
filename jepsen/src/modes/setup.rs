//! What the modes have in common: the part of the command line that all of them take, the cluster, the workloads' tables
//! and clock, and the end, at which every run is held against the same demands.

use super::{create_tables, health, verify};
use crate::args::Args;
use crate::cluster::{Cluster, Plan};
use crate::context::Context;
use crate::report::Report;
use crate::rng::Rng;
use crate::workload::History;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// A run before its cluster is there.
pub struct Setup {
    pub plan: Plan,
    pub report: Report,
    /// Whether the directory stays although all checks passed.
    keep: bool,
}

/// How much the workloads do, for the modes that use them.
#[derive(Clone, Copy)]
pub struct Load {
    pub clients: u64,
    /// Longest pause of a client between two operations, ms.
    pub think_ms: u64,
    pub seed: u64,
}

/// A cluster with the tables of the workloads.
pub struct Stage {
    pub cluster: Cluster,
    pub context: Arc<Context>,
    pub rng: Rng,
}

impl Setup {
    pub fn take(mode: &str, args: &mut Args) -> Result<Setup, String> {
        let default = std::env::temp_dir().join(format!("ferrolite-jepsen-{}", std::process::id()));
        let dir: PathBuf = args.take("dir", default)?;
        let (nodes, flags) = (args.take("nodes", 3)?, args.flags()?);
        let plan = Plan { server: args.server()?, dir, nodes, spares: 0, proxied: false, flags };
        let mut report = Report::new(mode);
        report.set("nodes", plan.nodes as u64);
        report.set("flags", plan.flags.clone());
        Ok(Setup { plan, report, keep: args.take("keep", false)? })
    }

    /// An option of one mode, noted in the report.
    pub fn option<T>(&mut self, args: &mut Args, name: &str, default: T) -> Result<T, String>
    where
        T: std::str::FromStr + Clone + Into<serde_json::Value>,
    {
        let value = args.take(name, default)?;
        self.report.set(name, value.clone());
        Ok(value)
    }

    /// `--clients`, `--think-ms` and `--seed`.
    pub fn load(&mut self, args: &mut Args, default: Load) -> Result<Load, String> {
        Ok(Load {
            clients: self.option(args, "clients", default.clients)?,
            think_ms: self.option(args, "think-ms", default.think_ms)?,
            seed: self.option(args, "seed", default.seed)?,
        })
    }

    /// Starts the nodes. All of the command line has been taken by now.
    pub fn form(&mut self, args: &Args) -> Result<Cluster, String> {
        args.finish()?;
        self.report.figure("load average at the start", load_average());
        Cluster::form(self.plan.clone())
    }

    pub fn stage(&mut self, args: &Args, load: Load) -> Result<Stage, String> {
        let cluster = self.form(args)?;
        create_tables(&cluster)?;
        let context = Context::new(cluster.ports(), self.plan.nodes, load.think_ms, load.seed);
        Ok(Stage { cluster, context: Arc::new(context), rng: Rng::new(load.seed) })
    }

    /// The end of a run with workloads.
    pub fn close(mut self, mut cluster: Cluster, history: History) -> Report {
        verify::verify(&mut cluster, history, &mut self.report);
        self.close_without_history(cluster)
    }

    /// Asks the cluster itself what it thinks of its copies, tells the report and cleans up.
    pub fn close_without_history(mut self, cluster: Cluster) -> Report {
        self.report.verdicts.push(health::check(&cluster));
        self.report.figure("load average at the end", load_average());
        if self.plan.proxied {
            let (strangers, slowest) = (&cluster.network.strangers, &cluster.network.slowest_lookup_us);
            self.report.figure("strangers at the proxies", strangers.load(SeqCst));
            self.report.figure("slowest look for the owner of a connection, ms", slowest.load(SeqCst) / 1000);
        }
        drop(cluster);
        let dir = &self.plan.dir;
        self.report.publish(dir);
        if self.report.passed() && !self.keep {
            // What cannot be removed is only left behind.
            let _ = std::fs::remove_dir_all(dir);
        } else {
            println!("logs, data and reports: {}", dir.display());
        }
        self.report
    }
}

/// Of the machine, over one, five and fifteen minutes: figures of time mean little without it.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
