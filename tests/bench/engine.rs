//! Serves constants with the HTTP engine alone, for `wrk`: `engine [PORT] [WORKERS]`, ended by closing its input.
//!
//! `/` answers at once; `/later` through another thread that completes what has collected in bursts, as a group commit
//! does; `/sleep` blocks its worker for 5 ms; `/large` answers 1 MB. At the end it prints CPU time per request.

use ferrolite::http::engine::{Engine, EngineConfig, Handler, Request, Responder, Response, ResponseBody};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

struct Constant {
    later_tx: crossbeam_channel::Sender<Responder>,
}

impl Handler for Constant {
    fn handle(&self, request: Request, responder: Responder) {
        match request.path.as_str() {
            "/later" => drop(self.later_tx.send(responder)),
            "/sleep" => {
                std::thread::sleep(Duration::from_millis(5));
                responder.send(constant());
            }
            "/large" => responder.send(Response {
                status: 200,
                headers: Vec::new(),
                body: ResponseBody::Bytes(vec![b'x'; 1_000_000]),
            }),
            _ => responder.send(constant()),
        }
    }
}

fn constant() -> Response {
    Response {
        status: 200,
        headers: vec![("Content-Type", "application/json; charset=utf-8".to_owned())],
        body: ResponseBody::Bytes(
            b"{\"results\":[{\"columns\":[\"x\"],\"types\":[\"integer\"],\"values\":[[1]]}]}".to_vec(),
        ),
    }
}

/// User and system time of this process so far, in clock ticks of 10 ms.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
    ticks * 10
}

fn main() {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(4001, |port| port.parse().expect("a port"));
    let mut config = EngineConfig::default();
    if let Some(workers) = args.next() {
        config.workers_base = workers.parse().expect("a number of workers");
    }
    let (later_tx, later_rx) = crossbeam_channel::bounded::<Responder>(4096);
    std::thread::Builder::new()
        .name("applier".to_owned())
        .spawn(move || {
            while let Ok(first) = later_rx.recv() {
                // One disk synchronisation's worth of waiting, then everything that has come is answered.
                std::thread::sleep(Duration::from_micros(100));
                first.send_with(constant);
                for responder in later_rx.try_iter().take(255) {
                    responder.send_with(constant);
                }
            }
        })
        .expect("a thread");
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let engine = Engine::start(vec![listener], config, Arc::new(Constant { later_tx })).expect("started");
    println!("serving on {}", engine.addresses()[0]);
    // Each line of input prints what the time since the last one cost.
    let mut before = (cpu_ms(), engine.counters());
    for _line in std::io::stdin().lines() {
        let now = (cpu_ms(), engine.counters());
        let requests = (now.1.requests - before.1.requests).max(1);
        let us = (now.0 - before.0) as f64 * 1000.0 / requests as f64;
        let wakes = (now.1.wakes - before.1.wakes) as f64 / requests as f64;
        println!("{requests} requests, {us:.2} us of CPU and {wakes:.3} wake-ups each, {} workers", engine.workers());
        before = now;
    }
    println!("{} requests cut", engine.stop(Duration::from_secs(2)));
}
