//! The HTTP front: engine, router, handlers.
//!
//! Reading order, which is the way of a request: `engine` (bytes to requests), `front` (headers, query string, path,
//! permissions, method), `basic` (who sends it), `router` (the table of paths), `handlers` (one file per endpoint), with
//! `params` and `statements` (what clients send), `backend` (what the node is asked), `results` and `errors` (what comes
//! back), `json` (how it looks), `reply` and `headers` (how it leaves). Everything runs on the engine's workers; nothing
//! here knows SQLite or Raft.

pub mod backend;
mod basic;
pub mod engine;
mod errors;
pub mod front;
mod handlers;
pub mod headers;
pub mod json;
pub mod params;
pub mod reply;
mod results;
mod rewrite;
pub mod router;
mod scan;
pub mod statements;

pub use front::Front;
