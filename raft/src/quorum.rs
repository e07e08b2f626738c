//! Majorities, as pure arithmetic. Knows neither nodes nor logs.

/// The greatest value that at least `quorum` of `values` reach; `None` when there are fewer values than that.
/// Reorders `values`.
///
/// Used for the commit index (Raft paper, section 5.3), for read rounds (thesis, 6.4) and for the time of the last
/// contact with a quorum (thesis, 6.2).
pub(crate) fn reached_by<T: Ord + Copy>(values: &mut [T], quorum: usize) -> Option<T> {
    assert!(quorum > 0, "a quorum is never empty");
    if values.len() < quorum {
        return None;
    }
    values.sort_unstable_by(|a, b| b.cmp(a));
    Some(values[quorum - 1])
}

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    Won,
    Lost,
    Open,
}

/// Counts votes of `voters` voters.
pub(crate) fn tally(voters: usize, granted: usize, refused: usize) -> Tally {
    assert!(granted + refused <= voters, "a voter is counted once");
    let quorum = voters / 2 + 1;
    if granted >= quorum {
        Tally::Won
    } else if voters - refused < quorum {
        Tally::Lost
    } else {
        Tally::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by counting, slowly.
    fn oracle(values: &[u64], quorum: usize) -> Option<u64> {
        values.iter().copied().filter(|v| values.iter().filter(|w| *w >= v).count() >= quorum).max()
    }

    #[test]
    fn agrees_with_counting_for_every_small_cluster() {
        for voters in 1..=6u32 {
            let quorum = (voters / 2 + 1) as usize;
            for code in 0..4u64.pow(voters) {
                let values: Vec<u64> = (0..voters).map(|i| code / 4u64.pow(i) % 4).collect();
                assert_eq!(reached_by(&mut values.clone(), quorum), oracle(&values, quorum), "{values:?}");
            }
        }
    }

    #[test]
    fn an_even_cluster_needs_more_than_half() {
        assert_eq!(tally(4, 2, 0), Tally::Open);
        assert_eq!(tally(4, 3, 0), Tally::Won);
        assert_eq!(tally(4, 1, 2), Tally::Lost);
        assert_eq!(tally(1, 1, 0), Tally::Won);
        assert_eq!(tally(2, 1, 1), Tally::Lost);
    }

    #[test]
    fn too_few_values_reach_nothing() {
        assert_eq!(reached_by(&mut [7u64], 2), None);
    }
}
