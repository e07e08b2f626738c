//! The sum of all balances is the same in every read at every level, and in the end each balance follows from the lines.

use super::Verdict;
use crate::workload::BankRead;
use std::collections::BTreeMap;

/// (source, target, amount).
pub type Line = (u64, u64, i64);

pub fn check(reads: &[BankRead], accounts: u64, start: i64, balances: &BTreeMap<u64, i64>, lines: &[Line]) -> Verdict {
    let mut verdict = Verdict::new("bank: sums constant, balances follow from transfers");
    let total = accounts as i64 * start;
    for read in reads {
        verdict.checked += 1;
        if read.total != total || read.accounts != accounts as i64 {
            verdict.violation(format!("the sum should be {total} over {accounts}: {read:?}"));
        }
    }
    let mut expected: BTreeMap<u64, i64> = (1..=accounts).map(|id| (id, start)).collect();
    for (source, target, amount) in lines {
        verdict.checked += 1;
        *expected.entry(*source).or_default() -= amount;
        *expected.entry(*target).or_default() += amount;
    }
    if expected != *balances {
        verdict.violation(format!("balances {balances:?}, but the transfers give {expected:?}"));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(total: i64) -> BankRead {
        BankRead { node: 0, level: "weak", total, accounts: 2, began_us: 0 }
    }

    #[test]
    fn sums_and_balances() {
        let balances = BTreeMap::from([(1, 7), (2, 13)]);
        assert!(check(&[read(20)], 2, 10, &balances, &[(1, 2, 3)]).holds());
        assert!(!check(&[read(17)], 2, 10, &balances, &[(1, 2, 3)]).holds(), "half a transfer was read");
        assert!(!check(&[read(20)], 2, 10, &balances, &[(1, 2, 3), (1, 2, 3)]).holds(), "a line without its effect");
        assert!(!check(&[read(20)], 2, 10, &BTreeMap::from([(1, 7), (2, 12)]), &[(1, 2, 3)]).holds(), "money is gone");
    }
}
