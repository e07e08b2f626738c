//! Several real processes that keep one database: what a user of a cluster sees.
//!
//! Faults in the middle of load, cuts of the network and long runs are in `jepsen/`; every order of events is in the
//! simulator (`raft/src/sim`).

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod backups;
mod copies;
mod forming;
mod frozen;
mod group;
mod leaving;
mod loads;
mod serving;
mod twins;
