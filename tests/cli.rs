//! The command line as a user meets it: every text and exit status of the flag grammar and of the checks behind it,
//! seen from outside the built binary. No case starts a node, except the one that looks at the first log lines.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ferrolite::config::{Config, flags};

const BINARY: &str = env!("CARGO_BIN_EXE_ferrolite");
/// Far longer than any case takes; only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

fn run(program: &Path, words: &[&str]) -> Outcome {
    let child = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    wait(child, words)
}

/// Waits for the end of a process, and kills it at the deadline: a case that should be refused must not become a node.
fn wait(mut child: Child, words: &[&str]) -> Outcome {
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let out = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).expect("stdout is UTF-8");
        text
    });
    let (done_tx, done_rx) = mpsc::sync_channel(1);
    let err = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).expect("stderr is UTF-8");
        let _ = done_tx.send(());
        text
    });
    if done_rx.recv_timeout(DEADLINE).is_err() {
        child.kill().expect("the process can be killed");
        panic!("{words:?} did not end");
    }
    let status = child.wait().expect("the process ends").code().expect("no signal ended it");
    Outcome { status, stdout: out.join().expect("reader"), stderr: err.join().expect("reader") }
}

fn serve(words: &[&str]) -> Outcome {
    let mut all = vec!["serve"];
    all.extend(words);
    run(Path::new(BINARY), &all)
}

/// An own empty directory that is removed at the end.
struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("ferrolite-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory can be made");
        TempDir(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

// ---- The grammar.

#[test]
fn malformed_flags_print_the_usage_and_exit_2() {
    for (words, text) in [
        (&["-xyz", "d"][..], "flag provided but not defined: -xyz"),
        (&["--xyz=1", "d"], "flag provided but not defined: -xyz"),
        (&["-raft-timeout", "1s", "d"], "flag provided but not defined: -raft-timeout"),
        (&["-on-disk-path", "x", "d"], "flag provided but not defined: -on-disk-path"),
        (&["-http-no-verify", "d"], "flag provided but not defined: -http-no-verify"),
        (&["-on-disk", "d"], "flag provided but not defined: -on-disk"),
        (&["-node-encrypt", "d"], "flag provided but not defined: -node-encrypt"),
        (&["---fk", "d"], "bad flag syntax: ---fk"),
        (&["-=x", "d"], "bad flag syntax: -=x"),
        (&["-node-id"], "flag needs an argument: -node-id"),
        (&["-fk=maybe", "d"], "invalid boolean value \"maybe\" for -fk: parse error"),
        (&["-join-attempts", "x", "d"], "invalid value \"x\" for flag -join-attempts: parse error"),
        (&["-join-attempts=", "d"], "invalid value \"\" for flag -join-attempts: parse error"),
        (&["-raft-snap", "-1", "d"], "invalid value \"-1\" for flag -raft-snap: parse error"),
        (&["-raft-snap", "1e3", "d"], "invalid value \"1e3\" for flag -raft-snap: parse error"),
        (
            &["-raft-snap", "18446744073709551616", "d"],
            "invalid value \"18446744073709551616\" for flag -raft-snap: value out of range",
        ),
        (&["-raft-snap-int", "10", "d"], "invalid value \"10\" for flag -raft-snap-int: parse error"),
        (&["-raft-snap-int", "1d", "d"], "invalid value \"1d\" for flag -raft-snap-int: parse error"),
        // A mistake counts from left to right, and before -version.
        (&["-version", "-fk=x", "-xyz"], "invalid boolean value \"x\" for -fk: parse error"),
    ] {
        let outcome = serve(words);
        assert_eq!(outcome.status, 2, "{words:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "", "{words:?}");
        let (first, rest) = outcome.stderr.split_once('\n').expect("the usage follows");
        assert_eq!(first, text, "{words:?}");
        assert!(rest.contains("\nUsage: ferrolite serve [flags] <data directory>\n"), "{words:?}");
    }
}

#[test]
fn help_goes_to_stderr_names_every_flag_and_exits_0() {
    for words in [&["-h"][..], &["-help"], &["--help"], &["--h"], &["-fk", "-h", "-xyz", "d"]] {
        let outcome = serve(words);
        assert_eq!(outcome.status, 0, "{words:?}");
        assert_eq!(outcome.stdout, "", "{words:?}");
        assert!(outcome.stderr.contains("\nUsage: ferrolite serve [flags] <data directory>\n"));
        for flag in flags::FLAGS {
            assert!(outcome.stderr.contains(&format!("\n  -{}", flag.name)), "-{}", flag.name);
        }
    }
}

#[test]
fn version_is_one_line_on_stderr() {
    for words in [&["-version"][..], &["--version"], &["-version=true", "d"], &["-version", "d", "e"]] {
        let outcome = serve(words);
        assert_eq!(outcome.status, 0, "{words:?}");
        assert_eq!(outcome.stdout, "");
        let words: Vec<_> = outcome.stderr.split_whitespace().collect();
        assert_eq!(words[0], "ferrolite");
        assert!(words[1].starts_with("v10."), "{words:?}");
        assert!(words[4].starts_with("rustc"), "{words:?}");
        assert!(words[5].starts_with("sqlite3."), "{words:?}");
        assert_eq!((words[6], words[8], words.len()), ("(commit", "compiler", 10), "{words:?}");
        assert_eq!(outcome.stderr.lines().count(), 1);
    }
}

#[test]
fn without_a_data_directory_a_log_line_says_so() {
    for words in [&[][..], &["-fk"], &["-node-id", "1"], &["--"]] {
        let outcome = serve(words);
        assert_eq!(outcome.status, 1, "{words:?}");
        assert_eq!(outcome.stdout, "");
        let text = "failed to parse command-line flags: missing required argument: DataPath";
        let line = outcome.stderr.strip_suffix('\n').expect("a line");
        let date = line.strip_prefix("[rqlited] ").and_then(|line| line.strip_suffix(text)).expect(line);
        assert_eq!(date.len(), "2026/01/02 03:04:05 ".len(), "{line}");
    }
}

// ---- The checks.

/// One line for each check: its number in the order of checks, flags, and what stands on stderr. The data directory
/// follows as last word.
const CHECKS: &[(u32, &[&str], &str)] = &[
    (1, &["-raft-reap-node-timeout", "0"], "fatal: -raft-reap-node-timeout must be greater than 0"),
    (1, &["-raft-reap-node-timeout=-1s"], "fatal: -raft-reap-node-timeout must be greater than 0"),
    (
        1,
        &["-raft-reap-read-only-node-timeout", "0s"],
        "fatal: -raft-reap-read-only-node-timeout must be greater than 0",
    ),
    (4, &["-extensions-path", "/nonexistent/a"], "fatal: extension path does not exist: /nonexistent/a"),
    (4, &["-extensions-path", "/, /nonexistent"], "fatal: extension path does not exist:  /nonexistent"),
    (5, &["-http-cert", "c"], "fatal: either both -http-cert and -http-key must be set, or neither"),
    (5, &["-http-key", "c"], "fatal: either both -http-cert and -http-key must be set, or neither"),
    (6, &["-node-cert", "c"], "fatal: either both -node-cert and -node-key must be set, or neither"),
    (7, &["-http-verify-common-name", "n"], "fatal: -http-verify-common-name requires -http-verify-client"),
    (8, &["-node-verify-common-name", "n"], "fatal: -node-verify-common-name requires -node-verify-client"),
    (9, &["-http-addr", "a:1", "-raft-addr", "a:1"], "fatal: HTTP and Raft addresses must differ"),
    (
        10,
        &["-http-addr", "http://localhost:4001"],
        "fatal: HTTP options should not include protocol (http:// or https://)",
    ),
    (
        10,
        &["-http-adv-addr", "HTTPS://localhost:4001"],
        "fatal: HTTP options should not include protocol (http:// or https://)",
    ),
    (11, &["-http-addr", "localhost"], "fatal: HTTP bind address not valid"),
    (11, &["-http-addr", "::1:4001"], "fatal: HTTP bind address not valid"),
    (12, &["-http-adv-addr", "localhost"], "fatal: HTTP advertised HTTP address not valid"),
    (
        13,
        &["-http-addr", "0.0.0.0:4001"],
        "fatal: advertised HTTP address is not routable (0.0.0.0), specify it via -http-addr or -http-adv-addr",
    ),
    (
        13,
        &["-http-adv-addr", "[::]:4001"],
        "fatal: advertised HTTP address is not routable (::), specify it via -http-addr or -http-adv-addr",
    ),
    (14, &["-raft-addr", "localhost"], "fatal: raft bind address not valid"),
    (15, &["-raft-addr", "localhost:x"], "fatal: raft bind port not valid"),
    (15, &["-raft-addr", "localhost:"], "fatal: raft bind port not valid"),
    (16, &["-raft-adv-addr", "localhost"], "fatal: raft advertised address not valid"),
    (
        17,
        &["-raft-addr", "0.0.0.0:4002"],
        "fatal: advertised Raft address is not routable (0.0.0.0), specify it via -raft-addr or -raft-adv-addr",
    ),
    (18, &["-raft-adv-addr", "localhost:x"], "fatal: raft advertised port is not valid"),
    (19, &["-http-adv-addr", "h:1", "-raft-adv-addr", "h:1"], "fatal: advertised HTTP and Raft addresses must differ"),
    (20, &["-bootstrap-expect", "3", "-raft-non-voter"], "fatal: bootstrapping only applicable to voting nodes"),
    (21, &["-join", "h:1,h"], "fatal: h is an invalid join address"),
    (22, &["-join", "h:1,localhost:4002"], "fatal: node cannot join with itself unless bootstrapping"),
    (22, &["-raft-adv-addr", "h:1", "-join", "h:1"], "fatal: node cannot join with itself unless bootstrapping"),
    (23, &["-join", "h:1", "-auto-restore", "f"], "fatal: auto-restoring cannot be used when joining a cluster"),
    (
        24,
        &["-join", "h:1", "-disco-mode", "dns"],
        "fatal: disco mode cannot be used when also explicitly joining a cluster",
    ),
    (25, &["-cdc-config", "stdout", "-raft-non-voter"], "fatal: CDC cannot be enabled on non-voting nodes"),
    (26, &["-otlp-cert", "c"], "fatal: either both -otlp-cert and -otlp-key must be set, or neither"),
    (27, &["-otlp-insecure"], "fatal: OTLP options require -otlp-endpoint"),
    (27, &["-otlp-no-verify"], "fatal: OTLP options require -otlp-endpoint"),
    (27, &["-otlp-ca-cert", "c"], "fatal: OTLP options require -otlp-endpoint"),
    (27, &["-otlp-cert", "c", "-otlp-key", "k"], "fatal: OTLP options require -otlp-endpoint"),
    (28, &["-otlp-endpoint", "http://h:1"], "fatal: -otlp-endpoint must not include a protocol scheme"),
    (29, &["-otlp-endpoint", "h"], "fatal: -otlp-endpoint is not a valid address"),
    (30, &["-otlp-endpoint", "h:1", "-otlp-interval", "0"], "fatal: -otlp-interval must be greater than zero"),
    (
        31,
        &["-otlp-endpoint", "h:1", "-otlp-insecure", "-otlp-ca-cert", "c"],
        "fatal: -otlp-insecure cannot be used with other OTLP TLS options",
    ),
    (
        32,
        &["-disco-mode", "consul-kv", "-bootstrap-expect", "3"],
        "fatal: bootstrapping not applicable when using consul-kv",
    ),
    (
        32,
        &["-disco-mode", "etcd-kv", "-bootstrap-expect", "3"],
        "fatal: bootstrapping not applicable when using etcd-kv",
    ),
    (33, &["-disco-mode", "dns"], "fatal: bootstrap-expect value required when using dns with a voting node"),
    (33, &["-disco-mode", "dns-srv"], "fatal: bootstrap-expect value required when using dns-srv with a voting node"),
    (34, &["-disco-mode", "DNS"], "fatal: disco mode must be one of consul-kv, etcd-kv, dns, or dns-srv"),
    (35, &["-rejoin"], "fatal: -rejoin requires -join"),
    (35, &["-join-as", "bob"], "fatal: -join-as requires -auth: the password of user bob is read from that file"),
    // Raft's timing.
    (
        35,
        &["-raft-heartbeat-timeout", "2s"],
        "fatal: failed to open store: creating the raft system failed: ElectionTimeout (1s) must be equal or greater \
         than Heartbeat Timeout (2s)",
    ),
    (
        35,
        &["-raft-heartbeat-timeout", "150ms"],
        "fatal: failed to open store: creating the raft system failed: LeaderLeaseTimeout (500ms) cannot be larger \
         than heartbeat timeout (150ms)",
    ),
    (
        35,
        &["-raft-commit-timeout", "1us"],
        "fatal: failed to open store: creating the raft system failed: CommitTimeout (1µs) must be at least 1ms",
    ),
    // Bounds of our own.
    (36, &["-write-queue-capacity", "-1"], "fatal: -write-queue-capacity must not be negative"),
    (36, &["-auto-vacuum-int", "-1s"], "fatal: -auto-vacuum-int must not be negative"),
    (36, &["-http-workers", "0"], "fatal: -http-workers must be between 1 and 4096"),
    (36, &["-http-max-body-size", "5"], "fatal: -http-max-body-size must be between 1024 and 17179869184"),
    (36, &["-join-interval", "-1s"], "fatal: -join-interval must not be negative"),
    (36, &["-bootstrap-expect", "65"], "fatal: -bootstrap-expect must be between 0 and 64"),
    (36, &["-raft-wal-segment-size", "5"], "fatal: -raft-wal-segment-size must be between 65536 and 1073741824"),
];

#[test]
fn every_check_has_its_text_and_exits_1() {
    for (_, flags, text) in CHECKS {
        let mut words = flags.to_vec();
        words.push("d");
        let outcome = serve(&words);
        assert_eq!(outcome.stderr, format!("{text}\n"), "{words:?}");
        assert_eq!((outcome.status, outcome.stdout.as_str()), (1, ""), "{words:?}");
    }
}

#[test]
fn words_behind_the_data_directory_are_refused_without_a_prefix() {
    let text = "arguments after data directory (d) are not accepted ([-fk -node-id 1])\n";
    let outcome = serve(&["d", "-fk", "-node-id", "1"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (1, text));
    // The blank form of a bool leaves its value where the data directory should be.
    let outcome = serve(&["-fk", "false", "d"]);
    assert_eq!(outcome.stderr, "arguments after data directory (false) are not accepted ([d])\n");
    // Reap timeouts are looked at before, everything else after.
    assert!(serve(&["-raft-reap-node-timeout=0", "d", "e"]).stderr.starts_with("fatal: -raft-reap"));
    assert!(serve(&["-http-cert=c", "d", "e"]).stderr.starts_with("arguments after"));
}

#[test]
fn a_blank_data_directory_is_refused() {
    for dir in ["", "  "] {
        let outcome = serve(&["-http-cert", "c", dir]);
        assert_eq!((outcome.status, outcome.stderr.as_str()), (1, "fatal: data directory path is required\n"));
    }
}

/// Two faults at once: the one whose check comes later must not be the one reported.
#[test]
fn checks_run_in_order() {
    let names = |flags: &[&str]| -> Vec<String> {
        flags
            .iter()
            .filter_map(|word| word.strip_prefix('-'))
            .map(|word| word.split('=').next().expect("a part").to_string())
            .collect()
    };
    let mut pairs = 0;
    for (first_number, first, _) in CHECKS {
        for (later_number, later, later_text) in CHECKS.iter().filter(|(number, ..)| number > first_number) {
            // A flag named twice keeps its last value, and an endpoint or a mode may cure the first fault.
            let shared = names(first).iter().any(|name| names(later).contains(name));
            let cures = (*first_number, *later_number) == (27, 28)
                || (*first_number == 27 && (29..=31).contains(later_number))
                || (*first_number == 33 && *later_number == 32);
            // Advertised addresses stand in for bind addresses, and -bootstrap-expect changes what joining means.
            let stands_in = names(first)
                .iter()
                .any(|name| names(later).contains(&name.replace("-addr", "-adv-addr")) && name.ends_with("-addr"));
            let expect = names(later).iter().any(|name| name == "bootstrap-expect" || name == "raft-non-voter");
            let otlp_pair = *first_number == 26 && names(later).iter().any(|name| name == "otlp-key");
            if shared || cures || stands_in || otlp_pair || (expect && [22, 23, 33].contains(first_number)) {
                continue;
            }
            pairs += 1;
            let mut words: Vec<&str> = first.to_vec();
            words.extend(*later);
            words.push("d");
            let error = Config::from_words(&words).expect_err("two faults");
            assert_ne!(error, *later_text, "{words:?}");
        }
    }
    assert!(pairs > 800, "{pairs} pairs are left");
}

#[test]
fn what_is_not_built_is_refused_only_after_the_checks_and_only_when_it_differs_from_its_default() {
    let refused: Vec<_> = flags::FLAGS.iter().filter(|flag| matches!(flag.status, flags::Status::Refused(_))).collect();
    for (flags, name) in [
        (&["-http-cert", "c", "-http-key", "k"][..], "http-cert"),
        (&["-node-verify-client"], "node-verify-client"),
        (&["-disco-mode", "etcd-kv"], "disco-mode"),
        (&["-auto-backup", "f"], "auto-backup"),
        (&["-auto-restore", "f"], "auto-restore"),
        (&["-cdc-config", "stdout"], "cdc-config"),
        (&["-otlp-endpoint", "h:1"], "otlp-endpoint"),
        (&["-extensions-path", "/"], "extensions-path"),
    ] {
        // What a later change builds is no longer refused; the rest must be, with a reason.
        if !refused.iter().any(|flag| flag.name == name) {
            continue;
        }
        let mut words = flags.to_vec();
        words.push("d");
        let outcome = serve(&words);
        assert_eq!(outcome.status, 1, "{words:?}");
        let text = outcome.stderr.strip_suffix('\n').expect("a line");
        let reason = text.strip_prefix(&format!("fatal: -{name} is not supported yet: ")).expect(text);
        assert!(!reason.is_empty() && !reason.contains('\n'), "{text}");
    }
    if refused.iter().any(|flag| flag.name == "auto-backup") {
        for (_, flags, text) in CHECKS {
            let words = [&["-auto-backup", "f"], *flags, &["d"]].concat();
            assert_eq!(Config::from_words(&words).expect_err("a fault"), *text, "{words:?}");
        }
    }
    let harmless = ["-raft-non-voter=false", "-bootstrap-expect", "0", "-join=", "-auth=", "d"];
    assert!(Config::from_words(&harmless).is_ok());
}

// ---- The credentials file.

#[test]
fn a_credentials_file_that_is_of_no_use_stops_the_start_and_says_where_it_is_wrong() {
    let dir = TempDir::new("credentials");
    let file = dir.0.join("users.json");
    let data = dir.0.join("data");
    let (path, data_path) = (file.display().to_string(), data.display().to_string());
    let (auth, join_as) = (format!("-auth={path}"), "-join-as=ann");
    let bob = r#"[{"username": "bob", "password": "s3cret", "perms": ["all"]}]"#;
    for (content, more, problem) in [
        (None, "-fk", "No such file or directory (os error 2)"),
        (Some("[{]"), "-fk", "not JSON: key must be a string at line 1 column 3"),
        (Some(r#"{"username": "s3cret"}"#), "-fk", "not an array of users, such as ["),
        (
            Some(r#"[{"username": "bob", "password": "s3cret", "perms": "all"}]"#),
            "-fk",
            "entry 1 (user \"bob\"): \"perms\" is not",
        ),
        (Some(bob), join_as, "-join-as needs user \"ann\" with a password in it"),
    ] {
        if let Some(content) = content {
            std::fs::write(&file, content).expect("the file can be written");
        }
        let outcome = serve(&["-http-addr=127.0.0.1:0", "-raft-addr=localhost:0", &auth, more, &data_path]);
        assert_eq!(outcome.status, 1, "{}", outcome.stderr);
        let last = outcome.stderr.lines().last().expect("a line");
        assert!(last.contains(&format!(" failed to get credential store: {path}: {problem}")), "{last}");
        assert!(!outcome.stderr.contains("s3cret"), "{}", outcome.stderr);
        assert!(!data.exists(), "nothing was begun");
    }
}

// ---- What passes, and what it means.

#[test]
fn flags_of_the_cluster_are_typed() {
    let config = Config::from_words(&["d"]).expect("defaults are valid").cluster;
    assert!(config.join.is_empty() && !config.non_voter && !config.compress_snapshots);
    assert_eq!((config.join_attempts, config.join_interval), (5, Duration::from_secs(3)));
    assert_eq!((config.bootstrap_expect, config.bootstrap_timeout), (0, Duration::from_secs(120)));
    assert_eq!(config.connect_timeout, Duration::from_secs(30));
    assert_eq!(config.verify_interval, Some(Duration::from_secs(24 * 3600)));
    let words = ["-join", "h:1,http://nonsense", "-join-attempts", "0", "-raft-non-voter", "-verify-int", "0", "d"];
    let config = Config::from_words(&words).expect("nonsense has the form of an address").cluster;
    assert_eq!(config.join, ["h:1", "http://nonsense"]);
    assert_eq!((config.join_attempts, config.non_voter, config.verify_interval), (1, true, None));
    let words = ["-bootstrap-expect", "3", "-join", "localhost:4002,h:1,h:2", "d"];
    let config = Config::from_words(&words).expect("a node may name itself while bootstrapping").cluster;
    assert_eq!((config.bootstrap_expect, config.join.len()), (3, 3));
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = Config::from_words(&["some/dir"]).expect("defaults are valid");
    assert!(config.data_dir.is_absolute() && config.data_dir.ends_with("some/dir"));
    assert_eq!(config.node_id, "localhost:4002");
    assert_eq!((config.http.addr.as_str(), config.http.adv_addr.as_str()), ("localhost:4001", "localhost:4001"));
    assert_eq!((config.raft.addr.as_str(), config.raft.adv_addr.as_str()), ("localhost:4002", "localhost:4002"));
    assert_eq!(config.http.allow_origin, None);
    assert_eq!(config.timing.heartbeat_timeout, Duration::from_secs(1));
    assert_eq!(config.timing.leader_lease_timeout, Duration::from_millis(500));
    assert_eq!((config.snapshot.entries, config.snapshot.wal_bytes), (8192, Some(4 << 20)));
    assert_eq!(config.snapshot.interval, Duration::from_secs(10));
    assert_eq!((config.db.foreign_keys, config.db.readers_max), (false, Some(256)));
    assert_eq!(config.db.auto_vacuum_interval, None);
    assert_eq!(config.db.auto_optimize_interval, Some(Duration::from_secs(24 * 3600)));
    assert_eq!((config.queue.capacity, config.queue.batch_size, config.queue.transaction), (1024, 128, false));
    assert_eq!(config.queue.timeout, Some(Duration::from_millis(50)));
    assert_eq!(config.raft.log_level, log::LevelFilter::Warn);
    assert!(config.raft.shutdown_stepdown && config.without_effect.is_empty());
}

#[test]
fn empty_and_zero_stand_for_something() {
    let config = Config::from_words(&[
        "-raft-addr=:7002",
        "-http-addr=httpd.example.com:80",
        "-raft-snap=0",
        "-raft-snap-int=0",
        "-raft-heartbeat-timeout=0",
        "-raft-log-level=nonsense",
        "-write-queue-timeout=0",
        "-write-queue-batch-size=0",
        "-db-max-ro-conns=0",
        "-auto-optimize-int=0",
        "-cpu-profile=x",
        "d",
    ])
    .expect("valid");
    // An empty host is advertised as it is, and a host may be called httpd.
    assert_eq!((config.node_id.as_str(), config.raft.adv_addr.as_str()), (":7002", ":7002"));
    assert_eq!((config.snapshot.entries, config.snapshot.wal_bytes), (8192, None));
    assert_eq!(config.snapshot.interval, Duration::from_secs(120));
    assert_eq!(config.timing.heartbeat_timeout, Duration::from_secs(1));
    assert_eq!(config.raft.log_level, log::LevelFilter::Info);
    assert_eq!((config.queue.timeout, config.queue.batch_size), (None, 1));
    assert_eq!((config.db.readers_max, config.db.auto_optimize_interval), (None, None));
    assert_eq!(config.without_effect.len(), 1);
    let adv = Config::from_words(&["-http-addr=0.0.0.0:1", "-http-adv-addr=h:1", "-node-id=n", "d"]).expect("valid");
    assert_eq!((adv.http.addr.as_str(), adv.http.adv_addr.as_str(), adv.node_id.as_str()), ("0.0.0.0:1", "h:1", "n"));
}

// ---- The program around it.

#[test]
fn without_a_command_the_commands_are_named() {
    let outcome = run(Path::new(BINARY), &[]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (2, ""));
    for command in ["serve", "shell", "bench", "version", "help"] {
        assert!(outcome.stderr.contains(&format!("\n  {command} ")), "{}", outcome.stderr);
    }
    let unknown = run(Path::new(BINARY), &["sevre"]);
    assert_eq!(unknown.status, 2);
    assert!(unknown.stderr.starts_with("unknown command: sevre\n"), "{}", unknown.stderr);
    let flag = run(Path::new(BINARY), &["-fk", "d"]);
    assert!(flag.status == 2 && flag.stderr.starts_with("unknown command: -fk (flags stand behind"), "{}", flag.stderr);
}

#[test]
fn help_version_and_flags_print_to_stdout() {
    let help = run(Path::new(BINARY), &["help"]);
    assert!(help.status == 0 && help.stderr.is_empty() && help.stdout.contains("Usage: ferrolite <command>"));
    let help = run(Path::new(BINARY), &["help", "serve"]);
    assert!(help.status == 0 && help.stderr.is_empty() && help.stdout.contains("\n  -http-addr string\n"));
    let version = run(Path::new(BINARY), &["version"]);
    assert!(version.status == 0 && version.stdout.starts_with("ferrolite v10."), "{}", version.stdout);
    let markdown = run(Path::new(BINARY), &["flags", "-markdown"]);
    assert!(markdown.status == 0 && markdown.stdout.contains("| `-fk` | bool |"));
    assert_eq!(run(Path::new(BINARY), &["flags", "x"]).status, 2);
}

#[cfg(unix)]
#[test]
fn the_name_of_the_program_chooses_the_command() {
    let dir = TempDir::new("names");
    for (name, stderr) in
        [("rqlited", "rqlited v10."), ("ferrolited", "ferrolite v10."), ("rqlited.exe", "rqlited v10.")]
    {
        let link = dir.0.join(name);
        std::os::unix::fs::symlink(BINARY, &link).expect("a link can be made");
        let outcome = run(&link, &["-version"]);
        assert!(outcome.status == 0 && outcome.stderr.starts_with(stderr), "{name}: {}", outcome.stderr);
    }
    let outcome = run(&dir.0.join("rqlited"), &["-h"]);
    assert!(outcome.stderr.contains("\nUsage: rqlited [flags] <data directory>\n"));
    let outcome = run(&dir.0.join("rqlited"), &["serve", "d"]);
    assert_eq!(outcome.stderr, "arguments after data directory (serve) are not accepted ([d])\n");
}

/// Starts a node on ports of the system's choice and reads its first log lines, then kills it.
#[test]
fn the_first_log_lines_say_what_starts_and_keep_secrets() {
    let dir = TempDir::new("start");
    let data = dir.0.join("data");
    let mut child = Command::new(BINARY)
        .args(["serve", "-http-addr=127.0.0.1:0", "-raft-addr=localhost:0", "-disco-config={\"token\":\"s3cret\"}"])
        .arg(&data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let stderr = child.stderr.take().expect("stderr is piped");
    let (line_tx, line_rx) = mpsc::sync_channel(1000);
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line_tx.send(line).is_err() {
                return;
            }
        }
    });
    let until = Instant::now() + DEADLINE;
    let mut lines = Vec::new();
    while lines.len() < 4 {
        let left = until.saturating_duration_since(Instant::now());
        lines.push(line_rx.recv_timeout(left).expect("the first lines appear before the deadline"));
    }
    child.kill().expect("the process can be killed");
    let mut banner = String::new();
    child.stdout.take().expect("stdout is piped").read_to_string(&mut banner).expect("stdout is UTF-8");
    child.wait().expect("the process ends");
    drop(line_rx);
    reader.join().expect("reader");

    assert!(banner.contains("Ferrolite v10."), "{banner}");
    assert!(
        lines[0].starts_with("[rqlited] 20") && lines[0].contains(" ferrolite starting, version v10."),
        "{lines:?}"
    );
    assert!(lines[1].contains("operating system target is"), "{lines:?}");
    assert!(lines[2].contains("launch command: ") && lines[2].ends_with(&data.display().to_string()), "{lines:?}");
    assert!(lines[2].contains(" -disco-config=<hidden> "), "{lines:?}");
    assert!(lines[3].contains("-disco-config has no effect in this version: "), "{lines:?}");
    assert!(!lines.concat().contains("s3cret"));
}

/// A closed stderr or stdout must change neither the exit status nor end in a panic.
#[cfg(target_os = "linux")]
#[test]
fn closed_streams_do_no_harm() {
    for (script, status) in [
        ("exec \"$0\" serve -h 2>&-", 0),
        ("exec \"$0\" serve -h 2>/dev/full", 0),
        ("exec \"$0\" serve -xyz 2>/dev/full", 2),
        ("exec \"$0\" serve 2>/dev/full", 1),
        ("exec \"$0\" serve -http-cert c d >&- 2>&-", 1),
        ("exec \"$0\" version >/dev/full", 1),
    ] {
        let done = Command::new("sh").args(["-c", script, BINARY]).stdin(Stdio::null()).output().expect("sh starts");
        assert_eq!(done.status.code(), Some(status), "{script}");
    }
}

/// Log lines carry the time of the machine's zone, here one that is a quarter of an hour off all others.
#[cfg(unix)]
#[test]
fn log_lines_are_in_local_time() {
    let seconds_of_day = |zone: &str| -> u32 {
        let done = Command::new(BINARY).arg("serve").env("TZ", zone).output().expect("the binary starts");
        let line = String::from_utf8(done.stderr).expect("UTF-8");
        let clock = line.split(' ').nth(2).expect("a time of day");
        clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<u32>().expect("a number"))
    };
    let day = 86_400;
    let (utc, zoned) = (seconds_of_day("UTC0"), seconds_of_day("XXX-05:45"));
    let apart = (zoned + day - utc) % day;
    let expected = 5 * 3600 + 45 * 60;
    assert!((expected..expected + 60).contains(&apart), "{apart} seconds apart");
}

#[cfg(unix)]
#[test]
fn a_word_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let word = std::ffi::OsStr::from_bytes(b"d\xff");
    let done = Command::new(BINARY).arg("serve").arg(word).output().expect("the binary starts");
    assert_eq!(done.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&done.stderr).starts_with("argument is not valid UTF-8: d"));
}
