//! One checker for each property. They look at the world from outside, and keep their own books, too simple to share
//! a mistake with the code.

pub(super) mod changes;
pub(super) mod election;
pub(super) mod history;
pub(super) mod linear;
pub(super) mod liveness;
pub(super) mod log_matching;
pub(super) mod membership;
pub(super) mod memory;
pub(super) mod monotonic;
pub(super) mod promises;
pub(super) mod shadow;

use std::fmt;

/// What went wrong, and who noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property, or "assertion" for one of the code's own.
    pub checker: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.checker, self.what)
    }
}

/// Ends the run: unwinds to `run`, which catches it along with failed assertions of the code.
pub(super) fn violated(checker: &'static str, what: String) -> ! {
    std::panic::panic_any(Violation { checker, what })
}

/// All checkers' books.
#[derive(Default)]
pub(super) struct Checks {
    pub(super) election: election::Election,
    pub(super) history: history::History,
    pub(super) linear: linear::Linear,
    pub(super) log_matching: log_matching::LogMatching,
    pub(super) membership: membership::Memberships,
    pub(super) monotonic: monotonic::Monotonic,
}
