//! What `/debug/vars` counts of the database (`db`): statements by the way they came, errors, transactions.
//!
//! Runs on the applier and on readers' threads; decides nothing.

use super::{Item, Outcome};
use crate::command::{Action, Repeat, Request, StatementResult};
use crate::vars::db as vars;

/// Counts what entries came to.
pub fn applied<'a>(items: impl Iterator<Item = &'a Item>, outcomes: &[Outcome]) {
    for (item, outcome) in items.zip(outcomes) {
        let Item::Command(command) = item else { continue };
        if outcome.repeat != Repeat::First {
            continue;
        }
        let errors = outcome.results.iter().filter(|r| matches!(r, StatementResult::Error { .. })).count() as u64;
        match &command.action {
            Action::Execute(request) => {
                vars::EXECUTIONS.add(request.statements.len() as u64);
                vars::EXECUTE_TRANSACTIONS.add(u64::from(request.transaction));
                vars::EXECUTION_ERRORS.add(errors);
            }
            Action::Request(request) => {
                vars::REQUESTS.add(request.statements.len() as u64);
                vars::REQUEST_TRANSACTIONS.add(u64::from(request.transaction));
                vars::EXECUTION_ERRORS.add(errors);
            }
            Action::Barrier | Action::Vacuum | Action::Optimize { .. } | Action::Hash | Action::Verdict { .. } => {}
        }
    }
}

/// Counts a request that was read on this node.
pub fn read(request: &Request) {
    vars::QUERIES.add(request.statements.len() as u64);
    vars::QUERY_TRANSACTIONS.add(u64::from(request.transaction));
}
