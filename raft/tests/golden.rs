//! Stories of the protocol, written down with every message: `tests/scripts/*.txt`.
//!
//! Lines that begin with `#` tell the story, lines that begin with `> ` are commands, all others are what happened.
//! `REWRITE=1 cargo test -p ferrolite-raft --test golden` writes the files anew; the difference is then reviewed.

mod cluster;

use cluster::{Cluster, World, member};
use raft::*;
use std::fmt::Write;
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn every_story_goes_as_it_is_written() {
    let mut told = 0;
    for path in scripts() {
        let written = std::fs::read_to_string(&path).unwrap();
        let happened = play(&written);
        if std::env::var_os("REWRITE").is_some() {
            std::fs::write(&path, &happened).unwrap();
        } else {
            assert_eq!(happened, written, "{}", path.display());
        }
        told += 1;
    }
    assert!(told >= 6, "the stories are there");
}

fn play(script: &str) -> String {
    let mut out = String::new();
    let mut cluster = None;
    for line in script.lines() {
        if line.starts_with('#') || line.is_empty() {
            out.push_str(line);
            out.push('\n');
        } else if let Some(command) = line.strip_prefix("> ") {
            writeln!(out, "{line}").unwrap();
            let words: Vec<&str> = command.split(' ').collect();
            if words[0] == "nodes" {
                let mut c = Cluster::new(1, number(words[1]), number(words[2]), World::kind());
                c.trace = Some(Vec::new());
                cluster = Some(c);
            } else {
                run(cluster.as_mut().expect("`nodes` comes first"), &words, &mut out);
            }
        }
    }
    out
}

fn number<T: std::str::FromStr>(word: &str) -> T {
    word.trim_start_matches('n').parse().unwrap_or_else(|_| panic!("a number: {word}"))
}

/// Like `Cluster::run`, but says who sends what, millisecond by millisecond. Heartbeats only if asked for.
fn run_told(c: &mut Cluster, ms: u64, heartbeats: bool, out: &mut String) {
    let began_ms = c.now_ms;
    for _ in 0..ms {
        c.step();
        let at_ms = c.now_ms - began_ms;
        for message in c.trace.as_mut().expect("listening").drain(..) {
            if heartbeats || !message.contains("Heartbeat") {
                writeln!(out, "{at_ms:4} ms  {message}").unwrap();
            }
        }
    }
}

fn run(c: &mut Cluster, words: &[&str], out: &mut String) {
    match words {
        ["run", ms] => run_told(c, number(ms), false, out),
        ["run-with-heartbeats", ms] => run_told(c, number(ms), true, out),
        ["quietly", ms] => {
            c.run(number(ms));
            c.trace.as_mut().expect("listening").clear();
        }
        ["campaign", at] => c.replica(number(at)).campaign(),
        ["propose", at, count] => {
            for _ in 0..number::<usize>(count) {
                let result = c.propose(number(at));
                writeln!(out, "{}", result.map_or_else(|e| format!("{e:?}"), |id| id.to_string())).unwrap();
            }
        }
        ["read", at] => {
            let token = c.read(number(at));
            writeln!(out, "{token:?}").unwrap();
        }
        ["readable"] => writeln!(out, "{:?}", c.readable).unwrap(),
        ["isolate", at] => c.isolate(number(at)),
        ["heal"] => c.heal(),
        ["hang-disk", at] => c.nodes[number::<usize>(at)].disk_hangs = true,
        ["purge", at] => c.purge(number(at), 0),
        ["transfer", from, to] => {
            let to = cluster::node_id(number(to));
            writeln!(out, "{:?}", c.replica(number(from)).transfer(Some(&to)).map(|id| id.to_string())).unwrap();
        }
        ["add", at, who] => {
            let who = number::<usize>(who);
            let change = Change::Add(member(who, 100 + who as u64, Suffrage::Voter));
            writeln!(out, "{:?}", c.replica(number(at)).change_membership(change).map(|id| id.to_string())).unwrap();
        }
        ["remove", at, who] => {
            let change = Change::Remove(cluster::node_id(number(who)));
            writeln!(out, "{:?}", c.replica(number(at)).change_membership(change).map(|id| id.to_string())).unwrap();
        }
        ["state"] => state(c, out),
        _ => panic!("no such command: {words:?}"),
    }
}

fn state(c: &Cluster, out: &mut String) {
    for node in &c.nodes {
        let s = node.replica.as_ref().expect("nobody is down in a story").status();
        let voters = s.membership.iter().flat_map(|m| m.voters()).map(|m| m.id.to_string()).collect::<Vec<_>>();
        writeln!(
            out,
            "{} {:?} term {} log {} commit {} applied {} voters {}",
            node.config.id,
            s.role,
            s.hard_state.term,
            s.last,
            s.commit,
            s.applied,
            voters.join(" ")
        )
        .unwrap();
    }
}
