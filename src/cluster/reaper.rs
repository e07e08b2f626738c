//! Removes members that have been out of reach for too long (`-raft-reap-node-timeout`). Thread `reaper`; acts only on the
//! leader, which alone knows who answers. It must never remove anybody on knowledge from before this leadership.

use super::Cluster;
use super::admit::take_out;
use super::control::Control;
use crate::node::handle::PeerContact;
use crate::vars;
use raft::NodeId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long a removal may take.
const REAP_TIME_MAX: Duration = Duration::from_secs(5);
/// A member that could not be removed is tried again after this.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long members may be out of reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub voters: Option<Duration>,
    pub read_only: Option<Duration>,
}

/// What the reaper knows of the leadership that it watches.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Term of this leadership and its first look.
    since: Option<(u64, Instant)>,
    failed: BTreeMap<String, Instant>,
}

impl Watch {
    /// Who is overdue now. A leadership knows nothing of what was before it: its clock starts at its first look.
    pub(super) fn overdue(
        &mut self,
        leading: Option<u64>,
        contacts: &[PeerContact],
        limits: Limits,
        now: Instant,
    ) -> Vec<PeerContact> {
        let Some(term) = leading else {
            *self = Watch::default();
            return Vec::new();
        };
        let since = match self.since {
            Some((known, since)) if known == term => since,
            _ => {
                *self = Watch { since: Some((term, now)), failed: BTreeMap::new() };
                now
            }
        };
        let watched = now.saturating_duration_since(since);
        let is_overdue = |contact: &&PeerContact| {
            let limit = if contact.voter { limits.voters } else { limits.read_only };
            let silent = Duration::from_millis(contact.last_contact_ms).min(watched);
            let rests = self.failed.get(&contact.id).is_some_and(|at| now.saturating_duration_since(*at) < RETRY_AFTER);
            limit.is_some_and(|limit| silent > limit) && !rests
        };
        contacts.iter().filter(is_overdue).cloned().collect()
    }

    fn failed(&mut self, id: &str, now: Instant) {
        self.failed.insert(id.to_owned(), now);
    }
}

impl Cluster {
    /// Starts the thread, if there is anything to watch for.
    pub(super) fn watch(&self) {
        let limits = Limits { voters: self.settings.reap_after, read_only: self.settings.reap_read_only_after };
        if limits.voters.is_none() && limits.read_only.is_none() {
            return;
        }
        self.spawn("reaper", move |me| {
            let mut watch = Watch::default();
            while !me.cancel.sleep(LOOK_INTERVAL) {
                me.reap(&mut watch, limits);
            }
        });
    }

    fn reap(&self, watch: &mut Watch, limits: Limits) {
        let Some(control) = self.control() else { return };
        let leading = control.is_leader().then(|| control.term());
        for contact in watch.overdue(leading, &control.contacts(), limits, Instant::now()) {
            let kind = if contact.voter { "voting" } else { "non-voting" };
            match self.reap_one(&**control, &contact) {
                Ok(()) => {
                    vars::store::NODES_REAPED_OK.add(1);
                    log::info!(target: "store", "successfully reaped {kind} node {}", contact.id);
                }
                Err(why) => {
                    vars::store::NODES_REAPED_FAILED.add(1);
                    log::warn!(target: "store", "failed to reap {kind} node {}: {why}", contact.id);
                    watch.failed(&contact.id, Instant::now());
                }
            }
        }
    }

    fn reap_one(&self, control: &dyn Control, contact: &PeerContact) -> Result<(), String> {
        let deadline = Instant::now() + REAP_TIME_MAX;
        let Some(_turn) = self.changes.try_lock_until(deadline) else {
            return Err("another change is under way".into());
        };
        // It may have come back while this waited.
        let still = control.contacts().into_iter().find(|known| known.id == contact.id);
        if still.is_none_or(|still| still.last_contact_ms < contact.last_contact_ms) {
            return Err("it answers again".into());
        }
        take_out(control, &NodeId(contact.id.as_str().into()), deadline).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::Index;

    fn contact(id: &str, voter: bool, last_contact_ms: u64) -> PeerContact {
        PeerContact { id: id.to_owned(), voter, last_contact_ms, matched: Index(0) }
    }

    #[test]
    fn only_a_leader_reaps_and_only_on_what_it_saw_itself() {
        let second = Duration::from_secs(1);
        let limits = Limits { voters: Some(10 * second), read_only: Some(5 * second) };
        let begin = Instant::now();
        let silent = [contact("v", true, 3_600_000), contact("r", false, 3_600_000), contact("near", true, 10)];
        let mut watch = Watch::default();
        let mut overdue = |term: Option<u64>, at_s: u32, limits: Limits| -> Vec<String> {
            let now = begin + at_s * second;
            watch.overdue(term, &silent, limits, now).into_iter().map(|contact| contact.id).collect()
        };
        assert!(overdue(None, 0, limits).is_empty());
        assert!(overdue(Some(1), 100, limits).is_empty(), "its first look");
        assert!(overdue(Some(1), 105, limits).is_empty());
        assert_eq!(overdue(Some(1), 106, limits), ["r"]);
        assert_eq!(overdue(Some(1), 111, limits), ["v", "r"]);
        assert!(overdue(Some(2), 112, limits).is_empty(), "a new leadership begins anew");
        assert!(overdue(None, 113, limits).is_empty());
        assert!(overdue(Some(2), 200, limits).is_empty(), "the time between is not counted");
        assert_eq!(overdue(Some(2), 300, Limits { voters: None, read_only: Some(second) }), ["r"]);
        assert_eq!(overdue(Some(2), 300, Limits { voters: Some(second), read_only: None }), ["v"]);
    }

    #[test]
    fn what_failed_rests_for_a_while() {
        let limits = Limits { voters: Some(Duration::ZERO), read_only: None };
        let begin = Instant::now();
        let silent = [contact("v", true, 1000)];
        let mut watch = Watch::default();
        assert!(watch.overdue(Some(1), &silent, limits, begin).is_empty());
        let later = begin + Duration::from_secs(1);
        assert_eq!(watch.overdue(Some(1), &silent, limits, later).len(), 1);
        watch.failed("v", later);
        assert!(watch.overdue(Some(1), &silent, limits, later + RETRY_AFTER / 2).is_empty());
        assert_eq!(watch.overdue(Some(1), &silent, limits, later + RETRY_AFTER).len(), 1);
    }
}
