//! Builds, starts and stops every part of a node. Runs on the main thread.

use crate::config::{Config, Launch};

/// Runs a node until it is told to stop; gives the exit status of the process.
pub fn run(_config: Config, _launch: Launch) -> i32 {
    log::error!(target: crate::logging::PROCESS, "this build has no server");
    1
}
