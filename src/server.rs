//! Builds every part of a node, starts and stops every thread. The one place where parts meet; runs on the main thread.
//!
//! The order of starting is the order of the functions below; stopping goes the other way round.

use crate::config::{Config, Launch};
use crate::coordinator::{Coordinator, Settings};
use crate::http::engine::{Engine, EngineConfig};
use crate::http::front::Front;
use crate::node::{Maintenance, MaintenanceOptions, Node, NodeOptions};
use crate::queue::{QueueHandle, QueueOptions};
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use raft::Index;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::fmt::Display;
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
        Ok(mut server) => {
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
    signals: Signals,
    engine: Engine,
    queue: QueueHandle,
    queue_thread: JoinHandle<()>,
    maintenance: Maintenance,
    node: Node,
}

fn start(config: &Config, launch: &Launch) -> Result<Server, String> {
    // Before any thread: a signal must find its handler, and a second process must fail before it disturbs anything.
    let signals = Signals::new([SIGINT, SIGTERM]).map_err(context("failed to install signal handlers"))?;
    let lock = Node::lock(&config.data_dir).map_err(context("failed to open store"))?;

    // HTTP answers from the first second, also while the store is being opened.
    let listeners = listen(&config.http.addr)?;
    let coordinator = Arc::new(Coordinator::new(Settings {
        data_dir: config.data_dir.clone(),
        read_timeout: config.db.read_timeout.unwrap_or(READ_TIMEOUT_NONE),
        write_steps_max: config.db.write_steps_max,
    }));
    let front = Arc::new(Front::new(Arc::clone(&coordinator) as _, Arc::new(config.clone()), launch.clone()));
    let engine =
        Engine::start(listeners, engine_config(config), front).map_err(context("failed to start HTTP server"))?;
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
    let node = Node::open(lock, node_options(config)).map_err(context("failed to open store"))?;
    coordinator.attach_node(node.handle());
    let maintenance = Maintenance::start(node.handle(), maintenance_options(config))
        .map_err(context("failed to start maintenance"))?;
    announce(config);
    Ok(Server { signals, engine, queue, queue_thread, maintenance, node })
}

impl Server {
    fn wait_for_signal(&mut self) -> &'static str {
        match self.signals.forever().next() {
            Some(SIGTERM) => "terminated",
            _ => "interrupt",
        }
    }

    /// No new requests; those under way finish; queued writes are written; then the log and the database close.
    fn stop(self, config: &Config) {
        let _watch = self.watch_stop(config.http.shutdown_timeout + CLOSE_TIME_MAX);
        self.queue.hurry();
        let cut = self.engine.stop(config.http.shutdown_timeout);
        if cut > 0 {
            log::warn!(target: "http", "{cut} requests were cut off at the stop");
        }
        self.queue.stop();
        let _ = self.queue_thread.join();
        self.maintenance.stop();
        self.node.stop();
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

/// Every address that the name stands for; at least one must be free.
fn listen(addr: &str) -> Result<Vec<TcpListener>, String> {
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
            return Err(format!("failed to start HTTP server: listen tcp {addr}: {why}"));
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
        timing: config.timing,
        snapshot: config.snapshot,
        skip_entry: config.raft.skip_entry.map(Index),
    }
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
