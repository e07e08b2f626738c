//! What a run found, as text for people and as JSON for comparison.

use crate::check::Verdict;
use crate::client::Tally;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// See the module.
#[derive(Default)]
pub struct Report {
    pub mode: String,
    /// What is needed to run the same again.
    pub setup: BTreeMap<String, Value>,
    pub figures: BTreeMap<String, Value>,
    pub tallies: BTreeMap<String, Tally>,
    /// What was done to the cluster, in order.
    pub events: Vec<Value>,
    pub verdicts: Vec<Verdict>,
    /// Failures that no checker stands for: nodes that ended, waits that were too long.
    pub failures: Vec<String>,
}

impl Report {
    pub fn new(mode: &str) -> Report {
        Report { mode: mode.to_owned(), ..Report::default() }
    }

    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.setup.insert(name.to_owned(), value.into());
    }

    pub fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    pub fn fail(&mut self, text: impl Into<String>) {
        let text = text.into();
        eprintln!("FAILURE: {text}");
        self.failures.push(text);
    }

    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.verdicts.iter().all(Verdict::holds)
    }

    pub fn to_json(&self) -> Value {
        let tallies: BTreeMap<&String, Value> = self
            .tallies
            .iter()
            .map(|(kind, t)| {
                let slowest_ms = t.slowest_us / 1000;
                (
                    kind,
                    json!({"ok": t.ok, "fail": t.fail, "unknown": t.unknown, "slowest_ms": slowest_ms,
                    "errors": t.errors, "stuck": t.stuck}),
                )
            })
            .collect();
        let verdicts: Vec<Value> = self
            .verdicts
            .iter()
            .map(|v| {
                json!({"property": v.property, "holds": v.holds(), "checked": v.checked,
                "violations": v.violations, "more_violations": v.untold, "notes": v.notes})
            })
            .collect();
        json!({"mode": self.mode, "passed": self.passed(), "setup": self.setup, "figures": self.figures,
            "operations": tallies, "events": self.events, "verdicts": verdicts, "failures": self.failures})
    }

    pub fn text(&self) -> String {
        let mut out = format!("\n== {} {}\n", self.mode, if self.passed() { "PASSED" } else { "FAILED" });
        self.write_text(&mut out).expect("a string takes everything");
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        for (name, value) in &self.setup {
            writeln!(out, "  {name}: {value}")?;
        }
        if !self.tallies.is_empty() {
            writeln!(out, "{:<24}{:>9}{:>8}{:>9}{:>12}", "operations", "ok", "fail", "unknown", "slowest ms")?;
        }
        for (kind, t) in &self.tallies {
            writeln!(out, "  {kind:<22}{:>9}{:>8}{:>9}{:>12}", t.ok, t.fail, t.unknown, t.slowest_us / 1000)?;
        }
        let mut errors: BTreeMap<&String, u64> = BTreeMap::new();
        for (text, count) in self.tallies.values().flat_map(|t| &t.errors) {
            *errors.entry(text).or_default() += count;
        }
        for (text, count) in errors {
            writeln!(out, "  {count:>7} x {text}")?;
        }
        for event in &self.events {
            writeln!(out, "  event {event}")?;
        }
        for verdict in &self.verdicts {
            let word = if verdict.holds() { "holds" } else { "VIOLATED" };
            writeln!(out, "{word}: {} ({} checked)", verdict.property, verdict.checked)?;
            for note in &verdict.notes {
                writeln!(out, "    {note}")?;
            }
            for violation in &verdict.violations {
                writeln!(out, "    ! {violation}")?;
            }
            if verdict.untold > 0 {
                writeln!(out, "    ! and {} more", verdict.untold)?;
            }
        }
        for (name, value) in &self.figures {
            writeln!(out, "  {name}: {value}")?;
        }
        for failure in &self.failures {
            writeln!(out, "FAILURE: {failure}")?;
        }
        Ok(())
    }

    /// Prints the text and writes both forms into the directory of the run.
    pub fn publish(&self, dir: &Path) {
        let (text, json) = (self.text(), format!("{:#}", self.to_json()));
        println!("{text}");
        for (name, content) in [("report.txt", text), ("report.json", json)] {
            if let Err(e) = std::fs::write(dir.join(name), content) {
                eprintln!("{name}: {e}");
            }
        }
    }
}

/// The value below which `percent` of the sorted values lie (nearest rank).
pub fn percentile(sorted: &[u64], percent: f64) -> u64 {
    if sorted.is_empty() {
        return 0;
    }
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// p50, p90, p99 and max of times in microseconds, told in milliseconds.
pub fn spread_ms(mut times_us: Vec<u64>) -> Value {
    times_us.sort_unstable();
    let ms = |us: u64| (us as f64 / 100.0).round() / 10.0;
    json!({"count": times_us.len(), "p50_ms": ms(percentile(&times_us, 50.0)),
        "p90_ms": ms(percentile(&times_us, 90.0)), "p99_ms": ms(percentile(&times_us, 99.0)),
        "max_ms": ms(times_us.last().copied().unwrap_or(0))})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&values, 50.0), percentile(&values, 99.0), percentile(&values, 100.0)), (50, 99, 100));
        assert_eq!((percentile(&[7], 99.0), percentile(&[], 50.0)), (7, 0));
    }

    #[test]
    fn a_violation_or_a_failure_fails_the_run() {
        let mut report = Report::new("t");
        assert!(report.passed());
        let mut verdict = Verdict::new("p");
        verdict.violation("v");
        report.verdicts.push(verdict);
        assert!(!report.passed() && report.text().contains("VIOLATED"));
    }
}
