//! Ferrolite: SQLite, replicated by a purpose-built Raft and served over HTTP.
//!
//! # Modules, in reading order
//!
//! | module | what it is |
//! |---|---|
//! | [`server`] | builds every part, starts and stops every thread |
//! | [`http`] | the front: `engine` (bytes on sockets), `router`, `params`, `handlers/` (one file an endpoint), `json/` |
//! | [`coordinator`] | the one service layer: write, read (levels), snapshot, status |
//! | [`auth`] | who may do what: the credentials file, and the decision |
//! | [`cluster`] | who belongs to the cluster: forming, joining, admission, reaping, leaving |
//! | [`command`] | what a log entry says, its bytes, and what comes of it: plain data |
//! | [`node`] | one replica as threads: raft, WAL, applier; `handle` is the only door in |
//! | [`db`] | SQLite: the writer (apply), the readers, determinism; the only place that names rusqlite |
//! | [`queue`] | queued writes |
//! | [`net`] | traffic between nodes |
//! | [`vars`] | counters of `/debug/vars` |
//! | [`limits`] | what bounds the memory of the process; turns for large requests and results |
//! | [`config`], [`text`], [`logging`], [`random`] | flags, Go-style text forms, log lines, the system's random numbers |
//!
//! The `raft` crate beside this one holds the replica and its write-ahead log, and knows nothing of SQL, threads or
//! sockets.
//!
//! # The walk of one write
//!
//! `http::engine` (worker) -> `http::front` -> `http::handlers::execute` -> `coordinator::write` -> `command::codec` ->
//! `node::handle` => `node::raft_thread` (`raft_proposals`: what comes while a batch is on its way waits for it) ->
//! `raft::Replica` => `node::wal_thread` -> `raft::wal` (one `fdatasync` for all that wait) =>
//! `node::raft_thread` (committed) => `node::applier_thread` -> `db::writer` (one transaction for all that wait) =>
//! `http::engine` (worker) -> `http::json`. `=>` is a hand-over between threads. The worker does not wait meanwhile: it
//! keeps a `Responder` in the continuation and serves others.
//!
//! On a node that does not lead the coordinator makes a `Submission` instead, which calls the leader (`net`, `Call::Write`) and
//! asks again under the same request id until the outcome is known; there `coordinator::inbound` goes on at `node::handle`. On the
//! followers the entry arrives as a message: `net` (`net-in`) => `raft_thread` => `wal_thread` => `raft_thread` (acknowledges) and, once it
//! is known to be committed, => `applier_thread`.
//!
//! Whether the caller may have it done is asked in `http::front`, before the body is looked at, and of what another node passes on
//! once more in `coordinator::inbound`: a call carries the names and passwords of those for whom it is made (`auth::Callers`).
//!
//! # The walk of one read on a follower
//!
//! `http::handlers::query` -> `coordinator::read` -> `net` (`Call::ReadIndex`) => the leader's `coordinator::inbound` ->
//! `node::handle` => `raft_thread` (a round of heartbeats) => back: the index. `node::applied` runs the rest when this node
//! has applied it => worker: `db::readers`.
//!
//! # The walk of one backup
//!
//! `http::handlers::backup` -> `coordinator::backup` -> `node::handle` => `raft_thread` (a round of heartbeats) => worker: `node::backup`
//! pins a snapshot, `db::backup` leaves our own table out (SQLite does, in `db::sqlite::overlay`) and writes it, `http::engine` streams it
//! in chunks; the worker is the backup's until it is sent, and the pool replaces it. A follower's worker fetches it instead (`net::fetch_out`)
//! => the leader's `net-in` (`net::fetch_in`) -> `coordinator::backup` -> `node::backup` as above.
//!
//! # The walk of one load
//!
//! `http::handlers::load` -> `coordinator::load` => worker: `db::load::Upload` checks the file, then part after part and the last word
//! are submitted as any write is (`coordinator::submit`) => on every node `node::applier_thread` -> `db::load` keeps the parts as rows, makes
//! a file of them, and `db::swap` puts it in the place of the database, as it does with a copy of the leader's. SQL text is one entry
//! instead, in which `db::execute` lets transactions begin and end.
//!
//! # Threads
//!
//! | name | struct | owns | waits for |
//! |---|---|---|---|
//! | `main` | `server` | every part | the signal |
//! | `http-N` | `http::engine` | connections; runs handlers and reads | sockets, completions |
//! | `http-accept` | `http::engine::acceptor` | the listeners, the deadlines, the number of workers | sockets, the clock |
//! | `raft` | `node::raft_thread::RaftThread` | `raft::Replica`, who waits for which index | its inbox |
//! | `wal` | `node::wal_thread::WalThread` | the log files | its inbox, the disk |
//! | `applier` | `node::applier_thread::ApplierThread` | the read-write SQLite connection | its inbox, the disk |
//! | `queue` | `queue::thread::QueueThread` | the batch of queued writes | its inbox, its answer |
//! | `maintenance` | `node::maintenance` | the times of VACUUM and optimize; idle read connections | the clock, its answer |
//! | `join`, `announce` | `cluster::announce` | nothing; once after a start | other nodes |
//! | `reaper` | `cluster::reaper::Watch` | since when this node leads and who is silent | the clock |
//! | `cluster-admin` | `cluster::desk` | one request about the membership, each | the raft thread, the resolver |
//! | `net-*`, `peer-*`, `bulk-*`, `call-*` | `net` (table there) | connections between nodes | sockets, their queues |
//! | `fetch` | `net::fetch_out` | a backup on its way from the leader, each | its socket |
//! | `verify` | `node::verify` | the time of the next divergence check | its inbox, the clock, other nodes |
//! | `hash` | `node::verify` | a pinned snapshot of the database | the disk |
//! | `copy-<peer>` | `node::net_peers` | a pinned snapshot of the database, on its way to a peer | the disk, its socket |
//! | `timer` | `coordinator::timer` | continuations that wait for their time | the clock, its inbox |
//! | `signals` | `server` | nothing | signals |
//! | `stop` | `server` | nothing; ends a stop that takes too long | the clock |
//!
//! A panic on `raft`, `wal`, `applier` or `queue` aborts the process; a failed write or sync of the log or the database
//! ends it with a message.
//!
//! # Channels
//!
//! | to | bound | when full |
//! |---|---|---|
//! | raft | `RAFT_INBOX_MAX` inputs | senders block; proposals give up after `-raft-apply-timeout` |
//! | wal | `WAL_INBOX_MAX` appends | the raft thread keeps the rest in its outbox |
//! | applier | `APPLIER_INBOX_MAX` hand-overs | the raft thread keeps the rest in its outbox |
//! | queue | `-write-queue-capacity` requests | callers block for their `timeout` |
//! | peers | `net::limits`: messages and bytes for each lane | control drops the oldest, bulk the newest; Raft sends again |
//! | timer | one job for each request that waits for something | never blocks |
//! | verify | one request | further ones are refused |
//! | fetched backup | `FETCH_PIECES_MAX` pieces: what the giver sends unacknowledged | it is cut off: the giver broke the rule |
//! | calls to nodes | `net::limits`: calls and bytes for each link | the call is not sent |
//! | answers to nodes | `net::limits`: answers and bytes for each connection | the connection is closed |
//! | workers (completions) | one for each open connection | cannot overflow |
//!
//! Who may wait for whom: `http-N`, `queue`, `maintenance`, `verify`, `copy-*`, `timer`, `net-in` -> `raft`;
//! `wal`, `applier` -> `raft` (their reports). The raft thread never waits for anyone, so the graph has no cycle.
//!
//! # What is deliberately absent
//!
//! No async runtime; no `unsafe` outside `db::sqlite` (SQLite's interface) and single calls of the C library (`limits`, `net::stream`,
//! `text`, `vars`); no clock, randomness, thread or file in the raft core; no second
//! copy of the database on disk; no rewriting of SQL text; no retry of a failed sync. `tests/tidy.rs` enforces what can be
//! enforced.

pub mod auth;
pub mod cluster;
pub mod command;
pub mod config;
pub mod coordinator;
pub mod db;
pub mod http;
pub mod limits;
pub mod logging;
pub mod net;
pub mod node;
pub mod queue;
pub mod random;
pub mod server;
pub mod text;
pub mod vars;
