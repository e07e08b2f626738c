//! Figures of three nodes on one machine: writes/s and reads/s on the leader and through a follower, with `wrk` where it is
//! installed and with a loop of our own where not.

use super::execute;
use super::load::Load;
use super::setup::Setup;
use crate::args::Args;
use crate::cluster::HEALTHY_LIMIT;
use crate::report::{Report, spread_ms};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const POINTS: u64 = 10_000;
const WRITE_BODY: &str = r#"[["INSERT INTO bench(name, value) VALUES(?, ?)", "a name of some length", 12345]]"#;
const READ_BODY: &str = r#"[["SELECT id, name, value FROM point WHERE id = ?", 4242]]"#;

pub fn main(args: &mut Args) -> Result<Report, String> {
    let mut setup = Setup::take("bench3", args)?;
    let seconds = setup.option(args, "seconds", 5u64)?;
    let list = setup.option(args, "connections", "1,16,64,256".to_owned())?;
    let own: bool = args.take("own-loop", false)?;
    let connections: Result<Vec<usize>, _> = list.split(',').map(str::parse).collect();
    let connections = connections.map_err(|e| format!("--connections {list:?}: {e}"))?;
    let wrk = !own && Command::new("wrk").arg("--version").output().is_ok();
    setup.report.set("load", if wrk { "wrk -t1" } else { "own loop" });
    let cluster = setup.form(args)?;
    let report = &mut setup.report;
    let leader = cluster.leader(HEALTHY_LIMIT)?;
    prepare(cluster.members[leader].http_port)?;
    cluster.wait_in_step(HEALTHY_LIMIT)?;
    let term = cluster.term();
    let follower = (leader + 1) % cluster.plan.nodes;
    let ports = [("leader", leader), ("follower", follower)].map(|(name, at)| (name, cluster.members[at].http_port));
    let plans = [
        ("write", "/db/execute", WRITE_BODY),
        ("read weak", "/db/query?level=weak", READ_BODY),
        ("read linearizable", "/db/query?level=linearizable", READ_BODY),
        ("read none", "/db/query?level=none", READ_BODY),
    ];
    for (what, path, body) in plans {
        for (name, port) in ports {
            let mut row = serde_json::Map::new();
            for count in &connections {
                let figure = match wrk {
                    true => with_wrk(&cluster.plan.dir, port, *count, path, body, seconds)?,
                    false => with_own_loop(port, *count, path, body, seconds),
                };
                println!("{what} on {name}, {count} connections: {figure}");
                row.insert(format!("{count:>3}"), figure);
            }
            report.figure(&format!("{what}, {name}"), Value::Object(row));
        }
    }
    report.figure("elections", cluster.term() - term);
    if let Err(text) = cluster.wait_in_step(HEALTHY_LIMIT) {
        report.fail(text);
    }
    Ok(setup.close_without_history(cluster))
}

fn prepare(port: u16) -> Result<(), String> {
    let tables = [
        "CREATE TABLE IF NOT EXISTS bench (id INTEGER PRIMARY KEY, name TEXT, value INT)",
        "CREATE TABLE IF NOT EXISTS point (id INTEGER PRIMARY KEY, name TEXT, value INT)",
    ];
    execute(port, &tables.map(str::to_owned))?;
    let fill = format!(
        "INSERT OR REPLACE INTO point(id, name, value) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c \
         WHERE x < {POINTS}) SELECT x, 'name ' || x, x * 3 FROM c"
    );
    execute(port, &[fill])
}

fn with_own_loop(port: u16, connections: usize, path: &str, body: &str, seconds: u64) -> Value {
    let load = Load::start(port, connections, path, body, Duration::ZERO);
    std::thread::sleep(Duration::from_secs(seconds));
    let (end_us, samples) = (load.now_us(), load.finish());
    let errors = samples.iter().filter(|s| !s.ok).count();
    let times: Vec<u64> = samples.iter().filter(|s| s.ok).map(|s| s.took_us).collect();
    let rate = times.len() as f64 * 1e6 / end_us as f64;
    json!({"per_s": rate.round(), "latency": spread_ms(times), "errors": errors})
}

fn with_wrk(dir: &Path, port: u16, connections: usize, path: &str, body: &str, seconds: u64) -> Result<Value, String> {
    let script = dir.join("load.lua");
    // An error of the server as a whole comes with status 200, so the script looks into the answers.
    let text = format!(
        "wrk.method = 'POST'\nwrk.path = '{path}'\nwrk.headers['Content-Type'] = 'application/json'\nwrk.body = '{body}'\n\
         errors = 0\nlocal threads = {{}}\nfunction setup(thread) table.insert(threads, thread) end\n\
         function response(status, headers, body) if status ~= 200 or body:find('\"error\"', 1, true) then errors = errors + 1 end end\n\
         function done() local n = 0 for _, t in ipairs(threads) do n = n + t:get('errors') end print('failed answers: ' .. n) end\n"
    );
    std::fs::write(&script, text).map_err(|e| e.to_string())?;
    let url = format!("http://127.0.0.1:{port}/");
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--latency", "--timeout", "10s", "-s"])
        .arg(&script)
        .arg(url)
        .output()
        .map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |name: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(name));
        line.and_then(|line| line.trim_start().strip_prefix(name)).map_or("?", str::trim).to_owned()
    };
    let errors = after("failed answers:");
    let rate: f64 = after("Requests/sec:").parse().map_err(|e| format!("wrk: {e}\n{text}"))?;
    let sockets = after("Socket errors:");
    Ok(
        json!({"per_s": rate.round(), "p50": after("50%"), "p99": after("99%"), "errors": errors, "socket_errors": sockets}),
    )
}
