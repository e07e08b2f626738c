//! Every acknowledged row is there exactly once, every failed one not at all, every unknown one at most once, and nothing
//! is there that was never sent.

use super::Verdict;
use crate::client::Outcome;
use crate::workload::Once;
use std::collections::HashMap;

/// Rows that were found: (client, seq) and their rowids.
pub type Found = HashMap<(u64, u64), Vec<i64>>;

pub fn check(property: &'static str, sent: &[Once], mut found: Found) -> Verdict {
    let mut verdict = Verdict::new(property);
    let (mut late, mut repeated) = (0u64, 0u64);
    for op in sent {
        verdict.checked += 1;
        repeated += u64::from(op.tries > 1);
        let rowids = found.remove(&(op.client, op.seq)).unwrap_or_default();
        match (&op.verdict, rowids.len()) {
            (_, 2..) => verdict.violation(format!("applied {} times (rows {rowids:?}): {op:?}", rowids.len())),
            (Outcome::Ok, 0) => verdict.violation(format!("acknowledged and lost: {op:?}")),
            (Outcome::Fail(_), 1) => verdict.violation(format!("said to have failed, but it is there: {op:?}")),
            (Outcome::Unknown(_), 1) => late += 1,
            _ => {}
        }
        if let (Some(told), [there]) = (op.rowid, &rowids[..])
            && told != *there
        {
            verdict.violation(format!("the answer said row {told}, the row is {there}: {op:?}"));
        }
    }
    for ((client, seq), rowids) in found {
        verdict.violation(format!("never sent, but there: client {client} seq {seq} rows {rowids:?}"));
    }
    let unknown = sent.iter().filter(|op| matches!(op.verdict, Outcome::Unknown(_))).count();
    verdict.note(format!("{repeated} sent more than once; {unknown} of unknown outcome, of which {late} are there"));
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(seq: u64, verdict: Outcome) -> Once {
        Once { client: 1, seq, verdict, keyed: true, rowid: None, tries: 1, began_us: 0, ended_us: 1 }
    }

    fn found(seqs: &[u64]) -> Found {
        let mut found = Found::new();
        for (rowid, seq) in seqs.iter().enumerate() {
            found.entry((1, *seq)).or_default().push(rowid as i64 + 1);
        }
        found
    }

    fn sent() -> Vec<Once> {
        vec![op(0, Outcome::Ok), op(1, Outcome::Fail("no".into())), op(2, Outcome::Unknown("?".into()))]
    }

    #[test]
    fn good_histories_pass() {
        assert!(check("t", &sent(), found(&[0])).holds());
        assert!(check("t", &sent(), found(&[0, 2])).holds());
    }

    #[test]
    fn bad_histories_do_not() {
        for bad in [&[][..], &[2], &[0, 0], &[0, 2, 2], &[0, 1], &[0, 3]] {
            assert!(!check("t", &sent(), found(bad)).holds(), "{bad:?}");
        }
    }

    #[test]
    fn a_wrong_rowid_is_found() {
        let told = |rowid| vec![Once { rowid: Some(rowid), ..op(0, Outcome::Ok) }];
        assert!(check("t", &told(1), found(&[0])).holds());
        assert!(!check("t", &told(2), found(&[0])).holds());
    }
}
