//! What the kernel says of a running process (Linux, `/proc`).

use std::fs;

/// A look at one process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Resident memory now, bytes.
    pub rss_bytes: u64,
    /// The most resident memory there ever was, bytes.
    pub peak_rss_bytes: u64,
    pub threads: u64,
    /// Open descriptors.
    pub fds: u64,
}

/// Reads `/proc/<pid>`.
///
/// # Panics
/// The process is gone.
pub fn usage(pid: u32) -> Usage {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} in {status}"));
        let digits = line.split_whitespace().nth(1).expect("a value follows the name");
        digits.parse().expect("the value is a number")
    };
    Usage {
        rss_bytes: field("VmRSS:") * 1024,
        peak_rss_bytes: field("VmHWM:") * 1024,
        threads: field("Threads:"),
        fds: fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is ours").count() as u64,
    }
}
