//! The applier of a node, as an actor: applies in order what the replica hands over, makes it durable now and then, and
//! then lets go of the log behind it. Installs snapshots, in the same order. Answers clients.

use super::client::Answer;
use super::machine::State;
use super::network::Packet;
use super::node::Input;
use super::world::{Event, World};
use crate::{Entry, Index};
use std::collections::VecDeque;
use std::rc::Rc;

/// Entries after which the state machine is made durable.
const CHECKPOINT_ENTRIES: usize = 24;
/// Entries that stay in the log for followers that lag a little.
const TRAILING_ENTRIES: u64 = 10;
const ENTRIES_AT_ONCE: usize = 8;

#[derive(Debug)]
pub(super) enum Job {
    Entry(Entry),
    /// Entries from this index on are being read back from the log.
    InLog(Index),
    Install {
        from: usize,
        image: Rc<State>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Applier {
    jobs: VecDeque<Job>,
    busy: bool,
}

impl World {
    pub(super) fn apply_job(&mut self, at: usize, job: Job) {
        let Some(process) = &mut self.nodes[at].process else { return };
        process.applier.jobs.push_back(job);
        self.wake_applier(at);
    }

    fn wake_applier(&mut self, at: usize) {
        let life = self.nodes[at].life;
        let Some(process) = &mut self.nodes[at].process else { return };
        let applier = &mut process.applier;
        let after_us = match applier.jobs.front() {
            None | Some(Job::InLog(_)) => return,
            Some(Job::Entry(_)) => (30, 600),
            Some(Job::Install { .. }) => (2_000, 80_000),
        };
        if !applier.busy {
            applier.busy = true;
            let after_us = self.chance.between(after_us.0, after_us.1);
            self.push(after_us, Event::Apply { at, life });
        }
    }

    /// The log has read what the applier waits for.
    pub(super) fn applier_fed(&mut self, at: usize, first: Index, entries: Vec<Entry>) {
        let Some(process) = &mut self.nodes[at].process else { return };
        let jobs = &mut process.applier.jobs;
        let place = jobs.iter().position(|job| matches!(job, Job::InLog(index) if *index == first));
        let place = place.expect("the applier waits for what is read for it");
        let after = jobs.split_off(place + 1);
        jobs.pop_back();
        jobs.extend(entries.into_iter().map(Job::Entry));
        jobs.extend(after);
        self.wake_applier(at);
    }

    pub(super) fn applier_goes_on(&mut self, at: usize) {
        let Some(process) = &mut self.nodes[at].process else { return };
        process.applier.busy = false;
        let before = self.nodes[at].machine.state.applied;
        for _ in 0..ENTRIES_AT_ONCE {
            let fresh = self.nodes[at].machine.state.applied == before;
            let Some(process) = &mut self.nodes[at].process else { return };
            match process.applier.jobs.front() {
                Some(Job::Entry(_)) => {
                    let Some(Job::Entry(entry)) = process.applier.jobs.pop_front() else { return };
                    self.apply(at, &entry);
                }
                // Takes its own time, unless it is what this was woken for.
                Some(Job::Install { .. }) if fresh => {
                    let Some(Job::Install { from, image }) = process.applier.jobs.pop_front() else { return };
                    self.install(at, from, &image);
                    return self.wake_applier(at);
                }
                _ => break,
            }
        }
        let node = &mut self.nodes[at];
        if node.machine.state.applied != before {
            let applied = node.machine.state.applied;
            self.checks.history.state(&node.id, applied, node.machine.state.hash);
            self.input(at, Input::Applied(applied.index));
            self.answer_reads(at);
            self.checkpoint(at);
        }
        self.wake_applier(at);
    }

    fn apply(&mut self, at: usize, entry: &Entry) {
        let node = &mut self.nodes[at];
        if entry.id.index != node.machine.state.applied.index.next() {
            let what = format!("n{at} applies {} after {}", entry.id, node.machine.state.applied);
            super::check::violated("state-machine safety", what);
        }
        self.checks.history.applied(&node.id, entry);
        let done = node.machine.apply(entry);
        let Some(process) = &mut node.process else { return };
        let Some((term, client, op)) = process.writes.remove(&entry.id.index) else { return };
        match done {
            Some((key, place)) if term == entry.id.term => self.answer(client, op, Answer::Written { key, place }),
            // Another term's entry stands where this one was: it will never be committed.
            _ => self.answer(client, op, Answer::Refused { leader: None }),
        }
    }

    fn checkpoint(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        if node.machine.unsaved_entries() < CHECKPOINT_ENTRIES {
            return;
        }
        node.machine.checkpoint();
        let purge_to = Index(node.machine.state.applied.index.0.saturating_sub(TRAILING_ENTRIES));
        self.log_job(at, super::log::Job::Purge(purge_to));
    }

    fn install(&mut self, at: usize, from: usize, image: &State) {
        let meta = image.meta().expect("it had one when it was offered");
        let node = &mut self.nodes[at];
        if image.applied.index <= node.machine.state.applied.index {
            let what =
                format!("n{at} goes back from {} to a snapshot of {}", node.machine.state.applied, image.applied);
            super::check::violated("state-machine safety", what);
        }
        node.machine.install(image);
        self.checks.history.state(&node.id, image.applied, image.hash);
        self.trace.note(self.now_us, || format!("n{at} installs a snapshot of {}", image.applied));
        self.input(at, Input::Installed(meta));
        self.send(at, from, Packet::SnapshotDone { taken: Some(image.applied) });
        self.answer_reads(at);
    }

    /// Reads whose index is applied are answered from what the state machine holds now.
    pub(super) fn answer_reads(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let applied = node.machine.state.applied.index;
        let Some(process) = &mut node.process else { return };
        let (ready, waiting): (Vec<_>, Vec<_>) = process.reads.drain(..).partition(|(index, ..)| *index <= applied);
        process.reads = waiting;
        for (_, client, op, key) in ready {
            let list = self.nodes[at].machine.state.lists[key].clone();
            self.answer(client, op, Answer::Read { key, list });
        }
    }
}
