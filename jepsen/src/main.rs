//! `ferrolite-jepsen MODE [--name value ...]`: one run against real processes. Exit status 0 if all checks passed, 1 if
//! not, 2 for a wrong command line or a cluster that did not come up.

use ferrolite_jepsen::args::Args;
use ferrolite_jepsen::modes::{bench3, failover, rebuild, rolling, run};
use ferrolite_jepsen::report::Report;
use std::process::ExitCode;

type Mode = fn(&mut Args) -> Result<Report, String>;

const MODES: [(&str, Mode, &str); 5] = [
    ("run", run::main, "--nemesis mix|smoke|NAME,.. --seconds 60 --clients 64 --think-ms 40 --seed S --nodes 3"),
    ("failover", failover::main, "--tries 50 --how kill|stop|cut|deaf|mute|term|transfer --clients 0 --bound-ms 2000"),
    ("rolling", rolling::main, "--seconds 30 --clients 64 --down 1"),
    ("rebuild", rebuild::main, "--gb 1 --clients 8"),
    ("bench3", bench3::main, "--seconds 5 --connections 1,16,64,256 --own-loop"),
];

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_default();
    let Some((_, mode, _)) = MODES.iter().find(|(mode, _, _)| *mode == name) else {
        eprintln!(
            "ferrolite-jepsen MODE [--server PATH] [--dir PATH] [--keep] [--nodes 3] [--timings default|fast] [--flags 'FLAG ..'] ..."
        );
        MODES.iter().for_each(|(name, _, options)| eprintln!("  {name} {options}"));
        return ExitCode::from(2);
    };
    match Args::parse(words).and_then(|mut args| mode(&mut args)) {
        Ok(report) if report.passed() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(text) => {
            eprintln!("ferrolite-jepsen {name}: {text}");
            ExitCode::from(2)
        }
    }
}
