//! The simulator's command line; see `raft/README.md`.

use raft::sim::{Plan, campaign, run};
use std::time::Instant;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1)).cloned();
    let number = |name: &str, default: u64| value(name).map_or(default, |text| text.parse().expect("a number"));
    if let Some(seed) = value("--seed") {
        let plan = Plan::of(seed.parse().expect("a number"));
        let outcome = run(&plan, args.iter().any(|a| a == "--trace"));
        println!("{outcome:?}");
        return;
    }
    let began = Instant::now();
    let hours = value("--hours").map(|text| text.parse().expect("a number of hours"));
    let threads = number("--threads", std::thread::available_parallelism().map_or(1, |n| n.get() as u64));
    let report = campaign::run_seeds(
        number("--start", 0),
        number("--seeds", 2000),
        hours,
        !args.iter().any(|a| a == "--once"),
        threads as usize,
    );
    let total = report.total;
    println!(
        "{} seeds, {:.1} simulated hours in {:.1} s",
        report.seeds,
        total.simulated_ms as f64 / 3.6e6,
        began.elapsed().as_secs_f64()
    );
    println!("{total:?}");
    for (seed, violation) in &report.failures {
        println!("seed {seed}: {violation}");
    }
    std::process::exit(i32::from(!report.failures.is_empty()));
}
