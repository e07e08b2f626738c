//! The same interface on the tiny_http crate: an engine for trusted networks, plain HTTP only.
//!
//! What the crate does outside our reach, and why this is not the default: a request that declares a huge length aborts
//! the process (the length is allocated when the request is dropped); a failed accept, for instance at the descriptor
//! limit, ends the accepting for good; every connection holds a thread, without limit, however idle or slow; there are no
//! deadlines at all; a body cut off inside a chunk is taken for whole; heads have no bound; an `HTTP/2.0` line leaks a
//! thread and descriptors.
//!
//! Threads: those of the crate; `http-intake-N` per listener passes requests on; `http-N` handle and answer. A slow reader
//! holds the worker that answers it. Answers from other threads are queued for the workers.

use super::body::BodySink;
use super::budget::{Budget, Scratch};
use super::config::{
    BUFFERS_BYTES_MAX, CounterValues, Counters, EngineConfig, SCRATCH_BYTES_MAX, WORKER_STACK_BYTES, count,
};
use super::head::{self, Refusal};
use super::reply::{self, DateCache, Delimited, Manner};
use super::responder::{Answer, handling};
use super::slots::Token;
use super::{Handler, Headers, Request, Responder, Response, ResponseBody};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests that wait for a worker; beyond it the crate's own queue fills, which has no bound.
const REQUESTS_QUEUED_MAX: usize = 64;
/// Answers made elsewhere that wait for a worker; beyond it whoever makes them waits.
const ANSWERS_WAITING_MAX: usize = 16_384;
/// How often a stop looks whether the requests have finished.
const STOP_POLL: Duration = Duration::from_millis(2);
const BODY_PIECE_BYTES: usize = 64 * 1024;

/// A running HTTP engine on tiny_http.
pub struct Engine {
    shared: Arc<Shared>,
    servers: Vec<Arc<tiny_http::Server>>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    workers: usize,
}

struct Shared {
    config: EngineConfig,
    handler: Arc<dyn Handler>,
    counters: Counters,
    memory: Arc<Budget>,
    scratch: Scratch,
    stopping: AtomicBool,
    in_flight: AtomicUsize,
    requests: AtomicU64,
    /// Unbounded, but one request has at most one answer, and those in flight hold a thread of the crate's each.
    answers_tx: Sender<Pending>,
}

/// A request that waits for its answer, or has it.
struct Pending {
    request: tiny_http::Request,
    manner: Manner,
    answer: Answer,
}

impl Engine {
    /// Serves `handler` on the listeners until [`Engine::stop`].
    ///
    /// # Errors
    /// No descriptor or thread left.
    pub fn start(listeners: Vec<TcpListener>, config: EngineConfig, handler: Arc<dyn Handler>) -> io::Result<Engine> {
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let (requests_tx, requests_rx) = bounded(REQUESTS_QUEUED_MAX);
        let (answers_tx, answers_rx) = bounded(ANSWERS_WAITING_MAX);
        let workers = config.workers_max;
        let shared = Arc::new(Shared {
            memory: Budget::new(BUFFERS_BYTES_MAX as u64),
            scratch: Scratch::new(config.scratch_dir.clone(), SCRATCH_BYTES_MAX),
            config,
            handler,
            counters: Counters::default(),
            stopping: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            answers_tx,
        });
        let mut engine = Engine { shared, servers: Vec::new(), threads: Vec::new(), addresses, workers };
        for listener in listeners {
            // Connections inherit it. Without it, answers of more than one segment wait for delayed acknowledgements.
            rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
            let server = tiny_http::Server::from_listener(listener, None)
                .map_err(|error| io::Error::other(error.to_string()))?;
            engine.servers.push(Arc::new(server));
        }
        for (number, server) in engine.servers.iter().enumerate() {
            let (server, requests_tx, shared) = (Arc::clone(server), requests_tx.clone(), Arc::clone(&engine.shared));
            engine
                .threads
                .push(spawn(format!("http-intake-{number}"), move || take_in(&server, &requests_tx, &shared))?);
        }
        for number in 1..=workers {
            let (requests_rx, answers_rx) = (requests_rx.clone(), answers_rx.clone());
            let worker = Worker { shared: Arc::clone(&engine.shared), date: DateCache::default(), output: Vec::new() };
            engine.threads.push(spawn(format!("http-{number}"), move || worker.run(&requests_rx, &answers_rx))?);
        }
        Ok(engine)
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What happened since the start, as far as it can be seen from outside the crate.
    pub fn counters(&self) -> CounterValues {
        self.shared.counters.snapshot()
    }

    /// The crate does not say; requests in flight instead.
    pub fn connections(&self) -> usize {
        self.shared.in_flight.load(Ordering::Acquire)
    }

    /// Worker threads; the crate has one more per connection.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// Bytes that arriving bodies hold in memory and in scratch files.
    pub fn buffered_bytes(&self) -> (u64, u64) {
        (self.shared.memory.used(), self.shared.scratch.space.used())
    }

    /// Stops: requests in flight are finished, up to `patience`. Gives the number of those that were not. The crate closes
    /// connections only when their clients do, or the process ends.
    pub fn stop(mut self, patience: Duration) -> usize {
        self.stop_within(patience)
    }

    fn stop_within(&mut self, patience: Duration) -> usize {
        let until = Instant::now() + patience;
        self.shared.stopping.store(true, Ordering::Release);
        for server in &self.servers {
            server.unblock();
        }
        while self.shared.in_flight.load(Ordering::Acquire) > 0 && Instant::now() < until {
            std::thread::sleep(STOP_POLL);
        }
        self.servers.clear();
        let cut = self.shared.in_flight.load(Ordering::Acquire);
        // Threads whose request will not end are left behind; the others have seen that there is nothing more to come.
        for thread in self.threads.drain(..) {
            if cut == 0 && thread.join().is_err() {
                log::error!("an HTTP thread failed");
            }
        }
        cut
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop_within(Duration::ZERO);
        }
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).stack_size(WORKER_STACK_BYTES).spawn(run)
}

/// Passes requests on until the engine stops or the crate has given up accepting.
fn take_in(server: &tiny_http::Server, requests_tx: &Sender<tiny_http::Request>, shared: &Shared) {
    while !shared.stopping.load(Ordering::Acquire) {
        match server.recv() {
            Ok(request) => {
                shared.in_flight.fetch_add(1, Ordering::AcqRel);
                if requests_tx.send(request).is_err() {
                    return;
                }
            }
            Err(_) if shared.stopping.load(Ordering::Acquire) => return,
            Err(error) => log::error!("tiny_http has stopped accepting: {error}"),
        }
    }
}

struct Worker {
    shared: Arc<Shared>,
    date: DateCache,
    output: Vec<u8>,
}

impl Worker {
    fn run(mut self, requests_rx: &Receiver<tiny_http::Request>, answers_rx: &Receiver<Pending>) {
        // The answers' sender lives in `shared`, so the end shows in the requests' channel or the flag.
        loop {
            select! {
                recv(answers_rx) -> pending => if let Ok(pending) = pending { self.finish(pending) },
                recv(requests_rx) -> request => match request {
                    Ok(request) => self.begin(request),
                    Err(_) if self.shared.in_flight.load(Ordering::Acquire) == 0 => return,
                    // Answers are still to come; the requests' channel is closed and always ready, so look now and then.
                    Err(_) => match answers_rx.recv_timeout(STOP_POLL) {
                        Ok(pending) => self.finish(pending),
                        Err(_) => continue,
                    },
                },
            }
        }
    }

    fn begin(&mut self, mut request: tiny_http::Request) {
        let old = request.http_version().0 == 1 && request.http_version().1 == 0;
        let connection = header(&request, "Connection").to_ascii_lowercase();
        let keep_alive = if old { connection.contains("keep-alive") } else { !connection.contains("close") };
        let manner = Manner { old, head_only: request.method().as_str() == "HEAD", keep_alive };
        match self.read(&mut request) {
            Ok(ours) => self.handle(request, ours, manner),
            Err(refusal) => {
                count(&self.shared.counters.bad_requests);
                self.finish(Pending { request, manner, answer: Answer::Ready(reply::plain(refusal.0)) });
            }
        }
    }

    /// Our view of a request, its body read.
    fn read(&self, request: &mut tiny_http::Request) -> Result<Request, Refusal> {
        let method = request.method().as_str().to_owned();
        let (path, query) = head::target(&method, request.url())?;
        let (path, query) = (path.to_owned(), query.to_owned());
        let headers = request.headers().iter();
        let headers =
            headers.map(|h| (h.field.as_str().as_str().to_owned(), h.value.as_str().as_bytes().to_vec())).collect();
        let peer = request.remote_addr().copied().ok_or(Refusal(400))?;
        let limit = self.shared.handler.body_bytes_max(&path, self.shared.config.body_bytes_max);
        if request.body_length().is_some_and(|length| length as u64 > limit) {
            return Err(Refusal(413));
        }
        let mut sink = BodySink::new(&self.shared.memory, &self.shared.scratch);
        let mut room = vec![0; BODY_PIECE_BYTES];
        let mut total = 0;
        loop {
            let got = request.as_reader().read(&mut room).map_err(|_| Refusal(400))?;
            if got == 0 {
                break;
            }
            total += got as u64;
            if total > limit {
                return Err(Refusal(413));
            }
            sink.push(&room[..got], &self.shared.scratch)?;
        }
        let short = request.body_length().is_some_and(|length| length as u64 != total);
        if short {
            return Err(Refusal(400));
        }
        Ok(Request { method, path, query, headers: Headers(headers), body: sink.finish()?, peer })
    }

    fn handle(&mut self, request: tiny_http::Request, ours: Request, manner: Manner) {
        count(&self.shared.counters.requests);
        let token = Token(self.shared.requests.fetch_add(1, Ordering::Relaxed));
        let held = Arc::new(parking_lot::Mutex::new(Some(request)));
        let (held_elsewhere, answers_tx) = (Arc::clone(&held), self.shared.answers_tx.clone());
        let responder = Responder::to_queue(token, move |answer| {
            if let Some(request) = held_elsewhere.lock().take() {
                // The workers may have ended; then the request is dropped, which ends its connection.
                let _ = answers_tx.send(Pending { request, manner, answer });
            }
        });
        let handler = Arc::clone(&self.shared.handler);
        let mut panicked = false;
        let answer = handling(token, || {
            panicked = catch_unwind(AssertUnwindSafe(|| handler.handle(ours, responder))).is_err();
        });
        if panicked {
            count(&self.shared.counters.handler_panics);
        }
        let Some(response) = answer else { return };
        let request = held.lock().take();
        if let Some(request) = request {
            self.finish(Pending { request, manner, answer: Answer::Ready(response) });
        }
    }

    /// Writes an answer. The crate's thread for the connection goes on once the writer is dropped.
    fn finish(&mut self, pending: Pending) {
        let Pending { request, manner, answer } = pending;
        let response = match answer {
            Answer::Ready(response) => response,
            Answer::Make(make) => catch_unwind(AssertUnwindSafe(make)).unwrap_or_else(|_| {
                count(&self.shared.counters.handler_panics);
                reply::plain(500)
            }),
        };
        let mut writer = request.into_writer();
        let written = catch_unwind(AssertUnwindSafe(|| self.write(&mut *writer, response, manner)));
        if !matches!(written, Ok(Ok(()))) {
            count(&self.shared.counters.cut);
        }
        drop(writer);
        self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    fn write(&mut self, writer: &mut dyn Write, response: Response, manner: Manner) -> io::Result<()> {
        let delimited = reply::delimited(&response, manner);
        self.output.clear();
        reply::encode_head(&response, manner, &mut self.date, &mut self.output);
        match response.body {
            ResponseBody::Bytes(bytes) if delimited == Delimited::Length => self.output.extend_from_slice(&bytes),
            ResponseBody::Stream(source) if delimited == Delimited::Close => {
                writer.write_all(&self.output)?;
                source(writer)?;
                return writer.flush();
            }
            ResponseBody::Stream(source) if delimited == Delimited::Chunked => {
                writer.write_all(&self.output)?;
                let mut chunks = io::BufWriter::with_capacity(BODY_PIECE_BYTES, Chunks(writer));
                if let Err(error) = source(&mut chunks) {
                    // The crate keeps the connection open, and a client would wait for the rest for ever: what cannot be a
                    // chunk tells it that there is none.
                    drop(chunks);
                    writer.write_all(b"cut off\r\n")?;
                    writer.flush()?;
                    return Err(error);
                }
                let Chunks(writer) = chunks.into_inner().map_err(io::IntoInnerError::into_error)?;
                writer.write_all(b"0\r\n\r\n")?;
                return writer.flush();
            }
            _ => {}
        }
        writer.write_all(&self.output)?;
        writer.flush()
    }
}

/// Every write is one chunk.
struct Chunks<'a>(&'a mut dyn Write);

impl Write for Chunks<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if !data.is_empty() {
            write!(self.0, "{:x}\r\n", data.len())?;
            self.0.write_all(data)?;
            self.0.write_all(b"\r\n")?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn header<'a>(request: &'a tiny_http::Request, name: &'static str) -> &'a str {
    request.headers().iter().find(|h| h.field.equiv(name)).map_or("", |h| h.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    struct Routes;

    impl Handler for Routes {
        fn handle(&self, request: Request, responder: Responder) {
            let text = format!("{} {} {} {}", request.method, request.path, request.query, request.body.len());
            let response = Response { status: 200, headers: Vec::new(), body: ResponseBody::Bytes(text.into_bytes()) };
            match request.path.as_str() {
                "/later" => drop(std::thread::spawn(move || responder.send_with(move || response))),
                "/panic" => panic!("a handler that panics, on purpose"),
                "/stream" => responder.send(Response {
                    status: 200,
                    headers: Vec::new(),
                    body: ResponseBody::Stream(Box::new(|out| out.write_all(b"streamed"))),
                }),
                _ => responder.send(response),
            }
        }
    }

    #[test]
    fn the_interface_is_the_same() {
        use std::io::Read;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let engine =
            Engine::start(vec![listener], EngineConfig { workers_max: 4, ..EngineConfig::default() }, Arc::new(Routes))
                .expect("started");
        for (request, expected) in [
            ("GET /a?b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "\r\n\r\nGET /a b 0"),
            ("POST /a HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", "\r\n\r\nPOST /a  5"),
            ("GET /later HTTP/1.0\r\n\r\n", "\r\n\r\nGET /later  0"),
            ("GET /panic HTTP/1.0\r\n\r\n", "\r\n\r\n500 Internal Server Error"),
            ("GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "\r\n\r\n8\r\nstreamed\r\n0\r\n\r\n"),
            ("GET /stream HTTP/1.0\r\n\r\n", "\r\n\r\nstreamed"),
            ("GET /%zz HTTP/1.0\r\n\r\n", "\r\n\r\n400 Bad Request"),
        ] {
            let mut stream = TcpStream::connect(engine.addresses()[0]).expect("connected");
            stream.write_all(request.as_bytes()).expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("read");
            assert!(answer.ends_with(expected), "{request:?} {answer:?}");
        }
        assert_eq!(engine.counters().handler_panics, 1);
        assert_eq!(engine.stop(Duration::from_secs(5)), 0);
    }
}
