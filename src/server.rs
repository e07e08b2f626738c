//! Builds every part of a node, starts and stops every thread. The one place where parts meet; runs on the main thread.
//!
//! The order of starting is the order of the functions below; stopping goes the other way round.

use crate::auth::{AccessControl, CredentialFile, Credentials};
use crate::cluster::{self, Cancel, Cluster, NetAsk, identity, peers_json};
use crate::config::{Config, Launch, build_info};
use crate::coordinator::inbound::Inbound;
use crate::coordinator::timer::Timer;
use crate::coordinator::{Coordinator, Settings};
use crate::db::{build, version};
use crate::http::engine::{Engine, EngineConfig};
use crate::http::front::Front;
use crate::net::{Net, NetOptions};
use crate::node::open::Lock;
use crate::node::verify::Verifier;
use crate::node::{
    Maintenance, MaintenanceOptions, Node, NodeOptions, OpenError, Origin, Store, known_incarnation, set_aside,
};
use crate::queue::{QueueHandle, QueueOptions};
use crate::vars;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use raft::{Index, NodeId};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt::Display;
use std::io;
use std::net::{TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// Between two tries to take a port that a process before us may not have given up yet.
const BIND_RETRY_INTERVAL: Duration = Duration::from_millis(50);
const BIND_RETRY_MAX: Duration = Duration::from_secs(1);

/// Stands for "no limit" where a limit is wanted: ten years.
const READ_TIMEOUT_NONE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long the rest of a stop may take, after the time for requests: queued writes, the last entries, the files. What is
/// not done by then is done by the next start.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(10);

/// Runs a node until a signal stops it. Returns the exit status: 0 after a graceful stop, 1 when it could not start.
pub fn run(config: Config, launch: Launch) -> i32 {
    match start(&config, &launch) {
        Ok(server) => {
            let signal = server.wait_for_signal();
            log::info!(target: "rqlited", "received signal \"{signal}\"");
            server.stop(&config);
            log::info!(target: "rqlited", "{} server stopped", launch.program);
            0
        }
        Err(error) => {
            log::error!(target: "rqlited", "{error}");
            1
        }
    }
}

/// Everything that runs.
struct Server {
    signals: Receiver<&'static str>,
    engine: Engine,
    queue: QueueHandle,
    queue_thread: JoinHandle<()>,
    maintenance: Maintenance,
    verifier: Verifier,
    node: Node,
    cluster: Arc<Cluster>,
    net: Net,
    timer: Timer,
}

fn start(config: &Config, launch: &Launch) -> Result<Server, String> {
    // Before any thread: a signal must find its handler, and a second process must fail before it disturbs anything.
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(context("failed to install signal handlers"))?;
    let (access, user) = credentials(config).map_err(context("failed to get credential store"))?;
    let lock = Node::lock(&config.data_dir).map_err(context("failed to open store"))?;

    // HTTP answers from the first second, also while the store is being opened.
    let listeners = listen(&config.http.addr, "failed to start HTTP server")?;
    let timer = Timer::start().map_err(context("failed to start the timer"))?;
    let coordinator = Coordinator::new(
        Settings {
            data_dir: config.data_dir.clone(),
            read_timeout: config.db.read_timeout.unwrap_or(READ_TIMEOUT_NONE),
            write_steps_max: config.db.write_steps_max,
            api_url: format!("http://{}", config.http.adv_addr),
            node_id: config.node_id.clone(),
            version: build_info::VERSION.to_owned(),
        },
        timer.handle(),
    );
    // Other nodes are answered from the first second too, if only with "not yet".
    let inbound = Inbound::new(Arc::clone(&coordinator), Arc::clone(&access));
    let net = Net::start(listen_raft(config)?, net_options(config)?, Arc::clone(&inbound) as _)
        .map_err(context(&format!("failed to listen on {}", config.raft.addr)))?;
    log::info!(target: "mux", "mux serving on {}, advertising {}", config.raft.addr, config.raft.adv_addr);
    coordinator.attach_net(net.handle());
    let ask = Arc::new(NetAsk::new(net.handle(), user));
    let cluster = Cluster::new(cluster::Settings::from_config(config), ask);
    inbound.attach_membership(Arc::clone(&cluster) as _);
    coordinator.attach_membership(Arc::clone(&cluster) as _);
    let signals = watch_signals(signals, cluster.canceller()).map_err(context("failed to watch for signals"))?;
    let front = Front::new(Arc::clone(&coordinator) as _, Arc::new(config.clone()), launch.clone(), access);
    let engine = Engine::start(listeners, engine_config(config), Arc::new(front))
        .map_err(context("failed to start HTTP server"))?;
    log::info!(target: "http", "service listening on {}", config.http.addr);

    // The queue first: a node that says it is ready must take queued writes too.
    let (queue, queue_thread) = QueueHandle::start(Arc::clone(&coordinator), queue_options(config))
        .map_err(context("failed to start the write queue"))?;
    coordinator.attach_queue(queue.clone());
    log::info!(
        target: "http",
        "execute queue processing started with capacity {}, batch size {}, timeout {:?}",
        config.queue.capacity, config.queue.batch_size, config.queue.timeout.unwrap_or_default(),
    );
    let node = open_node(config, lock, &cluster, &net)?;
    coordinator.attach_node(node.handle());
    let verifier = Verifier::start(node.handle(), net.handle(), config.node_id.clone(), config.cluster.verify_interval)
        .map_err(context("failed to start the divergence check"))?;
    coordinator.attach_verifier(verifier.handle());
    let maintenance = Maintenance::start(node.handle(), maintenance_options(config))
        .map_err(context("failed to start maintenance"))?;
    announce(config);
    Ok(Server { signals, engine, queue, queue_thread, maintenance, verifier, node, cluster, net, timer })
}

/// Who may do what here, and in whose name this node asks others.
fn credentials(config: &Config) -> Result<(Arc<AccessControl>, Option<Credentials>), String> {
    let Some(path) = &config.auth.file else { return Ok((Arc::new(AccessControl::off()), None)) };
    let file = CredentialFile::read(path).map_err(context(&path.display().to_string()))?;
    for warning in &file.warnings {
        log::warn!(target: "rqlited", "credentials in {}: {warning}", path.display());
    }
    let user = match &config.auth.join_as {
        None => None,
        Some(name) => {
            let user = file.credentials_of(name);
            let missing = || format!("{}: -join-as needs user {name:?} with a password in it", path.display());
            Some(user.ok_or_else(missing)?)
        }
    };
    Ok((Arc::new(AccessControl::of(&file)), user))
}

/// Finds out where this node belongs, opens or makes its log and database, and lets it run.
fn open_node(config: &Config, lock: Lock, cluster: &Arc<Cluster>, net: &Net) -> Result<Node, String> {
    let failed = |error: &dyn Display| format!("failed to open store: {error}");
    let store_failed = |error: OpenError| failed(&error);
    let dir = &config.data_dir;
    let name = NodeId(config.node_id.as_str().into());
    let by_hand = peers_json::find(dir).map_err(|error| failed(&error))?;
    if by_hand.is_some() {
        identity::rename(dir, &name).map_err(|error| failed(&error))?;
    }
    let exists = Node::exists(dir).map_err(|error| failed(&error))?;
    let mut formation = cluster.form(exists).map_err(context("clustering failure"))?;
    let opened = Store::open(lock.clone(), node_options(config), formation.origin.clone());
    let mut store = match opened {
        Err(error) if error.is_damage() && config.cluster.rejoin => {
            let aside = set_aside(dir).map_err(|error| failed(&error))?;
            log::error!(
                target: "store",
                "{error}. As -rejoin says, log and database are moved to {} and this node joins its cluster anew",
                aside.display()
            );
            formation = cluster.form(false).map_err(context("clustering failure"))?;
            Store::open(lock, node_options(config), formation.origin.clone()).map_err(store_failed)?
        }
        opened => opened.map_err(store_failed)?,
    };
    if let Some(peers) = by_hand {
        log::info!(target: "store", "[recovery] attempting node recovery using {}", peers.path.display());
        // Its own life it knows; those of the others are put in their places by the leader, as it hears from them.
        let known = known_incarnation(&store.recovered().map_err(store_failed)?, &name);
        let own = identity::settle(dir, &name, store.cluster(), known, false).map_err(|error| failed(&error))?;
        store.recover_by_hand(peers.members_with(&name, own)).map_err(store_failed)?;
        peers.used().map_err(|error| failed(&error))?;
        vars::store::NUM_RECOVERIES.add(1);
        log::info!(target: "store", "[recovery] node recovered successfully using {}", peers.path.display());
    }
    let recovered = store.recovered().map_err(store_failed)?;
    let known = known_incarnation(&recovered, &name);
    let is_empty = recovered.memberships.is_empty();
    let incarnation = identity::settle(dir, &name, store.cluster(), known, is_empty).map_err(|error| failed(&error))?;
    if exists && !is_empty {
        // A founding that a crash seemed to have cut short had come about.
        formation.origin = Origin::Existing;
    }
    let node = Node::start(store, recovered, incarnation, net.handle()).map_err(store_failed)?;
    cluster.attach(Arc::new(node.handle()), &formation).map_err(context("clustering failure"))?;
    Ok(node)
}

/// The first signal cancels what waits and is then told; the handler was installed before any thread.
fn watch_signals(mut signals: Signals, cancel: Cancel) -> io::Result<Receiver<&'static str>> {
    let (signal_tx, signal_rx) = bounded(1);
    Builder::new().name("signals".into()).stack_size(128 * 1024).spawn(move || {
        let name = match signals.forever().next() {
            Some(SIGTERM) => "terminated",
            _ => "interrupt",
        };
        cancel.cancel();
        let _ = signal_tx.send(name);
    })?;
    Ok(signal_rx)
}

impl Server {
    fn wait_for_signal(&self) -> &'static str {
        self.signals.recv().unwrap_or("interrupt")
    }

    /// No new requests; those under way finish; queued writes are written; then the log and the database close.
    fn stop(self, config: &Config) {
        let _watch = self.watch_stop(config.http.shutdown_timeout + CLOSE_TIME_MAX);
        if config.raft.cluster_remove_shutdown {
            if let Err(why) = self.cluster.leave() {
                log::error!(target: "rqlited", "failed to remove this node from cluster before shutdown: {why}");
                log::logger().flush();
                // At once, as the flag promises; nothing acknowledged depends on what is left undone.
                std::process::exit(1);
            }
        } else if config.raft.shutdown_stepdown {
            self.cluster.hand_over();
        }
        self.queue.hurry();
        let cut = self.engine.stop(config.http.shutdown_timeout);
        if cut > 0 {
            log::warn!(target: "http", "{cut} requests were cut off at the stop");
        }
        self.queue.stop();
        let _ = self.queue_thread.join();
        self.maintenance.stop();
        self.cluster.stop();
        self.node.stop();
        self.verifier.stop();
        self.net.stop();
        self.timer.stop();
        log::info!(target: "store", "store closed with node ID {}, listening on {}", config.node_id, config.raft.addr);
    }
}

impl Server {
    /// Ends the process when a stop takes longer than `limit`: the applier may be deep in a statement, which nothing may
    /// interrupt. Dropping what this returns calls it off.
    fn watch_stop(&self, limit: Duration) -> Option<Sender<()>> {
        let node = self.node.handle();
        let (done_tx, done_rx) = bounded::<()>(1);
        let watch = Builder::new().name("stop".into()).stack_size(128 * 1024).spawn(move || {
            if done_rx.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let next = node.shared().applied.get().next();
            log::warn!(
                target: "rqlited",
                "the stop is not done after {limit:?}: ending the process while entry {next} or a later one is being \
                 applied. Nothing acknowledged is lost: SQLite undoes what is unfinished, and the next start applies it \
                 from the log"
            );
            log::logger().flush();
            std::process::exit(0)
        });
        // Without a thread to be had the stop goes on unwatched.
        watch.is_ok().then_some(done_tx)
    }
}

fn listen_raft(config: &Config) -> Result<Vec<TcpListener>, String> {
    listen(&config.raft.addr, &format!("failed to listen on {}", config.raft.addr))
}

/// Every address that the name stands for; at least one must be free.
fn listen(addr: &str, what: &str) -> Result<Vec<TcpListener>, String> {
    let wanted = if addr.starts_with(':') { format!("[::]{addr}") } else { addr.to_string() };
    let addresses: Vec<_> =
        wanted.to_socket_addrs().map_err(context(&format!("failed to listen on {addr}")))?.collect();
    let give_up = Instant::now() + BIND_RETRY_MAX;
    loop {
        let tried: Vec<_> = addresses.iter().map(TcpListener::bind).collect();
        if tried.iter().any(Result::is_ok) {
            return Ok(tried.into_iter().flatten().collect());
        }
        if Instant::now() >= give_up {
            let error = tried.into_iter().find_map(Result::err);
            let why = error.map_or_else(|| "the name has no address".to_string(), |e| e.to_string());
            return Err(format!("{what}: listen tcp {addr}: {why}"));
        }
        std::thread::sleep(BIND_RETRY_INTERVAL);
    }
}

fn announce(config: &Config) {
    let url = format!("http://{}", config.http.adv_addr);
    let (host, port) = config.http.adv_addr.rsplit_once(':').unwrap_or((&config.http.adv_addr, ""));
    log::info!(target: "rqlited", "node HTTP API available at {url}");
    log::info!(target: "rqlited", "connect using the command-line tool via 'rqlite -H {host} -p {port}'");
    log::info!(target: "rqlited", "visit the console for this node at {url}/console/");
}

fn context<E: Display>(what: &str) -> impl Fn(E) -> String {
    let what = what.to_string();
    move |error| format!("{what}: {error}")
}

fn engine_config(config: &Config) -> EngineConfig {
    EngineConfig {
        body_bytes_max: config.http.body_bytes_max,
        connections_max: config.http.conns_max,
        workers_max: config.http.workers_max,
        scratch_dir: config.data_dir.clone(),
        ..EngineConfig::default()
    }
}

fn node_options(config: &Config) -> NodeOptions {
    NodeOptions {
        data_dir: config.data_dir.clone(),
        node_id: config.node_id.clone(),
        raft_address: config.raft.adv_addr.clone(),
        foreign_keys: config.db.foreign_keys,
        readers_max: config.db.readers_max.unwrap_or(0),
        read_timeout: config.db.read_timeout.unwrap_or(READ_TIMEOUT_NONE),
        wal_segment_bytes: config.raft.wal_segment_bytes,
        apply_timeout: config.raft.apply_timeout,
        is_alone: config.cluster.join.is_empty(),
        retires_when_removed: config.raft.remove_shutdown,
        timing: config.timing,
        snapshot: config.snapshot,
        skip_entry: config.raft.skip_entry.map(Index),
    }
}

fn net_options(config: &Config) -> Result<NetOptions, String> {
    let sqlite = build::fingerprint().map_err(context("failed to open store"))?;
    let digest = blake3::hash(sqlite.as_bytes()).to_hex();
    Ok(NetOptions {
        connect_timeout: config.cluster.connect_timeout,
        compress_snapshots: config.cluster.compress_snapshots,
        fingerprint: format!(
            "ferrolite {} sqlite {} {}",
            build_info::VERSION,
            version::sqlite_version(),
            &digest[..16]
        ),
        advertised: config.raft.adv_addr.clone(),
        node_id: config.node_id.clone(),
    })
}

fn queue_options(config: &Config) -> QueueOptions {
    QueueOptions {
        capacity: config.queue.capacity,
        batch_size: config.queue.batch_size,
        timeout: config.queue.timeout.unwrap_or_default(),
        transaction: config.queue.transaction,
    }
}

fn maintenance_options(config: &Config) -> MaintenanceOptions {
    MaintenanceOptions { vacuum: config.db.auto_vacuum_interval, optimize: config.db.auto_optimize_interval }
}
