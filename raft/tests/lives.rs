//! Which life of a node a message is for, and from: memberships made by hand do not know it (pitfall 28), until the leader
//! has heard from the member and puts it in its place.

mod cluster;
mod solo;

use cluster::{member, node_id, payload, test_config};
use raft::*;
use solo::{Solo, append, envelope, id, vote};

/// n0 after a recovery by hand: it knows its own life and nobody else's.
fn recovered() -> Solo {
    Solo::of(&[1], 1, vec![member(0, 100, Suffrage::Voter), by_hand(1), by_hand(2)])
}

fn by_hand(at: usize) -> Member {
    member(at, 0, Suffrage::Voter)
}

fn lives(n: &Solo) -> Vec<u64> {
    let (_, membership) = n.replica.membership().unwrap();
    membership.members().iter().map(|m| m.incarnation.0).collect()
}

fn of_life(life: u64, mut envelope: Envelope) -> Envelope {
    envelope.from_incarnation = Incarnation(life);
    envelope
}

/// n0 leads and its first entry is committed with n1's help; nothing was pinned yet, for no heartbeat was due.
fn leading() -> Solo {
    let mut n = recovered();
    n.lead();
    n.acknowledge(1, 2);
    n
}

/// The time of the next heartbeat has come.
fn beat(n: &mut Solo) {
    n.tick_to(1025);
}

#[test]
fn a_leader_pins_the_lives_that_it_has_heard_and_refuses_others_from_then_on() {
    let mut n = leading();
    assert_eq!(lives(&n), [100, 0, 0]);
    let voters = n.replica.membership().unwrap().1.voters().count();
    beat(&mut n);
    assert_eq!(lives(&n), [100, 101, 0], "n2 has not been heard");
    assert_eq!(n.replica.membership().unwrap().1.voters().count(), voters, "who votes does not change");
    // One change at a time: n2's life waits for the entry before.
    n.acknowledge(2, 2);
    n.tick_to(1050);
    assert_eq!(lives(&n), [100, 101, 0]);
    n.acknowledge(1, 3);
    n.tick_to(1075);
    assert_eq!(lives(&n), [100, 101, 102]);
    // Acknowledgements made before the pin still count.
    let term = n.replica.term();
    n.acknowledge(1, 4);
    assert_eq!(n.replica.commit(), Index(4));
    let stranger = of_life(55, envelope(1, Message::AppendReply { term, matched: Index(4) }));
    assert_eq!(n.replica.step(stranger), Err(StepError::Stranger));
}

#[test]
fn a_pin_waits_for_an_entry_of_the_own_term() {
    let mut n = recovered();
    n.lead();
    // n1 answers, and has not acknowledged the leader's first entry.
    n.acknowledge(1, 1);
    beat(&mut n);
    assert_eq!(lives(&n), [100, 0, 0]);
    n.acknowledge(1, 2);
    n.tick_to(1050);
    assert_eq!(lives(&n), [100, 101, 0]);
}

#[test]
fn two_lives_never_count_together_in_one_term_also_before_the_pin() {
    let mut n =
        Solo::of(&[1], 1, vec![member(0, 100, Suffrage::Voter), by_hand(1), by_hand(2), by_hand(3), by_hand(4)]);
    let term = Term(2);
    n.replica.campaign();
    n.turn();
    for from in [1, 2] {
        n.hear(from, Message::PreVoteReply { term, granted: true });
    }
    for from in [1, 2] {
        n.hear(from, Message::VoteReply { term, granted: true });
    }
    assert!(n.replica.is_leader());
    n.acknowledge(1, 1);
    let other = of_life(55, envelope(1, Message::AppendReply { term, matched: Index(2) }));
    assert_eq!(n.replica.step(other), Err(StepError::Stranger));
    n.acknowledge(2, 2);
    assert_eq!(n.replica.commit(), Index(0), "n0 and n2 alone are no majority of five");
    // What is sent from now on is for the life that was heard.
    let to = n.tick_to(1025).into_iter().find(|e| e.to == node_id(1)).unwrap();
    assert_eq!(to.to_incarnation, Incarnation(101));
}

#[test]
fn a_node_without_a_log_answers_nobody_that_does_not_name_its_life() {
    let mut emptied = Replica::new(test_config(0, 5), Recovered::default()).unwrap();
    emptied.tick(1000);
    for message in [
        vote(7, id(1, 1)),
        Message::PreVote { term: Term(7), last: id(1, 1) },
        append(7, id(0, 0), vec![], 0),
        Message::Heartbeat { term: Term(7), round: 0, matched: id(0, 0), commit: Index(0) },
    ] {
        let mut meant_for_any = envelope(1, message.clone());
        meant_for_any.to_incarnation = Incarnation(0);
        assert_eq!(emptied.step(meant_for_any), Err(StepError::OtherIncarnation));
    }
    assert!(emptied.take_effects().messages.is_empty());
    assert_eq!(emptied.term(), Term(0), "it has promised nothing");
    // Who adds it anew names it.
    assert_eq!(emptied.step(envelope(1, vote(7, id(1, 1)))), Ok(()));
}

#[test]
fn a_recovered_node_with_a_log_answers_until_it_is_pinned_and_its_copy_of_another_life_not_after() {
    let mut n = Solo::of(&[1], 1, vec![by_hand(0), by_hand(1), by_hand(2)]);
    let mut meant_for_any = envelope(1, vote(2, id(1, 1)));
    meant_for_any.to_incarnation = Incarnation(0);
    assert_eq!(n.replica.step(meant_for_any), Ok(()));
    // The leader pins another life under this name: this one neither stands nor counts any more.
    let pinned = Membership::new(vec![member(0, 77, Suffrage::Voter), by_hand(1), by_hand(2)]).unwrap();
    let entry = Entry { id: id(2, 2), kind: EntryKind::Membership, payload: pinned.encode() };
    n.hear(1, append(2, id(1, 1), vec![entry], 0));
    n.hear(1, Message::Heartbeat { term: Term(2), round: 0, matched: id(2, 2), commit: Index(2) });
    n.replica.campaign();
    assert!(!n.tick_to(9000).iter().any(|e| e.message.name() == "PreVote"));
}

#[test]
fn a_leader_pins_its_own_life_and_a_new_leader_goes_on_where_the_old_one_stopped() {
    // A copy of the database from another recovered node does not know this node's life.
    let mut n = Solo::of(&[1], 1, vec![by_hand(0)]);
    n.turn();
    assert!(n.replica.is_leader(), "a sole voter leads at once");
    beat(&mut n);
    assert_eq!(lives(&n), [100]);
    // An entry that is overwritten takes its pins along.
    let mut n = leading();
    beat(&mut n);
    assert_eq!(lives(&n), [100, 101, 0]);
    let noop = Entry { id: id(3, 3), kind: EntryKind::Noop, payload: payload("") };
    n.hear(2, append(3, id(2, 2), vec![noop], 2));
    assert_eq!(lives(&n), [100, 0, 0]);
}

#[test]
fn learners_and_read_replicas_are_pinned_too() {
    let members =
        vec![member(0, 100, Suffrage::Voter), member(1, 0, Suffrage::NonVoter), member(2, 0, Suffrage::Learner)];
    let mut n = Solo::of(&[1], 1, members);
    n.turn();
    assert!(n.replica.is_leader());
    let term = n.replica.term();
    for from in [1, 2] {
        n.hear(from, Message::HeartbeatReply { term, round: 0, accepted: Index(0), matched: Index(0) });
    }
    beat(&mut n);
    assert_eq!(lives(&n), [100, 101, 102]);
}

#[test]
fn nobody_is_added_without_a_life() {
    let mut n = leading();
    let change = Change::Add(member(3, 0, Suffrage::Voter));
    assert!(matches!(n.replica.change_membership(change), Err(ChangeError::Invalid(_))));
}

#[test]
fn a_message_from_no_life_is_malformed() {
    let mut n = recovered();
    let nobody = of_life(0, envelope(1, vote(2, id(1, 1))));
    assert!(matches!(n.replica.step(nobody), Err(StepError::Malformed(_))));
}
