//! Read your writes with `min_index` through any node, and reads of level `none` that never go back on one node.

use super::Verdict;
use crate::workload::OwnRead;
use std::collections::HashMap;

pub fn check(reads: &[OwnRead]) -> Verdict {
    let mut verdict = Verdict::new("session: read your writes with min_index, none monotonic");
    let mut seen: HashMap<(u64, usize, u32), i64> = HashMap::new();
    let mut ordered: Vec<&OwnRead> = reads.iter().collect();
    ordered.sort_by_key(|read| read.began_us);
    let mut old = 0u64;
    for read in ordered {
        verdict.checked += 1;
        if read.min_index.is_some() && read.value < read.floor {
            verdict.violation(format!("a client does not see its own write: {read:?}"));
        }
        if read.value > read.ceiling {
            verdict.violation(format!("a value that was never sent: {read:?}"));
        }
        old += u64::from(read.min_index.is_none() && read.value < read.floor);
        let newest = seen.entry((read.client, read.node, read.life)).or_default();
        if read.value < *newest {
            verdict.violation(format!("a client read {newest} on this node before: {read:?}"));
        }
        *newest = (*newest).max(read.value);
    }
    verdict.note(format!("{old} reads of level none were behind the client's own writes, as they may be"));
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(min_index: Option<u64>, value: i64, floor: i64, began_us: u64) -> OwnRead {
        OwnRead { client: 1, node: 0, min_index, life: 0, value, floor, ceiling: 9, began_us }
    }

    #[test]
    fn own_writes_and_going_back() {
        assert!(check(&[read(Some(5), 3, 3, 0), read(None, 3, 4, 1)]).holds());
        assert!(!check(&[read(Some(5), 2, 3, 0)]).holds(), "own write not seen");
        assert!(!check(&[read(Some(5), 4, 3, 0), read(None, 3, 3, 1)]).holds(), "goes back");
        assert!(!check(&[read(None, 10, 3, 0)]).holds(), "never sent");
        let other_life = OwnRead { life: 1, ..read(None, 0, 3, 1) };
        assert!(check(&[read(None, 3, 3, 0), other_life]).holds(), "a wiped node begins anew");
    }
}
