//! The path of a single voter: what is durable when, and what a restart finds.

use raft::*;
use std::sync::Arc;

/// A log on a disk that obeys: holds what was appended, and what of it is durable.
#[derive(Default)]
struct Disk {
    durable: Recovered,
    log: Vec<Entry>,
    waiting: Vec<Append>,
}

impl Disk {
    /// Makes the oldest waiting append durable; returns what the log would report.
    fn sync_one(&mut self) -> (u64, LogId) {
        let append = self.waiting.remove(0);
        if let Some(hard_state) = append.hard_state {
            self.durable.hard_state = hard_state;
        }
        if let Some(index) = append.truncate_after {
            self.log.retain(|e| e.id.index <= index);
        }
        for entry in append.entries {
            if entry.kind == EntryKind::Membership {
                let membership = Membership::decode(&entry.payload).unwrap();
                self.durable.memberships.push((entry.id.index, membership));
            }
            if self.log.last().is_none_or(|last| last.id.term < entry.id.term) {
                self.durable.terms.push(entry.id);
            }
            self.log.push(entry);
        }
        let last = self.log.last().map_or(LogId::default(), |e| e.id);
        assert_eq!(last, append.last);
        self.durable.last = last;
        (append.seq, append.last)
    }

    /// What a restart finds after a crash now.
    fn recover(&self, applied: LogId, with_entries: bool) -> Recovered {
        let mut found = self.durable.clone();
        found.applied = applied;
        if with_entries {
            found.entries = self.log.clone();
        }
        found
    }
}

fn config() -> Config {
    Config::new(NodeId("a".into()), Incarnation(1), 7)
}

fn alone() -> Membership {
    let id = NodeId("a".into());
    let member = Member { id, incarnation: Incarnation(1), suffrage: Suffrage::Voter, address: "a:4002".into() };
    Membership::new(vec![member]).unwrap()
}

fn payload(text: &str) -> Arc<[u8]> {
    text.as_bytes().into()
}

/// Takes effects, queues the append, returns the rest.
fn turn(replica: &mut Replica, disk: &mut Disk) -> Effects {
    let mut effects = replica.take_effects();
    disk.waiting.extend(effects.append.take());
    assert!(effects.messages.is_empty(), "a single node talks to nobody");
    effects
}

/// Syncs and reports until nothing waits; returns what was committed.
fn settle(replica: &mut Replica, disk: &mut Disk) -> Vec<Entry> {
    let mut committed = turn(replica, disk).committed;
    while !disk.waiting.is_empty() {
        let (seq, last) = disk.sync_one();
        replica.durable(seq, last);
        committed.extend(turn(replica, disk).committed);
    }
    committed
}

fn founded() -> (Replica, Disk) {
    let mut disk = Disk::default();
    let mut replica = Replica::new(config(), Recovered::default()).unwrap();
    replica.bootstrap(alone()).unwrap();
    replica.tick(1000);
    let committed = settle(&mut replica, &mut disk);
    assert_eq!(committed.iter().map(|e| e.kind).collect::<Vec<_>>(), [EntryKind::Membership, EntryKind::Noop]);
    assert!(replica.is_leader());
    (replica, disk)
}

#[test]
fn nothing_commits_before_the_own_log_is_durable() {
    let (mut replica, mut disk) = founded();
    let first = replica.propose(payload("x")).unwrap();
    let effects = turn(&mut replica, &mut disk);
    assert!(effects.committed.is_empty());
    replica.tick(5000);
    assert!(turn(&mut replica, &mut disk).committed.is_empty());
    let (seq, last) = disk.sync_one();
    replica.durable(seq, last);
    let effects = turn(&mut replica, &mut disk);
    assert_eq!(effects.committed.iter().map(|e| e.id).collect::<Vec<_>>(), [first]);
}

#[test]
fn leadership_waits_for_the_vote_to_be_durable() {
    let mut disk = Disk::default();
    let mut replica = Replica::new(config(), Recovered::default()).unwrap();
    replica.bootstrap(alone()).unwrap();
    replica.tick(0);
    let effects = turn(&mut replica, &mut disk);
    assert_eq!(effects.role.unwrap().role, RoleKind::Candidate);
    assert_eq!(disk.waiting[0].hard_state.as_ref().unwrap().term, Term(2));
    assert!(matches!(replica.propose(payload("x")), Err(ProposeError::NotLeader { .. })));
    let (seq, last) = disk.sync_one();
    replica.durable(seq, last);
    assert!(replica.is_leader());
    assert_eq!(disk.durable.hard_state.voted_for, Some(NodeId("a".into())));
}

#[test]
fn a_restart_replays_exactly_what_was_not_applied() {
    for with_entries in [false, true] {
        let (mut replica, mut disk) = founded();
        for n in 0..5 {
            replica.propose(payload(&n.to_string())).unwrap();
        }
        let committed = settle(&mut replica, &mut disk);
        assert_eq!(committed.len(), 5);
        let applied = committed[1].id;
        let mut replica = Replica::new(config(), disk.recover(applied, with_entries)).unwrap();
        // The first tick is enough: there is no election to wait for.
        replica.tick(123_456);
        let mut in_log = Vec::new();
        let mut in_memory = Vec::new();
        loop {
            let effects = turn(&mut replica, &mut disk);
            in_log.extend(effects.committed_in_log);
            in_memory.extend(effects.committed);
            if disk.waiting.is_empty() {
                break;
            }
            let (seq, last) = disk.sync_one();
            replica.durable(seq, last);
        }
        assert!(replica.is_leader());
        let rest = LogRange { first: applied.index.next(), last: Index(applied.index.0 + 3) };
        if with_entries {
            assert!(in_log.is_empty());
            assert_eq!(in_memory[..3], committed[2..]);
        } else {
            assert_eq!(in_log, [rest]);
        }
        assert_eq!(in_memory.last().unwrap().kind, EntryKind::Noop);
    }
}

#[test]
fn a_late_report_of_an_older_append_is_not_credited_to_newer_entries() {
    let (mut replica, mut disk) = founded();
    replica.propose(payload("1")).unwrap();
    turn(&mut replica, &mut disk);
    replica.propose(payload("2")).unwrap();
    turn(&mut replica, &mut disk);
    let (seq, last) = disk.sync_one();
    replica.durable(seq, last);
    replica.durable(seq, last);
    assert_eq!(turn(&mut replica, &mut disk).committed.len(), 1);
    let (seq, last) = disk.sync_one();
    replica.durable(seq, last);
    assert_eq!(turn(&mut replica, &mut disk).committed.len(), 1);
}

#[test]
#[should_panic(expected = "the report names the entry at which its append ended")]
fn a_report_of_another_entry_stops_the_process() {
    let (mut replica, mut disk) = founded();
    replica.propose(payload("1")).unwrap();
    turn(&mut replica, &mut disk);
    let (seq, last) = disk.sync_one();
    replica.durable(seq, LogId { term: Term(9), ..last });
}

#[test]
fn one_report_may_cover_several_appends() {
    let (mut replica, mut disk) = founded();
    for n in 0..3 {
        replica.propose(payload(&n.to_string())).unwrap();
        turn(&mut replica, &mut disk);
    }
    disk.sync_one();
    disk.sync_one();
    let (seq, last) = disk.sync_one();
    replica.durable(seq, last);
    assert_eq!(turn(&mut replica, &mut disk).committed.len(), 3);
}

#[test]
fn a_batch_is_one_append() {
    let (mut replica, mut disk) = founded();
    let first = replica.propose_batch((0..256).map(|n| payload(&n.to_string()))).unwrap();
    let committed = settle(&mut replica, &mut disk);
    assert_eq!(committed.len(), 256);
    assert_eq!(committed[0].id, first);
}

#[test]
fn reads_wait_for_the_term_to_commit_and_for_nothing_else() {
    let mut disk = Disk::default();
    let mut replica = Replica::new(config(), Recovered::default()).unwrap();
    assert!(replica.read_index(ReadToken(1)).is_err());
    replica.bootstrap(alone()).unwrap();
    replica.tick(0);
    turn(&mut replica, &mut disk);
    let (seq, last) = disk.sync_one();
    replica.durable(seq, last);
    assert!(replica.is_leader());
    replica.read_index(ReadToken(2)).unwrap();
    assert!(turn(&mut replica, &mut disk).readable.is_empty());
    let (seq, last) = disk.sync_one();
    replica.durable(seq, last);
    assert_eq!(turn(&mut replica, &mut disk).readable, [(ReadToken(2), last.index)]);
    replica.read_index(ReadToken(3)).unwrap();
    assert_eq!(turn(&mut replica, &mut disk).readable, [(ReadToken(3), last.index)]);
}

#[test]
fn memory_is_bounded_while_the_disk_or_the_applier_is_slow() {
    let mut config = config();
    config.limits.uncommitted_bytes_max = 10_000;
    config.limits.unapplied_bytes_max = 5_000;
    config.limits.tail_bytes_max = 20_000;
    let mut disk = Disk::default();
    let mut replica = Replica::new(config, Recovered::default()).unwrap();
    replica.bootstrap(alone()).unwrap();
    replica.tick(0);
    settle(&mut replica, &mut disk);
    let big: Arc<[u8]> = vec![0; 1000].into();
    let mut taken = 0;
    while replica.propose(Arc::clone(&big)).is_ok() {
        taken += 1;
        assert!(taken < 20, "the disk does not answer, so proposals must be refused");
    }
    let mut handed = settle(&mut replica, &mut disk).len();
    assert!(handed < taken, "the applier's share is bounded");
    assert!(replica.status().tail_bytes <= 20_000);
    // The applier reports bit by bit and gets the rest.
    while handed < taken {
        let at = replica.status().handed_over;
        replica.applied(at);
        let more = turn(&mut replica, &mut disk);
        assert!(more.committed_in_log.is_none());
        assert!(!more.committed.is_empty());
        handed += more.committed.len();
    }
    let at = replica.status().handed_over;
    replica.applied(at);
    replica.purged(disk.log.last().unwrap().id);
    assert_eq!(replica.status().tail_bytes, 0);
}

#[test]
fn a_restart_refuses_what_does_not_fit_together() {
    let (mut replica, mut disk) = founded();
    replica.propose(payload("1")).unwrap();
    let committed = settle(&mut replica, &mut disk);
    let applied = committed[0].id;
    let found = disk.recover(applied, false);
    assert!(Replica::new(config(), found.clone()).is_ok());

    let ahead = LogId { index: Index(99), ..applied };
    let lost = Recovered { applied: ahead, ..found.clone() };
    assert!(matches!(Replica::new(config(), lost.clone()), Err(RecoverError::LogLostEntries { .. })));
    let installed = Recovered { applied_is_snapshot: true, ..lost };
    let mut replica = Replica::new(config(), installed).unwrap();
    assert_eq!(replica.take_effects().append.unwrap().reset_to, Some(ahead));

    let term_lost = Recovered { hard_state: HardState::default(), ..found.clone() };
    assert!(matches!(Replica::new(config(), term_lost), Err(RecoverError::TermLost { .. })));
    let purged_to = LogId { term: Term(1), index: Index(1) };
    let gap = Recovered { purged_to, applied: LogId::default(), terms: vec![found.terms[1]], ..found.clone() };
    assert!(matches!(Replica::new(config(), gap), Err(RecoverError::Gap { .. })));
    let no_terms = Recovered { terms: Vec::new(), ..found };
    assert!(matches!(Replica::new(config(), no_terms), Err(RecoverError::Log(_))));
}

#[test]
fn a_single_node_that_leads_and_idles_may_sleep() {
    let (replica, _) = founded();
    assert_eq!(replica.next_deadline_ms(), u64::MAX);
}

#[test]
fn a_cluster_is_founded_only_once_and_by_a_voter_of_it() {
    let (mut replica, _) = founded();
    assert_eq!(replica.bootstrap(alone()), Err(BootstrapError::NotPristine));
    let other_life = Config { incarnation: Incarnation(2), ..config() };
    let mut replica = Replica::new(other_life, Recovered::default()).unwrap();
    assert_eq!(replica.bootstrap(alone()), Err(BootstrapError::NotVoter));
}

/// The state machine's inbox is bounded by what it has not applied, also where nobody else needs the entries, so that the
/// log's tail lets go of them as soon as they are handed over.
#[test]
fn a_slow_state_machine_of_a_node_alone_is_handed_no_more_than_its_bound() {
    const UNAPPLIED_MAX: u64 = 200_000;
    const ENTRY_BYTES: u64 = 1000;
    let mut config = config();
    config.limits.unapplied_bytes_max = UNAPPLIED_MAX;
    let mut disk = Disk::default();
    let mut replica = Replica::new(config, Recovered::default()).unwrap();
    replica.bootstrap(alone()).unwrap();
    replica.tick(0);
    let mut handed = settle(&mut replica, &mut disk);
    replica.applied(replica.handed_over());
    let (mut applied, mut most) = (replica.handed_over(), 0);
    for n in 0..2000u64 {
        replica.propose(vec![0; ENTRY_BYTES as usize].into()).unwrap();
        handed.extend(settle(&mut replica, &mut disk));
        let waiting = replica.handed_over().0 - applied.0;
        most = most.max(waiting * ENTRY_BYTES);
        assert!(most <= UNAPPLIED_MAX + ENTRY_BYTES, "{most} bytes wait for the state machine");
        if n % 3 == 0 && replica.handed_over() > applied {
            applied = applied.next();
            replica.applied(applied);
        }
    }
    assert!(most > UNAPPLIED_MAX / 2, "the bound was not reached: {most}");
    assert!(replica.waits_for_applied());
    while replica.waits_for_applied() {
        replica.applied(replica.handed_over());
        handed.extend(settle(&mut replica, &mut disk));
    }
    let indexes: Vec<u64> = handed.iter().map(|e| e.id.index.0).collect();
    assert_eq!(indexes, (1..=indexes.len() as u64).collect::<Vec<_>>(), "each once, in order");
    assert!(indexes.len() > 2000);
}
