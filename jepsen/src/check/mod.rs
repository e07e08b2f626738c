//! From histories and final copies to violations. Pure functions; each has tests in which it must find a bad history bad.

pub mod append;
pub mod bank;
pub mod copies;
pub mod once;
pub mod register;
pub mod session;

use std::fmt::Display;

/// Most violations of one kind that are told in full.
const TOLD_MAX: usize = 10;

/// What one checker says.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub property: &'static str,
    /// How many things were looked at: a check of nothing proves nothing.
    pub checked: u64,
    pub violations: Vec<String>,
    /// More violations than are told.
    pub untold: u64,
    /// What is worth knowing and no violation.
    pub notes: Vec<String>,
}

impl Verdict {
    pub fn new(property: &'static str) -> Verdict {
        Verdict { property, checked: 0, violations: Vec::new(), untold: 0, notes: Vec::new() }
    }

    pub fn violation(&mut self, text: impl Display) {
        if self.violations.len() < TOLD_MAX {
            self.violations.push(text.to_string());
        } else {
            self.untold += 1;
        }
    }

    pub fn note(&mut self, text: impl Display) {
        self.notes.push(text.to_string());
    }

    pub fn holds(&self) -> bool {
        self.violations.is_empty()
    }
}
