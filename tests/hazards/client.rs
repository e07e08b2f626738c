//! Clients: one that says exactly the bytes it is told and reads answers strictly, and an honest one whose latency is
//! watched while others misbehave.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an answer may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(15);

pub struct Client {
    pub stream: TcpStream,
    received: Vec<u8>,
}

/// An answer, read by its own framing.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::try_connect(address).unwrap()
    }

    pub fn try_connect(address: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, received: Vec::new() })
    }

    /// Writes; the server may have closed already, which the reading will show.
    pub fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub fn say_no_more(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads more; `false` at the end of the connection.
    fn receive(&mut self) -> std::io::Result<bool> {
        let mut room = [0; 16 * 1024];
        match self.stream.read(&mut room)? {
            0 => Ok(false),
            count => {
                self.received.extend_from_slice(&room[..count]);
                Ok(true)
            }
        }
    }

    fn take_until(&mut self, end: &[u8]) -> std::io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|window| window == end) {
                return Ok(self.received.drain(..at + end.len()).collect());
            }
            if !self.receive()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn take_bytes(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        while self.received.len() < count {
            if !self.receive()? {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.received.drain(..count).collect())
    }

    /// The next answer; `has_body` is false for answers to HEAD.
    pub fn try_answer(&mut self, has_body: bool) -> std::io::Result<Answer> {
        let head = String::from_utf8(self.take_until(b"\r\n\r\n")?).unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        if !has_body || status < 200 || status == 204 {
            return Ok(answer);
        }
        if let Some(length) = answer.header("content-length") {
            answer.body = self.take_bytes(length.parse().unwrap())?;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = String::from_utf8(self.take_until(b"\r\n")?).unwrap();
                let size = usize::from_str_radix(line.trim(), 16).unwrap();
                answer.body.extend(self.take_bytes(size)?);
                assert_eq!(self.take_bytes(2)?, b"\r\n");
                if size == 0 {
                    break;
                }
            }
        } else {
            while self.receive()? {}
            answer.body = std::mem::take(&mut self.received);
        }
        Ok(answer)
    }

    pub fn answer(&mut self) -> Answer {
        self.try_answer(true).unwrap()
    }

    /// Says a request and reads the answer.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.say(request);
        self.answer()
    }

    /// GET of a path.
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// Has the server ended the connection, with nothing more to read? (A reset counts.)
    pub fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !matches!(self.receive(), Ok(true))
    }

    /// Reads and drops everything up to the end; gives the number of bytes.
    pub fn drain(&mut self) -> usize {
        let mut total = self.received.len();
        let mut room = vec![0; 256 * 1024];
        while let Ok(count @ 1..) = self.stream.read(&mut room) {
            total += count;
        }
        total
    }
}

/// Asks for `/` all the time, on a kept connection and now and then on a new one.
pub struct Honest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Vec<Duration>, usize)>,
}

impl Honest {
    pub fn start(address: SocketAddr) -> Honest {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut taken = Vec::new();
            let mut lost = 0;
            let mut client = Client::connect(address);
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                if taken.len() % 20 == 0 {
                    client = Client::connect(address);
                }
                client.say("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                let answer = match client.try_answer(true) {
                    Ok(answer) => answer,
                    // An idle connection may be closed at any time, even while a request is on its way: once more.
                    Err(_) => {
                        lost += 1;
                        client = Client::connect(address);
                        client.get("/")
                    }
                };
                taken.push(start.elapsed());
                assert_eq!((answer.status, answer.text()), (200, "ok"), "the honest client is served");
                std::thread::sleep(Duration::from_millis(2));
            }
            (taken, lost)
        });
        Honest { stop, thread }
    }

    /// Ends it; it must have been answered all the time, and soon.
    pub fn check(self, what: &str) {
        let lost = self.check_but_for_lost(what);
        assert_eq!(lost, 0, "{what}: connections of the honest client were closed");
    }

    /// The same where the server may have had to close idle connections; gives the number of those.
    pub fn check_but_for_lost(self, what: &str) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let (mut taken, lost) = self.thread.join().expect("the honest client was served");
        taken.sort();
        let at = |part: f64| taken[((taken.len() - 1) as f64 * part) as usize];
        println!("{what}: {} honest requests, p50 {:?}, p99 {:?}, max {:?}", taken.len(), at(0.5), at(0.99), at(1.0));
        // Generous, because other tests run beside this one; a starved client waits for seconds.
        assert!(at(0.5) < Duration::from_millis(50), "{what}: p50 {:?}", at(0.5));
        assert!(at(0.99) < Duration::from_millis(500), "{what}: p99 {:?}", at(0.99));
        lost
    }
}

/// Bytes without a pattern that a mix-up of offsets would keep.
pub fn random_bytes(count: usize) -> Vec<u8> {
    let mut seed: u32 = 1;
    (0..count)
        .map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        })
        .collect()
}
