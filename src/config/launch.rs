//! How this process was started: the words of its command line without their secrets, its name, its start time. Made
//! once on the main thread and handed to the server, which shows it in the log and in `/status`.

use std::time::{Instant, SystemTime};

/// Facts about the running process.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The name under which the program was called: `ferrolite`, `ferrolited` or `rqlited`.
    pub program: String,
    /// The command line, words joined by blanks, secrets hidden.
    pub command_line: String,
    /// The command line as words, secrets hidden.
    pub words: Vec<String>,
    /// Version of the linked SQLite, such as `3.53.2`.
    pub sqlite_version: &'static str,
    /// When the process began, for people.
    pub started_at: SystemTime,
    /// When the process began, for the uptime.
    pub started: Instant,
}

/// What stands in place of a secret.
const HIDDEN: &str = "<hidden>";

/// Flags whose inline value may be a configuration that carries tokens and passwords.
const INLINE_CONFIG_FLAGS: [&str; 1] = ["disco-config"];

impl Launch {
    /// Takes note of the words (the program's own name first) and of the time.
    pub fn new(program: &str, words: &[String], sqlite_version: &'static str) -> Launch {
        let words = hide_secrets(words);
        Launch {
            program: program.to_string(),
            command_line: words.join(" "),
            words,
            sqlite_version,
            started_at: SystemTime::now(),
            started: Instant::now(),
        }
    }
}

/// Replaces what must not end up in a log: inline configuration, and users, passwords and queries of URLs.
fn hide_secrets(words: &[String]) -> Vec<String> {
    let mut hide_next = false;
    let mut out = Vec::with_capacity(words.len());
    for word in words {
        let hidden = match (hide_next, word.split_once('=')) {
            (true, _) => hide_config(word),
            (false, Some((flag, value))) if is_inline_config(flag) => format!("{flag}={}", hide_config(value)),
            (false, _) => hide_url(word),
        };
        hide_next = !hide_next && is_inline_config(word);
        out.push(hidden);
    }
    out
}

fn is_inline_config(word: &str) -> bool {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
    name.is_some_and(|name| INLINE_CONFIG_FLAGS.contains(&name))
}

/// A path stays; JSON does not.
fn hide_config(value: &str) -> String {
    if value.contains('{') { HIDDEN.to_string() } else { value.to_string() }
}

/// `https://user:password@host/path?token=x` becomes `https://<hidden>@host/path?<hidden>`.
fn hide_url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_string() };
    let authority_len = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(authority_len);
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{HIDDEN}@{host}"),
        None => authority.to_string(),
    };
    let tail = match tail.split_once('?') {
        Some((path, _)) => format!("{path}?{HIDDEN}"),
        None => tail.to_string(),
    };
    format!("{scheme}://{authority}{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Launch::new("ferrolite", &words, "3").command_line
    }

    #[test]
    fn secrets_do_not_reach_the_log() {
        let json = "{\"token\":\"s3cret\"}";
        for words in [
            &["-disco-config", json, "d"][..],
            &["--disco-config", json, "d"],
            &[&format!("-disco-config={json}")],
            &["-cdc-config", "https://user:s3cret@example.com/x"],
            &["-cdc-config=https://s3cret@example.com"],
            &["-cdc-config=https://example.com/x?key=s3cret#y"],
        ] {
            assert!(!shown(words).contains("s3cret"), "{words:?}: {}", shown(words));
        }
    }

    #[test]
    fn everything_else_is_shown_as_it_is() {
        for words in [
            &["ferrolite", "serve", "-node-id", "1", "-http-addr=localhost:4001", "data"][..],
            &["-disco-config", "/etc/disco.json", "d"],
            &["-http-allow-origin", "https://app.example.com:8080"],
        ] {
            assert_eq!(shown(words), words.join(" "));
        }
        assert_eq!(shown(&["-cdc-config=https://a:b@c/d?e"]), "-cdc-config=https://<hidden>@c/d?<hidden>");
    }
}
