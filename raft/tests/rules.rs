//! One test for each rule of the Raft paper (figure 2) and of the thesis' sections on elections, membership,
//! transfer and reads: one replica, messages by hand, a disk that is as quick or slow as the test says.

mod cluster;
mod solo;

use cluster::{member, node_id, payload};
use raft::*;
use solo::{Solo, append, config, entry, envelope, id, names, only, vote};

// AppendEntries, figure 2.

#[test]
fn append_1_refuses_a_leader_of_an_older_term_and_tells_it_so() {
    let mut n = Solo::new(&[1, 2], 3);
    let reply = only(n.hear(1, append(2, id(2, 2), vec![entry(2, 3)], 2)));
    assert_eq!(reply.term(), Term(3));
    assert_eq!(n.ids(), [id(1, 1), id(2, 2)]);
    assert_eq!(n.replica.leader(), None);
}

#[test]
fn append_2_refuses_what_does_not_join_and_hints_where_it_may() {
    let mut n = Solo::new(&[1, 1, 2, 2, 2], 5);
    let reply = only(n.hear(1, append(5, id(4, 9), vec![entry(5, 10)], 0)));
    assert_eq!(reply, Message::AppendReject { term: Term(5), prev: id(4, 9), hint: id(2, 5) });
    let reply = only(n.hear(1, append(5, id(1, 4), vec![entry(5, 5)], 0)));
    assert_eq!(reply, Message::AppendReject { term: Term(5), prev: id(1, 4), hint: id(1, 2) });
    assert_eq!(n.ids().len(), 5);
}

#[test]
fn append_3_removes_a_conflicting_entry_and_all_after_it() {
    let mut n = Solo::new(&[1, 2, 2, 2], 3);
    let replies = n.hear(1, append(3, id(1, 1), vec![entry(3, 2)], 0));
    // What was on disk is acknowledged at once, the rest after the sync.
    let matched = |index| Message::AppendReply { term: Term(3), matched: Index(index) };
    assert_eq!(replies.into_iter().map(|e| e.message).collect::<Vec<_>>(), [matched(1), matched(2)]);
    assert_eq!(n.ids(), [id(1, 1), id(3, 2)]);
}

#[test]
fn append_4_keeps_what_matches_when_a_message_is_late_or_repeated() {
    let mut n = Solo::new(&[1], 1);
    n.hear(1, append(1, id(1, 1), vec![entry(1, 2), entry(1, 3), entry(1, 4)], 0));
    n.hear(1, append(1, id(1, 1), vec![entry(1, 2)], 0));
    n.hear(1, append(1, id(0, 0), vec![entry(1, 1), entry(1, 2)], 0));
    assert_eq!(n.ids().len(), 4);
}

#[test]
fn append_5_commits_no_further_than_what_was_verified() {
    // The entries 2 and 3 are from an older leader, and the new one has not spoken of them.
    let mut n = Solo::new(&[1, 1, 1], 2);
    n.hear(1, append(2, id(1, 1), Vec::new(), 3));
    assert_eq!(n.replica.commit(), Index(1));
    n.hear(1, append(2, id(1, 1), Vec::new(), 0));
    assert_eq!(n.replica.commit(), Index(1), "it never goes back");
}

#[test]
fn append_below_the_commit_index_changes_nothing() {
    let mut n = Solo::new(&[1, 1, 1], 1);
    n.hear(1, append(1, id(1, 3), Vec::new(), 3));
    n.replica.applied(Index(3));
    n.replica.purged(id(1, 2));
    let reply = only(n.hear(1, append(1, id(0, 0), vec![entry(1, 1), entry(1, 2)], 3)));
    assert_eq!(reply, Message::AppendReply { term: Term(1), matched: Index(3) });
    let contradiction = envelope(1, append(1, id(1, 2), vec![Entry { id: id(2, 3), ..entry(1, 3) }], 3));
    assert!(n.replica.step(contradiction).is_err());
    assert_eq!(n.ids().len(), 3);
}

#[test]
fn an_acknowledgement_waits_for_the_disk() {
    let mut n = Solo::new(&[1], 1);
    n.disk_works = false;
    assert!(
        n.hear(1, append(1, id(1, 1), vec![entry(1, 2)], 2))
            .iter()
            .all(|e| matches!(e.message, Message::AppendReply { matched: Index(1), .. }))
    );
    assert!(!n.committed.contains(&id(1, 2)), "nor is it applied before");
    n.sync();
    assert_eq!(only(n.turn()), Message::AppendReply { term: Term(1), matched: Index(2) });
    assert!(n.committed.contains(&id(1, 2)));
}

#[test]
fn malformed_entries_are_refused_and_harm_nothing() {
    for entries in [
        vec![entry(1, 3)],
        vec![entry(1, 2), entry(1, 4)],
        vec![entry(2, 2)],
        vec![Entry { kind: EntryKind::Membership, ..entry(1, 2) }],
    ] {
        let mut n = Solo::new(&[1], 1);
        assert!(matches!(n.replica.step(envelope(1, append(1, id(1, 1), entries, 0))), Err(StepError::Malformed(_))));
        assert_eq!(n.ids().len(), 1);
    }
}

// RequestVote, figure 2.

#[test]
fn vote_1_refuses_an_older_term() {
    let mut n = Solo::new(&[1], 3);
    assert_eq!(only(n.hear(1, vote(2, id(9, 9)))), Message::VoteReply { term: Term(3), granted: false });
}

#[test]
fn vote_2_goes_to_one_candidate_in_a_term() {
    let mut n = Solo::new(&[1], 1);
    assert_eq!(only(n.hear(1, vote(2, id(1, 1)))), Message::VoteReply { term: Term(2), granted: true });
    assert_eq!(only(n.hear(2, vote(2, id(1, 9)))), Message::VoteReply { term: Term(2), granted: false });
    assert_eq!(only(n.hear(1, vote(2, id(1, 1)))), Message::VoteReply { term: Term(2), granted: true });
    assert_eq!(n.hard.voted_for, Some(node_id(1)));
}

#[test]
fn vote_2_compares_logs_by_term_and_then_by_index() {
    for (last, granted) in [(id(3, 1), true), (id(2, 3), true), (id(2, 9), true), (id(2, 2), false), (id(1, 9), false)]
    {
        let mut n = Solo::new(&[1, 2, 2], 4);
        assert_eq!(only(n.hear(1, vote(5, last))), Message::VoteReply { term: Term(5), granted }, "{last}");
    }
}

#[test]
fn a_vote_leaves_only_when_it_is_on_disk() {
    let mut n = Solo::new(&[1], 1);
    n.disk_works = false;
    assert!(n.hear(1, vote(2, id(1, 1))).is_empty());
    n.sync();
    assert_eq!(only(n.turn()), Message::VoteReply { term: Term(2), granted: true });
}

#[test]
fn a_learner_votes_when_asked() {
    // The candidate may know of its promotion before it does (pitfall 54).
    let members = vec![member(0, 100, Suffrage::Learner), member(1, 101, Suffrage::Voter)];
    let mut n = Solo::of(&[1], 1, members);
    assert_eq!(only(n.hear(1, vote(2, id(1, 1)))), Message::VoteReply { term: Term(2), granted: true });
}

// Rules for servers, figure 2.

#[test]
fn all_servers_follow_a_higher_term() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    let term = Term(9);
    n.hear(2, Message::HeartbeatReply { term, round: 0, accepted: Index(0), matched: Index(0) });
    assert!(!n.replica.is_leader());
    assert_eq!(n.hard, HardState { term, voted_for: None });
    n.disk_works = false;
    n.replica.step(envelope(1, append(12, id(1, 1), Vec::new(), 0))).unwrap();
    assert!(n.turn().is_empty(), "nothing leaves in a term that is not on disk");
}

#[test]
fn followers_stand_for_election_when_they_hear_nothing() {
    let mut n = Solo::new(&[1], 1);
    assert!(n.tick_to(1099).is_empty());
    let sent = n.tick_to(1200);
    assert_eq!(names(&sent), [("n1", "PreVote"), ("n2", "PreVote")]);
    assert_eq!(n.hard.term, Term(1), "asking changes nothing");
}

#[test]
fn a_silent_leader_is_doubted_within_one_and_a_half_timeouts() {
    for seed in 0..200 {
        let mut n = Solo::seeded(seed);
        n.tick_to(1000);
        n.hear(1, append(1, id(1, 1), Vec::new(), 1));
        let wait_ms = n.replica.next_deadline_ms() - 1000;
        let timeout_ms = config().timing.election_timeout_ms;
        assert!((timeout_ms..timeout_ms * 3 / 2).contains(&wait_ms), "{wait_ms}");
    }
}

#[test]
fn a_candidate_that_meets_another_tries_again_soon() {
    let timeout_ms = config().timing.election_timeout_ms;
    let mut n = Solo::new(&[1], 1);
    n.replica.campaign();
    n.turn();
    n.hear(1, Message::PreVoteReply { term: Term(2), granted: true });
    assert!(n.replica.next_deadline_ms() >= 1000 + timeout_ms);
    let reply = only(n.hear(2, vote(2, id(1, 1))));
    assert_eq!(reply, Message::VoteReply { term: Term(2), granted: false });
    let due_ms = n.replica.next_deadline_ms();
    assert!((1000 + timeout_ms / 4..1000 + timeout_ms / 2).contains(&due_ms), "{due_ms}");
    n.hear(2, vote(2, id(1, 1)));
    assert!(n.replica.next_deadline_ms() <= due_ms, "who asks again cannot put it off");
    n.hear(1, Message::VoteReply { term: Term(2), granted: true });
    assert!(n.replica.is_leader(), "it can still win");
}

#[test]
fn candidates_ask_all_voters_and_lead_with_a_majority() {
    let mut n = Solo::new(&[1], 1);
    n.replica.campaign();
    n.turn();
    let sent = n.hear(2, Message::PreVoteReply { term: Term(2), granted: true });
    assert_eq!(names(&sent), [("n1", "Vote"), ("n2", "Vote")]);
    assert_eq!(n.hard, HardState { term: Term(2), voted_for: Some(node_id(0)) });
    n.hear(1, Message::VoteReply { term: Term(2), granted: false });
    assert!(!n.replica.is_leader());
    n.hear(2, Message::VoteReply { term: Term(2), granted: true });
    assert!(n.replica.is_leader());
}

#[test]
fn candidates_count_each_voter_once_and_strangers_never() {
    let members = (0..5).map(|at| member(at, 100 + at as u64, Suffrage::Voter)).collect();
    let mut n = Solo::of(&[1], 1, members);
    n.replica.campaign();
    n.turn();
    for from in [1, 2] {
        n.hear(from, Message::PreVoteReply { term: Term(2), granted: true });
    }
    for _ in 0..3 {
        n.hear(1, Message::VoteReply { term: Term(2), granted: true });
    }
    assert_eq!(
        n.replica.step(envelope(7, Message::VoteReply { term: Term(2), granted: true })),
        Err(StepError::Stranger)
    );
    // Another life of n2 is a stranger as well.
    let mut zombie = envelope(2, Message::VoteReply { term: Term(2), granted: true });
    zombie.from_incarnation = Incarnation(9);
    assert_eq!(n.replica.step(zombie), Err(StepError::Stranger));
    assert!(!n.replica.is_leader());
    n.hear(2, Message::VoteReply { term: Term(2), granted: true });
    assert!(n.replica.is_leader());
}

#[test]
fn candidates_do_not_count_votes_of_an_older_term() {
    let mut n = Solo::new(&[1], 1);
    for _ in 0..2 {
        n.replica.campaign();
        n.turn();
        let term = Term(n.replica.term().0 + 1);
        n.hear(1, Message::PreVoteReply { term, granted: true });
    }
    assert_eq!(n.replica.term(), Term(3));
    n.hear(1, Message::VoteReply { term: Term(2), granted: true });
    assert!(!n.replica.is_leader());
}

#[test]
fn candidates_yield_to_the_leader_of_their_term() {
    let mut n = Solo::new(&[1], 1);
    n.replica.campaign();
    n.turn();
    n.hear(1, Message::PreVoteReply { term: Term(2), granted: true });
    n.hear(2, append(2, id(1, 1), vec![entry(2, 2)], 0));
    assert_eq!(n.replica.leader(), Some(&node_id(2)));
}

#[test]
fn leaders_begin_with_an_entry_of_their_term_and_send_it_at_once() {
    let mut n = Solo::new(&[1], 1);
    let sent = n.lead();
    assert_eq!(names(&sent), [("n1", "Append"), ("n2", "Append")]);
    let Message::Append { prev, entries, .. } = &sent[0].message else { panic!() };
    assert_eq!((*prev, entries[0].kind, entries[0].id), (id(1, 1), EntryKind::Noop, id(2, 2)));
}

#[test]
fn leaders_do_not_commit_entries_of_older_terms_by_counting() {
    // Figure 8: entry 2 of term 2 is on a majority, and may still be overwritten.
    let mut n = Solo::new(&[1, 2], 3);
    n.disk_works = true;
    n.lead();
    n.acknowledge(1, 2);
    assert_eq!(n.replica.commit(), Index(0));
    n.acknowledge(1, 3);
    assert_eq!(n.replica.commit(), Index(3));
    assert_eq!(n.committed, [id(1, 1), id(2, 2), id(4, 3)]);
}

#[test]
fn leaders_go_back_by_whole_terms_until_the_logs_agree() {
    let mut n = Solo::new(&[1, 1, 2, 2, 2, 2, 4], 4);
    n.lead();
    // The follower has 1 1 3 3 3 3 3 3: no entry of term 2 to 4 can agree.
    let hint = id(3, 7);
    let sent = n.hear(2, Message::AppendReject { term: Term(5), prev: id(4, 7), hint });
    let Message::Append { prev, .. } = only(sent) else { panic!() };
    assert_eq!(prev, id(2, 6));
    let sent = n.hear(2, Message::AppendReject { term: Term(5), prev, hint: id(1, 2) });
    let Message::Append { prev, entries, .. } = only(sent) else { panic!() };
    assert_eq!((prev, entries.len()), (id(1, 2), 6));
    // A rejection that comes late or twice says nothing any more.
    assert!(n.hear(2, Message::AppendReject { term: Term(5), prev: id(2, 6), hint: id(1, 2) }).is_empty());
}

#[test]
fn leaders_pipeline_within_bounded_bytes() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.acknowledge(1, 2);
    for _ in 0..60 {
        n.replica.propose(payload("some payload or other")).unwrap();
    }
    let sent: Vec<usize> = n
        .turn()
        .into_iter()
        .filter(|e| e.to == node_id(1))
        .map(|e| if let Message::Append { entries, .. } = e.message { entries.len() } else { 0 })
        .collect();
    let limits = config().limits;
    let bytes = sent.iter().sum::<usize>() as u64 * (21 + 64);
    assert!(sent.len() > 1, "several messages travel at once");
    assert!(bytes <= limits.in_flight_bytes_max + limits.batch_bytes_max);
    assert!(sent.iter().all(|count| *count as u64 * (21 + 64) <= limits.batch_bytes_max));
}

#[test]
fn leaders_refuse_a_second_leader_of_their_term_loudly() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    assert!(n.replica.step(envelope(2, append(2, id(1, 1), Vec::new(), 0))).is_err());
    n.turn();
    assert_eq!(n.alarms, [Alarm::TwoLeaders { term: Term(2), other: node_id(2) }]);
}

// Thesis 9.6 and 4.2.3, and identities.

#[test]
fn pre_votes_change_nothing_at_the_voter() {
    let mut n = Solo::new(&[1], 1);
    let due_ms = n.replica.next_deadline_ms();
    let reply = only(n.hear(1, Message::PreVote { term: Term(8), last: id(1, 1) }));
    assert_eq!(reply, Message::PreVoteReply { term: Term(8), granted: true });
    let reply = only(n.hear(1, Message::PreVote { term: Term(8), last: id(0, 0) }));
    assert_eq!(reply, Message::PreVoteReply { term: Term(1), granted: false });
    assert_eq!(n.hard, HardState { term: Term(1), voted_for: None });
    assert_eq!(n.replica.next_deadline_ms(), due_ms);
}

#[test]
fn who_hears_a_leader_helps_nobody_against_it() {
    let mut n = Solo::new(&[1], 1);
    n.hear(1, append(1, id(1, 1), Vec::new(), 0));
    assert!(n.hear(2, vote(5, id(9, 9))).is_empty());
    let reply = only(n.hear(2, Message::PreVote { term: Term(5), last: id(9, 9) }));
    assert_eq!(reply, Message::PreVoteReply { term: Term(1), granted: false });
    // Unless the leader itself wants it, or is the one who asks.
    let reply = only(n.hear(1, Message::PreVote { term: Term(5), last: id(9, 9) }));
    assert_eq!(reply, Message::PreVoteReply { term: Term(5), granted: true });
    let asked = Message::Vote { term: Term(5), last: id(9, 9), transfer: true };
    assert_eq!(only(n.hear(2, asked)), Message::VoteReply { term: Term(5), granted: true });
}

#[test]
fn a_new_life_of_a_node_does_not_answer_for_the_old_one() {
    let mut n = Solo::new(&[1], 1);
    let mut meant_for_another = envelope(1, vote(5, id(9, 9)));
    meant_for_another.to_incarnation = Incarnation(55);
    assert_eq!(n.replica.step(meant_for_another), Err(StepError::OtherIncarnation));
    let mut misdirected = envelope(1, vote(5, id(9, 9)));
    misdirected.to = node_id(2);
    assert_eq!(n.replica.step(misdirected), Err(StepError::Misdirected));
    assert!(n.turn().is_empty());
}

#[test]
fn a_removed_or_wiped_node_never_stands() {
    for members in [
        vec![member(1, 101, Suffrage::Voter)],
        vec![member(0, 77, Suffrage::Voter), member(1, 101, Suffrage::Voter)],
        vec![member(0, 100, Suffrage::NonVoter), member(1, 101, Suffrage::Voter)],
    ] {
        let mut n = Solo::of(&[1], 1, members);
        n.replica.campaign();
        assert!(n.tick_to(9000).is_empty());
        assert_eq!(n.replica.term(), Term(1));
    }
}

#[test]
fn a_swarm_of_overtaken_rejections_is_not_taken_for_lost_entries() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.acknowledge(1, 2);
    n.replica.propose(payload("x")).unwrap();
    n.turn();
    let term = n.replica.term();
    let denial = Message::AppendReject { term, prev: id(term.0, 2), hint: id(1, 1) };
    for _ in 0..9 {
        n.hear(1, denial.clone());
    }
    assert_eq!(n.alarms, []);
    // A node whose data was rolled back goes on denying, and does not find the entry when a heartbeat names it.
    let lost = Message::HeartbeatReply { term, round: 0, accepted: Index(1), matched: Index(1) };
    for now_ms in [1070, 1140, 1210, 1280] {
        n.tick_to(now_ms);
        n.hear(1, lost.clone());
        n.hear(1, denial.clone());
    }
    let alarm = Alarm::PeerLostEntries { peer: node_id(1), acknowledged: Index(2), has: Index(1) };
    assert_eq!(n.alarms, [alarm]);
}

#[test]
fn a_denial_followed_by_an_honest_heartbeat_answer_is_forgotten() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.acknowledge(1, 2);
    n.replica.propose(payload("x")).unwrap();
    n.turn();
    let term = n.replica.term();
    let found = Message::HeartbeatReply { term, round: 0, accepted: Index(2), matched: Index(2) };
    for now_ms in [1070, 1140, 1210, 1280, 1350, 1420] {
        n.tick_to(now_ms);
        n.hear(1, Message::AppendReject { term, prev: id(term.0, 2), hint: id(1, 1) });
        n.hear(1, found.clone());
    }
    assert_eq!(n.alarms, []);
}

// Thesis 6.2, and disks that hang.

#[test]
fn a_leader_that_knows_of_no_commit_names_nobody_who_may_lack_one() {
    let mut n = Solo::new(&[1, 1, 1], 1);
    n.lead();
    n.acknowledge(1, 2);
    assert_eq!(n.replica.commit(), Index(0), "entry 3 may be committed all the same");
    let sent = n.tick_to(1131);
    assert!(!n.replica.is_leader());
    assert!(sent.iter().all(|e| !matches!(e.message, Message::TimeoutNow { .. })), "{sent:?}");
}

#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.tick_to(1050);
    n.acknowledge(1, 2);
    n.tick_to(1130);
    assert!(n.replica.is_leader());
    let sent = n.tick_to(1131);
    assert!(!n.replica.is_leader());
    // It may only be deaf: then they would wait for a whole timeout from its last heartbeat on.
    assert_eq!(names(&sent), [("n1", "TimeoutNow")], "the one that holds most of its log");
}

#[test]
fn a_leader_whose_disk_hangs_steps_down_and_does_not_return() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.acknowledge(1, 2);
    n.disk_works = false;
    n.replica.propose(payload("x")).unwrap();
    n.turn();
    let mut steps = 0;
    while n.replica.is_leader() {
        steps += 10;
        n.tick_to(1000 + steps);
        let term = n.replica.term();
        n.hear(1, Message::HeartbeatReply { term, round: 0, accepted: Index(2), matched: Index(2) });
        assert!(steps <= 200, "at most two election timeouts");
    }
    assert_eq!(n.alarms, [Alarm::DiskStalled]);
    assert!(n.tick_to(5000).is_empty(), "it cannot persist a vote, so it does not ask for any");
    n.disk_works = true;
    n.sync();
    assert_eq!(names(&n.tick_to(6000)), [("n1", "PreVote"), ("n2", "PreVote")]);
}

#[test]
fn a_voter_alone_gets_no_second_one_while_its_disk_hangs() {
    let mut n = Solo::of(&[1], 1, vec![member(0, 100, Suffrage::Voter)]);
    n.replica.campaign();
    n.turn();
    n.replica.change_membership(Change::Add(member(1, 101, Suffrage::Voter))).unwrap();
    n.turn();
    n.disk_works = false;
    n.replica.propose(payload("x")).unwrap();
    n.turn();
    let suffrage = |n: &Solo| n.replica.membership().unwrap().1.get(&node_id(1)).unwrap().suffrage;
    n.tick_to(2500);
    n.acknowledge(1, 4);
    assert!(n.replica.is_leader(), "nobody else can lead");
    assert_eq!(suffrage(&n), Suffrage::Learner, "a second voter would wait for a leader whose disk hangs");
    assert_eq!(n.replica.change_membership(Change::Remove(node_id(1))), Err(ChangeError::NotReady));
    n.disk_works = true;
    n.sync();
    n.tick_to(2510);
    n.acknowledge(1, 4);
    assert_eq!(suffrage(&n), Suffrage::Voter);
}

#[test]
fn heartbeats_go_on_while_the_disk_is_slow() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.disk_works = false;
    n.replica.propose(payload("x")).unwrap();
    n.turn();
    assert_eq!(names(&n.tick_to(1050)), [("n1", "Heartbeat"), ("n2", "Heartbeat")]);
}

// Thesis 6.4: reads.

#[test]
fn reads_wait_for_a_round_that_began_after_them() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.replica.read_index(ReadToken(1)).unwrap();
    assert!(n.turn().is_empty(), "the term has committed nothing, so nothing can be known");
    let sent = n.acknowledge(1, 2);
    assert!(matches!(sent[0].message, Message::Heartbeat { round: 1, .. }));
    n.replica.read_index(ReadToken(2)).unwrap();
    n.turn();
    let reply = |round| Message::HeartbeatReply { term: Term(2), round, accepted: Index(2), matched: Index(2) };
    n.hear(2, reply(1));
    assert_eq!(n.readable, [(ReadToken(1), Index(2))]);
    assert!(n.replica.step(envelope(1, reply(99))).is_err(), "nobody can answer what was not asked");
    n.hear(1, reply(2));
    assert_eq!(n.readable, [(ReadToken(1), Index(2)), (ReadToken(2), Index(2))]);
}

#[test]
fn reads_share_a_round_and_a_later_answer_serves_earlier_rounds() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.acknowledge(1, 2);
    for token in 0..100 {
        n.replica.read_index(ReadToken(token)).unwrap();
    }
    assert_eq!(n.turn().len(), 2);
    n.replica.read_index(ReadToken(100)).unwrap();
    n.turn();
    n.hear(1, Message::HeartbeatReply { term: Term(2), round: 2, accepted: Index(2), matched: Index(2) });
    assert_eq!(n.readable.len(), 101);
}

#[test]
fn reads_fail_when_leadership_is_lost() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.replica.read_index(ReadToken(1)).unwrap();
    n.acknowledge(1, 2);
    n.replica.read_index(ReadToken(2)).unwrap();
    n.hear(1, append(7, id(2, 2), Vec::new(), 0));
    assert_eq!(n.failed_reads, [ReadToken(1), ReadToken(2)]);
    assert!(n.readable.is_empty());
    assert_eq!(n.replica.read_index(ReadToken(3)), Err(ReadError::NotLeader { leader: Some(node_id(1)) }));
}

// Thesis 3.10: transfer.

#[test]
fn a_transfer_brings_the_target_up_to_date_and_then_tells_it() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.acknowledge(1, 2);
    assert_eq!(n.replica.transfer(Some(&node_id(0))), Err(TransferError::AlreadyLeader));
    assert_eq!(n.replica.transfer(Some(&node_id(9))), Err(TransferError::NotVoter));
    n.replica.transfer(Some(&node_id(2))).unwrap();
    assert!(matches!(n.replica.propose(payload("x")), Err(ProposeError::Transferring { .. })));
    assert!(n.turn().iter().all(|e| e.message.name() != "TimeoutNow"));
    let sent = n.acknowledge(2, 2);
    assert!(names(&sent).contains(&("n2", "TimeoutNow")));
    n.tick_to(1060);
    n.acknowledge(1, 2);
    n.tick_to(1100);
    assert_eq!(n.transfer_failed, Some(node_id(2)));
    n.replica.propose(payload("x")).unwrap();
}

#[test]
fn the_target_of_a_transfer_stands_at_once() {
    let mut n = Solo::new(&[1], 1);
    n.hear(1, append(1, id(1, 1), Vec::new(), 1));
    let sent = n.hear(1, Message::TimeoutNow { term: Term(1) });
    let vote = Message::Vote { term: Term(2), last: id(1, 1), transfer: true };
    assert!(sent.iter().all(|e| e.message == vote) && sent.len() == 2);
}

// Thesis 4.1 and 4.2: membership.

#[test]
fn a_change_waits_for_the_term_and_for_the_change_before() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    let add = |at: usize| Change::Add(member(at, 100 + at as u64, Suffrage::NonVoter));
    assert_eq!(n.replica.change_membership(add(3)), Err(ChangeError::NotReady));
    n.acknowledge(1, 2);
    n.replica.change_membership(add(3)).unwrap();
    assert_eq!(n.replica.change_membership(add(4)), Err(ChangeError::NotReady));
    n.turn();
    n.acknowledge(1, 3);
    n.replica.change_membership(add(4)).unwrap();
    assert_eq!(n.replica.change_membership(add(4)), Err(ChangeError::NotReady));
}

#[test]
fn a_voter_joins_as_a_learner_and_votes_when_it_has_caught_up() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.acknowledge(1, 2);
    n.replica.change_membership(Change::Add(member(3, 103, Suffrage::Voter))).unwrap();
    n.turn();
    let suffrage = |n: &Solo| n.replica.membership().unwrap().1.get(&node_id(3)).unwrap().suffrage;
    assert_eq!(suffrage(&n), Suffrage::Learner);
    // It does not count: n0 and n3 are no majority of three voters.
    n.acknowledge(3, 3);
    assert_eq!(n.replica.commit(), Index(2));
    n.acknowledge(1, 3);
    assert_eq!(suffrage(&n), Suffrage::Voter);
    assert_eq!(n.replica.membership().unwrap().0, Index(4));
    // Now it counts, and three of four are needed.
    n.acknowledge(3, 4);
    assert_eq!(n.replica.commit(), Index(3));
    n.acknowledge(1, 4);
    assert_eq!(n.replica.commit(), Index(4));
}

#[test]
fn a_learner_that_was_slow_to_connect_becomes_a_voter_though_nothing_more_is_written() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.acknowledge(1, 2);
    n.replica.change_membership(Change::Add(member(3, 103, Suffrage::Voter))).unwrap();
    n.turn();
    n.acknowledge(1, 3);
    n.acknowledge(2, 3);
    let suffrage = |n: &Solo| n.replica.membership().unwrap().1.get(&node_id(3)).unwrap().suffrage;
    // Its first round takes longer than an election timeout, and there is no second one.
    let mut now_ms = 0;
    while now_ms < 500 {
        now_ms += 10;
        n.tick_to(now_ms);
        n.acknowledge(1, 3);
        n.acknowledge(2, 3);
    }
    n.acknowledge(3, 3);
    for _ in 0..3 {
        now_ms += 10;
        n.tick_to(now_ms);
        n.acknowledge(1, 3);
        n.acknowledge(2, 3);
    }
    assert_eq!(suffrage(&n), Suffrage::Voter);
}

#[test]
fn a_configuration_is_in_force_when_appended_and_goes_with_its_entry() {
    let mut n = Solo::new(&[1], 1);
    let two = Membership::new(vec![member(0, 100, Suffrage::Voter), member(1, 101, Suffrage::Voter)]).unwrap();
    let change = Entry { id: id(1, 2), kind: EntryKind::Membership, payload: two.encode() };
    n.hear(1, append(1, id(1, 1), vec![change], 0));
    assert_eq!(n.replica.membership().unwrap().1.members().len(), 2);
    n.hear(2, append(2, id(1, 1), vec![entry(2, 2)], 0));
    assert_eq!(n.replica.membership().unwrap().1.members().len(), 3);
}

#[test]
fn a_removed_leader_serves_until_its_removal_is_committed() {
    let mut n = Solo::new(&[1], 1);
    n.lead();
    n.acknowledge(1, 2);
    n.replica.change_membership(Change::Remove(node_id(0))).unwrap();
    n.turn();
    n.acknowledge(1, 3);
    assert!(n.replica.is_leader(), "its own copy does not count towards two of n1 and n2");
    let sent = n.acknowledge(2, 3);
    assert!(!n.replica.is_leader());
    assert!(names(&sent).contains(&("n1", "Heartbeat")), "everybody is told before it goes");
    assert!(sent.iter().any(|e| e.message.name() == "TimeoutNow"));
    assert!(n.tick_to(9000).is_empty(), "and it does not stand again");
}

/// Thesis 4.2.2. Of two voters, one holds its own removal, not committed: the other has the shorter log and cannot win,
/// so a cluster in which the first does not stand has no leader ever again.
#[test]
fn a_node_stands_until_its_own_removal_is_known_to_be_committed() {
    let members = (0..2).map(|at| member(at, 100 + at as u64, Suffrage::Voter)).collect();
    let mut n = Solo::of(&[1], 1, members);
    n.lead();
    n.acknowledge(1, 2);
    n.replica.change_membership(Change::Remove(node_id(0))).unwrap();
    n.turn();
    n.tick_to(1200);
    assert!(!n.replica.is_leader(), "the other was not heard for too long");
    assert_eq!(names(&n.tick_to(3000)), [("n1", "PreVote")]);
    let term = Term(n.replica.term().0 + 1);
    assert_eq!(names(&n.hear(1, Message::PreVoteReply { term, granted: true })), [("n1", "Vote")]);
    assert!(!n.replica.is_leader(), "its own vote does not count");
    n.hear(1, Message::VoteReply { term, granted: true });
    assert!(n.replica.is_leader());
    n.acknowledge(1, 4);
    assert!(!n.replica.is_leader(), "its removal is committed along with the first entry of its term");
    assert!(n.tick_to(9000).is_empty(), "and it does not stand again");
}

#[test]
fn the_last_voter_stays() {
    let members = vec![member(0, 100, Suffrage::Voter), member(1, 101, Suffrage::NonVoter)];
    let mut n = Solo::of(&[1], 1, members);
    n.replica.campaign();
    n.turn();
    assert_eq!(n.replica.change_membership(Change::Remove(node_id(0))), Err(ChangeError::LastVoter));
    assert_eq!(n.replica.change_membership(Change::Remove(node_id(5))), Err(ChangeError::NotMember));
    n.acknowledge(1, 2);
    n.replica.change_membership(Change::Remove(node_id(1))).unwrap();
    let sent = n.turn();
    assert!(names(&sent).contains(&("n1", "Append")), "who is removed is told");
}

#[test]
fn a_follower_whose_leader_is_gone_asks_soon_and_one_that_still_hears_it_refuses() {
    let mut n = Solo::new(&[1], 1);
    n.tick_to(1000);
    n.hear(1, append(1, id(1, 1), vec![entry(1, 2)], 1));
    let due_ms = n.replica.next_deadline_ms();
    n.replica.lost_contact(&node_id(2));
    assert_eq!(n.replica.next_deadline_ms(), due_ms, "n2 is nothing to it");
    let reply = only(n.hear(2, Message::PreVote { term: Term(2), last: id(1, 2) }));
    assert_eq!(reply, Message::PreVoteReply { term: Term(1), granted: false });
    n.replica.lost_contact(&node_id(1));
    assert!(n.replica.next_deadline_ms() < 1000 + config().timing.election_timeout_ms);
    let reply = only(n.hear(2, Message::PreVote { term: Term(2), last: id(1, 2) }));
    assert_eq!(reply, Message::PreVoteReply { term: Term(2), granted: true });
    // The leader lives after all.
    n.hear(1, append(1, id(1, 2), Vec::new(), 1));
    assert!(n.replica.next_deadline_ms() >= 1000 + config().timing.election_timeout_ms);
    let reply = only(n.hear(2, Message::PreVote { term: Term(2), last: id(1, 2) }));
    assert_eq!(reply, Message::PreVoteReply { term: Term(1), granted: false });
    n.replica.lost_contact(&node_id(1));
    let sent = n.tick_to(1000 + config().timing.election_timeout_ms - 1);
    assert!(names(&sent).contains(&("n2", "PreVote")));
}

#[test]
fn a_wrong_state_machine_is_replaced_where_it_stands_and_moves_no_further_until_then() {
    let mut n = Solo::new(&[1], 1);
    n.hear(1, append(1, id(1, 1), vec![entry(1, 2), entry(1, 3)], 3));
    let (index, membership) = n.replica.membership().map(|(index, m)| (index, (**m).clone())).unwrap();
    let copy = |at| SnapshotMeta { last: id(1, at), membership_index: index, membership: membership.clone() };
    assert_eq!(n.replica.handed_over(), Index(3));
    assert_eq!(
        n.replica.offer_snapshot(&copy(3)),
        Err(SnapshotError::Stale),
        "a good one is not replaced by its equal"
    );
    n.replica.distrust_state_machine();
    n.hear(1, append(1, id(1, 3), vec![entry(1, 4)], 4));
    assert_eq!(n.replica.handed_over(), Index(3));
    assert_eq!(n.replica.offer_snapshot(&copy(2)), Err(SnapshotError::Stale), "it never goes back");
    assert_eq!(n.replica.offer_snapshot(&copy(3)), Ok(()));
    n.replica.snapshot_installed(copy(3));
    n.turn();
    assert_eq!(n.replica.handed_over(), Index(4), "and goes on from there");
}

#[test]
fn late_votes_do_not_make_a_leader_of_a_node_that_takes_over_a_snapshot() {
    let mut n = Solo::new(&[1], 1);
    let (index, membership) = n.replica.membership().map(|(index, m)| (index, (**m).clone())).unwrap();
    n.replica.campaign();
    n.turn();
    n.hear(1, Message::PreVoteReply { term: Term(2), granted: true });
    // It asked for votes, was cut off, and the others went on without it.
    let copy = SnapshotMeta { last: id(1, 5), membership_index: index, membership };
    assert_eq!(n.replica.offer_snapshot(&copy), Ok(()));
    n.hear(1, Message::VoteReply { term: Term(2), granted: true });
    assert!(!n.replica.is_leader(), "its log is about to be replaced");
    n.replica.snapshot_installed(copy);
    n.turn();
    assert_eq!(n.replica.handed_over(), Index(5));
    let mut n = Solo::new(&[1], 1);
    n.replica.campaign();
    n.turn();
    n.hear(1, Message::PreVoteReply { term: Term(2), granted: true });
    n.replica.distrust_state_machine();
    n.hear(1, Message::VoteReply { term: Term(2), granted: true });
    assert!(!n.replica.is_leader(), "what it would serve is wrong");
}

#[test]
fn memberships_survive_encoding_and_garbage_does_not_pass() {
    let all = Membership::new((0..5).map(|at| member(at, at as u64, Suffrage::Voter)).collect()).unwrap();
    let bytes = all.encode();
    assert_eq!(Membership::decode(&bytes).unwrap(), all);
    for cut in 0..bytes.len() {
        assert!(Membership::decode(&bytes[..cut]).is_err());
    }
    let twice = vec![member(0, 1, Suffrage::Voter), member(0, 2, Suffrage::Voter)];
    assert!(Membership::new(twice).is_err());
    assert!(Membership::new(vec![member(0, 1, Suffrage::Learner)]).is_err());
}
