//! Ferrolite: SQLite, replicated by a purpose-built Raft and served over HTTP.

pub mod command;
pub mod config;
pub mod coordinator;
pub mod db;
pub mod http;
pub mod logging;
pub mod node;
pub mod server;
pub mod text;
pub mod vars;
