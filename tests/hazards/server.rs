//! The server under test: the engine with a handler that answers at once, later, slowly, hugely or not at all.

use ferrolite::http::engine::{
    Body, Deadlines, Engine, EngineConfig, Handler, HeadView, Request, Responder, Response, ResponseBody,
};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const ASKED: &str = "FERROLITE_HAZARD_SERVER";
/// The accept thread and two workers.
const THREADS_AT_REST: usize = 3;
/// What `/later` waits.
const LATER_MS: u64 = 50;

/// Serves, if this process was started for that; ends the process when its input ends.
pub fn serve_if_asked() {
    let Ok(settings) = std::env::var(ASKED) else { return };
    let settings: BTreeMap<&str, u64> = settings
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(k, v)| (k, v.parse().unwrap()))
        .collect();
    let get = |name: &str, default: u64| settings.get(name).copied().unwrap_or(default);
    if let Some(&limit) = settings.get("descriptors") {
        let limit = rustix::process::Rlimit { current: Some(limit), maximum: Some(limit) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    } else {
        raise_descriptor_limit();
    }
    let config = EngineConfig {
        workers_base: 2,
        workers_max: get("workers_max", 16) as usize,
        workers_surplus_ms: 500,
        connections_max: get("connections_max", 10_000) as usize,
        body_bytes_max: 256 * 1024 * 1024,
        scratch_dir: std::env::temp_dir(),
        deadlines: Deadlines {
            head_ms: get("head_ms", 1_000),
            idle_ms: get("idle_ms", 30_000),
            window_ms: get("window_ms", 1_000),
            window_bytes: 1_000,
            answer_ms: get("answer_ms", 3_000),
            stream_ms: get("stream_ms", 3_000),
            linger_ms: 500,
        },
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let engine = Engine::start(vec![listener], config, Arc::new(Routes::new())).unwrap();
    println!("\nserving {}", engine.addresses()[0]);
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        match line.split_once(' ') {
            Some(("stop", ms)) => {
                println!("cut {}", engine.stop(Duration::from_millis(ms.parse().unwrap())));
                break;
            }
            _ => {
                let c = engine.counters();
                let (memory, scratch) = engine.buffered_bytes();
                println!(
                    "connections={} workers={} memory={memory} scratch={scratch} requests={} panics={} unanswered={} \
                     spooled={} cut={} late={} evicted={} refused={} accept_errors={} bad={}",
                    engine.connections(),
                    engine.workers(),
                    c.requests,
                    c.handler_panics,
                    c.unanswered,
                    c.spooled,
                    c.cut,
                    c.deadlines_missed,
                    c.evicted,
                    c.refused,
                    c.accept_errors,
                    c.bad_requests
                );
            }
        }
    }
    std::process::exit(0);
}

pub fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

struct Routes {
    later_tx: mpsc::Sender<(Instant, Responder)>,
}

impl Routes {
    fn new() -> Routes {
        let (later_tx, later_rx) = mpsc::channel::<(Instant, Responder)>();
        std::thread::Builder::new()
            .name("applier".to_owned())
            .spawn(move || {
                for (due, responder) in later_rx {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    responder.send_with(|| text("later"));
                }
            })
            .unwrap();
        Routes { later_tx }
    }
}

fn text(body: impl Into<String>) -> Response {
    Response {
        status: 200,
        headers: vec![("Content-Type", "text/plain".to_owned())],
        body: ResponseBody::Bytes(body.into().into_bytes()),
    }
}

fn stream(body: impl FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'static) -> Response {
    Response { status: 200, headers: Vec::new(), body: ResponseBody::Stream(Box::new(body)) }
}

impl Handler for Routes {
    fn handle(&self, request: Request, responder: Responder) {
        let number = request.query.parse::<usize>().unwrap_or(0);
        match request.path.as_str() {
            "/what" => {
                let Request { method, path, query, body, .. } = request;
                responder.send(text(format!("{method} {path} {query} {}", body.len())));
            }
            "/echo" => {
                let kind = if matches!(request.body, Body::File { .. }) { "file" } else { "memory" };
                let body = request.body.into_bytes().unwrap();
                let headers = vec![("X-Kind", kind.to_owned())];
                responder.send(Response { status: 200, headers, body: ResponseBody::Bytes(body) });
            }
            "/later" => self.later_tx.send((Instant::now() + Duration::from_millis(LATER_MS), responder)).unwrap(),
            "/block" => {
                std::thread::sleep(Duration::from_millis(number as u64));
                responder.send(text("blocked"));
            }
            "/large" => responder.send(text("x".repeat(number))),
            "/stream" => responder.send(stream(move |out| {
                let piece = [b's'; 10_000];
                for at in (0..number).step_by(piece.len()) {
                    out.write_all(&piece[..piece.len().min(number - at)])?;
                }
                Ok(())
            })),
            "/stream-fails" => responder.send(stream(|out| {
                out.write_all(&[b's'; 100_000])?;
                Err(std::io::Error::other("half way"))
            })),
            "/stream-panics" => responder.send(stream(|_| panic!("a stream that panics, on purpose"))),
            "/panic" => panic!("a handler that panics, on purpose"),
            "/panic-later" => drop(std::thread::spawn(move || {
                responder.send_with(|| panic!("an answer that panics, on purpose"));
            })),
            "/drop" => drop(std::thread::spawn(move || drop(responder))),
            "/empty" => responder.send(Response { status: 204, headers: Vec::new(), body: ResponseBody::Empty }),
            _ => responder.send(text("ok")),
        }
    }

    fn refuse_early(&self, head: &HeadView<'_>) -> Option<Response> {
        let refused = head.path == "/refused";
        refused.then(|| Response { status: 401, headers: Vec::new(), body: ResponseBody::Empty })
    }
}

/// The server's process, as its tester sees it.
pub struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    pub address: SocketAddr,
    threads_at_start: usize,
    descriptors_at_start: usize,
}

impl Server {
    /// Starts one with `settings`, words like `head_ms=500`.
    pub fn start(settings: &str) -> Server {
        raise_descriptor_limit();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture", "--test-threads=1"])
            // glibc keeps large freed blocks in every thread's arena unless told not to; what is measured here is what the
            // engine holds.
            .envs([("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "1048576")])
            .env(ASKED, format!("on=1 {settings}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "the server did not start");
            if let Some(address) = line.trim().strip_prefix("serving ") {
                break address.parse().unwrap();
            }
        };
        let mut server = Server { child, input, output, address, threads_at_start: 0, descriptors_at_start: 0 };
        // A thread has its name only after a moment.
        let until = Instant::now() + Duration::from_secs(5);
        while server.threads() < THREADS_AT_REST && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        server.threads_at_start = server.threads();
        assert_eq!(server.threads_at_start, THREADS_AT_REST);
        server.descriptors_at_start = server.descriptors();
        server
    }

    fn ask(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer
    }

    /// A counter of the server's by name.
    pub fn counter(&mut self, name: &str) -> u64 {
        let all = self.ask("counters");
        let found = all.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("{name} in {all}")).parse().unwrap()
    }

    /// Stops it within `ms`; gives the number of requests that were cut.
    pub fn stop(&mut self, ms: u64) -> usize {
        let answer = self.ask(&format!("stop {ms}"));
        assert!(self.child.wait().unwrap().success());
        answer.trim().strip_prefix("cut ").unwrap().parse().unwrap()
    }

    fn proc(&self, what: &str) -> String {
        format!("/proc/{}/{what}", self.child.id())
    }

    fn threads(&self) -> usize {
        std::fs::read_dir(self.proc("task"))
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.starts_with("http-"))
            .count()
    }

    fn descriptors(&self) -> usize {
        std::fs::read_dir(self.proc("fd")).unwrap().count()
    }

    /// Resident memory now and at its highest, in kB.
    pub fn resident_kb(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(self.proc("status")).unwrap();
        let get = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (get("VmRSS:"), get("VmHWM:"))
    }

    /// Waits until a counter satisfies `is_right`.
    pub fn wait_for(&mut self, name: &str, is_right: impl Fn(u64) -> bool) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let value = self.counter(name);
            if is_right(value) {
                return;
            }
            assert!(Instant::now() < until, "{name} stays at {value}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until no connection, thread, descriptor or buffer is left over, and looks at the memory.
    pub fn check_nothing_left(&mut self) {
        self.wait_for("connections", |count| count == 0);
        self.wait_for("memory", |bytes| bytes == 0);
        self.wait_for("scratch", |bytes| bytes == 0);
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let (threads, descriptors) = (self.threads(), self.descriptors());
            if threads <= self.threads_at_start && descriptors <= self.descriptors_at_start {
                break;
            }
            assert!(Instant::now() < until, "{threads} threads and {descriptors} descriptors are left");
            std::thread::sleep(Duration::from_millis(10));
        }
        let (_, highest_kb) = self.resident_kb();
        assert!(highest_kb < 100_000, "{highest_kb} kB of memory were used");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
