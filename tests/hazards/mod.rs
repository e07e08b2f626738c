//! A server in a process of its own, clients good and bad, and a look at what the server holds.
//!
//! The server is this test binary once more, told by an environment variable to serve instead of test.

mod client;
mod server;

pub use client::{Client, Honest, random_bytes};
pub use server::{Server, serve_if_asked};
