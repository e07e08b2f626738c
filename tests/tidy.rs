//! The house rules as a test: reads the sources as text and says of each breach what to do instead. It must never
//! need a tool or the network, so that it runs wherever the tests run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file in lines; what is longer is better told in two.
const FILE_LINES_MAX: usize = 900;
/// Longest line in characters. rustfmt breaks code at 120 but leaves comments and texts alone.
const LINE_CHARS_MAX: usize = 160;

/// Banned everywhere in `src/` and `raft/src/`, outside tests. The words are split so that this file does not breach
/// its own rules.
const BANNED: &[(&str, &str)] = &[
    (concat!(".unw", "rap()"), "say the invariant: .expect(\"<why this cannot fail>\"), or handle the error"),
    (concat!("to", "do!("), "build it, or leave it out and say so in the documentation"),
    (concat!("unimple", "mented!("), "build it, or leave it out and say so in the documentation"),
    (concat!("db", "g!("), "log with a target, at debug level"),
    (concat!("unbound", "ed("), "name a capacity and its policy: crossbeam_channel::bounded(LIMIT)"),
    (concat!("unbound", "ed::<"), "name a capacity and its policy: crossbeam_channel::bounded(LIMIT)"),
    (concat!("mpsc::chan", "nel("), "use crossbeam_channel::bounded(LIMIT)"),
];

/// Banned in `raft/src/`: the core is a function of its inputs, so that the simulator runs the very same code.
const BANNED_IN_RAFT: &[(&str, &str)] = &[
    ("Instant::now", "take time as a value from the caller (ticks)"),
    ("SystemTime", "take time as a value from the caller (ticks)"),
    ("rand::", "take a seed as a value from the caller"),
    ("getrandom", "take a seed as a value from the caller"),
    ("std::net", "hand messages to the caller as effects"),
    ("std::thread", "leave threads to the server; do the work in the step"),
];

/// Words that only one part of the server may name: the library behind it stays replaceable.
const CONFINED: &[(&str, &[&str], &str)] = &[
    ("rusqlite", &["src/db"], "go through the types of src/db"),
    ("libsqlite3_sys", &["src/db"], "go through the types of src/db"),
    ("httparse", &["src/http/engine"], "go through the interface of src/http/engine"),
    ("epoll", &["src/http/engine"], "go through the interface of src/http/engine"),
    ("polling::", &["src/http/engine"], "go through the interface of src/http/engine"),
    ("tiny_http", &["src/http/engine"], "go through the interface of src/http/engine"),
    ("eprintln!", &["src/shell", "src/bench"], "it panics when stderr is closed: use log, or logging::complain"),
    ("eprint!", &["src/shell", "src/bench"], "it panics when stderr is closed: use log, or logging::complain"),
    ("println!", &["src/shell", "src/bench"], "it panics when stdout is closed: write and look at the result"),
    ("print!", &["src/shell", "src/bench"], "it panics when stdout is closed: write and look at the result"),
];

/// Packages that bring an async runtime.
const RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "async-executor", "glommio", "monoio"];

struct Source {
    /// Path from the root of the project, with slashes.
    path: String,
    text: String,
}

impl Source {
    /// The lines that are neither comments nor tests, each with its number.
    fn code(&self) -> Vec<(usize, &str)> {
        if is_test_file(&self.path) { Vec::new() } else { without_tests(&self.text) }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust sources below the given directories, in the order of their paths.
fn sources(dirs: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    for dir in dirs {
        collect(&root().join(dir), &mut paths);
    }
    paths.sort();
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let below = path.strip_prefix(root()).expect("the path lies below the root");
        Source { path: below.to_string_lossy().replace('\\', "/"), text }
    };
    paths.into_iter().map(source).collect()
}

fn collect(dir: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, paths);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

/// A file that is compiled for tests only: `tests.rs`, `foo_tests.rs`, or anything in a directory `tests`.
fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs") || path.contains("/tests/")
}

/// Leaves out comment lines and every item behind `#[cfg(test)]` or `#[test]`. It relies on rustfmt: the item ends at
/// the first line of the attribute's own indentation that closes it.
fn without_tests(text: &str) -> Vec<(usize, &str)> {
    let mut code = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let bare = line.trim_start();
        if bare.starts_with("#[cfg(test)]") || bare.starts_with("#[cfg(all(test") || bare.starts_with("#[test]") {
            let indent = &line[..line.len() - bare.len()];
            for (_, line) in lines.by_ref() {
                let Some(rest) = line.strip_prefix(indent).filter(|rest| !rest.starts_with(' ')) else { continue };
                let is_end =
                    rest.starts_with('}') || rest.ends_with(';') || rest.ends_with(',') || rest.ends_with("{}");
                if is_end && !rest.starts_with("#[") && !rest.starts_with("//") {
                    break;
                }
            }
            continue;
        }
        if !bare.starts_with("//") {
            code.push((number + 1, line.split(" // ").next().expect("a line has a first part")));
        }
    }
    code
}

/// True when `word` stands in `line` with no letter, digit or underscore directly before it or, if the word ends in
/// one, behind it.
fn names(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let open_before = word.starts_with(is_part) && line[..at].ends_with(is_part);
        let open_behind = word.ends_with(is_part) && line[at + word.len()..].starts_with(is_part);
        !open_before && !open_behind
    })
}

/// Fails with all breaches at once.
fn report(breaches: &[String]) {
    assert!(breaches.is_empty(), "{} breaches of the house rules:\n  {}", breaches.len(), breaches.join("\n  "));
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    let mut breaches = Vec::new();
    for source in sources(&["src", "raft/src", "tests", "raft/tests"]) {
        if !source.text.starts_with("//! ") {
            breaches.push(format!(
                "{}: open with //! and say what the file is, which thread runs it, what it must never do",
                source.path
            ));
        }
    }
    report(&breaches);
}

#[test]
fn no_file_is_too_long_to_read() {
    let mut breaches = Vec::new();
    for source in sources(&["src", "raft/src", "tests", "raft/tests"]) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!(
                "{}: {lines} lines, at most {FILE_LINES_MAX}: split it by duty, or move its tests to a tests.rs",
                source.path
            ));
        }
    }
    report(&breaches);
}

#[test]
fn banned_words_stay_away() {
    let mut breaches = Vec::new();
    for source in sources(&["src", "raft/src"]) {
        for (number, line) in source.code() {
            for (word, instead) in BANNED {
                if names(line, word) {
                    breaches.push(format!("{}:{number}: `{word}`: {instead}", source.path));
                }
            }
        }
    }
    report(&breaches);
}

#[test]
fn no_test_is_switched_off() {
    let word = concat!("#[igno", "re");
    let mut breaches = Vec::new();
    for source in sources(&["src", "raft/src", "tests", "raft/tests"]) {
        for (number, line) in source.text.lines().enumerate() {
            if line.contains(word) {
                breaches.push(format!(
                    "{}:{}: `{word}]`: mend the test, delete it, or make it fast enough to run always",
                    source.path,
                    number + 1
                ));
            }
        }
    }
    report(&breaches);
}

#[test]
fn the_raft_core_has_no_clock_chance_socket_or_thread() {
    let mut breaches = Vec::new();
    for source in sources(&["raft/src"]) {
        // The simulator and benchmarks stand around the core, not in it.
        if ["raft/src/sim", "raft/src/bench", "raft/src/bin"].iter().any(|dir| source.path.starts_with(dir)) {
            continue;
        }
        for (number, line) in source.code() {
            for (word, instead) in BANNED_IN_RAFT {
                if names(line, word) {
                    breaches.push(format!("{}:{number}: `{word}`: {instead}", source.path));
                }
            }
        }
    }
    report(&breaches);
}

#[test]
fn libraries_are_named_in_one_place_only() {
    let mut breaches = Vec::new();
    for source in sources(&["src", "raft/src"]) {
        for (number, line) in source.code() {
            for (word, homes, instead) in CONFINED {
                if names(line, word) && !homes.iter().any(|home| lives_in(&source.path, home)) {
                    breaches.push(format!(
                        "{}:{number}: `{word}` belongs to {}: {instead}",
                        source.path,
                        homes.join(", ")
                    ));
                }
            }
        }
    }
    report(&breaches);
}

/// True for files below the directory `home` and for the file `home.rs`.
fn lives_in(path: &str, home: &str) -> bool {
    path.strip_prefix(home).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

#[test]
fn no_async_runtime_is_in_the_tree() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is part of the project");
    let packages: BTreeSet<_> =
        lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(packages.contains("ferrolite"), "Cargo.lock could not be read");
    let breaches: Vec<_> = RUNTIMES
        .iter()
        .filter(|name| packages.contains(**name))
        .map(|name| format!("Cargo.lock: {name}: Ferrolite runs on OS threads; find a library without a runtime"))
        .collect();
    report(&breaches);
}

#[test]
fn no_tab_no_trailing_blank_no_endless_line() {
    let mut breaches = Vec::new();
    for source in sources(&["src", "raft/src", "tests", "raft/tests"]) {
        for (number, line) in source.text.lines().enumerate() {
            let at = format!("{}:{}", source.path, number + 1);
            if line.contains('\t') {
                breaches.push(format!("{at}: a tab: indent with four blanks, write \\t in texts"));
            }
            if line.ends_with([' ', '\r']) {
                breaches.push(format!("{at}: blanks at the end of the line: delete them (cargo fmt)"));
            }
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX {
                breaches.push(format!("{at}: {chars} characters, at most {LINE_CHARS_MAX}: break the line"));
            }
        }
        if !source.text.ends_with('\n') || source.text.ends_with("\n\n") {
            breaches.push(format!("{}: end the file with exactly one newline", source.path));
        }
    }
    report(&breaches);
}

// ---- The rules themselves, on small texts: a rule that never fires is no rule.

#[test]
fn tests_and_comments_are_left_out() {
    let text =
        "//! Doc.\nfn a() {\n    b(); // why\n}\n\n#[cfg(test)]\nmod tests {\n    fn c() {\n    }\n}\nfn d() {}\n";
    let code: Vec<_> = without_tests(text).into_iter().filter(|(_, line)| !line.is_empty()).collect();
    assert_eq!(code, [(2, "fn a() {"), (3, "    b();"), (4, "}"), (11, "fn d() {}")]);
    let text =
        "#[cfg(test)]\nmod tests;\nuse a;\nimpl A {\n    #[cfg(test)]\n    fn b() {\n        c();\n    }\n    d\n}\n";
    let code: Vec<_> = without_tests(text).into_iter().map(|(number, _)| number).collect();
    assert_eq!(code, [3, 4, 9, 10]);
    let text = "#[cfg(test)]\n#[derive(Debug)]\nstruct A {\n    b: C,\n}\nfn d() {}\n";
    assert_eq!(without_tests(text), [(6, "fn d() {}")]);
}

#[test]
fn words_are_matched_as_words() {
    for (line, word, expected) in [
        ("use rusqlite::Connection;", "rusqlite", true),
        ("let my_rusqlite = 1;", "rusqlite", false),
        ("rusqlite_helper()", "rusqlite", false),
        ("x.unwrap_or(1)", ".unwrap()", false),
        ("x.unwrap()", ".unwrap()", true),
        ("eprintln!(\"x\")", "println!", false),
        ("channel::unbounded()", "unbounded(", true),
        ("operand::x", "rand::", false),
    ] {
        assert_eq!(names(line, word), expected, "{line}");
    }
    assert!(lives_in("src/db/mod.rs", "src/db") && lives_in("src/db.rs", "src/db"));
    assert!(!lives_in("src/dbx/mod.rs", "src/db"));
    assert!(is_test_file("raft/src/wal/tests.rs") && is_test_file("src/http/tests/a.rs"));
    assert!(!is_test_file("src/latests.rs"));
}
