//! A short run against real processes for every change: a killed, a stopped and an isolated leader, and a rolling restart,
//! under 64 clients, with every check at the end. `FERROLITE_BIN` names another binary than the one of this workspace.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The faults come in turn, so that each is met even on a slow machine.
const OPTIONS: [&str; 10] =
    ["run", "--nemesis", "smoke", "--in-turn", "--seconds", "40", "--clients", "64", "--seed", "20260101"];

#[test]
fn acknowledged_writes_outlive_kills_stops_cuts_and_restarts() {
    let output = Command::new(env!("CARGO_BIN_EXE_ferrolite-jepsen"))
        .args(OPTIONS)
        .arg("--server")
        .arg(server())
        .arg("--dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("jepsen-smoke-{}", std::process::id())))
        .output()
        .expect("the program runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{text}");
    assert!(output.status.success(), "{}", output.status);
    for fault in ["kill-leader", "pause-leader", "isolate-leader", "rolling"] {
        assert!(text.contains(&format!("\"fault\":\"{fault}\"")), "{fault} was not done");
    }
}

/// The server, built as this test was.
fn server() -> PathBuf {
    if let Some(path) = std::env::var_os("FERROLITE_BIN") {
        return path.into();
    }
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "-p", "ferrolite", "--bin", "ferrolite"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(build.status().expect("cargo runs").success(), "the server can be built");
    let beside = Path::new(env!("CARGO_BIN_EXE_ferrolite-jepsen")).parent().expect("a file is in a directory");
    beside.join("ferrolite")
}
