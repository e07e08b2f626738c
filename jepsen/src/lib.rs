//! Faults on a cluster of real `ferrolite` processes under load, and the checks of what the clients saw.
//!
//! Reading order: [`cluster`] (the processes) and [`proxy`] (the links between them), [`client`] and [`workload`] (what
//! is asked, and what is remembered of it), [`nemesis`] (what is done to the cluster meanwhile), [`check`] (pure functions
//! from histories to violations), [`modes`] (whole runs). Nothing here may repair, retry or excuse what the product does.

pub mod args;
pub mod check;
pub mod client;
pub mod cluster;
pub mod context;
pub mod modes;
pub mod nemesis;
pub mod ports;
pub mod procnet;
pub mod proxy;
pub mod report;
pub mod shim;
pub mod workload;

// The same small HTTP client and generator as the tests of the product use.
#[path = "../../tests/support/http.rs"]
pub mod http;
#[path = "../../tests/support/rng.rs"]
pub mod rng;
