//! What is printed about flags: the usage text of `-h` and the Markdown reference, both made from the table. Pure
//! functions; the caller prints.

use super::flags::{FLAGS, Flag, Group, Kind, Status};
use crate::text::{duration, quote};

/// The usage text in the layout of Go's flag package: every flag in alphabetical order with its type, its help and,
/// unless it is empty or zero, its default.
pub fn usage(command: &str) -> String {
    let mut out = String::from(
        "\nFerrolite keeps one SQLite database on several machines and serves it over HTTP. Its flags, its API\n\
         and its answers are those of rqlite; flags marked [Ferrolite] are its own.\n\n",
    );
    out.push_str(&format!("Usage: {command} [flags] <data directory>\n"));
    for flag in FLAGS {
        out.push_str(&format!("  -{}", flag.name));
        let kind = kind_name(flag.kind);
        if !kind.is_empty() {
            out.push_str(&format!(" {kind}"));
        }
        out.push_str(&format!("\n    \t{}", flag.help));
        if let Some(note) = note(flag) {
            out.push_str(&format!(" [{note}]"));
        }
        if flag.ours {
            out.push_str(" [Ferrolite]");
        }
        if let Some(default) = default_text(flag.kind) {
            out.push_str(&format!(" (default {default})"));
        }
        out.push('\n');
    }
    out
}

/// The flags as Markdown tables, one for each group.
pub fn markdown() -> String {
    let mut out = String::new();
    for group in Group::ALL {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("### {}\n\n| flag | type | default | meaning |\n|---|---|---|---|\n", group.title()));
        for flag in FLAGS.iter().filter(|flag| flag.group == group) {
            let kind = match kind_name(flag.kind) {
                "" => "bool",
                kind => kind,
            };
            let default = default_text(flag.kind).map(|text| format!("`{}`", text.trim_matches('"')));
            let mut meaning = flag.help.to_string();
            if let Some(note) = note(flag) {
                meaning.push_str(&format!(" *{note}*"));
            }
            if flag.ours {
                meaning.push_str(" *Ferrolite's own.*");
            }
            let meaning = meaning.replace('|', "\\|");
            out.push_str(&format!("| `-{}` | {kind} | {} | {meaning} |\n", flag.name, default.unwrap_or_default()));
        }
    }
    out
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool(_) => "",
        Kind::Int(_) => "int",
        Kind::Uint(_) => "uint",
        Kind::Duration(_) => "duration",
        Kind::Text(_) | Kind::List => "string",
    }
}

fn default_text(kind: Kind) -> Option<String> {
    match kind {
        Kind::Bool(false) | Kind::Int(0) | Kind::Uint(0) | Kind::Duration(0) | Kind::Text("") | Kind::List => None,
        Kind::Bool(true) => Some("true".to_string()),
        Kind::Int(value) => Some(value.to_string()),
        Kind::Uint(value) => Some(value.to_string()),
        Kind::Duration(value) => Some(duration::format_ns(value)),
        Kind::Text(value) => Some(quote(value)),
    }
}

fn note(flag: &Flag) -> Option<String> {
    match flag.status {
        Status::Active => None,
        Status::NoEffect(why) => Some(format!("No effect yet: {why}.")),
        Status::Refused(why) => Some(format!("Refused: {why}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_names_every_flag_in_order() {
        let usage = usage("ferrolite serve");
        let names: Vec<_> = usage
            .lines()
            .filter_map(|line| line.strip_prefix("  -"))
            .map(|line| line.split(' ').next().expect("a line has a first word"))
            .collect();
        assert_eq!(names, FLAGS.iter().map(|flag| flag.name).collect::<Vec<_>>());
        assert!(usage.contains("\nUsage: ferrolite serve [flags] <data directory>\n"));
        assert!(usage.contains("  -http-addr string\n    \tAddress on which"));
        assert!(usage.contains(", as host:port. (default \"localhost:4001\")\n"));
        assert!(usage.contains("  -fk\n    \tEnforce"));
        assert!(usage.contains("(default 24h0m0s)"));
    }

    #[test]
    fn the_reference_has_a_row_for_every_flag() {
        let markdown = markdown();
        for flag in FLAGS {
            assert_eq!(markdown.matches(&format!("| `-{}` |", flag.name)).count(), 1, "-{}", flag.name);
        }
        assert!(markdown.contains("| `-raft-log-level` | string | `WARN` |"));
    }
}
