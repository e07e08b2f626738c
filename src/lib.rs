//! Ferrolite: SQLite, replicated by a purpose-built Raft and served over HTTP.
//!
//! # Modules, in reading order
//!
//! | module | what it is |
//! |---|---|
//! | [`server`] | builds every part, starts and stops every thread |
//! | [`http`] | the front: `engine` (bytes on sockets), `router`, `params`, `handlers/` (one file an endpoint), `json/` |
//! | [`coordinator`] | the one service layer: write, read (levels), snapshot, status |
//! | [`command`] | what a log entry says, its bytes, and what comes of it: plain data |
//! | [`node`] | one replica as threads: raft, WAL, applier; `handle` is the only door in |
//! | [`db`] | SQLite: the writer (apply), the readers, determinism; the only place that names rusqlite |
//! | [`queue`] | queued writes |
//! | [`net`] | traffic between nodes |
//! | [`vars`] | counters of `/debug/vars` |
//! | [`limits`] | what bounds the memory of the process; turns for large requests and results |
//! | [`config`], [`text`], [`logging`] | flags, Go-style text forms, log lines |
//!
//! The `raft` crate beside this one holds the replica and its write-ahead log, and knows nothing of SQL, threads or
//! sockets.
//!
//! # The walk of one write
//!
//! `http::engine` (worker) -> `http::front` -> `http::handlers::execute` -> `coordinator::write` -> `command::codec` ->
//! `node::handle` => `node::raft_thread` -> `raft::Replica` => `node::wal_thread` -> `raft::wal` (one `fdatasync` for all that wait) =>
//! `node::raft_thread` (committed) => `node::applier_thread` -> `db::writer` (one transaction for all that wait) =>
//! `http::engine` (worker) -> `http::json`. `=>` is a hand-over between threads. The worker does not wait meanwhile: it
//! keeps a `Responder` in the continuation and serves others.
//!
//! # Threads
//!
//! | name | struct | owns | waits for |
//! |---|---|---|---|
//! | `main` | `server` | every part | signals |
//! | `http-N` | `http::engine` | connections; runs handlers and reads | sockets, completions |
//! | `http-accept` | `http::engine::acceptor` | the listeners, the deadlines, the number of workers | sockets, the clock |
//! | `raft` | `node::raft_thread::RaftThread` | `raft::Replica`, who waits for which index | its inbox |
//! | `wal` | `node::wal_thread::WalThread` | the log files | its inbox, the disk |
//! | `applier` | `node::applier_thread::ApplierThread` | the read-write SQLite connection | its inbox, the disk |
//! | `queue` | `queue::thread::QueueThread` | the batch of queued writes | its inbox, its answer |
//! | `maintenance` | `node::maintenance` | the times of VACUUM and optimize; idle read connections | the clock, its answer |
//! | `stop` | `server` | nothing; ends a stop that takes too long | the clock |
//! | `maintenance` | `node::maintenance` | the times of VACUUM and optimize | the clock, its answer |
//! | `net-*`, `peer-*`, `bulk-*`, `call-*` | `net` (table there) | connections between nodes | sockets, their queues |
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
//! | calls to nodes | `net::limits`: calls and bytes for each link | the call is not sent |
//! | answers to nodes | `net::limits`: answers and bytes for each connection | the connection is closed |
//! | workers (completions) | one for each open connection | cannot overflow |
//!
//! Who may wait for whom: `http-N`, `queue`, `maintenance`, `net-in` -> `raft`; `wal`, `applier` -> `raft` (their reports). The raft
//! thread never waits for anyone, so the graph has no cycle.
//!
//! # What is deliberately absent
//!
//! No async runtime; no `unsafe` outside `db::sqlite` (SQLite's interface) and single calls of the C library (`limits`, `net::stream`,
//! `text`, `vars`); no clock, randomness, thread or file in the raft core; no second
//! copy of the database on disk; no rewriting of SQL text; no retry of a failed sync. `tests/tidy.rs` enforces what can be
//! enforced.

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
pub mod server;
pub mod text;
pub mod vars;
