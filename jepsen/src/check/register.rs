//! Linearizability of single registers: the search of Wing and Gong with the memory of Lowe ("Testing for linearizability",
//! 2016), one register at a time.
//!
//! Written values are unique, which allows two short cuts that lose nothing. A write of unknown outcome whose value nobody
//! saw may be left out, since it can always be the last thing that happens; but not where a swap found another value than it
//! wanted, which may be that one. A read that fits the present value can be taken at once: it changes nothing for what
//! follows.

use super::Verdict;
use crate::workload::{RegisterCall, RegisterOp};
use std::collections::{BTreeMap, HashSet};

/// States looked at for one register before the search gives up and says so.
const STATES_MAX: usize = 2_000_000;

pub fn check(ops: &[RegisterOp]) -> Verdict {
    let mut verdict = Verdict::new("register: reads and writes linearizable");
    let mut by_key: BTreeMap<u64, Vec<RegisterOp>> = BTreeMap::new();
    for op in ops {
        by_key.entry(op.key).or_default().push(op.clone());
    }
    verdict.note(format!("{} registers", by_key.len()));
    for (key, ops) in by_key {
        verdict.checked += ops.len() as u64;
        match search(relevant(ops)) {
            Found::Order => {}
            Found::None { stuck } => verdict.violation(format!("register {key}: no order explains\n{}", told(&stuck))),
            Found::GaveUp => verdict.note(format!("register {key}: search given up after {STATES_MAX} states")),
        }
    }
    verdict
}

enum Found {
    Order,
    /// Operations around the point behind which no order goes.
    None {
        stuck: Vec<RegisterOp>,
    },
    GaveUp,
}

/// What may have an effect or was seen; unknown operations end never.
fn relevant(ops: Vec<RegisterOp>) -> Vec<RegisterOp> {
    let mut seen = HashSet::new();
    for op in &ops {
        match op.call {
            RegisterCall::Read(value) => seen.extend(value),
            RegisterCall::Swap(from, _, Some(true)) => seen.extend([from]),
            _ => {}
        }
    }
    let refused_swap = ops.iter().any(|op| matches!(op.call, RegisterCall::Swap(_, _, Some(false))));
    let keep = |op: &RegisterOp| match op.call {
        _ if op.known => true,
        RegisterCall::Write(_) | RegisterCall::Swap(..) if refused_swap => true,
        RegisterCall::Write(value) | RegisterCall::Swap(_, value, _) => seen.contains(&value),
        RegisterCall::Read(_) => false,
    };
    let mut ops: Vec<RegisterOp> = ops.into_iter().filter(keep).collect();
    for op in &mut ops {
        if !op.known {
            op.ended_us = u64::MAX;
        }
    }
    ops.sort_by_key(|op| op.began_us);
    ops
}

/// The value after `call` on `value`, or `None` when the call cannot have happened there.
fn step(value: Option<i64>, call: RegisterCall) -> Option<Option<i64>> {
    match call {
        RegisterCall::Read(read) => (read == value).then_some(value),
        RegisterCall::Write(written) => Some(Some(written)),
        RegisterCall::Swap(from, to, changed) => {
            let fits = value == Some(from);
            match changed {
                Some(changed) if changed != fits => None,
                _ if fits => Some(Some(to)),
                _ => Some(value),
            }
        }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct State {
    done: Vec<u64>,
    value: Option<i64>,
}

impl State {
    fn is_done(&self, at: usize) -> bool {
        self.done[at / 64] >> (at % 64) & 1 == 1
    }

    fn with(&self, at: usize, value: Option<i64>) -> State {
        let mut done = self.done.clone();
        done[at / 64] |= 1 << (at % 64);
        State { done, value }
    }
}

fn search(ops: Vec<RegisterOp>) -> Found {
    let start = State { done: vec![0; ops.len().div_ceil(64)], value: None };
    let mut known = HashSet::from([start.clone()]);
    let mut open = vec![start];
    let (mut furthest, mut stuck_at) = (0, 0);
    while let Some(state) = open.pop() {
        let waiting: Vec<usize> = (0..ops.len()).filter(|at| !state.is_done(*at)).collect();
        if waiting.iter().all(|at| !ops[*at].known) {
            return Found::Order;
        }
        if known.len() > STATES_MAX {
            return Found::GaveUp;
        }
        if ops.len() - waiting.len() > furthest {
            (furthest, stuck_at) = (ops.len() - waiting.len(), waiting[0]);
        }
        // Whatever began after another one had ended cannot come before it.
        let first_end = waiting.iter().map(|at| ops[*at].ended_us).min().expect("some are waiting");
        let next: Vec<(usize, State)> = waiting
            .iter()
            .filter(|at| ops[**at].began_us <= first_end)
            .filter_map(|at| Some((*at, state.with(*at, step(state.value, ops[*at].call)?))))
            .collect();
        let free_read = next.iter().find(|(at, _)| matches!(ops[*at].call, RegisterCall::Read(_)));
        let next = free_read.map_or_else(|| next.clone(), |read| vec![read.clone()]);
        for (_, state) in next {
            if known.insert(state.clone()) {
                open.push(state);
            }
        }
    }
    let from = stuck_at.saturating_sub(8);
    Found::None { stuck: ops[from..(stuck_at + 12).min(ops.len())].to_vec() }
}

fn told(ops: &[RegisterOp]) -> String {
    ops.iter().map(|op| format!("    {op:?}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use RegisterCall::{Read, Swap, Write};

    fn op(call: RegisterCall, began_us: u64, ended_us: u64) -> RegisterOp {
        RegisterOp { key: 1, call, known: true, node: 0, began_us, ended_us }
    }

    fn unknown(call: RegisterCall, began_us: u64) -> RegisterOp {
        RegisterOp { known: false, ..op(call, began_us, began_us + 1) }
    }

    fn holds(ops: &[RegisterOp]) -> bool {
        check(ops).holds()
    }

    #[test]
    fn orders_that_exist_are_found() {
        assert!(holds(&[op(Read(None), 0, 1), op(Write(1), 2, 3), op(Read(Some(1)), 4, 5)]));
        // Concurrent with the write, a read may see either.
        assert!(holds(&[op(Write(1), 0, 1), op(Write(2), 2, 9), op(Read(Some(1)), 3, 4), op(Read(Some(2)), 5, 6)]));
        // An unknown write may take effect late, or never.
        assert!(holds(&[unknown(Write(1), 0), op(Write(2), 5, 6), op(Read(Some(2)), 7, 8), op(Read(Some(1)), 9, 10)]));
        assert!(holds(&[unknown(Write(1), 0), op(Read(None), 5, 6)]));
        assert!(holds(&[op(Write(1), 0, 1), op(Swap(1, 2, Some(true)), 2, 3), op(Swap(1, 3, Some(false)), 4, 5)]));
        assert!(holds(&[op(Write(1), 0, 1), unknown(Swap(1, 2, None), 2), op(Read(Some(2)), 7, 8)]));
        // A refused swap has seen a value that no read told.
        assert!(holds(&[op(Write(1), 0, 1), unknown(Write(2), 2), op(Swap(1, 3, Some(false)), 4, 5)]));
    }

    #[test]
    fn stale_and_impossible_reads_are_found() {
        assert!(!holds(&[op(Write(1), 0, 1), op(Read(None), 2, 3)]), "stale");
        assert!(!holds(&[op(Write(1), 0, 1), op(Read(Some(7)), 2, 3)]), "never written");
        let back = [op(Write(1), 0, 1), op(Write(2), 2, 9), op(Read(Some(2)), 3, 4), op(Read(Some(1)), 5, 6)];
        assert!(!holds(&back), "a later read goes back");
        let twice = [unknown(Write(1), 0), op(Read(Some(1)), 2, 3), op(Write(2), 4, 5), op(Read(Some(1)), 6, 7)];
        assert!(!holds(&twice), "a write that took effect twice");
        assert!(!holds(&[op(Write(1), 0, 1), op(Swap(2, 3, Some(true)), 2, 3)]), "swapped what was not there");
        assert!(!holds(&[op(Write(1), 0, 1), op(Swap(1, 3, Some(false)), 4, 5)]), "refused without a reason");
        let both = [op(Write(1), 0, 1), op(Swap(1, 2, Some(true)), 2, 9), op(Swap(1, 3, Some(true)), 2, 9)];
        assert!(!holds(&both), "two swaps of one value");
        assert!(!holds(&[op(Write(1), 0, 1), unknown(Swap(2, 3, None), 2), op(Read(Some(3)), 4, 5)]));
    }

    #[test]
    fn a_long_good_history_passes_and_one_stale_read_in_it_is_found() {
        let mut ops = Vec::new();
        for n in 0..100u64 {
            ops.push(op(Write(n as i64), n * 10, n * 10 + 12));
            ops.push(op(Read(Some(n as i64)), n * 10 + 4, n * 10 + 13));
            ops.push(unknown(Write(1000 + n as i64), n * 10));
        }
        assert!(holds(&ops));
        ops.push(op(Read(Some(40)), 900, 901));
        assert!(!holds(&ops));
    }
}
