//! The divergence check (state machine, section 6): every node hashes its database at the same place in the log, the
//! leader compares, and what the majority holds goes into the log as a verdict. A node that holds something else
//! quarantines itself and asks for a fresh copy.
//!
//! Two threads: `hash` reads a pinned snapshot of this node's own database, `verify` (here) asks on the leader.

use super::NodeHandle;
use super::handle::Shared;
use super::pins::Pin;
use crate::command::Action;
use crate::db::HashSource;
use crate::net::NetHandle;
use crate::net::call::{Answer, Call, FailureKind};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use parking_lot::{Condvar, Mutex};
use raft::{Index, LogId};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Hashes that are remembered for whoever asks.
const HASHES_MAX: usize = 16;
/// How long the leader waits for the hashes of all members.
const CHECK_TIMEOUT: Duration = Duration::from_secs(600);
/// Between two questions to members whose hash is not there yet.
const ASK_INTERVAL: Duration = Duration::from_millis(200);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at whether a check is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two requests of a quarantined node for a fresh copy.
const HEAL_INTERVAL: Duration = Duration::from_secs(5);

pub type Hash = [u8; 32];

/// The hashes that this node has computed.
#[derive(Default)]
pub struct Hashes {
    state: Mutex<Computed>,
    grown: Condvar,
}

#[derive(Default)]
struct Computed {
    known: VecDeque<(Index, Hash)>,
    /// Snapshots that are being read.
    computing: Vec<Index>,
    /// Where the database of this process came from: up to here nothing is hashed that is not known.
    base: Index,
    /// Could not be computed; the newest of them.
    failed: VecDeque<Index>,
}

impl Computed {
    fn get(&self, index: Index) -> Option<Hash> {
        self.known.iter().find(|(at, _)| *at == index).map(|(_, hash)| *hash)
    }

    fn will_never_come(&self, index: Index, applied: Index) -> bool {
        let is_over = index <= self.base || index < applied || self.failed.contains(&index);
        is_over && self.get(index).is_none() && !self.computing.contains(&index)
    }
}

impl Hashes {
    pub fn get(&self, index: Index) -> Option<Hash> {
        self.state.lock().get(index)
    }

    /// Whether nobody need ask again: the node was restarted, or filled by a copy, since it would have looked, or could not.
    pub fn will_never_come(&self, index: Index, applied: Index) -> bool {
        self.state.lock().will_never_come(index, applied)
    }

    /// The database is another from here on: opened at a start, or taken over from a peer, with everything up to `base`.
    pub fn begin_at(&self, base: Index) {
        self.state.lock().base = base;
    }

    /// To be called before anything behind `index` is applied; followed by [`Hashes::end`].
    pub fn begin(&self, index: Index) {
        self.state.lock().computing.push(index);
    }

    /// `None`: it could not be computed.
    pub fn end(&self, index: Index, hash: Option<Hash>) {
        let mut state = self.state.lock();
        state.computing.retain(|at| *at != index);
        match hash {
            Some(hash) => state.known.push_back((index, hash)),
            None => state.failed.push_back(index),
        }
        if state.known.len() > HASHES_MAX {
            state.known.pop_front();
        }
        if state.failed.len() > HASHES_MAX {
            state.failed.pop_front();
        }
        self.grown.notify_all();
    }

    fn wait(&self, index: Index, deadline: Instant, shared: &Shared) -> Option<Hash> {
        let mut state = self.state.lock();
        while Instant::now() < deadline && !shared.stopping.load(Ordering::Acquire) {
            let hash = state.get(index);
            if hash.is_some() || state.will_never_come(index, shared.applied.get()) {
                return hash;
            }
            self.grown.wait_for(&mut state, ASK_INTERVAL);
        }
        None
    }
}

/// Hashes a pinned snapshot on a thread of its own: the applier goes on. [`Hashes::begin`] was called for it.
pub fn hash_in_background(source: HashSource, pin: Pin, shared: Arc<Shared>) {
    let index = source.applied().index;
    let owner = Arc::clone(&shared);
    let work = move || {
        crate::limits::work_in_background();
        let began = Instant::now();
        let hash = source.hash(shared.pins.cancelled());
        drop(pin);
        if let Err(error) = &hash {
            log::warn!(target: "store", "the database cannot be hashed at index {index}: {error}");
        }
        let hash = hash.ok().flatten();
        if hash.is_some() {
            log::info!(target: "store", "database hash at index {index} computed in {:?}", began.elapsed());
        }
        shared.hashes.end(index, hash);
    };
    if let Err(error) = Builder::new().name("hash".into()).spawn(work) {
        owner.hashes.end(index, None);
        log::warn!(target: "store", "the database cannot be hashed at index {index}: {error}");
    }
}

/// The mark of a copy that differs from the others. Outlives a restart.
#[derive(Default)]
pub struct Quarantine {
    path: PathBuf,
    on: AtomicBool,
    /// What the mark says.
    why: Mutex<String>,
}

impl Quarantine {
    pub fn open(data_dir: &Path) -> Quarantine {
        let path = data_dir.join("quarantine");
        let on = AtomicBool::new(path.exists());
        let why = Mutex::new(std::fs::read_to_string(&path).unwrap_or_default());
        Quarantine { path, on, why }
    }

    /// Why, for `/status`; `None` when the copy is as good as any.
    pub fn why(&self) -> Option<String> {
        self.is_on().then(|| self.why.lock().clone())
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// This node's copy is wrong: it serves nothing until it has another one.
    pub fn begin(&self, why: &str) {
        log::error!(target: "store", "{why}: this node serves nothing until it has a fresh copy from the leader");
        why.clone_into(&mut self.why.lock());
        self.on.store(true, Ordering::Release);
        let written = std::fs::File::create(&self.path).and_then(|mut file| {
            file.write_all(why.as_bytes())?;
            file.sync_all()
        });
        if let Err(error) = written {
            log::error!(target: "store", "the mark {} cannot be written: {error}", self.path.display());
        }
    }

    pub fn end(&self) {
        if self.on.swap(false, Ordering::AcqRel) {
            let _ = std::fs::remove_file(&self.path);
            log::info!(target: "store", "this node has a fresh copy and serves again");
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub index: Index,
    /// Hash by node id; `None`: the node did not say in time.
    pub hashes: BTreeMap<String, Option<Hash>>,
    /// What the majority of those who answered holds; `None`: there is none.
    pub majority: Option<Hash>,
}

impl Report {
    pub fn diverged(&self) -> Vec<&str> {
        let Some(majority) = self.majority else { return Vec::new() };
        let wrong = self.hashes.iter().filter(|(_, hash)| hash.is_some_and(|hash| hash != majority));
        wrong.map(|(id, _)| id.as_str()).collect()
    }
}

/// One check, on the leader: proposes the place, gathers the hashes, proposes the verdict. Blocks.
///
/// # Errors
/// This node does not lead, or did not get an answer to its own entry.
pub fn check(node: &NodeHandle, net: &NetHandle, own_id: &str) -> Result<Report, String> {
    if node.shared().quarantine.is_on() {
        // Its entry would not be applied here before there is another copy, and this thread must see to that.
        return Err("this node's own copy is wrong and must be replaced first".to_owned());
    }
    let deadline = Instant::now() + CHECK_TIMEOUT;
    let index = propose(node, Action::Hash)?.index;
    let own = node.shared().hashes.wait(index, deadline, node.shared());
    let mut hashes = BTreeMap::from([(own_id.to_owned(), own)]);
    let others: Vec<_> = node
        .shared()
        .members
        .lock()
        .iter()
        .filter(|m| m.id != own_id)
        .map(|m| (m.id.clone(), m.addr.clone()))
        .collect();
    for (id, address) in others {
        hashes.insert(id, ask(node, net, &address, index, deadline));
    }
    let majority = majority(hashes.values().flatten());
    // Nobody could give another copy to the only voter; that its read replicas agree against it is said all the same.
    let sole_voter = node.shared().members.lock().iter().filter(|m| m.voter).count() <= 1;
    if let Some(hash) = majority.filter(|hash| !sole_voter || own == Some(*hash)) {
        propose(node, Action::Verdict { index, hash })?;
    }
    Ok(Report { index, hashes, majority })
}

fn ask(node: &NodeHandle, net: &NetHandle, address: &str, index: Index, deadline: Instant) -> Option<Hash> {
    let mut silent_until = Instant::now() + 2 * ASK_TIMEOUT;
    loop {
        // Without leadership there will be no verdict, and this thread has other duties.
        if node.shared().stopping.load(Ordering::Acquire) || !node.is_leader() {
            return None;
        }
        match net.call_wait(address, Call::Hash { index }, ASK_TIMEOUT) {
            Ok(Answer::Hash(Some(hash))) => return Some(hash),
            Ok(Answer::Failed(failure)) if failure.kind == FailureKind::Refused => return None,
            // It is there, and still busy or behind.
            Ok(_) => silent_until = Instant::now() + 2 * ASK_TIMEOUT,
            Err(_) => {}
        }
        if Instant::now() >= deadline.min(silent_until) {
            return None;
        }
        std::thread::sleep(ASK_INTERVAL);
    }
}

/// More than half of those who answered, and at least two of them: one node alone proves nothing.
fn majority<'a>(hashes: impl Iterator<Item = &'a Hash>) -> Option<Hash> {
    let mut counts: BTreeMap<Hash, usize> = BTreeMap::new();
    let mut total = 0;
    for hash in hashes {
        *counts.entry(*hash).or_default() += 1;
        total += 1;
    }
    counts.into_iter().find(|(_, count)| *count >= 2 && 2 * count > total).map(|(hash, _)| hash)
}

fn propose(node: &NodeHandle, action: Action) -> Result<LogId, String> {
    let (done_tx, done_rx) = bounded(1);
    let done = Box::new(move |applied: Result<super::handle::Applied, super::NodeError>| {
        let _ = done_tx.send(applied.map(|applied| applied.id));
    });
    node.propose(action, done);
    match done_rx.recv() {
        Ok(Ok(id)) => Ok(id),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the node is stopping".to_owned()),
    }
}

/// Called with what a check found, on the thread `verify`.
pub type CheckDone = Box<dyn FnOnce(Result<Report, String>) + Send>;

enum VerifyInput {
    Check(CheckDone),
    Stop,
}

/// The running thread: checks at intervals on the leader and when asked, and heals a node in quarantine.
pub struct Verifier {
    handle: VerifierHandle,
    join: JoinHandle<()>,
}

/// The door to it.
#[derive(Clone)]
pub struct VerifierHandle {
    tx: Sender<VerifyInput>,
}

impl VerifierHandle {
    /// Checks now. Refused while a check is under way.
    pub fn check(&self, done: CheckDone) {
        if let Err(refused) = self.tx.try_send(VerifyInput::Check(done))
            && let VerifyInput::Check(done) = refused.into_inner()
        {
            done(Err("another check is under way".to_owned()));
        }
    }
}

impl Verifier {
    /// `interval`: `None` turns the automatic check off.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(node: NodeHandle, net: NetHandle, own_id: String, interval: Option<Duration>) -> io::Result<Verifier> {
        let (tx, rx) = bounded(1);
        let join = Builder::new()
            .name("verify".into())
            .stack_size(256 * 1024)
            .spawn(move || run(&node, &net, &own_id, interval, &rx))?;
        Ok(Verifier { handle: VerifierHandle { tx }, join })
    }

    pub fn handle(&self) -> VerifierHandle {
        self.handle.clone()
    }

    /// Call it after the node has stopped: a check that is under way ends with it.
    pub fn stop(self) {
        let _ = self.handle.tx.send(VerifyInput::Stop);
        let _ = self.join.join();
    }
}

fn run(node: &NodeHandle, net: &NetHandle, own_id: &str, interval: Option<Duration>, rx: &Receiver<VerifyInput>) {
    let mut led_since: Option<Instant> = None;
    let mut heal_next = Instant::now();
    loop {
        let asked = match rx.recv_timeout(LOOK_INTERVAL) {
            Ok(VerifyInput::Check(done)) => Some(done),
            Err(RecvTimeoutError::Timeout) => None,
            Ok(VerifyInput::Stop) | Err(RecvTimeoutError::Disconnected) => return,
        };
        let now = Instant::now();
        if let Some(done) = asked {
            done(check(node, net, own_id).inspect(tell));
            led_since = node.is_leader().then_some(now);
        }
        if node.shared().quarantine.is_on() && now >= heal_next {
            heal_next = now + HEAL_INTERVAL;
            heal(node, net, own_id);
        }
        if !node.is_leader() || node.shared().members.lock().len() < 2 {
            led_since = None;
            continue;
        }
        // Each term of office begins a new interval: leaders come and go, the check stays rare.
        let since = *led_since.get_or_insert(now);
        let soon = node.shared().verify_wanted.swap(false, Ordering::AcqRel);
        if !soon && interval.is_none_or(|interval| now.duration_since(since) < interval) {
            continue;
        }
        led_since = Some(now);
        if let Err(error) = check(node, net, own_id).inspect(tell) {
            log::warn!(target: "store", "the divergence check was not made: {error}");
        }
    }
}

fn tell(report: &Report) {
    let diverged = report.diverged();
    match (report.majority, diverged.is_empty()) {
        (Some(_), true) => {
            log::info!(target: "store", "divergence check at index {}: all copies that answered are equal", report.index);
        }
        (Some(_), false) => {
            log::error!(target: "store", "divergence check at index {}: nodes {diverged:?} differ", report.index);
        }
        (None, _) => log::error!(
            target: "store",
            "divergence check at index {}: no majority of equal copies: {:?}",
            report.index, report.hashes.keys().collect::<Vec<_>>()
        ),
    }
}

/// A node in quarantine asks the leader for a copy; one that leads hands over first.
fn heal(node: &NodeHandle, net: &NetHandle, own_id: &str) {
    if node.is_leader() {
        return node.transfer(None, Box::new(|_| {}));
    }
    let leader = node.shared().leader.lock().clone();
    if let Some((_, address)) = leader
        && let Err(error) = net.call_wait(&address, Call::SendCopy { id: own_id.to_owned() }, ASK_TIMEOUT)
    {
        log::warn!(target: "store", "the leader cannot be asked for a fresh copy: {error:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_needs_two_equal_copies_and_more_than_half() {
        let (a, b, c) = ([1; 32], [2; 32], [3; 32]);
        assert_eq!(majority([a].iter()), None);
        assert_eq!(majority([a, b].iter()), None);
        assert_eq!(majority([a, a].iter()), Some(a));
        assert_eq!(majority([a, b, a].iter()), Some(a));
        assert_eq!(majority([a, b, c].iter()), None);
        assert_eq!(majority([a, a, b, b].iter()), None);
    }

    #[test]
    fn nobody_waits_for_a_hash_that_will_never_come() {
        let hashes = Hashes::default();
        let never = |index, applied| hashes.will_never_come(Index(index), Index(applied));
        hashes.begin_at(Index(10));
        assert!(never(10, 10), "it was applied by another process");
        assert!(!never(12, 11), "it is not applied yet");
        assert!(!never(12, 12), "it is applied, and not yet looked at");
        hashes.begin(Index(12));
        assert!(!never(12, 50), "it is being computed");
        hashes.end(Index(12), Some([1; 32]));
        assert!(!never(12, 50) && hashes.get(Index(12)) == Some([1; 32]));
        hashes.begin(Index(13));
        hashes.end(Index(13), None);
        assert!(never(13, 13), "it failed");
        assert!(never(14, 15), "nobody looked");
        hashes.begin_at(Index(100));
        assert!(never(60, 100) && !never(12, 100), "a copy was taken over");
    }

    #[test]
    fn the_mark_of_a_wrong_copy_outlives_a_restart() {
        let dir = std::env::temp_dir().join(format!("ferrolite-quarantine-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a temporary directory can be made");
        let quarantine = Quarantine::open(&dir);
        assert!(!quarantine.is_on());
        quarantine.begin("hashes differ at index 7");
        let again = Quarantine::open(&dir);
        assert_eq!((again.is_on(), again.why().as_deref()), (true, Some("hashes differ at index 7")));
        quarantine.end();
        assert!(!Quarantine::open(&dir).is_on());
        assert_eq!(quarantine.why(), None);
        std::fs::remove_dir_all(&dir).expect("it was made above");
    }
}
