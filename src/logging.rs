//! Log lines on stderr: `[component] YYYY/MM/DD HH:MM:SS message`, in the form that operators already grep for.
//!
//! Every thread logs through the macros of the `log` crate and names its component as the target:
//! `log::info!(target: "store", "...")`. Without a target the module path names the component. Lines about Raft
//! carry a level and are filtered by `-raft-log-level`; all others are shown from INFO up, with their debug lines
//! only when that level is below WARN. Writing a line may block on a slow stderr, so hot paths must not log. A line
//! that cannot be written is dropped: logging must never bring a node down.

use std::fmt;
use std::io::Write;
use std::time::SystemTime;

use log::{Level, LevelFilter, Record};

use crate::text::time;

/// The component of lines about the process as a whole. The name is the reference's, for the sake of log scrapers.
pub const PROCESS: &str = "rqlited";

/// The component whose lines carry levels.
pub const RAFT: &str = "raft";

/// Libraries that log every call at debug level; their own lines matter only when they complain.
const LIBRARIES: [&str; 4] = ["polling", "mio", "ureq", "native_tls"];

/// Starts logging; a second call has no effect.
pub fn start(raft_level: LevelFilter) {
    // The only failure is a logger that was set before, such as a test's, which then stays.
    let _ = builder(raft_level).try_init();
}

fn builder(raft_level: LevelFilter) -> env_logger::Builder {
    let others_level = if raft_level > LevelFilter::Warn { LevelFilter::Debug } else { LevelFilter::Info };
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(others_level)
        // The filter compares beginnings of targets, so modules of the raft crate (`raft::wal`) are included.
        .filter_module(RAFT, raft_level)
        .format(|out, record| writeln!(out, "{}", Line { record, at: SystemTime::now() }));
    for library in LIBRARIES {
        builder.filter_module(library, LevelFilter::Warn);
    }
    builder
}

/// Writes one line to stderr and ignores failure, unlike `eprintln!`, which panics when stderr is closed.
pub fn complain(text: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

struct Line<'a> {
    record: &'a Record<'a>,
    at: SystemTime,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let component = component(self.record.target());
        write!(f, "[{component}] {} ", time::log_local(self.at))?;
        if component == RAFT {
            f.write_str(match self.record.level() {
                Level::Error => "[ERROR] ",
                Level::Warn => "[WARN]  ",
                Level::Info => "[INFO]  ",
                Level::Debug => "[DEBUG] ",
                Level::Trace => "[TRACE] ",
            })?;
        }
        // One event is one line: a newline that came in with a client's text must not forge another event.
        let message = self.record.args().to_string();
        if message.contains(['\n', '\r']) {
            f.write_str(&message.replace('\r', "\\r").replace('\n', "\\n"))
        } else {
            f.write_str(&message)
        }
    }
}

/// The component of a target: explicit ones as they are, module paths by their first module.
fn component(target: &str) -> &str {
    let path = match target.strip_prefix("ferrolite") {
        Some("") => return PROCESS,
        Some(rest) => rest.strip_prefix("::").unwrap_or(target),
        None => target,
    };
    path.split("::").next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn line(target: &str, level: Level, message: &str) -> String {
        let args = format_args!("{message}");
        let record = Record::builder().target(target).level(level).args(args).build();
        Line { record: &record, at: UNIX_EPOCH }.to_string()
    }

    #[test]
    fn a_line_is_component_date_message() {
        let text = line("http", Level::Info, "service listening on 127.0.0.1:4001");
        let (head, message) = text.split_at("[http] 1970/01/01 00:00:00 ".len());
        assert!(head.starts_with("[http] 19"), "{text}");
        assert_eq!(message, "service listening on 127.0.0.1:4001");
        assert!(line("store", Level::Error, "x").ends_with(" x"));
    }

    #[test]
    fn only_raft_shows_a_level() {
        assert!(line("raft", Level::Warn, "slow: ms=3").ends_with(" [WARN]  slow: ms=3"));
        assert!(line("raft", Level::Error, "bad").ends_with(" [ERROR] bad"));
        assert!(!line("mux", Level::Warn, "bad").contains("WARN"));
    }

    #[test]
    fn module_paths_become_components() {
        for (target, expected) in [
            ("raft", "raft"),
            ("raft::wal", "raft"),
            ("ferrolite", "rqlited"),
            ("ferrolite::http::engine", "http"),
            ("snapshot-store", "snapshot-store"),
            ("ferrolite_bench", "ferrolite_bench"),
        ] {
            assert_eq!(component(target), expected, "{target}");
        }
    }

    #[test]
    fn an_event_stays_on_one_line() {
        assert!(line("http", Level::Info, "a\r\n[raft] forged").ends_with("a\\r\\n[raft] forged"));
    }

    #[test]
    fn only_raft_is_filtered_by_the_raft_level() {
        use LevelFilter::{Debug, Error, Info, Off, Trace, Warn};
        for (raft_level, target, shown) in [
            (Off, "raft", None),
            (Error, "raft", Some(Level::Error)),
            (Warn, "raft", Some(Level::Warn)),
            (Warn, "raft::wal", Some(Level::Warn)),
            (Trace, "raft", Some(Level::Trace)),
            (Off, "store", Some(Level::Info)),
            (Warn, "store", Some(Level::Info)),
            (Info, "store", Some(Level::Debug)),
            (Debug, "store", Some(Level::Debug)),
            (Trace, "store", Some(Level::Debug)),
            (Trace, "polling::epoll", Some(Level::Warn)),
        ] {
            let logger = builder(raft_level).build();
            let passes = |level: &Level| {
                logger.matches(&Record::builder().target(target).level(*level).args(format_args!("x")).build())
            };
            assert_eq!(Level::iter().filter(passes).last(), shown, "{raft_level} {target}");
        }
    }
}
