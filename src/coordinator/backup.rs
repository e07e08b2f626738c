//! `GET /db/backup`: who makes it, and how it gets here.
//!
//! The leader makes it, once a majority has confirmed that it leads; a node that does not lead fetches it from the leader and
//! passes it on as it comes, one hop. With `noleader` the node that is asked makes it, from its own copy as it is.

use super::{Coordinator, Error, Level, ReadOptions, ReadPurpose, read};
use crate::auth::{Credentials, Operation};
use crate::db::backup::Wish;
use crate::limits::{self, Turn};
use crate::net::{Feed, NetError};
use crate::vars;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// How long a backup waits for others to end.
const TURN_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long the state machine may take to get to where the backup is to begin.
const APPLY_TIME_MAX: Duration = Duration::from_secs(10);

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupRequest {
    pub wish: Wish,
    /// Take it from this node, whether it leads or not.
    pub no_leader: bool,
    pub redirect: bool,
    /// Bound of what has to be asked of other nodes before anything comes.
    pub timeout: Duration,
    /// Whom the leader must permit it, should it be asked.
    pub caller: Credentials,
}

/// Makes ready to send, on a thread that may block.
pub type BackupStart = Box<dyn FnOnce() -> Result<BackupStream, Error> + Send>;
/// Sends it. An error means that what was sent is not whole.
pub type BackupStream = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send>;
/// Called exactly once, on any thread.
pub type BackupDone = Box<dyn FnOnce(Result<BackupStart, Error>) + Send>;

impl Coordinator {
    /// Finds out who makes the backup.
    pub fn backup(&self, request: BackupRequest, done: BackupDone) {
        let node = match self.node() {
            Ok(node) => node,
            Err(error) => return done(Err(error)),
        };
        let BackupRequest { wish, no_leader, redirect, timeout, caller } = request;
        if !no_leader && !redirect && !node.is_leader() {
            return done(self.backup_of_leader(wish, caller, timeout));
        }
        let coordinator = self.shared_self();
        let here: BackupStart = Box::new(move || coordinator.backup_here(&wish));
        if no_leader {
            return done(Ok(here));
        }
        // A leader that is none any more would leave out what others acknowledge meanwhile.
        let options = ReadOptions {
            level: Level::Linearizable,
            redirect,
            timeout,
            linearizable_timeout: APPLY_TIME_MAX,
            callers: caller.into(),
            purpose: ReadPurpose::Backup,
            ..ReadOptions::default()
        };
        self.permit_read(&options, Box::new(move |permit| done(permit.map(|_| here))));
    }

    /// Fetches it, when that is begun.
    fn backup_of_leader(&self, wish: Wish, caller: Credentials, timeout: Duration) -> Result<BackupStart, Error> {
        let (Some((_, leader)), Some(net)) = (self.leader(), self.net()) else { return Err(Error::LeaderNotFound) };
        let net = net.clone();
        Ok(Box::new(move || {
            // As many as this node would make itself: each takes a worker and a connection.
            let turn = turn()?;
            vars::proxy::REMOTE_BACKUPS.add(1);
            let fetched = net.fetch(&leader, &caller.into(), &wish.encode(), timeout);
            let fetched = fetched.map_err(|error| match error {
                NetError::Unauthorized => Error::Unauthorized(Operation::Backup),
                NetError::Failed(text) => Error::Request(text),
                error => Error::Request(error.to_string()),
            })?;
            Ok(Box::new(move |out| {
                let sent = fetched.write_to(out);
                drop(turn);
                sent
            }))
        }))
    }

    /// A follower asks, for a client of its own. Blocks until all is sent.
    ///
    /// # Errors
    /// Why there is none, or no more.
    pub(super) fn backup_for_peer(&self, wanted: &[u8], feed: &mut dyn Feed) -> Result<(), String> {
        // This thread ends with the connection.
        limits::work_in_background();
        vars::cluster::NUM_BACKUP_REQ.add(1);
        let wish = Wish::decode(wanted).ok_or("the backup that is asked for is not known here")?;
        let node = self.node().map_err(|error| error.to_string())?;
        if !node.is_leader() {
            return Err(Error::NotLeader.to_string());
        }
        read::ready(node).map_err(|error| error.to_string())?;
        // As for a client of its own: a majority confirms it.
        let (confirmed_tx, confirmed_rx) = crossbeam_channel::bounded(1);
        node.read_index(Box::new(move |index| drop(confirmed_tx.send(index))));
        match confirmed_rx.recv_timeout(APPLY_TIME_MAX) {
            Ok(confirmed) => drop(confirmed.map_err(|error| error.to_string())?),
            Err(_) => return Err(Error::NotLeader.to_string()),
        }
        let stream = self.backup_here(&wish).map_err(|error| error.to_string())?;
        feed.begin().and_then(|()| stream(feed)).map_err(|error| error.to_string())
    }

    /// Takes the snapshot of this node's copy; blocks until it is this backup's turn.
    pub(super) fn backup_here(&self, wish: &Wish) -> Result<BackupStream, Error> {
        let turn = turn()?;
        let node = self.node()?;
        if node.shared().quarantine.is_on() {
            return Err(Error::Quarantined);
        }
        let backup = node.backup(wish).map_err(Error::Request)?;
        vars::store::NUM_BACKUPS.add(1);
        Ok(Box::new(move |out| {
            let sent = backup.write_to(out);
            drop(turn);
            sent
        }))
    }

    /// A client of this node has got a whole backup.
    pub fn backup_sent(&self) {
        *self.last_backup.lock() = Some(SystemTime::now());
    }

    /// When a client of this node last got a whole backup.
    pub fn last_backup(&self) -> Option<SystemTime> {
        *self.last_backup.lock()
    }
}

fn turn() -> Result<Turn, Error> {
    // Scripts know the beginning.
    let text = "failed to acquire backup CAS lock: other backups are being taken, try again later";
    limits::BACKUPS.enter_within(TURN_WAIT_MAX).ok_or_else(|| Error::Request(text.to_owned()))
}
