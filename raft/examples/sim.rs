//! The simulator's command line; see `raft/README.md`.

use raft::sim::{Plan, campaign, graphs, run};
use std::process::exit;
use std::time::Instant;

const USAGE: &str = "\
sim [--seeds N] [--start S] [--hours H] [--once] [--threads T]   many seeds, each twice unless --once
sim --seed S [--trace]                                           one seed
sim --graphs                                                     all link graphs on three nodes
sim --mutants [--seeds N] [--only NAME]                          who finds which mistake (feature mutants)";

struct Args(Vec<String>);

impl Args {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|arg| arg == name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|arg| arg == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name).map(|text| text.parse().unwrap_or_else(|_| usage()))
    }

    fn threads(&self) -> usize {
        self.number("--threads").unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
    }
}

fn usage() -> ! {
    println!("{USAGE}");
    exit(2)
}

fn main() {
    let args = Args(std::env::args().skip(1).collect());
    let good = if args.has("--help") {
        usage()
    } else if args.has("--graphs") {
        link_graphs()
    } else if args.has("--mutants") {
        mutants(&args)
    } else if let Some(seed) = args.number("--seed") {
        one_seed(seed, args.has("--trace"))
    } else {
        many_seeds(&args)
    };
    exit(i32::from(!good));
}

fn one_seed(seed: u64, trace: bool) -> bool {
    let outcome = run(&Plan::of(seed), trace);
    println!("{:?}\ntrace {:016x}", outcome.stats, outcome.trace);
    if let Some(violation) = &outcome.violation {
        println!("{violation}");
    }
    outcome.violation.is_none()
}

fn many_seeds(args: &Args) -> bool {
    let began = Instant::now();
    let (first, seeds) = (args.number("--start").unwrap_or(0), args.number("--seeds").unwrap_or(2000));
    let report = campaign::run_seeds(first, seeds, args.number("--hours"), !args.has("--once"), args.threads());
    let (total, wall_s) = (report.total, began.elapsed().as_secs_f64());
    let hours = total.simulated_ms as f64 / 3.6e6;
    println!("{} seeds, {hours:.1} simulated cluster-hours, {wall_s:.1} s", report.seeds);
    println!("{} events, {} messages, {} commits", total.events, total.messages, total.commits);
    println!("{} elections won, {} faults, {} starts, {} snapshots", total.leaders, total.faults, total.starts, total.snapshots);
    println!("{} writes and {} reads answered, {} outcomes unknown", total.writes, total.reads, total.unknown);
    println!("{} violations", report.failures.len());
    for (seed, violation) in &report.failures {
        println!("seed {seed}: {violation}");
    }
    report.failures.is_empty()
}

fn link_graphs() -> bool {
    let verdicts = graphs::run_all();
    println!("| links | two-way majority | runs with a leader that commits | terms in calm | verdict |\n|---|---|---|---|---|");
    for verdict in &verdicts {
        let must = if verdict.must_lead { "yes" } else { "no" };
        let outcome = verdict.violation.as_ref().map_or("as it should be".to_string(), |v| v.what.clone());
        println!("| {} | {must} | {} of {} | {} | {outcome} |", verdict.graph(), verdict.led, verdict.runs, verdict.terms);
    }
    verdicts.iter().all(|verdict| verdict.violation.is_none())
}

#[cfg(feature = "mutants")]
fn mutants(args: &Args) -> bool {
    use raft::sim::mutants::{MUTANTS, hunt};
    let seeds = args.number("--seeds").unwrap_or(4000);
    let only = args.text("--only");
    let mut all = true;
    println!("| mistake | row | found by | seeds | seconds |\n|---|---|---|---|---|");
    for mutant in MUTANTS.iter().filter(|mutant| only.is_none_or(|name| name == mutant.name)) {
        match hunt(mutant, 0, seeds, args.threads()) {
            Some(found) => {
                let what: String = found.violation.to_string().chars().take(if only.is_some() { 4000 } else { 110 }).collect();
                let what = if only.is_some() { what } else { what.lines().next().unwrap_or("").to_string() };
                println!("| {} | {} | {what} | {} | {:.1} |", mutant.name, mutant.row, found.seeds, found.seconds);
            }
            None => {
                all = false;
                println!("| {} | {} | **nobody** | {seeds} | |", mutant.name, mutant.row);
            }
        }
    }
    all
}

#[cfg(not(feature = "mutants"))]
fn mutants(_: &Args) -> bool {
    println!("build with --features mutants");
    false
}
