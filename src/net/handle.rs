//! The transport as the rest of the node holds it: started, told who this node is and who its peers are, stopped.

use super::call::{Answer, CallAs};
use super::codec::encode_fetch;
use super::fetch_out::{self, Fetched};
use super::incoming::Acceptor;
use super::limits::STOP_MAX;
use super::links::{self, Continuation};
use super::peer::Peer;
use super::service::{CallError, Identity, NetError, NetOptions, PeerLink, Service};
use super::shared::Shared;
use super::snapshot_out::{self, SnapshotSender};
use crate::auth::Callers;
use raft::{Envelope, NodeId};
use std::collections::HashMap;
use std::io::{self, PipeWriter};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The running transport. Dropping it stops it.
pub struct Net {
    handle: NetHandle,
    /// Its end wakes the accept thread.
    alive: Option<PipeWriter>,
}

/// The way to the transport; cheap to clone.
#[derive(Clone)]
pub struct NetHandle {
    shared: Arc<Shared>,
}

impl Net {
    /// Takes connections from `listeners` and gives what arrives to `service`.
    ///
    /// # Errors
    /// No thread or descriptor left, or an option that does not fit.
    pub fn start(listeners: Vec<TcpListener>, options: NetOptions, service: Arc<dyn Service>) -> io::Result<Net> {
        let shared = Arc::new(Shared::new(options)?);
        let (stopped, alive) = io::pipe()?;
        let net = Net { handle: NetHandle { shared: Arc::clone(&shared) }, alive: Some(alive) };
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let owner = Arc::clone(&shared);
        shared.threads.spawn("net-clock", move || owner.clock.run(&owner))?;
        let acceptor = Acceptor { shared: Arc::clone(&shared), service, listeners, stopped };
        shared.threads.spawn("net-accept", move || acceptor.run())?;
        Ok(net)
    }

    pub fn handle(&self) -> NetHandle {
        self.handle.clone()
    }

    /// Ends all connections and threads. Calls under way end with what is known of them. Takes `STOP_MAX` at most: threads
    /// that something outside holds up (a service, a name server) are left behind. Gives their number.
    pub fn stop(mut self) -> usize {
        self.end()
    }

    fn end(&mut self) -> usize {
        if self.alive.take().is_none() {
            return 0;
        }
        let shared = &self.handle.shared;
        let deadline = Instant::now() + STOP_MAX;
        shared.set_stopping();
        shared.links.close();
        for (_, peer) in shared.peers.write().drain() {
            peer.retire();
        }
        shared.streams.close();
        shared.clock.close();
        let left = shared.threads.wait(deadline);
        if left > 0 {
            log::warn!(target: "mux", "{left} threads of connections did not end in time");
        }
        left
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.end();
    }
}

impl NetHandle {
    /// Says which cluster this node belongs to; from here on Raft lanes and snapshots work.
    pub fn identify(&self, identity: Identity) {
        *self.shared.identity.write() = Some(identity);
    }

    /// Says who the other members are and where. Never blocks on a socket. This node itself is left out.
    pub fn set_peers(&self, peers: &[(NodeId, String)]) {
        let shared = &self.shared;
        let mut present = shared.peers.write();
        if shared.is_stopping() {
            return;
        }
        let mut before = std::mem::take(&mut *present);
        let mut now = HashMap::with_capacity(peers.len());
        for (id, address) in peers {
            if *id == shared.own.node_id || now.contains_key(id) {
                continue;
            }
            if let Some(peer) = before.remove(id) {
                if peer.address == *address {
                    now.insert(id.clone(), peer);
                    continue;
                }
                peer.retire();
            }
            match Peer::start(shared, id.clone(), address.clone()) {
                Ok(peer) => drop(now.insert(id.clone(), Arc::new(peer))),
                Err(error) => shared.complaints.say(&id.0, &format!("no thread for this peer: {error}")),
            }
        }
        for peer in before.values() {
            peer.retire();
        }
        *present = now;
    }

    /// Sends a Raft message to the peer that it names, or drops it: before `identify`, to a node that is no peer, or when
    /// the peer's queue is full. Never blocks.
    pub fn send(&self, envelope: Envelope) {
        if let Some(peer) = self.shared.peers.read().get(&envelope.to) {
            peer.send(&self.shared, envelope);
        }
    }

    /// Calls the node at `address` (host:port). `done` runs exactly once, on any thread (also at once on this one), at the
    /// latest when `timeout` is over; it must not block.
    pub fn call(&self, address: &str, call: impl Into<CallAs>, timeout: Duration, done: Continuation) {
        links::call(&self.shared, address, call.into(), timeout, done);
    }

    /// As `call`, and waits for the outcome.
    ///
    /// # Errors
    /// There is no answer.
    pub fn call_wait(&self, address: &str, call: impl Into<CallAs>, timeout: Duration) -> Result<Answer, CallError> {
        let (outcome_tx, outcome_rx) = crossbeam_channel::bounded(1);
        let done = move |outcome| drop(outcome_tx.send(outcome));
        self.call(address, call, timeout, Box::new(done));
        outcome_rx.recv().unwrap_or_else(|_| Err(CallError::Unknown("the call was given up".to_owned())))
    }

    /// Begins to send a snapshot to the node `peer_id` at `address`; waits until it says from where on it wants it.
    ///
    /// # Errors
    /// It cannot be reached, or does not want it.
    pub fn open_snapshot(&self, peer_id: &NodeId, address: &str, header: &[u8]) -> Result<SnapshotSender, NetError> {
        snapshot_out::open(&self.shared, peer_id, address, header)
    }

    /// Asks the node at `address` for something large, `wanted`, in the name of `callers`, and waits until it begins to come.
    ///
    /// # Errors
    /// It cannot be reached, or gives none.
    pub fn fetch(
        &self,
        address: &str,
        callers: &Callers,
        wanted: &[u8],
        timeout: Duration,
    ) -> Result<Fetched, NetError> {
        let request = encode_fetch(callers, wanted).map_err(|error| NetError::Failed(error.to_string()))?;
        fetch_out::open(&self.shared, address, &request, timeout)
    }

    /// The connections that this node keeps to others.
    pub fn status(&self) -> Vec<PeerLink> {
        let mut peers: Vec<Arc<Peer>> = self.shared.peers.read().values().cloned().collect();
        peers.sort_by(|a, b| a.id.cmp(&b.id));
        let mut status: Vec<PeerLink> = peers.iter().flat_map(|peer| peer.status()).collect();
        let mut calls = self.shared.links.status();
        calls.sort_by(|a, b| a.address.cmp(&b.address));
        status.append(&mut calls);
        status
    }

    /// How many connections of the transport are open, both ways together.
    pub fn connections(&self) -> usize {
        self.shared.streams.count()
    }
}
