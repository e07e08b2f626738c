//! What `/debug/vars` counts of the database (`db`): statements by the way they came, errors, transactions.
//!
//! Runs on the applier and on readers' threads; decides nothing.

use super::Outcome;
use crate::command::{Action, Command, Repeat, Request, StatementResult};
use crate::vars::db as vars;

/// What the entries of the open transaction came to: counted when it is committed, since it may be rolled back and run
/// again.
#[derive(Default)]
pub struct Tally {
    executions: u64,
    execute_transactions: u64,
    requests: u64,
    request_transactions: u64,
    errors: u64,
}

impl Tally {
    pub(super) fn note(&mut self, command: &Command, outcome: &Outcome) {
        if outcome.repeat != Repeat::First {
            return;
        }
        let (statements, transactions, request) = match &command.action {
            Action::Execute(request) | Action::Script(request) => {
                (&mut self.executions, &mut self.execute_transactions, request)
            }
            Action::Request(request) => (&mut self.requests, &mut self.request_transactions, request),
            Action::Barrier | Action::Vacuum | Action::Optimize { .. } | Action::Hash | Action::Verdict { .. } => {
                return;
            }
            Action::LoadChunk(_) | Action::LoadCommit(_) => return,
        };
        *statements += request.statements.len() as u64;
        *transactions += u64::from(request.transaction);
        self.errors += outcome.results.iter().filter(|r| matches!(r, StatementResult::Error { .. })).count() as u64;
    }

    pub(super) fn committed(&mut self) {
        let tally = std::mem::take(self);
        vars::EXECUTIONS.add(tally.executions);
        vars::EXECUTE_TRANSACTIONS.add(tally.execute_transactions);
        vars::REQUESTS.add(tally.requests);
        vars::REQUEST_TRANSACTIONS.add(tally.request_transactions);
        vars::EXECUTION_ERRORS.add(tally.errors);
    }

    pub(super) fn rolled_back(&mut self) {
        *self = Tally::default();
    }
}

/// Counts a request that was read on this node.
pub fn read(request: &Request) {
    vars::QUERIES.add(request.statements.len() as u64);
    vars::QUERY_TRANSACTIONS.add(u64::from(request.transaction));
}
