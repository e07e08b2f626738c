//! The simulator's command line; see `raft/README.md`.

use raft::sim::{Plan, campaign, graphs, run, shrink};
use std::process::exit;
use std::time::Instant;

const USAGE: &str = "\
sim [--seeds N] [--start S] [--hours H] [--once] [--threads T] [--save]
                                                                 many seeds, each twice unless --once; --save shrinks
                                                                 what fails and keeps it in raft/tests/seeds
sim --seed S | --plan FILE  [--trace] [--shrink]                 one seed, or a saved plan
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
        one_plan(&Plan::of(seed), &args)
    } else if let Some(path) = args.text("--plan") {
        let text = std::fs::read_to_string(path).expect("the plan can be read");
        one_plan(&Plan::from_text(&text).expect("a plan"), &args)
    } else {
        many_seeds(&args)
    };
    exit(i32::from(!good));
}

/// Under this name in `raft/tests/seeds` a shrunk plan becomes a regression test.
fn save(plan: &Plan, what: &str) {
    let path = format!("{}/tests/seeds/seed_{}.txt", env!("CARGO_MANIFEST_DIR"), plan.seed);
    match std::fs::write(&path, plan.to_text(what)) {
        Ok(()) => println!("saved as {path}"),
        Err(error) => println!("cannot save {path}: {error}"),
    }
}

fn one_plan(plan: &Plan, args: &Args) -> bool {
    #[cfg(feature = "mutants")]
    if let Some(name) = args.text("--mutant") {
        assert!(raft::sim::mutants::switch_on(name), "no such mistake");
    }
    if args.has("--shrink")
        && let Some((small, violation)) = shrink::shrink(plan)
    {
        let what: String = violation.to_string().lines().next().unwrap_or_default().chars().take(300).collect();
        print!("{}", small.to_text(&what));
        save(&small, &what);
        return false;
    }
    let outcome = run(plan, args.has("--trace"));
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
    println!(
        "{} elections won, {} faults, {} starts, {} snapshots",
        total.leaders, total.faults, total.starts, total.snapshots
    );
    println!("{} writes and {} reads answered, {} outcomes unknown", total.writes, total.reads, total.unknown);
    println!("{} violations", report.failures.len());
    for (seed, violation) in &report.failures {
        println!("seed {seed}: {violation}");
        if args.has("--save")
            && let Some((small, violation)) = shrink::shrink(&Plan::of(*seed))
        {
            save(&small, &violation.to_string());
        }
    }
    report.failures.is_empty()
}

fn link_graphs() -> bool {
    let verdicts = graphs::run_all();
    println!(
        "| links | two-way majority | runs with a leader that commits | terms in calm | verdict |\n|---|---|---|---|---|"
    );
    for verdict in &verdicts {
        let must = if verdict.must_lead { "yes" } else { "no" };
        let outcome = verdict.violation.as_ref().map_or("as it should be".to_string(), |v| v.what.clone());
        println!(
            "| {} | {must} | {} of {} | {} | {outcome} |",
            verdict.graph(),
            verdict.led,
            verdict.runs,
            verdict.terms
        );
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
                let first_line = found.violation.what.lines().next().unwrap_or_default();
                let by = match found.violation.checker {
                    "assertion" => format!("assertion: {}", first_line.split(" (line").next().unwrap_or_default()),
                    checker => checker.to_string(),
                };
                let seeds = found.seed.map_or("link graphs".to_string(), |_| found.seeds.to_string());
                println!("| `{}` | {} | {by} | {seeds} | {:.1} |", mutant.name, mutant.row, found.seconds);
                if let (Some(_), Some(seed)) = (only, found.seed) {
                    println!("seed {seed}: {}", found.violation);
                }
            }
            None => {
                all = false;
                println!("| `{}` | {} | **nobody** | {seeds} | |", mutant.name, mutant.row);
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
