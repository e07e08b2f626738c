//! Traffic between nodes: one port (`-raft-addr`) for Raft messages, calls and snapshots.
//!
//! Reading order: [`call`] (what nodes ask of each other), `service` (the door to the rest of the node), `handle` (start,
//! peers, stop); then the bytes: `codec` (calls), `frame`, `handshake`, `stream` (the one place that makes connections, and
//! the seam for TLS); then who moves them: `peer` (Raft messages out), `links` and `link` (calls out), `incoming` (accept,
//! Raft messages and calls in), `names` (who speaks for a node), `answers`, `snapshot_out`, `snapshot_in`, `fetch_out`, `fetch_in`; below
//! them `transfer` (of the last four), `spool`, `clock`, `outgoing`, `shared`, `limits`.
//!
//! | connection | carries | opened by |
//! |---|---|---|
//! | control | Raft messages without entries, one way | who sends |
//! | bulk | Raft messages with entries, one way | who sends |
//! | calls | calls one way, answers the other; large calls have a connection of their own | who calls |
//! | snapshot | one snapshot | who sends |
//! | look | nothing: who answers there? | who is in doubt |
//! | fetch | something large, as it is made | who asks |
//!
//! | thread | of | waits for |
//! |---|---|---|
//! | `net-accept` | `incoming::Acceptor` | the listeners |
//! | `net-clock` | `clock::Clock` | the nearest deadline of a call |
//! | `net-in` | each incoming connection | its socket, the service |
//! | `call-out` | each incoming connection for calls | its answers, its socket |
//! | `peer-<id>`, `bulk-<id>` | each lane of a peer | its queue, its socket |
//! | `fetch` | each fetch of this node | its socket |
//! | `call-<address>`, `call-in` | each link for calls: writer, reader | its queue, its socket |
//!
//! No thread outside this module ever waits for a socket, but those that call `call_wait`, send a snapshot or fetch.

mod answers;
pub mod call;
mod clock;
pub mod codec;
mod fetch_in;
mod fetch_out;
pub mod frame;
mod handle;
pub mod handshake;
mod incoming;
pub mod limits;
mod link;
mod links;
mod names;
mod outgoing;
mod peer;
mod service;
mod shared;
mod snapshot_in;
mod snapshot_out;
mod spool;
mod stream;
mod transfer;

pub use call::{Answer, Call, CallAs};
pub use fetch_out::Fetched;
pub use handle::{Net, NetHandle};
pub use links::Continuation;
pub use service::{CallError, Feed, Identity, NetError, NetOptions, PeerLink, Reply, Service, SnapshotSource};
pub use snapshot_out::SnapshotSender;
