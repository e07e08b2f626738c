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
    Promise(Foundation),
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
        plan: Foundation,
    },
    Crash {
        node: usize,
    },
    /// It never comes back, or only when all is calm.
    Die {
        node: usize,
        comes_back: bool,
    },
    Start {
        node: usize,
    },
}

struct Node {
    lobby: Option<Lobby>,
    kept: Arc<Mutex<Kept>>,
    /// What its log says.
    belongs: Option<ClusterId>,
    attempt: Option<(Attempt, BTreeSet<usize>)>,
    life: u32,
    up: bool,
    dead: Option<bool>,
    /// Since when the founder to whom it has promised has not answered.
    waits_since_ms: Option<u64>,
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
    founder_patience_ms: u64,
    /// Ways that no message gets through until the weather is calm.
    cut: BTreeSet<(usize, usize)>,
    log: Vec<String>,
}

fn address(node: usize) -> String {
    format!("h{node}:1")
}

fn candidate(node: usize) -> Candidate {
    Candidate {
        id: format!("n{node}"),
        address: address(node),
        incarnation: Incarnation(node as u64 + 1),
        refused: Vec::new(),
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let expect = 1 + random.next(5) as usize;
        let count = expect + random.next(expect as u64) as usize;
        let (loss_percent, slow_percent) = (random.next(60), random.next(60));
        let patience_ms_max = [300, 2000, 10_000][random.next(3) as usize];
        // Also so short that founders are given up which are only slow.
        let founder_patience_ms = [0, 1500, 8000][random.next(3) as usize];
        let nodes = (0..count)
            .map(|_| Node {
                lobby: None,
                kept: Arc::default(),
                belongs: None,
                attempt: None,
                life: 0,
                up: false,
                dead: None,
                waits_since_ms: None,
            })
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
            founder_patience_ms,
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
        // Of so many that enough are left to form a cluster without those that never come back.
        let mut spare = (count - expect).min(1);
        for _ in 0..world.random.next(3) {
            let (at_ms, node) = (world.random.next(15_000), world.random.next(count as u64) as usize);
            let comes_back = spare == 0 || world.random.next(2) == 0;
            spare -= usize::from(!comes_back);
            world.at(at_ms, Event::Die { node, comes_back });
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
        if state.up || state.dead.is_some_and(|comes_back| !(comes_back && self.calm)) {
            return;
        }
        state.up = true;
        state.life += 1;
        state.attempt = None;
        if state.belongs.is_none() {
            let kept = Arc::clone(&state.kept);
            let before = kept.lock().clone();
            if let Some(plan) = before.founding {
                // It goes on with what it had decided.
                let (life, after_ms) = (state.life, self.random.next(3000));
                state.lobby = None;
                return self.at(after_ms, Event::LogMade { node, life, plan });
            }
            let keep = Box::new(move |next: &Kept| {
                *kept.lock() = next.clone();
                Ok(())
            });
            let mut lobby = Lobby::new(candidate(node), self.expect, before, keep);
            lobby.open();
            state.lobby = Some(lobby);
        }
        state.waits_since_ms = None;
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
        let waits_since_ms = self.nodes[node].waits_since_ms;
        let Some(lobby) = &mut self.nodes[node].lobby else { return };
        if let Some(cluster) = lobby.told() {
            self.nodes[node].lobby = None;
            return self.belong(node, cluster);
        }
        let news = lobby.news();
        // As `form` counts: from when it began to ask in vain.
        let now_ms = self.now_ms;
        let is_bound = news.promise.is_some();
        if let (true, Some(since_ms)) = (is_bound, waits_since_ms)
            && now_ms - since_ms > self.founder_patience_ms
        {
            for cluster in lobby.refuse() {
                self.log.push(format!("{now_ms} n{node} refuses {}", cluster.0));
            }
        }
        self.nodes[node].waits_since_ms = is_bound.then(|| waits_since_ms.unwrap_or(now_ms));
        let Some(lobby) = &mut self.nodes[node].lobby else { return };
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
                self.send(
                    node,
                    Event::Ask { from: node, life, to, question: Question::Promise(attempt.plan().expect("valid")) },
                );
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
            self.at(after_ms, Event::LogMade { node, life, plan: attempt.plan().expect("valid") });
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
            (Some(lobby), Question::Promise(plan)) => {
                lobby.asked_to_promise(&NodeId(candidate(from).id.into()), plan.clone())
            }
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
                            if news.promise.is_some_and(|promise| promise.founder.address == address(from)) {
                                state.waits_since_ms = None;
                            }
                        }
                    }
                    Question::Promise(plan) => {
                        if let Some((attempt, promised)) = &mut state.attempt
                            && attempt.cluster == plan.cluster
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
            Event::Die { node, comes_back } if !self.calm && self.nodes[node].dead.is_none() => {
                let state = &mut self.nodes[node];
                (state.up, state.lobby, state.attempt, state.dead) = (false, None, None, Some(comes_back));
            }
            Event::LogMade { node, life, plan } if self.is_current(node, life) => {
                let Foundation { cluster, membership } = plan;
                self.formed.insert(cluster.0, membership.clone());
                self.nodes[node].lobby = None;
                self.belong(node, cluster);
                for to in 0..self.nodes.len() {
                    let question = Question::Formed(cluster, membership.clone());
                    self.send(node, Event::Ask { from: node, life, to, question });
                }
            }
            _ => {}
        }
        let living = self.formed.iter().filter(|(cluster, membership)| self.is_living(**cluster, membership)).count();
        assert!(living <= 1, "two clusters out of one group: {:?}", self.log);
        true
    }

    /// A majority of its voters has a log of it, or may yet get one: who refuses it cannot.
    fn is_living(&self, cluster: u128, membership: &Membership) -> bool {
        let takes_part = |member: &&Member| {
            let node = &self.nodes[member.incarnation.0 as usize - 1];
            node.belongs == Some(ClusterId(cluster))
        };
        membership.voters().filter(takes_part).count() >= membership.quorum()
    }

    /// Runs through the storm, then in calm weather until everybody who can has a home.
    fn run(&mut self) {
        while self.now_ms < 30_000 && self.step() {}
        self.calm = true;
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        let until_ms = self.now_ms + 120_000;
        let lives =
            |world: &World| world.formed.iter().any(|(cluster, membership)| world.is_living(*cluster, membership));
        while !lives(self) && self.now_ms < until_ms && self.step() {}
        // A founder that was given up too early is left alone with its log. Then too few may be left for another cluster, or a
        // member that is gone for good, too, keeps it from being known that this one is void: an operator must act.
        let stranded = self.formed.len();
        let usable = self.nodes.iter().filter(|node| node.belongs.is_none() && node.dead != Some(false)).count();
        let is_lost = self.nodes.iter().any(|node| node.dead == Some(false));
        let excused = stranded > 0 && (usable < self.expect || is_lost);
        assert!(lives(self) || excused, "of {} nodes: {:?}", self.nodes.len(), self.log);
        // And nothing comes after it.
        let until_ms = self.now_ms + 20_000;
        while self.now_ms < until_ms && self.step() {}
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
    let promised = promised.map(|founder| Promised { founder, plans: Vec::new() });
    Lobby::new(candidate(node), expect, Kept { promised, ..Kept::default() }, Box::new(|_| Ok(())))
}

/// A cluster of these nodes.
fn plan(cluster: u128, nodes: &[usize]) -> Foundation {
    let members = nodes.iter().map(|node| candidate(*node)).collect();
    Attempt { cluster: ClusterId(cluster), members }.plan().expect("valid")
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
    assert!(
        is_not_ready(&node.asked_to_promise(&id(0), plan(10, &[0, 1, 2]))),
        "it could not be asked what came of it"
    );
    node.hear(candidate(0), 0);
    node.hear(candidate(1), 0);
    let before = node.news();
    assert_eq!(node.asked_to_promise(&id(0), plan(10, &[0, 1, 2])), Answer::Done);
    assert!(is_not_ready(&node.asked_to_promise(&id(1), plan(11, &[0, 1, 2]))));
    assert!(!node.begin_joining());
    node.answered(&before, &address(0), &Answer::Done);
    assert!(
        is_not_ready(&node.asked_to_promise(&id(1), plan(11, &[0, 1, 2]))),
        "the question was older than the promise"
    );
    let after = node.news();
    node.answered(&after, &address(1), &Answer::Done);
    node.answered(&after, &address(0), &not_ready("forming"));
    assert!(is_not_ready(&node.asked_to_promise(&id(1), plan(11, &[0, 1, 2]))));
    assert_eq!(node.asked_to_promise(&id(0), plan(10, &[0, 1, 2])), Answer::Done, "the founder tries again");
    node.answered(&after, &address(0), &Answer::Done);
    assert!(
        is_not_ready(&node.asked_to_promise(&id(1), plan(11, &[0, 1, 2]))),
        "the answer is about the attempt before"
    );
    let news = node.news();
    node.answered(&news, &address(0), &Answer::Done);
    assert_eq!(node.asked_to_promise(&id(1), plan(11, &[0, 1, 2])), Answer::Done, "released");
    let news = node.news();
    node.answered(&news, &address(1), &Answer::Joined { cluster: ClusterId(5) });
    assert_eq!(node.told(), Some(ClusterId(5)));
    assert!(matches!(
        node.asked_to_promise(&id(1), plan(11, &[0, 1, 2])),
        Answer::Failed(Failure { kind: FailureKind::Refused, .. })
    ));
}

#[test]
fn a_promise_outlives_a_restart_and_is_not_given_when_it_cannot() {
    let mut node = lobby(2, 3, Some(Founder { id: id(0), address: address(0) }));
    node.open();
    node.hear(candidate(1), 0);
    assert!(is_not_ready(&node.asked_to_promise(&id(1), plan(11, &[0, 1, 2]))));
    assert_eq!(node.news().addresses(&["x:1".into()]), ["x:1".to_owned(), address(0)]);
    let mut node = Lobby::new(candidate(2), 3, Kept::default(), Box::new(|_| Err("disk full".into())));
    node.open();
    node.hear(candidate(1), 0);
    assert!(is_not_ready(&node.asked_to_promise(&id(1), plan(11, &[0, 1, 2]))));
    assert!(node.news().promise.is_none());
}

#[test]
fn of_two_founders_the_lower_goes_on() {
    let mut node = lobby(1, 2, None);
    node.open();
    node.hear(candidate(2), 0);
    let attempt = node.begin(ClusterId(1), 0).expect("the lowest it knows");
    assert!(is_not_ready(&node.asked_to_promise(&id(2), plan(12, &[0, 1, 2]))));
    assert!(is_not_ready(&node.hear(candidate(0), 0)), "it is forming");
    assert_eq!(node.asked_to_promise(&id(0), plan(10, &[0, 1, 2])), Answer::Done);
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
    let mut wiped = Lobby::new(
        Candidate { incarnation: Incarnation(99), ..candidate(1) },
        2,
        Kept::default(),
        Box::new(|_| Ok(())),
    );
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

/// What node `node` tells with every pass, as far as it refuses clusters.
fn refusing(node: usize, clusters: &[u128]) -> Candidate {
    Candidate { refused: clusters.iter().map(|cluster| ClusterId(*cluster)).collect(), ..candidate(node) }
}

#[test]
fn a_promise_is_void_when_the_rest_makes_no_majority_and_not_before() {
    let mut node = lobby(1, 5, None);
    node.open();
    node.hear(candidate(0), 0);
    assert_eq!(node.asked_to_promise(&id(0), plan(7, &[0, 1, 2, 3, 4])), Answer::Done);
    assert_eq!(node.refuse(), [ClusterId(7)]);
    assert_eq!(node.refuse(), [], "once is enough");
    assert_eq!(node.news().me.refused, [ClusterId(7)], "and it is told");
    node.hear(refusing(2, &[7]), 0);
    assert!(node.news().promise.is_some(), "the founder and two more may be a majority");
    node.hear(refusing(2, &[7]), 1);
    node.hear(refusing(9, &[7]), 1);
    let other_life = Candidate { incarnation: Incarnation(99), ..refusing(3, &[7]) };
    node.hear(other_life, 1);
    node.hear(refusing(3, &[8]), 1);
    assert!(node.news().promise.is_some(), "no member, another life, another cluster");
    node.hear(refusing(3, &[8, 7]), 1);
    assert!(node.news().promise.is_none());
    // The founder comes back with a log: its cluster cannot come about, and must not.
    let formed = plan(7, &[0, 1, 2, 3, 4]);
    assert!(matches!(node.hear_formed(ClusterId(7), &formed.membership), Answer::Failed(_)));
    let news = node.news();
    node.answered(&news, &address(0), &Answer::Joined { cluster: ClusterId(7) });
    assert_eq!(node.told(), None);
    assert!(matches!(node.asked_to_promise(&id(0), formed), Answer::Failed(_)), "a late question");
    assert_eq!(
        node.asked_to_promise(&id(0), plan(9, &[0, 1, 2, 3, 4])),
        Answer::Done,
        "a late question, of an older attempt"
    );
    // The founder has decided once, so it has not decided that one.
    let news = node.news();
    node.answered(&news, &address(0), &Answer::Joined { cluster: ClusterId(7) });
    assert!(node.news().promise.is_none());
}

#[test]
fn who_refuses_stays_bound_over_a_restart_but_may_join_what_exists() {
    let kept: Arc<Mutex<Kept>> = Arc::default();
    let keep = |kept: &Arc<Mutex<Kept>>| {
        let kept = Arc::clone(kept);
        Box::new(move |next: &Kept| {
            *kept.lock() = next.clone();
            Ok(())
        })
    };
    let mut node = Lobby::new(candidate(1), 3, Kept::default(), keep(&kept));
    node.open();
    node.hear(candidate(0), 0);
    assert_eq!(node.asked_to_promise(&id(0), plan(7, &[0, 1, 2])), Answer::Done);
    // A question of an earlier attempt that was long on its way does not hide the later one.
    assert_eq!(node.asked_to_promise(&id(0), plan(6, &[0, 1, 2])), Answer::Done);
    assert!(!node.begin_joining(), "bound");
    assert_eq!(node.refuse(), [ClusterId(7), ClusterId(6)]);
    let before = kept.lock().clone();
    let mut node = Lobby::new(candidate(1), 3, before, keep(&kept));
    node.open();
    assert_eq!(node.news().me.refused, [ClusterId(7), ClusterId(6)]);
    assert!(node.news().promise.is_some());
    node.hear(refusing(2, &[6]), 0);
    assert!(node.news().promise.is_some(), "the founder may have decided the other one");
    assert!(node.begin_joining());
    node.end_joining();
    node.hear(refusing(2, &[6, 7]), 0);
    assert!(node.news().promise.is_none());
    assert_eq!(kept.lock().promised, None);
    assert_eq!(kept.lock().refused, [ClusterId(7), ClusterId(6)]);
}

#[test]
fn a_member_that_had_not_promised_yet_refuses_along_and_one_that_has_does_not() {
    let mut free = lobby(2, 3, None);
    free.open();
    free.hear(refusing(1, &[7]), 0);
    assert_eq!(free.news().me.refused, [ClusterId(7)]);
    free.hear(candidate(0), 0);
    assert!(matches!(free.asked_to_promise(&id(0), plan(7, &[0, 1, 2])), Answer::Failed(_)));
    let mut bound = lobby(2, 3, None);
    bound.open();
    bound.hear(candidate(0), 0);
    assert_eq!(bound.asked_to_promise(&id(0), plan(7, &[0, 1, 2])), Answer::Done);
    bound.hear(refusing(1, &[7]), 0);
    assert_eq!(bound.news().me.refused, [], "its founder may only be slow for the other");
    for cluster in 100..1000 {
        bound.hear(refusing(1, &[cluster]), 0);
    }
    assert!(bound.news().me.refused.len() <= REFUSED_MAX);
}

#[test]
fn a_founder_decides_on_disk_first() {
    let mut node = Lobby::new(candidate(0), 2, Kept::default(), Box::new(|_| Err("disk full".into())));
    node.open();
    node.hear(candidate(1), 0);
    let attempt = node.begin(ClusterId(1), 0).expect("two");
    assert!(!node.decide(&attempt));
    node.abandon(&attempt);
    assert!(node.begin(ClusterId(2), 0).is_some(), "it may try again");
}
