//! `POST /db/load` with a database file, and `POST /boot`: the file is checked on the node that got it, and goes through the
//! log in parts, each of which is submitted as any other write and so is applied once, whoever leads meanwhile.

use super::{Coordinator, Error, read};
use crate::auth::Callers;
use crate::command::{Action, LoadChunk, LoadCommit};
use crate::coordinator::Written;
use crate::db::load::{Source, Upload};
use crate::limits;
use crate::node::NodeHandle;
use crate::random;
use crate::vars;
use crossbeam_channel::bounded;
use std::time::Duration;

/// How long a load waits for another one of this node to end.
const TURN_WAIT_MAX: Duration = Duration::from_secs(10);
/// The last entry of a load is applied when a file of this size a second was made, at the least.
const FILE_BYTES_PER_S_MIN: u64 = 4 * 1024 * 1024;
/// For each part of a file that is booted, for which clients say no time.
const BOOT_STEP_TIME_MAX: Duration = Duration::from_secs(30);

/// What a client sends.
pub struct LoadRequest {
    pub source: Source,
    pub redirect: bool,
    /// Whom the leader must permit it.
    pub callers: Callers,
    /// Bound of each step of it that has to wait for others.
    pub timeout: Duration,
    /// Makes a load that is sent again be done once (`Idempotency-Key`).
    pub idempotency_key: Option<Box<[u8]>>,
}

/// Does it, on a thread that may block for long.
pub type LoadStart = Box<dyn FnOnce() -> Result<Written, Error> + Send>;
/// Called exactly once, on any thread.
pub type LoadDone = Box<dyn FnOnce(Result<LoadStart, Error>) + Send>;
/// Does it, on a thread that may block for long.
pub type BootStart = Box<dyn FnOnce() -> Result<(), Error> + Send>;

impl Coordinator {
    /// `/db/load` with a database file. What keeps it from being begun is found out at once.
    pub fn load_file(&self, request: LoadRequest, done: LoadDone) {
        let node = match self.node() {
            Ok(node) => node,
            Err(error) => return done(Err(error)),
        };
        if node.is_leader() {
            if let Err(error) = may_lead_a_load(node) {
                return done(Err(error));
            }
        } else if request.redirect {
            return self.redirect(request.timeout, Box::new(move |error| done(Err(error))));
        } else if self.leader().is_none() {
            return done(Err(Error::LeaderNotFound));
        }
        let coordinator = self.shared_self();
        done(Ok(Box::new(move || {
            let LoadRequest { source, callers, timeout, idempotency_key, .. } = request;
            coordinator.load(source, &callers, timeout, idempotency_key.as_deref())
        })));
    }

    /// `/boot`: only for a node that is alone and leads. The file goes the way of a load, and the log before it is let go.
    pub fn boot(&self, source: Source, callers: Callers) -> BootStart {
        let coordinator = self.shared_self();
        Box::new(move || {
            let node = coordinator.node()?;
            if !node.is_leader() {
                return Err(Error::NotLeader);
            }
            if node.shared().members.lock().len() > 1 {
                return Err(Error::NotSingleNode);
            }
            may_lead_a_load(node)?;
            let bytes = source.bytes();
            coordinator.load(source, &callers, BOOT_STEP_TIME_MAX, None)?;
            log::info!(target: "store", "boot process installed {bytes} bytes");
            vars::store::NUM_BOOTS.add(1);
            Ok(())
        })
    }

    fn load(&self, source: Source, callers: &Callers, timeout: Duration, key: Option<&[u8]>) -> Result<Written, Error> {
        let is_forwarded = !self.node()?.is_leader();
        let Some(_turn) = limits::LOADS.enter_within(TURN_WAIT_MAX) else {
            return Err(Error::Request("load in progress".to_owned()));
        };
        let unfit = |text: String| Error::UnfitDatabase(text);
        let mut upload = Upload::check(source).map_err(unfit)?;
        upload.check_room(&self.settings.data_dir).map_err(unfit)?;
        let load = random::u128().map_err(|error| Error::Request(format!("no random numbers: {error}")))?;
        let said = |error| match error {
            Error::Request(text) if is_forwarded => Error::Request(format!("remote node failed to load: {text}")),
            error => error,
        };
        let mut hasher = blake3::Hasher::new();
        let mut chunks = 0;
        while let Some(bytes) = upload.next_chunk().map_err(unfit)? {
            hasher.update(&bytes);
            let chunk = LoadChunk { load, number: chunks, bytes };
            self.submit_and_wait(Action::LoadChunk(chunk), callers, None, timeout).map_err(said)?;
            chunks += 1;
        }
        let bytes = upload.bytes();
        let commit = LoadCommit { load, chunks, bytes, hash: *hasher.finalize().as_bytes() };
        let timeout = timeout + Duration::from_secs(bytes / FILE_BYTES_PER_S_MIN);
        let written = self.submit_and_wait(Action::LoadCommit(commit), callers, key, timeout).map_err(said)?;
        if written.served_by.is_some() {
            vars::proxy::REMOTE_LOADS.add(1);
        }
        vars::store::NUM_LOADS.add(1);
        Ok(written)
    }

    /// Blocks until it is known what became of it.
    fn submit_and_wait(
        &self,
        action: Action,
        callers: &Callers,
        key: Option<&[u8]>,
        timeout: Duration,
    ) -> Result<Written, Error> {
        let (done_tx, done_rx) = bounded(1);
        self.submit(action, callers.clone(), key, timeout, Box::new(move |written| drop(done_tx.send(written))));
        done_rx.recv().unwrap_or_else(|_| Err(Error::Request("the node is stopping".to_owned())))
    }
}

fn may_lead_a_load(node: &NodeHandle) -> Result<(), Error> {
    match node.shared().quarantine.is_on() {
        true => Err(Error::Quarantined),
        false => read::ready(node).map(drop),
    }
}
