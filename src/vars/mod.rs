//! What the server counts, and how `/debug/vars` shows it.
//!
//! Reading order: `table` (the names), this file (a counter, the rendering). Any thread counts; HTTP workers render.
//! Nothing here may ever decide anything: counters are for people and their charts.

mod table;

pub use table::*;

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that grows, or is set.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Process-wide facts that stand among the groups: name and JSON.
pub type Extra<'a> = (&'a str, String);

/// Renders all entries, or the one named `key` (none when there is no such entry), in the order of their names.
pub fn render(extras: &[Extra<'_>], key: Option<&str>) -> String {
    let mut entries: Vec<(&str, String)> =
        table::GROUPS.iter().map(|group| (group.name, render_group(group))).collect();
    entries.extend(extras.iter().map(|(name, json)| (*name, json.clone())));
    entries.retain(|(name, _)| key.is_none_or(|key| key == *name));
    entries.sort_by_key(|(name, _)| *name);
    let lines: Vec<String> = entries.iter().map(|(name, json)| format!("\"{name}\": {json}")).collect();
    format!("{{\n{}\n}}\n", lines.join(",\n"))
}

fn render_group(group: &table::Group) -> String {
    let mut out = String::from("{");
    for (n, (name, counter)) in group.counters.iter().enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        write!(out, "{comma}\"{name}\": {}", counter.get()).expect("a String takes all that is written");
    }
    out.push('}');
    out
}

/// Memory of this process as the kernel sees it, in the names of the statistics that clients chart.
pub fn memstats() -> String {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split_ascii_whitespace().map(|number| number.parse().unwrap_or(0u64));
    let (size, resident) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    let page_bytes = page_bytes();
    let (size, resident) = (size * page_bytes, resident * page_bytes);
    format!(
        "{{\"Alloc\": {resident}, \"HeapAlloc\": {resident}, \"HeapInuse\": {resident}, \"HeapSys\": {size}, \
         \"NumGC\": 0, \"Sys\": {size}}}"
    )
}

/// Size of a page of memory.
pub fn page_bytes() -> u64 {
    // SAFETY: sysconf reads a constant of the system and touches no memory of ours.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(bytes).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_single() {
        let names: Vec<_> = table::GROUPS.iter().map(|group| group.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for group in table::GROUPS {
            assert!(group.counters.is_sorted_by(|a, b| a.0 < b.0), "{}", group.name);
        }
    }

    #[test]
    fn rendering_has_the_documented_layout() {
        mux::NUM_CONNECTIONS_HANDLED.set(7);
        let expected = "{\n\"mux\": {\"num_connections_handled\": 7, \"num_tls_cert_fetched\": 0, \"num_unregistered_handlers\": 0}\n}\n";
        assert_eq!(render(&[], Some("mux")), expected);
        assert_eq!(render(&[], Some("nothing")), "{\n\n}\n");
        let all = render(&[("cmdline", "[]".to_owned()), ("memstats", memstats())], None);
        let parsed: serde_json::Value = serde_json::from_str(&all).expect("it is JSON");
        assert_eq!(parsed.as_object().expect("an object").len(), table::GROUPS.len() + 2);
        let at = |name: &str| all.find(&format!("\n\"{name}\": ")).expect(name);
        assert!(at("cluster") < at("cmdline") && at("cmdline") < at("db") && at("db.wal") < at("memstats"));
    }
}
