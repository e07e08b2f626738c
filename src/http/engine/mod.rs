//! The HTTP/1.1 engine: bytes on sockets in, [`Request`]s to a [`Handler`], [`Response`]s out.
//!
//! It knows nothing of SQL or of Raft. A handler may answer at once, or keep the [`Responder`] and answer later from any
//! thread: a write that waits for the log holds no worker.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;

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
}

/// The right, and the duty, to answer one request. Dropped unused, it answers 500.
pub struct Responder {
    _private: (),
}

impl Responder {
    /// Answers. From any thread; never blocks on a socket outside the engine's workers.
    pub fn send(self, _response: Response) {}

    /// Runs `make` on a worker and sends what it returns: at once when called on the worker that handles the request,
    /// queued otherwise. For results that arrive on threads which must not encode or block.
    pub fn send_with(self, make: impl FnOnce() -> Response + Send + 'static) {
        self.send(make());
    }
}
