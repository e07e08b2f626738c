//! Who belongs to the cluster: how a node finds or forms it, how others are let in and taken out, and what is done about
//! members that are gone.
//!
//! Reading order: `identity` (which node a directory is), `lobby` (the rules of forming), `form` and `join` (the asking
//! side), `service` (what other nodes ask), `admit` (the leader's side), `reaper`, `leave` (a graceful stop), `peers_json`
//! (recovery by hand), `probe`; `ask` and `control` are the seams to the network and to the node.
//!
//! Threads: `form` blocks the main thread; `join` and `announce` run once after a start; `reaper` runs always; each request
//! for a change of the membership runs on a thread `cluster-admin` of its own, of which there are few. None of them owns
//! anything that another needs: a lock of this module is held for a moment, never while a node is asked. The one exception
//! is the lock that makes changes of the membership wait for each other.

mod admit;
mod announce;
mod ask;
mod cancel;
mod control;
mod desk;
mod form;
pub mod identity;
mod join;
mod leave;
mod lobby;
pub mod peers_json;
mod probe;
mod reaper;
mod service;
#[cfg(test)]
mod testing;

pub use ask::{Ask, Asked, NetAsk};
pub use cancel::Cancel;
pub use control::{Control, InForce};
pub use form::{FormError, Formation};
pub use join::JoinError;

use crate::config::{ClusterConfig, Config};
use desk::Desk;
use lobby::Lobby;
use parking_lot::{Condvar, Mutex};
use raft::NodeId;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What this module needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub data_dir: PathBuf,
    pub node: NodeId,
    /// Raft address told to others, host:port.
    pub address: String,
    pub flags: ClusterConfig,
    /// How long a voter may be out of reach before it is removed; `None`: for ever.
    pub reap_after: Option<Duration>,
    /// The same for read replicas.
    pub reap_read_only_after: Option<Duration>,
}

impl Settings {
    pub fn from_config(config: &Config) -> Settings {
        Settings {
            data_dir: config.data_dir.clone(),
            node: NodeId(config.node_id.as_str().into()),
            address: config.raft.adv_addr.clone(),
            flags: config.cluster.clone(),
            reap_after: config.raft.reap_timeout,
            reap_read_only_after: config.raft.reap_read_only_timeout,
        }
    }
}

/// See the module. Answers other nodes from the first second.
pub struct Cluster {
    settings: Settings,
    ask: Arc<dyn Ask>,
    /// Open between the start and the opening of the store, in a node that has no cluster yet.
    lobby: Mutex<Option<Lobby>>,
    lobby_changed: Condvar,
    control: OnceLock<Arc<dyn Control>>,
    /// Changes of the membership wait for each other here.
    changes: Mutex<()>,
    desk: Desk,
    threads: Mutex<Vec<JoinHandle<()>>>,
    cancel: Cancel,
    started: Instant,
    /// For the threads, which may outlive the call that starts them.
    me: Weak<Cluster>,
}

impl Cluster {
    pub fn new(settings: Settings, ask: Arc<dyn Ask>) -> Arc<Cluster> {
        Arc::new_cyclic(|me| Cluster {
            settings,
            ask,
            lobby: Mutex::new(None),
            lobby_changed: Condvar::new(),
            control: OnceLock::new(),
            changes: Mutex::new(()),
            desk: Desk::default(),
            threads: Mutex::default(),
            cancel: Cancel::default(),
            started: Instant::now(),
            me: me.clone(),
        })
    }

    /// Ends what waits, `form` among it: for the thread that takes signals.
    pub fn canceller(&self) -> Cancel {
        self.cancel.clone()
    }

    /// The store is open: from here on the node speaks for its cluster, announces itself to it, tells those with whom it
    /// formed it, and watches over the others when it leads.
    ///
    /// # Errors
    /// `FormError::OnlyNode`: the node is asked to join another cluster than its own.
    pub fn attach(&self, control: Arc<dyn Control>, formation: &Formation) -> Result<(), FormError> {
        self.refuse_to_join_elsewhere(&*control, formation)?;
        assert!(self.control.set(control).is_ok(), "a node is attached once");
        *self.lobby.lock() = None;
        self.announce(formation);
        self.watch();
        Ok(())
    }

    /// Ends the threads of this module. Calls of other nodes are still answered.
    pub fn stop(&self) {
        self.cancel.cancel();
        self.lobby_changed.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn control(&self) -> Option<&Arc<dyn Control>> {
        self.control.get()
    }

    /// Starts a thread that ends when [`Cluster::stop`] is called.
    fn spawn(&self, name: &str, work: impl FnOnce(&Cluster) + Send + 'static) {
        let me = self.me.upgrade().expect("a cluster is only ever made shared");
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(&me));
        match spawned {
            Ok(thread) => self.threads.lock().push(thread),
            Err(error) => log::error!(target: "cluster", "the thread {name} cannot be started: {error}"),
        }
    }
}
