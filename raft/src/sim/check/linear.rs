//! Linearizability of what clients saw, for lists to which unique values are appended.
//!
//! A read returns a whole list and so reveals the order of all appends before it; a write learns its place. What is
//! left of the general (and costly) question is then exact and cheap: all lists seen are prefixes of one order, each
//! value is in it once, and no operation sees less than what was seen or done before it began.

use super::violated;
use crate::sim::machine::KEYS;
use std::collections::HashSet;

const CHECKER: &str = "linearizability";

#[derive(Default)]
pub(in crate::sim) struct Linear {
    lists: [List; KEYS],
    /// Values that a client was told would never be written.
    refused: HashSet<u64>,
}

#[derive(Default)]
struct List {
    /// The one order, as far as seen by anybody.
    order: Vec<Option<u64>>,
    /// The longest state that a completed operation has seen.
    floor: usize,
    values: HashSet<u64>,
}

impl Linear {
    /// An operation on `key` begins. Returns what it must at least see.
    pub(in crate::sim) fn begins(&self, key: usize) -> usize {
        self.lists[key].floor
    }

    pub(in crate::sim) fn wrote(&mut self, key: usize, value: u64, place: usize, floor: usize) {
        if place <= floor {
            violated(CHECKER, format!("value {value} was written to place {place}, but {floor} were seen before"));
        }
        self.see(key, place - 1, value);
        let list = &mut self.lists[key];
        list.floor = list.floor.max(place);
    }

    pub(in crate::sim) fn read(&mut self, key: usize, seen: &[u64], floor: usize) {
        if seen.len() < floor {
            let what = format!("a read of list {key} saw {} values, but {floor} were seen before it began", seen.len());
            violated(CHECKER, what);
        }
        // What was compared up to an earlier floor by a read stays compared: only disagreement can be news.
        for (at, value) in seen.iter().enumerate() {
            self.see(key, at, *value);
        }
        let list = &mut self.lists[key];
        list.floor = list.floor.max(seen.len());
    }

    pub(in crate::sim) fn refused(&mut self, value: u64) {
        self.refused.insert(value);
    }

    /// How many values some client knows to be in the list.
    pub(in crate::sim) fn known(&self, key: usize) -> usize {
        self.lists[key].floor
    }

    fn see(&mut self, key: usize, at: usize, value: u64) {
        let list = &mut self.lists[key];
        if at >= list.order.len() {
            list.order.resize(at + 1, None);
        }
        match list.order[at] {
            Some(known) if known == value => {}
            Some(known) => violated(CHECKER, format!("place {at} of list {key} holds {known} and {value}")),
            None => {
                list.order[at] = Some(value);
                if !list.values.insert(value) {
                    violated(CHECKER, format!("value {value} is twice in list {key}"));
                }
                if self.refused.contains(&value) {
                    violated(CHECKER, format!("value {value} was refused, and is in list {key}"));
                }
            }
        }
    }
}
