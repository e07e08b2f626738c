//! The raft thread's dealings with other nodes: messages in and out, and copies of the database for those whom the log
//! does not reach. Part of `raft_thread`.

use super::applier_thread::ApplierInput;
use super::handle::PeerContact;
use super::raft_thread::RaftThread;
use super::wal_thread::WalInput;
use crate::db::Incoming;
use raft::{Effects, Entry, Envelope, Index, LogId, Membership, NodeId, SnapshotMeta, StepError, Suffrage};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Between two looks at the peers for `/status` and the reaper.
const CONTACTS_INTERVAL: Duration = Duration::from_millis(100);
/// Copies of the database that leave this node at once: each reads it whole.
const COPIES_MAX: usize = 2;
/// A peer that could not be sent a copy waits this long for the next try.
const COPY_RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A peer that has taken over a copy and gets on no further for so long is not waited for with the log.
const COPIED_PATIENCE: Duration = Duration::from_secs(30);
/// Nor is one that has not caught up by then: it is slower than what is written, and the log must end somewhere.
const COPIED_TIME_MAX: Duration = Duration::from_secs(600);

/// What the raft thread asks of the network. Never blocks.
pub trait Peers: Send {
    fn set_peers(&self, peers: &[(NodeId, String)]);
    fn send(&self, envelope: Envelope);
    /// Streams a copy of the database to a peer, on a thread of its own; the end is told by `RaftInput::CopyEnded`, and
    /// before it, once, by `RaftInput::CopyBegun` what it will contain.
    ///
    /// # Errors
    /// There is no thread for it: nothing will be told.
    fn send_copy(&self, peer: NodeId, address: String) -> io::Result<()>;
}

/// A copy of the database that has arrived whole, and who waits to hear whether it was taken over.
pub struct ArrivedCopy {
    pub meta: SnapshotMeta,
    pub incoming: Incoming,
    pub done: Box<dyn FnOnce(Result<(), String>) + Send>,
}

/// The raft thread's notes about its peers.
pub struct PeerNotes {
    pub(super) peers: Box<dyn Peers>,
    /// Copies under way, and from where on their receivers will need the log.
    copies: BTreeMap<NodeId, Option<LogId>>,
    /// Peers that wait for a copy, and from when on they may be served.
    copies_wanted: BTreeMap<NodeId, Instant>,
    /// Peers that have taken over a copy up to an index, and now need the log from there on. The time is when they were last
    /// seen to get on.
    copied: BTreeMap<NodeId, Copied>,
    /// Peers that could not be served, and until when they rest.
    resting: BTreeMap<NodeId, Instant>,
    contacts_next: Instant,
    /// The configuration has named this node; one without it later says that it was removed.
    was_member: bool,
    /// The entry that removed it, while it is not known to be committed: it may yet be taken back.
    removed_at: Option<Index>,
    /// It was, and takes no part any more (`-raft-remove-shutdown`).
    pub(super) is_retired: bool,
    pub(super) retires_when_removed: bool,
}

impl PeerNotes {
    /// `retires_when_removed`: a node that sees itself removed takes no further part.
    pub fn new(peers: Box<dyn Peers>, retires_when_removed: bool) -> Self {
        PeerNotes {
            peers,
            copies: BTreeMap::new(),
            copies_wanted: BTreeMap::new(),
            copied: BTreeMap::new(),
            resting: BTreeMap::new(),
            contacts_next: Instant::now(),
            was_member: false,
            removed_at: None,
            is_retired: false,
            retires_when_removed,
        }
    }
}

/// See [`PeerNotes`].
struct Copied {
    matched: Index,
    seen: Instant,
    until: Instant,
}

impl Copied {
    fn new(last: Index, now: Instant) -> Copied {
        Copied { matched: last, seen: now, until: now + COPIED_TIME_MAX }
    }

    /// Whether the log from `self.matched` on must be kept for it; the log from `kept_anyway_from` on is.
    fn needs_log(&mut self, matched: Index, kept_anyway_from: Index, now: Instant) -> bool {
        if matched > self.matched {
            (self.matched, self.seen) = (matched, now);
        }
        self.matched < kept_anyway_from
            && now.saturating_duration_since(self.seen) < COPIED_PATIENCE
            && now < self.until
    }
}

impl RaftThread {
    pub(super) fn message(&mut self, envelope: Envelope) {
        if self.notes.is_retired {
            return;
        }
        let from_leader = envelope.message.is_from_leader().then(|| envelope.from.clone());
        match self.replica.step(envelope) {
            // One that was deposed and does not know it yet proves nothing about how fresh this copy is.
            Ok(()) if from_leader.is_some() && self.replica.leader() == from_leader.as_ref() => {
                let heard_ms = self.shared.started.elapsed().as_millis() as u64;
                self.shared.leader_heard_ms.store(heard_ms.max(1), Ordering::Relaxed);
            }
            Ok(()) => {}
            // Late, or from before a restart: the protocol lives with both.
            Err(StepError::OtherIncarnation | StepError::Stranger) => {}
            Err(error) => log::debug!(target: "raft", "a message was thrown away: {error:?}"),
        }
    }

    pub(super) fn peer_entries(&mut self, peer: &NodeId, entries: Vec<Entry>) {
        self.replica.log_read(peer, entries);
    }

    /// What the replica has for others.
    pub(super) fn serve_peers(&mut self, effects: &mut Effects) {
        for envelope in effects.messages.drain(..) {
            self.notes.peers.send(envelope);
        }
        for read in effects.log_reads.drain(..) {
            self.outbox.send_wal(WalInput::ReadForPeer(read));
        }
        for peer in effects.snapshots_needed.drain(..) {
            self.want_copy(peer);
        }
        if let Some((index, membership)) = effects.membership.take() {
            self.membership_changed(index, &membership);
        }
        for alarm in effects.alarms.drain(..) {
            log::error!(target: "raft", "{}", alarm_text(&alarm));
        }
        self.begin_copies();
    }

    /// At the start: those whom the log and the database know.
    pub(super) fn meet_peers(&mut self) {
        if let Some((index, membership)) = self.replica.membership().map(|(index, m)| (index, Arc::clone(m))) {
            self.membership_changed(index, &membership);
        }
    }

    fn membership_changed(&mut self, index: Index, membership: &Arc<Membership>) {
        let own = self.replica.id().clone();
        let others = membership.members().iter().filter(|m| m.id != own);
        let mut peers: Vec<_> = others.map(|m| (m.id.clone(), m.address.to_string())).collect();
        // Who has just gone is still spoken to: it must hear that it is out, and a leader that takes itself out cannot
        // finish without the others' answers.
        let gone: Vec<_> = {
            let before = self.shared.configuration.lock();
            let members = before.iter().flat_map(|(_, membership)| membership.members());
            let gone = members.filter(|m| m.id != own && membership.get(&m.id).is_none());
            gone.map(|m| (m.id.clone(), m.address.to_string())).collect()
        };
        peers.extend(gone);
        self.notes.peers.set_peers(&peers);
        *self.shared.members.lock() = super::open::member_statuses(membership);
        *self.shared.configuration.lock() = Some((index, Arc::clone(membership)));
        // The leader may have been heard before it was known where it is.
        let leader = self.replica.leader().map(|id| (id.0.to_string(), self.address_of(id)));
        *self.shared.leader.lock() = leader.filter(|(_, address)| !address.is_empty());
        let member = membership.get(&own).is_some();
        if self.notes.was_member && !member {
            log::warn!(target: "store", "this node was removed from the cluster by the entry at {index}");
            self.notes.removed_at = Some(index);
        }
        if member {
            self.notes.removed_at = None;
        }
        self.notes.was_member = member;
    }

    /// A removal that is not committed may be taken back, and then this node may be needed.
    pub(super) fn check_retired(&mut self) {
        if self.notes.retires_when_removed && self.notes.removed_at.is_some_and(|at| at <= self.replica.commit()) {
            self.notes.removed_at = None;
            self.notes.is_retired = true;
        }
    }

    // ---- copies of the database

    pub(super) fn want_copy(&mut self, peer: NodeId) {
        if !self.notes.copies.contains_key(&peer) {
            let from = self.notes.resting.remove(&peer).unwrap_or_else(Instant::now);
            self.notes.copies_wanted.insert(peer, from);
        }
    }

    fn begin_copies(&mut self) {
        let now = Instant::now();
        while self.notes.copies.len() < COPIES_MAX {
            let next = self.notes.copies_wanted.iter().find(|(_, at)| **at <= now).map(|(peer, _)| peer.clone());
            let Some(peer) = next else { return };
            self.notes.copies_wanted.remove(&peer);
            let address = self.address_of(&peer);
            if !self.replica.is_leader() || address.is_empty() {
                continue;
            }
            log::info!(target: "store", "sending a copy of the database to node {peer} at {address}");
            self.notes.copies.insert(peer.clone(), None);
            if let Err(error) = self.notes.peers.send_copy(peer.clone(), address) {
                self.copy_ended(peer, Err(error.to_string()));
            }
        }
    }

    /// The log from here on is needed by the receivers of copies: of those under way, and of those that were taken over and
    /// are not yet followed by what was written meanwhile. Otherwise the next compaction would take it from under them, and
    /// under a steady load they would be sent copies for ever.
    pub(super) fn log_needed_from(&mut self) -> Option<Index> {
        let now = Instant::now();
        let log = &self.log;
        let status = self.replica.status();
        self.notes.copied.retain(|id, copied| {
            let peer = status.peers.iter().find(|peer| peer.id == *id);
            let kept_anyway_from = Index(log.database_durable.index.0.saturating_sub(log.trailing_entries));
            peer.is_some_and(|peer| copied.needs_log(peer.matched, kept_anyway_from, now))
        });
        let under_way = self.notes.copies.values().flatten().map(|last| last.index);
        under_way.chain(self.notes.copied.values().map(|copied| copied.matched)).min()
    }

    pub(super) fn copy_begun(&mut self, peer: NodeId, last: LogId) {
        self.notes.copies.insert(peer, Some(last));
    }

    pub(super) fn copy_ended(&mut self, peer: NodeId, sent: Result<LogId, String>) {
        self.notes.copies.remove(&peer);
        match sent {
            Ok(last) => {
                log::info!(target: "store", "node {peer} has taken over a copy of the database up to {last}");
                self.replica.snapshot_sent(&peer, last);
                self.notes.copied.insert(peer, Copied::new(last.index, Instant::now()));
                self.shared.verify_wanted.store(true, Ordering::Release);
            }
            Err(error) => {
                log::warn!(target: "store", "a copy of the database did not get through to node {peer}: {error}");
                self.replica.snapshot_failed(&peer);
                // The replica asks again as soon as the peer is heard.
                self.notes.resting.insert(peer, Instant::now() + COPY_RETRY_INTERVAL);
            }
        }
    }

    /// A whole copy lies beside the database: take it over, if the replica agrees.
    pub(super) fn copy_arrived(&mut self, copy: ArrivedCopy) {
        match self.replica.offer_snapshot(&copy.meta) {
            Ok(()) => self.send_applier(ApplierInput::Install(Box::new(copy))),
            Err(error) => (copy.done)(Err(format!("the copy up to {} is of no use here: {error:?}", copy.meta.last))),
        }
    }

    /// The database is the copy now.
    pub(super) fn copy_installed(&mut self, meta: SnapshotMeta) {
        // The database's own word on it: it must not be taken for lost entries before the log is reset.
        self.log.database_durable = meta.last;
        self.pending.pass(meta.last.index);
        self.replica.snapshot_installed(meta);
    }

    pub(super) fn look_at_contacts(&mut self) {
        let now = Instant::now();
        if now < self.notes.contacts_next {
            return;
        }
        self.notes.contacts_next = now + CONTACTS_INTERVAL;
        if !self.replica.is_leader() {
            return self.shared.peers.lock().clear();
        }
        let now_ms = self.now_ms();
        let status = self.replica.status();
        let membership = status.membership;
        let contacts = status.peers.into_iter().map(|peer| PeerContact {
            voter: membership.as_ref().and_then(|m| m.get(&peer.id)).is_some_and(|m| m.suffrage == Suffrage::Voter),
            id: peer.id.to_string(),
            last_contact_ms: now_ms.saturating_sub(peer.contact_ms),
            matched: peer.matched,
        });
        *self.shared.peers.lock() = contacts.collect();
    }
}

fn alarm_text(alarm: &raft::Alarm) -> String {
    use raft::Alarm;
    match alarm {
        Alarm::DiskStalled => "the disk of the log made no progress for too long: leadership is given up".to_owned(),
        Alarm::PeerLostEntries { peer, acknowledged, has } => format!(
            "node {peer} had acknowledged the log up to {acknowledged} and now holds it only up to {has}: its data was \
             set back. Stop it, empty its directory, and start it again with -join"
        ),
        Alarm::TwoLeaders { term, other } => format!(
            "node {other} claims to lead term {term}, which this node leads: the files of one of them were copied or set \
             back. Stop both and compare them"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_not_taken_from_under_a_peer_that_follows_a_copy() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut copied = Copied::new(Index(1000), now);
        assert!(copied.needs_log(Index(0), Index(5000), now + second), "it has acknowledged nothing yet");
        assert_eq!(copied.matched, Index(1000));
        assert!(copied.needs_log(Index(2000), Index(6000), now + 20 * second));
        assert!(copied.needs_log(Index(2000), Index(6000), now + 45 * second), "it moved 25 seconds ago");
        assert!(!copied.needs_log(Index(2000), Index(6000), now + 51 * second), "it is gone");
        let mut copied = Copied::new(Index(1000), now);
        assert!(!copied.needs_log(Index(6000), Index(6000), now + second), "it has caught up");
        let mut copied = Copied::new(Index(1000), now);
        let falls_back =
            (1..700).find(|s| !copied.needs_log(Index(1000 + s), Index(5000 + 10 * s), now + *s as u32 * second));
        assert_eq!(falls_back, Some(COPIED_TIME_MAX.as_secs()), "the log does not grow for ever");
    }
}
