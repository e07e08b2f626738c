//! Deliberate mistakes, one at a time, and who finds them: the proof that the checkers see.
//!
//! The mistakes themselves are switched by `mutant!` in the production code (feature `mutants`).

use super::check::Violation;
use super::plan::Plan;
use super::{graphs, run};
use crate::mutant::choose;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A mistake, the row of the project's list of pitfalls that it stands for, and what it is.
pub struct Mutant {
    pub name: &'static str,
    pub row: &'static str,
}

const fn mutant(name: &'static str, row: &'static str) -> Mutant {
    Mutant { name, row }
}

/// Every name that stands in a `mutant!`.
pub const MUTANTS: &[Mutant] = &[
    mutant("own_entry_before_sync", "1"),
    mutant("acknowledged_before_sync", "2"),
    mutant("vote_before_sync", "3"),
    mutant("own_vote_before_sync", "3"),
    mutant("vote_not_persisted", "3"),
    mutant("two_votes_in_a_term", "4"),
    mutant("log_directory_not_synced", "5"),
    mutant("applied_before_durable", "7"),
    mutant("term_not_persisted", "9"),
    mutant("stale_report_credited", "10"),
    mutant("log_cut_before_append", "11"),
    mutant("append_cuts_what_matches", "12"),
    mutant("log_damage_taken_for_a_torn_tail", "18"),
    mutant("log_sync_error_ignored", "20"),
    mutant("log_torn_record_taken", "23"),
    mutant("log_sync_skipped", "2"),
    mutant("log_rolls_without_sync", "6"),
    mutant("incarnation_ignored", "28"),
    mutant("emptied_node_answers", "28"),
    mutant("disk_stall_ignored", "29"),
    mutant("commit_of_older_terms", "31"),
    mutant("commit_goes_back", "33"),
    mutant("commit_of_unverified_entries", "34"),
    mutant("half_is_a_majority", "36"),
    mutant("learner_counted", "36"),
    mutant("compacted_entry_is_a_conflict", "37"),
    mutant("hint_never_moves", "40"),
    mutant("vote_compares_index_only", "41"),
    mutant("vote_without_comparing_logs", "41"),
    mutant("old_votes_counted", "42"),
    mutant("no_pre_vote", "46"),
    mutant("no_check_quorum", "46"),
    mutant("no_stickiness", "46"),
    mutant("transfer_to_who_lags", "52"),
    mutant("learner_stands", "53"),
    mutant("change_before_the_term_commits", "57"),
    mutant("two_changes_at_once", "57"),
    mutant("configuration_used_at_commit", "58"),
    mutant("configuration_not_rolled_back", "58"),
    mutant("membership_of_snapshot_ignored", "59"),
    mutant("removed_leader_counts_itself", "60"),
    mutant("removed_leader_never_stands", "60"),
    mutant("old_snapshot_installed", "65"),
    mutant("log_reset_not_marked", "66"),
    mutant("log_purged_too_far", "69"),
    mutant("failed_snapshot_not_sent_again", "70"),
    mutant("no_limit_on_proposals", "74"),
    mutant("lost_appends_not_sent_again", "75"),
    mutant("read_without_quorum", "77"),
    mutant("read_before_the_term_commits", "78"),
    mutant("read_round_used_twice", "79"),
];

/// How a mistake was found.
pub struct Finding {
    /// Seeds until then, the finding one included; zero when the link graphs found it.
    pub seeds: u64,
    pub seconds: f64,
    pub seed: Option<u64>,
    pub violation: Violation,
}

/// Seeds that are tried before the link graphs.
const SEEDS_FIRST: u64 = 400;

/// Looks for a mistake: some seeds from `first` on, then the link graphs, then the rest of `seeds`.
pub fn hunt(mutant: &Mutant, first: u64, seeds: u64, threads: usize) -> Option<Finding> {
    let began = Instant::now();
    let some = seeds.min(SEEDS_FIRST);
    let found = hunt_seeds(mutant, first, some, threads)
        .or_else(|| hunt_graphs(mutant))
        .or_else(|| hunt_seeds(mutant, first + some, seeds - some, threads));
    let (seed, violation) = found?;
    let tried = seed.map_or(0, |seed| seed - first + 1);
    Some(Finding { seeds: tried, seconds: began.elapsed().as_secs_f64(), seed, violation })
}

fn hunt_graphs(mutant: &Mutant) -> Option<(Option<u64>, Violation)> {
    // A thread of its own, because the choice of a mistake lasts as long as the thread.
    let violation = std::thread::scope(|scope| {
        let hunter = scope.spawn(|| {
            choose(mutant.name);
            graphs::run_all().into_iter().find_map(|verdict| verdict.violation)
        });
        hunter.join().expect("the link graphs catch what panics")
    });
    violation.map(|violation| (None, violation))
}

fn hunt_seeds(mutant: &Mutant, first: u64, seeds: u64, threads: usize) -> Option<(Option<u64>, Violation)> {
    let next = AtomicU64::new(first);
    let found: Mutex<Option<(Option<u64>, Violation)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                choose(mutant.name);
                while found.lock().expect("no hunter panics").is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        return;
                    }
                    if let Some(violation) = run(&Plan::of(seed), false).violation {
                        found.lock().expect("no hunter panics").get_or_insert((Some(seed), violation));
                    }
                }
            });
        }
    });
    found.into_inner().expect("no hunter panics")
}

/// For one thread, until it ends: as if the code had this mistake.
pub fn switch_on(name: &str) -> bool {
    MUTANTS.iter().find(|mutant| mutant.name == name).map(|mutant| choose(mutant.name)).is_some()
}
