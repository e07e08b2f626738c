//! One `ferrolite serve` process: start, wait until ready, kill, terminate, look at it.
//!
//! A `Node` kills its process when dropped, so that a failing test leaves nothing behind.

use super::http::{Client, encode};
use super::procfs::{self, Usage};
use super::{POLL_PAUSE, poll};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest time from start to ready before a test gives up: far above the demand (1 s), which tests assert themselves.
pub const READY_LIMIT: Duration = Duration::from_secs(20);
/// Longest time for a process to end after it was told to or met its fault.
pub const EXIT_LIMIT: Duration = Duration::from_secs(20);

/// How to start a node on a data directory. Ports stay the same over restarts.
#[derive(Clone)]
pub struct Launch {
    pub dir: PathBuf,
    pub http_port: u16,
    pub raft_port: u16,
    flags: Vec<String>,
    env: Vec<(String, OsString)>,
    /// `RLIMIT_FSIZE`: no file of the process grows beyond this.
    file_bytes_max: Option<u64>,
}

/// How a process ended.
#[derive(Debug)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// All that the process wrote to stdout and stderr since it started.
    pub log: String,
}

impl Launch {
    pub fn new(dir: &Path, flags: &[&str]) -> Launch {
        let flags = flags.iter().map(|s| (*s).to_owned()).collect();
        let (http_port, raft_port) = (free_port(), free_port());
        Launch { dir: dir.to_owned(), http_port, raft_port, flags, env: Vec::new(), file_bytes_max: None }
    }

    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Launch {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    pub fn file_bytes_max(mut self, bytes: u64) -> Launch {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// Starts the process and does not wait for anything.
    pub fn spawn(&self) -> Node {
        let log = self.dir.with_extension("log");
        let out = OpenOptions::new().create(true).append(true).open(&log).expect("the log file can be written");
        let log_start = out.metadata().expect("the log file is there").len();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ferrolite"));
        command
            .args(["serve", "-node-id", "n1"])
            .arg(format!("-http-addr=127.0.0.1:{}", self.http_port))
            .arg(format!("-raft-addr=127.0.0.1:{}", self.raft_port))
            .args(&self.flags)
            .arg(&self.dir)
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a descriptor is free"))
            .stderr(out);
        if let Some(bytes) = self.file_bytes_max {
            // SAFETY: between fork and exec only async-signal-safe calls are made, on values of the closure.
            unsafe { command.pre_exec(move || limit_file_size(bytes)) };
        }
        let started = Instant::now();
        let child = command.spawn().expect("the server binary runs");
        Node { launch: self.clone(), child, log, log_start, started, ready_after: Duration::ZERO }
    }

    /// Starts the process and waits until `/readyz` says 200.
    pub fn start(&self) -> Node {
        let mut node = self.spawn();
        node.wait_ready();
        node
    }
}

/// A running (or ended) process.
pub struct Node {
    launch: Launch,
    child: Child,
    log: PathBuf,
    log_start: u64,
    started: Instant,
    /// From the start of the process to the first 200 of `/readyz`.
    pub ready_after: Duration,
}

impl Node {
    /// A node on `dir` with flags of the test's choice, ready to serve.
    pub fn start(dir: &Path, flags: &[&str]) -> Node {
        Launch::new(dir, flags).start()
    }

    pub fn launch(&self) -> &Launch {
        &self.launch
    }

    pub fn port(&self) -> u16 {
        self.launch.http_port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Client {
        Client::new(self.port())
    }

    pub fn usage(&self) -> Usage {
        procfs::usage(self.pid())
    }

    /// Waits for `/readyz`.
    ///
    /// # Panics
    /// The process ended, or is not ready in time; the panic shows its log.
    pub fn wait_ready(&mut self) {
        let end = self.started + READY_LIMIT;
        let mut client = self.client().with_timeout(Duration::from_secs(2));
        loop {
            let last = match client.get("/readyz") {
                Ok(reply) if reply.status == 200 => break,
                Ok(reply) => format!("{} {}", reply.status, reply.text()),
                Err(e) => e.to_string(),
            };
            if let Some(status) = self.try_exit() {
                panic!("the node ended before it was ready ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < end, "/readyz: not 200 in time, last: {last}\n{}", self.log());
            std::thread::sleep(POLL_PAUSE);
        }
        self.ready_after = self.started.elapsed();
    }

    /// Whether it has ended by itself, and how.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the child is ours")
    }

    /// SIGKILL, and wait until the process is gone.
    pub fn kill9(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        self.child.wait().expect("the child is ours");
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a plain system call on a process that is ours and not yet waited for.
        let answer = unsafe { libc::kill(self.child.id() as i32, signal) };
        assert_eq!(answer, 0, "the process can be signalled");
    }

    /// SIGTERM, and wait for the end.
    pub fn terminate(&mut self) -> Exit {
        self.signal(libc::SIGTERM);
        self.wait_exit()
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self) -> Exit {
        let end = Instant::now() + EXIT_LIMIT;
        let status = loop {
            if let Some(status) = self.try_exit() {
                break status;
            }
            assert!(Instant::now() < end, "the process still runs after {EXIT_LIMIT:?}\n{}", self.log());
            std::thread::sleep(POLL_PAUSE);
        };
        Exit { code: status.code(), signal: status.signal(), log: self.log() }
    }

    /// What this process has written to stdout and stderr.
    pub fn log(&self) -> String {
        let all = fs::read(&self.log).unwrap_or_default();
        let from = (self.log_start as usize).min(all.len());
        String::from_utf8_lossy(&all[from..]).into_owned()
    }

    /// Runs statements (a JSON array) through `/db/execute` and returns `results`.
    ///
    /// # Panics
    /// The request or one of its statements failed.
    pub fn execute(&self, statements: &str) -> serde_json::Value {
        let reply = self.client().post("/db/execute", statements).expect("the node answers");
        assert_eq!(reply.status, 200, "{statements}: {}", reply.text());
        let mut body = reply.json();
        assert!(!reply.text().contains("\"error\""), "{statements}: {}", reply.text());
        body["results"].take()
    }

    /// The rows of one query, read with level `strong` so that everything applied before is seen.
    ///
    /// # Panics
    /// The query failed.
    pub fn rows(&self, sql: &str) -> Vec<Vec<serde_json::Value>> {
        let path = format!("/db/query?level=strong&q={}", encode(sql));
        let reply = self.client().get(&path).expect("the node answers");
        assert_eq!(reply.status, 200, "{sql}: {}", reply.text());
        let body = reply.json();
        let result = &body["results"][0];
        assert!(result.get("error").is_none() && body.get("error").is_none(), "{sql}: {body}");
        let rows = result["values"].as_array().cloned().unwrap_or_default();
        rows.into_iter().map(|row| row.as_array().expect("a row is an array").clone()).collect()
    }

    /// The single integer that a query gives.
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql);
        rows.first().and_then(|r| r[0].as_i64()).unwrap_or_else(|| panic!("{sql}: no integer in {rows:?}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the node on {}\n{}", self.launch.dir.display(), self.log());
        }
        self.kill9();
        if !std::thread::panicking() {
            // Only a report; the next start of the same directory opens a new one.
            let _ = fs::remove_file(&self.log);
        }
    }
}

/// A loopback port below the ephemeral range that nobody listens on, never handed out twice by this process.
pub fn free_port() -> u16 {
    static USED: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut used = USED.lock().expect("no test panics while it holds the lock");
    let used = used.get_or_insert_with(HashSet::new);
    let mut random = [0u8; 8];
    File::open("/dev/urandom").and_then(|mut f| std::io::Read::read_exact(&mut f, &mut random)).expect("/dev/urandom");
    let mut rng = super::Rng::new(u64::from_le_bytes(random));
    poll("a free loopback port", Duration::from_secs(5), || {
        let port = rng.between(15_000, 31_999) as u16;
        if !used.insert(port) {
            return None;
        }
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => Some(port),
            Err(e) if e.kind() == ErrorKind::AddrInUse => None,
            Err(e) => panic!("loopback cannot be bound: {e}"),
        }
    })
}

/// Caps the size of every file that the process writes; a write beyond it gives EFBIG and no signal.
fn limit_file_size(bytes: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: plain system calls; the pointer is to a value on this stack.
    let failed = unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN) == libc::SIG_ERR || libc::setrlimit(libc::RLIMIT_FSIZE, &limit) != 0
    };
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
