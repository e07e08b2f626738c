//! Starts and stops the engine. Runs on the caller's thread.

use super::Handler;
use super::acceptor::Acceptor;
use super::config::{CounterValues, DESCRIPTORS_RESERVED, EngineConfig};
use super::shared::{Job, Shared};
use super::slots::{CUT, Phase, STOP};
use rustix::process::{Resource, getrlimit};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A running HTTP engine. Dropping it stops it at once.
pub struct Engine {
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

/// Connections that the kernel completes and keeps for us until they are accepted (it has an upper bound of its own).
const BACKLOG: i32 = 4096;
/// How often a stop looks whether the requests have finished.
const STOP_POLL: Duration = Duration::from_millis(2);
/// How long threads may take to end once everything is cut; those in handlers that still block are left behind.
const END_PATIENCE: Duration = Duration::from_millis(1_000);

impl Engine {
    /// Serves `handler` on the listeners until [`Engine::stop`].
    ///
    /// # Errors
    /// No descriptor or thread left.
    pub fn start(
        listeners: Vec<TcpListener>,
        mut config: EngineConfig,
        handler: Arc<dyn Handler>,
    ) -> io::Result<Engine> {
        for listener in &listeners {
            // The standard library asks for 128; a burst of connections beyond that waits a second for its second try.
            rustix::net::listen(listener, BACKLOG)?;
        }
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        config.connections_max = config.connections_max.clamp(1, connections_possible());
        let shared = Arc::new(Shared::new(config, handler)?);
        let mut acceptor = Acceptor::new(Arc::clone(&shared), listeners)?;
        let mut engine = Engine { shared, acceptor: None, addresses };
        acceptor.start_workers()?;
        let thread = std::thread::Builder::new().name("http-accept".to_owned()).spawn(move || acceptor.run())?;
        engine.acceptor = Some(thread);
        Ok(engine)
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What happened since the start.
    pub fn counters(&self) -> CounterValues {
        self.shared.counters.snapshot()
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.shared.slots.in_use()
    }

    /// Worker threads now.
    pub fn workers(&self) -> usize {
        self.shared.pool.alive()
    }

    /// Bytes that connections hold in buffers now, and in scratch files.
    pub fn buffered_bytes(&self) -> (u64, u64) {
        (self.shared.memory.used(), self.shared.scratch.space.used())
    }

    /// Stops: nobody is accepted any more, idle connections are closed, requests that have begun are finished, up to
    /// `patience`; then the rest is cut off. Gives the number of requests that were cut.
    pub fn stop(mut self, patience: Duration) -> usize {
        self.stop_within(patience)
    }

    fn stop_within(&mut self, patience: Duration) -> usize {
        let Some(acceptor) = self.acceptor.take() else {
            self.end_workers(Instant::now() + END_PATIENCE);
            return 0;
        };
        let until = Instant::now() + patience;
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.pool.watcher.wake();
        for (token, slot) in self.shared.slots.each() {
            if !slot.is_phase(Phase::Free) {
                self.shared.post(Job::Signal(token, STOP));
            }
        }
        while self.is_any(|phase| phase != Phase::Linger) && Instant::now() < until {
            std::thread::sleep(STOP_POLL);
        }
        self.shared.cutting.store(true, Ordering::Release);
        let mut cut = 0;
        for (token, slot) in self.shared.slots.each() {
            cut += usize::from(slot.is_phase(Phase::Busy));
            if !slot.is_phase(Phase::Free) {
                self.shared.post(Job::Signal(token, CUT));
            }
        }
        let until = Instant::now() + END_PATIENCE;
        while self.is_any(|_| true) && Instant::now() < until {
            std::thread::sleep(STOP_POLL);
        }
        self.end_workers(until);
        self.shared.pool.watcher.wake();
        if acceptor.join().is_err() {
            log::error!("the HTTP accept thread failed");
        }
        cut
    }

    fn is_any(&self, of_interest: fn(Phase) -> bool) -> bool {
        self.shared.slots.each().any(|(_, slot)| {
            let phase = slot.phase();
            phase != Phase::Free && of_interest(phase)
        })
    }

    fn end_workers(&self, until: Instant) {
        self.shared.ending.store(true, Ordering::Release);
        while self.shared.pool.alive() > 0 && Instant::now() < until {
            // Each wake-up reaches one of those that wait.
            self.shared.nudge_worker();
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop_within(Duration::ZERO);
    }
}

/// How many connections the descriptor limit leaves room for.
fn connections_possible() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(DESCRIPTORS_RESERVED).max(8)
}
