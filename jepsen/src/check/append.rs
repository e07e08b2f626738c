//! Lists that only grow. The final list of a key is its order of appends, so linearizability needs no search: an operation
//! must not come later in that order than one that began after it had ended.
//!
//! Reads of level `weak` and `none` must still be some prefix, and `none` on one node must not go back.

use super::Verdict;
use crate::client::Outcome;
use crate::workload::{AppendOp, ListRead};
use std::collections::{BTreeMap, HashMap, HashSet};

type Value = (u64, u64);

pub fn check(appends: &[AppendOp], reads: &[ListRead], finals: &BTreeMap<u64, Vec<Value>>) -> Verdict {
    let mut verdict = Verdict::new("append: lists linearizable, weak reads prefixes, none monotonic");
    check_final(&mut verdict, appends, finals);
    let empty = Vec::new();
    let mut stale: BTreeMap<&str, u64> = BTreeMap::new();
    for read in reads {
        verdict.checked += 1;
        let list = finals.get(&read.key).unwrap_or(&empty);
        if !list.starts_with(&read.list) {
            verdict.violation(format!("no prefix of the final list {list:?}: {read:?}"));
        }
    }
    let keys: HashSet<u64> = appends.iter().map(|op| op.key).chain(reads.iter().map(|r| r.key)).collect();
    for key in keys {
        let list = finals.get(&key).unwrap_or(&empty);
        let place: HashMap<Value, u64> =
            list.iter().enumerate().map(|(at, value)| (*value, at as u64 * 2 + 1)).collect();
        let mut ops: Vec<Placed> = appends
            .iter()
            .filter(|op| op.key == key)
            .filter_map(|op| {
                let ended_us = if op.verdict == Outcome::Ok { op.ended_us } else { u64::MAX };
                Some(Placed { place: *place.get(&op.value)?, began_us: op.began_us, ended_us, what: format!("{op:?}") })
            })
            .collect();
        for read in reads.iter().filter(|read| read.key == key) {
            let placed = Placed {
                place: read.list.len() as u64 * 2,
                began_us: read.began_us,
                ended_us: read.ended_us,
                what: format!("{} read by {} on n{} of {}", read.level, read.reader, read.node + 1, read.list.len()),
            };
            match read.level {
                "linearizable" | "strong" => ops.push(placed),
                _ => *stale.entry(read.level).or_default() += u64::from(is_stale(&placed, &ops)),
            }
        }
        check_order(&mut verdict, key, ops);
    }
    check_monotonic(&mut verdict, reads);
    verdict.note(format!("{} lists; reads that missed something acknowledged before: {stale:?}", finals.len()));
    verdict
}

/// An operation with its place in the order that the final list gives: append number i at 2i+1, a read of n at 2n.
struct Placed {
    place: u64,
    began_us: u64,
    ended_us: u64,
    what: String,
}

fn is_stale(read: &Placed, ops: &[Placed]) -> bool {
    ops.iter().any(|op| op.place > read.place && op.ended_us < read.began_us)
}

fn check_final(verdict: &mut Verdict, appends: &[AppendOp], finals: &BTreeMap<u64, Vec<Value>>) {
    let mut there: HashMap<(u64, Value), u64> = HashMap::new();
    for (key, list) in finals {
        for value in list {
            *there.entry((*key, *value)).or_default() += 1;
        }
    }
    for op in appends {
        verdict.checked += 1;
        match (&op.verdict, there.remove(&(op.key, op.value)).unwrap_or(0)) {
            (_, 2..) => verdict.violation(format!("appended more than once: {op:?}")),
            (Outcome::Ok, 0) => verdict.violation(format!("acknowledged and lost: {op:?}")),
            (Outcome::Fail(_), 1) => verdict.violation(format!("said to have failed, but it is there: {op:?}")),
            _ => {}
        }
    }
    for (key, value) in there.keys() {
        verdict.violation(format!("never appended, but there: list {key} value {value:?}"));
    }
}

/// Going from the end of the order to its beginning, nothing may begin after something later in the order had ended.
fn check_order(verdict: &mut Verdict, key: u64, mut ops: Vec<Placed>) {
    ops.sort_by_key(|op| std::cmp::Reverse(op.place));
    let mut earliest: Option<&Placed> = None;
    let mut at = 0;
    while at < ops.len() {
        let same = ops[at..].iter().take_while(|op| op.place == ops[at].place).count();
        for op in &ops[at..at + same] {
            if let Some(later) = earliest.filter(|later| later.ended_us < op.began_us) {
                verdict.violation(format!(
                    "list {key}: [{}] began at {} us, after [{}], which comes later in the order, had ended at {} us",
                    op.what, op.began_us, later.what, later.ended_us
                ));
            }
        }
        for op in &ops[at..at + same] {
            if earliest.is_none_or(|e| op.ended_us < e.ended_us) {
                earliest = Some(op);
            }
        }
        at += same;
    }
}

fn check_monotonic(verdict: &mut Verdict, reads: &[ListRead]) {
    let mut seen: HashMap<(u64, usize, u32, u64), usize> = HashMap::new();
    let mut local: Vec<&ListRead> = reads.iter().filter(|read| read.level == "none").collect();
    local.sort_by_key(|read| read.began_us);
    for read in local {
        let longest = seen.entry((read.reader, read.node, read.life, read.key)).or_default();
        if read.list.len() < *longest {
            verdict.violation(format!("a client read {longest} values on this node before: {read:?}"));
        }
        *longest = (*longest).max(read.list.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(seq: u64, began_us: u64, ended_us: u64) -> AppendOp {
        AppendOp { key: 1, value: (1, seq), verdict: Outcome::Ok, began_us, ended_us }
    }

    fn read(level: &'static str, seqs: &[u64], began_us: u64, ended_us: u64) -> ListRead {
        let list = seqs.iter().map(|seq| (1, *seq)).collect();
        ListRead { key: 1, level, reader: 1, node: 0, life: 0, list, began_us, ended_us }
    }

    fn holds(appends: &[AppendOp], reads: &[ListRead], last: &[u64]) -> bool {
        check(appends, reads, &BTreeMap::from([(1, last.iter().map(|seq| (1, *seq)).collect())])).holds()
    }

    #[test]
    fn good_histories_pass() {
        let appends = [append(1, 0, 5), append(2, 3, 9)];
        assert!(holds(&appends, &[read("linearizable", &[1], 4, 8), read("linearizable", &[1, 2], 4, 8)], &[1, 2]));
        assert!(holds(&appends, &[read("weak", &[], 10, 11), read("none", &[], 10, 11)], &[1, 2]), "stale is allowed");
        let open = AppendOp { verdict: Outcome::Unknown("?".into()), ..append(3, 0, 1) };
        assert!(holds(&[appends[0].clone(), open.clone()], &[], &[1]));
        assert!(holds(&[appends[0].clone(), open], &[read("strong", &[1], 20, 21)], &[1, 3]), "late");
    }

    #[test]
    fn bad_ones_do_not() {
        let appends = [append(1, 0, 5), append(2, 6, 9)];
        assert!(!holds(&appends, &[], &[1]), "lost");
        assert!(!holds(&appends, &[], &[1, 2, 2]), "twice");
        assert!(!holds(&appends, &[], &[1, 2, 3]), "never sent");
        assert!(!holds(&appends, &[], &[2, 1]), "against real time");
        assert!(!holds(&appends, &[read("linearizable", &[1], 10, 11)], &[1, 2]), "stale");
        assert!(!holds(&appends, &[read("linearizable", &[1, 2], 1, 4)], &[1, 2]), "from the future");
        assert!(!holds(&appends, &[read("weak", &[2], 7, 8)], &[1, 2]), "no prefix");
        let back = [read("none", &[1], 6, 7), read("none", &[], 8, 9)];
        assert!(!holds(&appends, &back, &[1, 2]), "goes back");
        let concurrent = [append(1, 0, 50), append(2, 0, 50)];
        let back = [read("strong", &[1], 10, 11), read("strong", &[], 20, 21)];
        assert!(!holds(&concurrent, &back, &[1, 2]), "a later linearizable read saw less");
        let failed = AppendOp { verdict: Outcome::Fail("no".into()), ..append(3, 0, 1) };
        assert!(!holds(&[failed], &[], &[3]), "failed, but there");
    }
}
