//! Named threads. A critical one (raft, WAL, applier) takes the process with it when it panics: half a node that goes on
//! answering is worse than none.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

/// The applier runs deep SQL expression trees on its stack; the others need far less. Pages are touched only when used.
pub(crate) const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Starts a thread whose panic aborts the process. The panic hook has already printed where and why.
pub fn spawn_critical(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(move || {
        if catch_unwind(AssertUnwindSafe(body)).is_err() {
            std::process::abort();
        }
    })
}

/// Ends the process over a failure of this machine (disk, memory, a broken invariant). Nothing acknowledged is lost:
/// the next start replays the log. Never retried, never answered to a client as a result.
pub fn stop_process(what: &str, why: &dyn std::fmt::Display) -> ! {
    log::error!(target: "ferrolite", "fatal: {what}: {why}");
    log::logger().flush();
    std::process::exit(1)
}
