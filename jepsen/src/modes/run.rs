//! Faults one after the other under the load of all workloads, then every check.

use super::setup::{Load, Setup, Stage};
use crate::args::Args;
use crate::cluster::wait;
use crate::nemesis::{self, Fault, Nemesis};
use crate::report::Report;
use crate::rng::Rng;
use crate::workload::{Crowd, History};
use serde_json::json;
use std::time::{Duration, Instant};

/// Longest time from a healed cluster to an acknowledged write.
const RECOVERY_LIMIT: Duration = Duration::from_secs(15);
/// How long clients may take to bring their last operation to an end.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// One fault, with times since the start of the run.
struct Event {
    fault: Fault,
    what: String,
    struck_us: u64,
    healed_us: u64,
}

pub fn main(args: &mut Args) -> Result<Report, String> {
    let mut setup = Setup::take("run", args)?;
    (setup.plan.proxied, setup.plan.spares) = (true, 1);
    let faults = nemesis::parse(&setup.option(args, "nemesis", "mix".to_owned())?)?;
    let seconds = setup.option(args, "seconds", 60u64)?;
    let in_turn = setup.option(args, "in-turn", false)?;
    let seed = u64::from(std::process::id());
    let load = setup.load(args, Load { clients: 64, think_ms: 40, seed })?;
    let Stage { mut cluster, context, mut rng } = setup.stage(args, load)?;
    let report = &mut setup.report;
    let first_term = cluster.term();
    let crowd = Crowd::start(&context, load.clients, &mut rng);
    let nemesis_rng = Rng::new(rng.next_u64());
    let mut nemesis = Nemesis::new(&mut cluster, &context, nemesis_rng);
    let events = torment(&mut nemesis, &faults, in_turn, Duration::from_secs(seconds), &mut rng, report);
    nemesis.heal();
    nemesis.failures.drain(..).for_each(|text| report.fail(text));
    let history = crowd.finish(FINISH_LIMIT);
    report.figure("elections (terms)", cluster.term() - first_term);
    tell_events(&events, &history, seconds, report);
    Ok(setup.close(cluster, history))
}

fn torment(
    nemesis: &mut Nemesis,
    faults: &[Fault],
    in_turn: bool,
    length: Duration,
    rng: &mut Rng,
    report: &mut Report,
) -> Vec<Event> {
    let end = Instant::now() + length;
    let mut events = Vec::new();
    std::thread::sleep(Duration::from_secs(2));
    while Instant::now() < end {
        let at = if in_turn { events.len() } else { rng.next_u64() as usize } % faults.len();
        let (fault, hold) = (faults[at], Duration::from_millis(rng.between(500, 6000)));
        nemesis.cluster.look_for_deaths("before a fault");
        let struck_us = nemesis.context.now_us();
        let what = match nemesis.strike(fault, hold) {
            Ok(what) => what,
            Err(text) => {
                report.fail(format!("{}: {text}", nemesis::name(fault)));
                "not done".into()
            }
        };
        println!("{:>8.3} s  {}: {what}", struck_us as f64 / 1e6, nemesis::name(fault));
        std::thread::sleep(hold);
        nemesis.heal();
        let healed_us = nemesis.context.now_us();
        let context = nemesis.context;
        if wait(RECOVERY_LIMIT, || (context.last_ack_us() > healed_us).then_some(())).is_none() {
            report
                .fail(format!("{what}: no write acknowledged within {RECOVERY_LIMIT:?} of healing at {healed_us} us"));
        }
        // The next fault finds a cluster that is whole again.
        if let Err(text) = nemesis.cluster.wait_ready(crate::cluster::HEALTHY_LIMIT) {
            report.fail(format!("after {what}: {text}"));
        }
        events.push(Event { fault, what, struck_us, healed_us });
        std::thread::sleep(Duration::from_millis(rng.between(200, 2000)));
    }
    events
}

/// For each fault the longest pause between two acknowledgements of probers, from the strike to the next one.
fn tell_events(events: &[Event], history: &History, seconds: u64, report: &mut Report) {
    let acks = &history.probes_us;
    let mut longest = 0;
    for (at, event) in events.iter().enumerate() {
        let until_us = events.get(at + 1).map_or(u64::MAX, |next| next.struck_us);
        let pause_ms = longest_pause_us(acks, event.struck_us, until_us) / 1000;
        let after_heal_us = acks.iter().find(|ack| **ack > event.healed_us).map_or(0, |ack| ack - event.healed_us);
        if event.fault != Fault::KillAll {
            longest = longest.max(pause_ms);
        }
        report.events.push(json!({"at_s": event.struck_us as f64 / 1e6, "fault": nemesis::name(event.fault),
            "what": event.what, "held_ms": (event.healed_us - event.struck_us) / 1000, "writes_paused_ms": pause_ms,
            "first_write_after_healing_ms": after_heal_us / 1000}));
    }
    report.figure("longest pause of writes, ms (not counting kill-all)", longest);
    report.figure("faults", events.len() as u64);
    report.figure("acknowledged writes/s", history.acks_us.len() as u64 / seconds.max(1));
}

/// A pause that reaches beyond `until_us` belongs to the next fault from there on.
fn longest_pause_us(sorted_acks: &[u64], from_us: u64, until_us: u64) -> u64 {
    let first = sorted_acks.partition_point(|ack| *ack < from_us);
    let mut last = from_us;
    let mut longest = 0;
    for ack in &sorted_acks[first..] {
        longest = longest.max((*ack).min(until_us) - last);
        last = *ack;
        if *ack >= until_us {
            break;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::longest_pause_us;

    #[test]
    fn pauses() {
        assert_eq!(longest_pause_us(&[1, 2, 10, 11], 2, 11), 8);
        assert_eq!(longest_pause_us(&[1, 10, 30], 5, 9), 4);
        assert_eq!(longest_pause_us(&[1, 10, 30], 5, 20), 10);
        assert_eq!(longest_pause_us(&[1], 5, 9), 0);
    }
}
