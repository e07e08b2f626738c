//! The end of every run: the cluster is whole, the nodes are in step, all copies are read, and the histories are held
//! against them.

use crate::check::{self, copies, once};
use crate::client::Outcome;
use crate::cluster::{Cluster, HEALTHY_LIMIT};
use crate::report::Report;
use crate::workload::{History, bank};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Waits for the cluster to settle and fills the report's verdicts.
pub fn verify(cluster: &mut Cluster, history: History, report: &mut Report) {
    let copies = match settled_copies(cluster) {
        Ok(copies) => copies,
        Err(text) => return report.fail(text),
    };
    report.verdicts.push(copies::check(&copies));
    if let Some((_, copy)) = copies.into_iter().next() {
        hold_against(&history, &copy, report);
    }
    if !report.passed() {
        write_history(&history, &cluster.plan.dir.join("history.txt"));
    }
    for (kind, tally) in history.tallies {
        for stuck in &tally.stuck {
            report.fail(format!("stuck: {stuck}"));
        }
        report.tallies.insert(kind, tally);
    }
    for death in std::mem::take(&mut cluster.deaths) {
        report.fail(death);
    }
}

fn settled_copies(cluster: &mut Cluster) -> Result<Vec<(String, copies::Copy)>, String> {
    cluster.wait_ready(HEALTHY_LIMIT)?;
    cluster.wait_in_step(HEALTHY_LIMIT)?;
    let members = &cluster.members;
    let running = cluster.awake();
    running.into_iter().map(|at| Ok((members[at].id.clone(), copies::read(members[at].http_port)?))).collect()
}

/// One line per operation: what a violation is to be understood from.
fn write_history(history: &History, path: &Path) {
    let mut lines: Vec<String> = Vec::new();
    lines.extend(history.rows.iter().map(|op| format!("row {op:?}")));
    lines.extend(history.transfers.iter().map(|op| format!("transfer {op:?}")));
    lines.extend(history.bank_reads.iter().map(|op| format!("{op:?}")));
    lines.extend(history.registers.iter().map(|op| format!("{op:?}")));
    lines.extend(history.appends.iter().map(|op| format!("{op:?}")));
    lines.extend(history.list_reads.iter().map(|op| format!("{op:?}")));
    lines.extend(history.own_reads.iter().map(|op| format!("{op:?}")));
    if let Err(e) = std::fs::write(path, lines.join("\n")) {
        eprintln!("{}: {e}", path.display());
    }
}

/// Holds what clients remember against the final copy.
pub fn hold_against(history: &History, copy: &copies::Copy, report: &mut Report) {
    let number = |value: &Value| value.as_i64().unwrap_or(-1);
    let table = |name: &str| copy.get(name).map_or(&[][..], Vec::as_slice);
    let found = |name: &str| {
        let mut found = once::Found::new();
        for row in table(name) {
            found.entry((number(&row[1]) as u64, number(&row[2]) as u64)).or_default().push(number(&row[0]));
        }
        found
    };
    report.verdicts.push(once::check(
        "rows: acknowledged exactly once, others at most once",
        &history.rows,
        found("rows"),
    ));
    // The answer to a transfer names the row of its first statement.
    report.verdicts.push(once::check("transfers: exactly once", &history.transfers, found("transfers")));

    let lines: Vec<check::bank::Line> = table("transfers")
        .iter()
        .map(|row| (number(&row[3]) as u64, number(&row[4]) as u64, number(&row[5])))
        .collect();
    // The column that is the rowid comes twice: as place and as itself.
    let balances = table("bank").iter().map(|row| (number(&row[0]) as u64, number(&row[2]))).collect();
    let bank = check::bank::check(&history.bank_reads, bank::ACCOUNTS, bank::START_BALANCE, &balances, &lines);
    report.verdicts.push(bank);

    report.verdicts.push(check::register::check(&history.registers));
    let mut lists: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for row in table("appends") {
        lists.entry(number(&row[1]) as u64).or_default().push((number(&row[2]) as u64, number(&row[3]) as u64));
    }
    report.verdicts.push(check::append::check(&history.appends, &history.list_reads, &lists));
    report.verdicts.push(check::session::check(&history.own_reads));
    let acked = history.rows.iter().filter(|op| op.verdict == Outcome::Ok).count();
    report.figure("rows acknowledged", acked as u64);
}
