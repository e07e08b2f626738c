//! Forming in a simulated world: lobbies and a network that delays, loses and reorders, nodes that crash and come back, all
//! of it drawn from a seed. The world knows everything and checks after every step.

use super::*;
use parking_lot::Mutex;
use raft::Incarnation;
use std::collections::BTreeSet;
use std::sync::Arc;

/// As splitmix64; good enough for schedules.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

#[derive(Clone, Debug)]
enum Question {
    Notify(News),
    Promise(ClusterId),
    Formed(ClusterId, Membership),
}

#[derive(Debug)]
enum Event {
    /// A node begins a pass, unless it was restarted since.
    Pass {
        node: usize,
        life: u32,
    },
    Ask {
        from: usize,
        life: u32,
        to: usize,
        question: Question,
    },
    Answer {
        to: usize,
        life: u32,
        from: usize,
        question: Question,
        answer: Answer,
    },
    /// The answers to promises are not waited for any longer.
    GiveUp {
        node: usize,
        life: u32,
        cluster: ClusterId,
    },
    LogMade {
        node: usize,
        life: u32,
        attempt: Attempt,
    },
    Crash {
        node: usize,
    },
    Start {
        node: usize,
    },
}

struct Node {
    lobby: Option<Lobby>,
    kept: Arc<Mutex<Option<Founder>>>,
    /// What its log says.
    belongs: Option<ClusterId>,
    attempt: Option<(Attempt, BTreeSet<usize>)>,
    life: u32,
    up: bool,
}

struct World {
    random: Random,
    expect: usize,
    now_ms: u64,
    number: u64,
    events: BTreeMap<(u64, u64), Event>,
    nodes: Vec<Node>,
    /// Formed: the log of the founder exists.
    formed: BTreeMap<u128, Membership>,
    drawn: u128,
    calm: bool,
    loss_percent: u64,
    slow_percent: u64,
    patience_ms_max: u64,
    /// Ways that no message gets through until the weather is calm.
    cut: BTreeSet<(usize, usize)>,
    log: Vec<String>,
}

fn address(node: usize) -> String {
    format!("h{node}:1")
}

fn candidate(node: usize) -> Candidate {
    Candidate { id: format!("n{node}"), address: address(node), incarnation: Incarnation(node as u64 + 1) }
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let expect = 1 + random.next(5) as usize;
        let count = expect + random.next(expect as u64) as usize;
        let (loss_percent, slow_percent) = (random.next(60), random.next(60));
        let patience_ms_max = [300, 2000, 10_000][random.next(3) as usize];
        let nodes = (0..count)
            .map(|_| Node { lobby: None, kept: Arc::default(), belongs: None, attempt: None, life: 0, up: false })
            .collect();
        let mut world = World {
            random,
            expect,
            now_ms: 0,
            number: 0,
            events: BTreeMap::new(),
            nodes,
            formed: BTreeMap::new(),
            drawn: 0,
            calm: false,
            loss_percent,
            slow_percent,
            patience_ms_max,
            cut: BTreeSet::new(),
            log: Vec::new(),
        };
        for node in 0..count {
            let at_ms = world.random.next(3000);
            world.at(at_ms, Event::Start { node });
        }
        let cut_percent = world.random.next(50);
        for way in (0..count).flat_map(|from| (0..count).map(move |to| (from, to))) {
            if world.random.next(100) < cut_percent {
                world.cut.insert(way);
            }
        }
        for _ in 0..world.random.next(8) {
            let (at_ms, node) = (world.random.next(20_000), world.random.next(count as u64) as usize);
            world.at(at_ms, Event::Crash { node });
        }
        world
    }

    fn at(&mut self, after_ms: u64, event: Event) {
        self.number += 1;
        self.events.insert((self.now_ms + after_ms, self.number), event);
    }

    /// A message on its way; it may be lost, or take long.
    fn send(&mut self, from: usize, event: Event) {
        let to = match &event {
            Event::Ask { to, .. } | Event::Answer { to, .. } => *to,
            other => panic!("no message: {other:?}"),
        };
        let lost = self.random.next(100) < self.loss_percent || self.cut.contains(&(from, to));
        if !self.calm && lost {
            return;
        }
        let slow = !self.calm && self.random.next(100) < self.slow_percent;
        let delay_ms = if slow { self.random.next(8000) } else { 1 + self.random.next(50) };
        self.at(delay_ms, event);
    }

    fn start(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        if state.up {
            return;
        }
        state.up = true;
        state.life += 1;
        state.attempt = None;
        if state.belongs.is_none() {
            let kept = Arc::clone(&state.kept);
            let promised = kept.lock().clone();
            let keep = Box::new(move |founder: Option<&Founder>| {
                *kept.lock() = founder.cloned();
                Ok(())
            });
            let mut lobby = Lobby::new(candidate(node), self.expect, promised, keep);
            lobby.open();
            state.lobby = Some(lobby);
        }
        let life = state.life;
        self.at(1, Event::Pass { node, life });
    }

    fn crash(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        (state.up, state.lobby, state.attempt) = (false, None, None);
        let after_ms = self.random.next(5000);
        self.at(after_ms, Event::Start { node });
    }

    fn is_current(&self, node: usize, life: u32) -> bool {
        self.nodes[node].up && self.nodes[node].life == life
    }

    fn pass(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let all: Vec<String> = (0..self.nodes.len()).map(address).collect();
        let Some(lobby) = &mut self.nodes[node].lobby else { return };
        if let Some(cluster) = lobby.told() {
            self.nodes[node].lobby = None;
            return self.belong(node, cluster);
        }
        let news = lobby.news();
        assert_eq!(news.addresses(&all).len(), all.len());
        self.drawn += 1;
        let attempt = lobby.begin(ClusterId(self.drawn), self.now_ms);
        for to in 0..self.nodes.len() {
            self.send(node, Event::Ask { from: node, life, to, question: Question::Notify(news.clone()) });
        }
        if let Some(attempt) = attempt {
            let others: Vec<usize> = attempt.members.iter().map(|m| m.incarnation.0 as usize - 1).collect();
            for to in others.into_iter().filter(|to| *to != node) {
                self.send(node, Event::Ask { from: node, life, to, question: Question::Promise(attempt.cluster) });
            }
            let patience_ms = self.random.next(self.patience_ms_max);
            self.at(patience_ms, Event::GiveUp { node, life, cluster: attempt.cluster });
            self.nodes[node].attempt = Some((attempt, BTreeSet::new()));
            self.decide_if_all(node);
        }
        let next_ms = 500 + self.random.next(1500);
        self.at(next_ms, Event::Pass { node, life });
    }

    fn decide_if_all(&mut self, node: usize) {
        let life = self.nodes[node].life;
        let expect = self.expect;
        let state = &mut self.nodes[node];
        let complete = state.attempt.as_ref().is_some_and(|(_, promised)| promised.len() + 1 == expect);
        if !complete {
            return;
        }
        let (attempt, _) = state.attempt.take().expect("just seen");
        if state.lobby.as_mut().is_some_and(|lobby| lobby.decide(&attempt)) {
            let after_ms = self.random.next(3000);
            self.at(after_ms, Event::LogMade { node, life, attempt });
        }
    }

    /// The log of a node is made: from here on it belongs to that cluster for ever.
    fn belong(&mut self, node: usize, cluster: ClusterId) {
        let membership = self.formed.get(&cluster.0).expect("nobody belongs to a cluster that was not formed");
        let member = membership.get(&NodeId(candidate(node).id.into())).expect("only members are told");
        assert_eq!(member.incarnation, candidate(node).incarnation);
        assert!(self.nodes[node].belongs.is_none());
        self.nodes[node].belongs = Some(cluster);
        self.log.push(format!("{} n{node} belongs to {}", self.now_ms, cluster.0));
    }

    fn asked(&mut self, node: usize, from: usize, question: &Question) -> Option<Answer> {
        let state = &mut self.nodes[node];
        if !state.up {
            return None;
        }
        let now_ms = self.now_ms;
        Some(match (&mut state.lobby, question) {
            (Some(lobby), Question::Notify(news)) => lobby.hear(news.me.clone(), now_ms),
            (Some(lobby), Question::Promise(_)) => lobby.asked_to_promise(&NodeId(candidate(from).id.into())),
            (Some(lobby), Question::Formed(cluster, membership)) => lobby.hear_formed(*cluster, membership),
            (None, Question::Notify(news)) => match state.belongs {
                Some(cluster) => {
                    let members = self.formed[&cluster.0].members();
                    let id = NodeId(news.me.id.as_str().into());
                    let ours = members.iter().any(|m| m.id == id && m.incarnation == news.me.incarnation);
                    if ours { Answer::Joined { cluster } } else { Answer::Done }
                }
                None => not_ready("node is starting"),
            },
            (None, _) => refused("belongs to a cluster"),
        })
    }

    fn step(&mut self) -> bool {
        let Some(((at_ms, _), event)) = self.events.pop_first() else { return false };
        self.now_ms = at_ms;
        match event {
            Event::Start { node } => self.start(node),
            Event::Crash { node } if !self.calm => self.crash(node),
            Event::Pass { node, life } if self.is_current(node, life) => self.pass(node),
            Event::Ask { from, life, to, question } => {
                if let Some(answer) = self.asked(to, from, &question) {
                    self.send(to, Event::Answer { to: from, life, from: to, question, answer });
                }
            }
            Event::Answer { to, life, from, question, answer } if self.is_current(to, life) => {
                let state = &mut self.nodes[to];
                match question {
                    Question::Notify(news) => {
                        if let Some(lobby) = &mut state.lobby {
                            lobby.answered(&news, &address(from), &answer);
                        }
                    }
                    Question::Promise(cluster) => {
                        if let Some((attempt, promised)) = &mut state.attempt
                            && attempt.cluster == cluster
                            && answer == Answer::Done
                        {
                            promised.insert(from);
                            self.decide_if_all(to);
                        }
                    }
                    Question::Formed(..) => {}
                }
            }
            Event::GiveUp { node, life, cluster } if self.is_current(node, life) => {
                let state = &mut self.nodes[node];
                if let Some((attempt, _)) = state.attempt.take_if(|(attempt, _)| attempt.cluster == cluster)
                    && let Some(lobby) = &mut state.lobby
                {
                    lobby.abandon(&attempt);
                }
            }
            Event::LogMade { node, life, attempt } if self.is_current(node, life) => {
                let membership = attempt.membership().expect("valid");
                self.formed.insert(attempt.cluster.0, membership.clone());
                self.nodes[node].lobby = None;
                self.belong(node, attempt.cluster);
                for to in 0..self.nodes.len() {
                    let question = Question::Formed(attempt.cluster, membership.clone());
                    self.send(node, Event::Ask { from: node, life, to, question });
                }
            }
            _ => {}
        }
        assert!(self.formed.len() <= 1, "two clusters out of one group");
        true
    }

    /// Runs through the storm, then in calm weather until everybody who can has a home.
    fn run(&mut self) {
        while self.now_ms < 30_000 && self.step() {}
        self.calm = true;
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        let until_ms = self.now_ms + 120_000;
        let at_home = |world: &World| world.nodes.iter().filter(|node| node.belongs.is_some()).count();
        while at_home(self) < self.expect && self.now_ms < until_ms && self.step() {}
        assert_eq!(at_home(self), self.expect, "of {} nodes: {:?}", self.nodes.len(), self.log);
    }
}

#[test]
fn one_group_forms_one_cluster_whatever_happens() {
    for seed in 0..2000 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run();
            world.log
        });
        assert!(outcome.is_ok(), "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_story() {
    let story = |seed| {
        let mut world = World::new(seed);
        world.run();
        world.log
    };
    for seed in [1, 77, 1234] {
        assert_eq!(story(seed), story(seed));
    }
}

fn lobby(node: usize, expect: usize, promised: Option<Founder>) -> Lobby {
    Lobby::new(candidate(node), expect, promised, Box::new(|_| Ok(())))
}

fn is_not_ready(answer: &Answer) -> bool {
    matches!(answer, Answer::Failed(Failure { kind: FailureKind::NotReady, .. }))
}

fn id(node: usize) -> NodeId {
    NodeId(candidate(node).id.into())
}

#[test]
fn the_lowest_of_enough_is_the_founder() {
    let mut first = lobby(0, 3, None);
    assert!(is_not_ready(&first.hear(candidate(1), 0)), "it does not know yet what it is");
    first.open();
    assert_eq!(first.hear(candidate(1), 0), Answer::Done);
    assert_eq!(first.hear(candidate(1), 1), Answer::Done, "again does not count again");
    assert_eq!(first.hear(candidate(0), 1), Answer::Done, "nor does its own voice");
    assert_eq!(first.begin(ClusterId(1), 2), None);
    first.hear(candidate(3), 2);
    assert!(!first.may_begin(CANDIDATE_MS_MAX + 2), "who was not heard for long is not counted");
    first.hear(candidate(2), CANDIDATE_MS_MAX);
    first.hear(candidate(1), CANDIDATE_MS_MAX);
    let attempt = first.begin(ClusterId(1), CANDIDATE_MS_MAX).expect("three");
    let members: Vec<_> = attempt.members.iter().map(|member| member.id.as_str()).collect();
    assert_eq!(members, ["n0", "n1", "n2"], "the lowest, and no more than asked for");
    assert_eq!(attempt.membership().expect("valid").voters().count(), 3);
    let mut second = lobby(1, 3, None);
    second.open();
    second.hear(candidate(0), 0);
    second.hear(candidate(2), 0);
    assert!(!second.may_begin(0), "another is lower");
    let mut twins = lobby(0, 2, None);
    twins.open();
    twins.hear(Candidate { address: address(0), ..candidate(1) }, 0);
    assert!(!twins.may_begin(0), "two nodes cannot have one address");
}

#[test]
fn a_promise_holds_until_the_founder_says_what_came_of_it() {
    let mut node = lobby(2, 3, None);
    node.open();
    assert!(is_not_ready(&node.asked_to_promise(&id(0))), "it could not be asked what came of it");
    node.hear(candidate(0), 0);
    node.hear(candidate(1), 0);
    let before = node.news();
    assert_eq!(node.asked_to_promise(&id(0)), Answer::Done);
    assert!(is_not_ready(&node.asked_to_promise(&id(1))));
    assert!(!node.begin_joining());
    node.answered(&before, &address(0), &Answer::Done);
    assert!(is_not_ready(&node.asked_to_promise(&id(1))), "the question was older than the promise");
    let after = node.news();
    node.answered(&after, &address(1), &Answer::Done);
    node.answered(&after, &address(0), &not_ready("forming"));
    assert!(is_not_ready(&node.asked_to_promise(&id(1))));
    assert_eq!(node.asked_to_promise(&id(0)), Answer::Done, "the founder tries again");
    node.answered(&after, &address(0), &Answer::Done);
    assert!(is_not_ready(&node.asked_to_promise(&id(1))), "the answer is about the attempt before");
    let news = node.news();
    node.answered(&news, &address(0), &Answer::Done);
    assert_eq!(node.asked_to_promise(&id(1)), Answer::Done, "released");
    let news = node.news();
    node.answered(&news, &address(1), &Answer::Joined { cluster: ClusterId(5) });
    assert_eq!(node.told(), Some(ClusterId(5)));
    assert!(matches!(node.asked_to_promise(&id(1)), Answer::Failed(Failure { kind: FailureKind::Refused, .. })));
}

#[test]
fn a_promise_outlives_a_restart_and_is_not_given_when_it_cannot() {
    let mut node = lobby(2, 3, Some(Founder { id: id(0), address: address(0) }));
    node.open();
    node.hear(candidate(1), 0);
    assert!(is_not_ready(&node.asked_to_promise(&id(1))));
    assert_eq!(node.news().addresses(&["x:1".into()]), ["x:1".to_owned(), address(0)]);
    let mut node = Lobby::new(candidate(2), 3, None, Box::new(|_| Err("disk full".into())));
    node.open();
    node.hear(candidate(1), 0);
    assert!(is_not_ready(&node.asked_to_promise(&id(1))));
    assert!(node.news().promise.is_none());
}

#[test]
fn of_two_founders_the_lower_goes_on() {
    let mut node = lobby(1, 2, None);
    node.open();
    node.hear(candidate(2), 0);
    let attempt = node.begin(ClusterId(1), 0).expect("the lowest it knows");
    assert!(is_not_ready(&node.asked_to_promise(&id(2))));
    assert!(is_not_ready(&node.hear(candidate(0), 0)), "it is forming");
    assert_eq!(node.asked_to_promise(&id(0)), Answer::Done);
    assert!(!node.decide(&attempt), "its own attempt is over");
}

#[test]
fn a_formed_cluster_counts_only_for_its_members_in_their_present_life() {
    let mut founder = lobby(0, 2, None);
    founder.open();
    founder.hear(candidate(1), 0);
    let attempt = founder.begin(ClusterId(9), 0).expect("two");
    assert!(founder.decide(&attempt));
    let membership = attempt.membership().expect("valid");
    let mut member = lobby(1, 2, None);
    assert!(is_not_ready(&member.hear_formed(ClusterId(9), &membership)), "it is starting");
    member.open();
    assert_eq!(member.hear_formed(ClusterId(9), &membership), Answer::Done);
    assert_eq!(member.hear_formed(ClusterId(9), &membership), Answer::Done);
    assert!(matches!(member.hear_formed(ClusterId(8), &membership), Answer::Failed(_)));
    let mut wiped =
        Lobby::new(Candidate { incarnation: Incarnation(99), ..candidate(1) }, 2, None, Box::new(|_| Ok(())));
    wiped.open();
    assert!(matches!(wiped.hear_formed(ClusterId(9), &membership), Answer::Failed(_)));
    assert_eq!(wiped.told(), None);
}

#[test]
fn strangers_take_no_memory_without_end() {
    let mut node = lobby(0, 3, None);
    node.open();
    for n in 0..10_000 {
        node.hear(candidate(n + 1), 0);
    }
    assert!(node.heard.len() <= CANDIDATES_MAX);
    node.hear(candidate(1), CANDIDATE_MS_MAX + 1);
    assert_eq!(node.heard.len(), 1);
}
