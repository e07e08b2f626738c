//! The HTTP/1.1 engine: bytes on sockets in, [`Request`]s to a [`Handler`], [`Response`]s out.
//!
//! It knows nothing of SQL or of Raft. A handler may answer at once, or keep the [`Responder`] and answer later from any
//! thread: a write that waits for the log holds no worker.
//!
//! Threads: `http-accept` (`acceptor`) takes connections, watches deadlines and the size of the pool; `http-N` (`worker`)
//! share one poller, and the worker that sees an event reads, parses, handles and writes without handing over. A
//! connection (`conn`, `receive`, `answer`) is an actor in a table (`slots`): one thread at a time drives it. Other
//! threads reach it through the job queue (`shared`, `responder`). Pure and tested at every byte boundary: `head`,
//! `chunked`, `reply`. Bounds: `config`, `budget`; where bodies and unsent answers wait: `body`, `output`.
//!
//! With the feature `tiny-http` the same interface stands on the crate of that name instead (`tiny`).

mod acceptor;
mod answer;
mod body;
mod budget;
mod chunked;
pub mod config;
mod conn;
pub mod fuzz;
mod head;
mod output;
mod percent;
mod poller;
mod pool;
mod receive;
mod reply;
mod responder;
mod server;
mod shared;
mod slots;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
#[cfg(feature = "tiny-http")]
mod tiny;
mod worker;

pub use config::{CounterValues, Deadlines, EngineConfig};
pub use fuzz::{fuzz_head, fuzz_stream};
#[cfg(not(feature = "tiny-http"))]
pub use server::Engine;
/// Our own engine, where tiny_http's takes its name.
#[cfg(feature = "tiny-http")]
pub use server::Engine as OwnEngine;
#[cfg(feature = "tiny-http")]
pub use tiny::Engine;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;

/// A request whose head and body have arrived whole.
pub struct Request {
    /// As sent, upper case for the known ones: `GET`, `POST`, ...
    pub method: String,
    /// The path as sent, percent-encoding kept; an absolute-form target is already reduced to its path.
    pub path: String,
    /// What follows the first `?`, without it; empty when there is none.
    pub query: String,
    pub headers: Headers,
    pub body: Body,
    pub peer: SocketAddr,
}

/// Header lines in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Headers(pub Vec<(String, Vec<u8>)>);

impl Headers {
    /// The first value of a header, by case-insensitive name, when it is UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.and_then(|(_, v)| std::str::from_utf8(v).ok())
    }
}

/// A request's body: small ones in memory, large ones spooled to an unlinked scratch file.
pub enum Body {
    Memory(Vec<u8>),
    File { file: File, bytes: u64 },
}

impl Body {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Body::Memory(bytes) => bytes.len() as u64,
            Body::File { bytes, .. } => *bytes,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `bytes` of it, or all there are.
    ///
    /// # Errors
    /// The scratch file cannot be read.
    pub fn start(&self, bytes: usize) -> io::Result<Vec<u8>> {
        let bytes = bytes.min(usize::try_from(self.len()).unwrap_or(usize::MAX));
        match self {
            Body::Memory(all) => Ok(all[..bytes].to_vec()),
            Body::File { file, .. } => {
                let mut start = vec![0; bytes];
                file.read_exact_at(&mut start, 0)?;
                Ok(start)
            }
        }
    }

    /// The body as a stream, from its start.
    pub fn into_reader(self) -> Box<dyn Read + Send> {
        match self {
            Body::Memory(bytes) => Box::new(io::Cursor::new(bytes)),
            // Handed over rewound.
            Body::File { file, .. } => Box::new(file),
        }
    }

    /// The whole body in memory.
    ///
    /// # Errors
    /// The scratch file cannot be read.
    pub fn into_bytes(self) -> io::Result<Vec<u8>> {
        match self {
            Body::Memory(bytes) => Ok(bytes),
            Body::File { mut file, bytes } => {
                file.seek(SeekFrom::Start(0))?;
                let mut all = Vec::with_capacity(bytes as usize);
                file.read_to_end(&mut all)?;
                Ok(all)
            }
        }
    }
}

/// What goes back.
pub struct Response {
    pub status: u16,
    /// Names are written as given. `Content-Length`, `Transfer-Encoding`, `Connection` and `Date` are the engine's own.
    pub headers: Vec<(&'static str, String)>,
    pub body: ResponseBody,
}

pub enum ResponseBody {
    Empty,
    Bytes(Vec<u8>),
    /// Written by a worker in chunks; an error cuts the connection, so that a truncated body is never taken for whole.
    Stream(Box<StreamFn>),
}

pub type StreamFn = dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send;

/// Answers requests. Called on a worker thread; may block (bounded by the number of workers).
pub trait Handler: Send + Sync + 'static {
    fn handle(&self, request: Request, responder: Responder);

    /// Asked before the body of a request is read, and before `100 Continue`: `Some` answers without reading it and closes
    /// the connection. Must not block.
    fn refuse_early(&self, _head: &HeadView<'_>) -> Option<Response> {
        None
    }

    /// The longest body that a request to this path may have, in bytes, where all others may have `others_max`. Must not
    /// block.
    fn body_bytes_max(&self, _path: &str, others_max: u64) -> u64 {
        others_max
    }
}

/// What is known of a request before its body is read; the fields are those of [`Request`].
pub struct HeadView<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a Headers,
    /// `None`: the client does not say, it comes in chunks.
    pub body_bytes: Option<u64>,
}

/// The right, and the duty, to answer one request. Dropped unused, it answers 500.
pub struct Responder {
    target: Option<responder::Target>,
}
