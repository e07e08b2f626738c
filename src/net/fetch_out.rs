//! The asking end of a fetch: a connection of its own, a thread `fetch` that reads it, and one of the caller's that passes on
//! what comes. What is sent and when stands in `fetch_in`.
//!
//! The reading thread never waits for the passing one: what may be on its way fits the channel between them, so a slow reader
//! at the end does not look like a dead node to the giver's kernel.

use super::call::UNAUTHORIZED;
use super::frame::{FrameReader, Kind};
use super::handshake::{Lane, refusal};
use super::limits::{FETCH_CHUNK_BYTES, FETCH_PIECES_MAX, FETCH_PREPARE_MAX, FETCH_SILENCE_MAX, WRITE_STALL_MAX};
use super::outgoing::Connected;
use super::service::NetError;
use super::shared::Shared;
use super::stream::Stream;
use super::transfer;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use raft::ClusterId;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Passed on between two acknowledgements: little enough that a slow reader at the end does not look like none.
const SLICE_BYTES: usize = 16 * 1024;
/// An acknowledgement goes out at least so often while something is passed on.
const ACK_INTERVAL: Duration = Duration::from_secs(5);

/// Something large from another node, which has begun. Dropping it breaks it off.
pub struct Fetched {
    connection: Connection,
    pieces_rx: Receiver<Piece>,
}

struct Connection {
    stream: Arc<Stream>,
    cluster: ClusterId,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stream.shutdown();
    }
}

enum Piece {
    Begun,
    Chunk(Vec<u8>),
    End,
    /// The giver says so, or the connection is lost.
    Broken(NetError),
}

/// Asks the node at `address` for what `request` says, and waits until it begins.
pub fn open(shared: &Arc<Shared>, address: &str, request: &[u8], timeout: Duration) -> Result<Fetched, NetError> {
    let timeout = timeout.min(shared.options.connect_timeout);
    let opening = ("the request", request);
    let (connected, cluster) = transfer::dial(shared, address, Lane::Fetch, None, opening, timeout)?;
    let Connected { stream, reader, .. } = connected;
    let (pieces_tx, pieces_rx) = bounded(FETCH_PIECES_MAX);
    let connection = Connection { stream: Arc::clone(&stream), cluster };
    let spawned = shared.threads.spawn("fetch", move || read(&stream, reader, &pieces_tx));
    spawned.map_err(|error| NetError::Failed(format!("no thread for it: {error}")))?;
    connection.send(Kind::SnapshotOpen, 0, request).map_err(|error| NetError::Lost(error.to_string()))?;
    match pieces_rx.recv_timeout(FETCH_PREPARE_MAX) {
        Ok(Piece::Begun) => Ok(Fetched { connection, pieces_rx }),
        Ok(Piece::Broken(error)) => {
            // It waits for this before it closes.
            let _ = connection.send(Kind::SnapshotDone, 0, &[]);
            Err(error)
        }
        Ok(Piece::Chunk(_) | Piece::End) => Err(out_of_turn()),
        Err(_) => Err(NetError::Silent),
    }
}

/// The thread `fetch`: ends with the connection, which the other end of the channel closes.
fn read(stream: &Arc<Stream>, mut reader: FrameReader, pieces_tx: &Sender<Piece>) {
    loop {
        // Silence is judged by who waits for the pieces; between two of them this end may have been slow.
        let deadline = Instant::now() + FETCH_PREPARE_MAX;
        let piece = match reader.next(&**stream, deadline, |_| FETCH_CHUNK_BYTES) {
            Ok(frame) => match frame.kind {
                Kind::SnapshotResume => Piece::Begun,
                Kind::SnapshotChunk => Piece::Chunk(frame.payload.to_vec()),
                Kind::SnapshotEnd => Piece::End,
                Kind::SnapshotFailed if frame.payload == UNAUTHORIZED.as_bytes() => {
                    Piece::Broken(NetError::Unauthorized)
                }
                Kind::SnapshotFailed => Piece::Broken(NetError::Failed(refusal(frame.payload))),
                _ => Piece::Broken(out_of_turn()),
            },
            Err(error) => Piece::Broken(NetError::Lost(error.to_string())),
        };
        let is_last = matches!(piece, Piece::End | Piece::Broken(_));
        // Full: the giver does not keep to the window. Without the channel's sender the other end sees that nothing comes.
        if pieces_tx.try_send(piece).is_err() || is_last {
            return;
        }
    }
}

fn out_of_turn() -> NetError {
    NetError::Failed("it does not answer as the giver of a fetch should".to_owned())
}

impl Connection {
    fn send(&self, kind: Kind, tag: u64, payload: &[u8]) -> io::Result<()> {
        transfer::send(&self.stream, self.cluster, (kind, tag, payload), WRITE_STALL_MAX)
    }
}

impl Fetched {
    /// Passes everything on as it comes.
    ///
    /// # Errors
    /// Those of `out`; the other node failed or fell silent: what was passed on is then not whole.
    pub fn write_to(self, out: &mut dyn Write) -> io::Result<()> {
        let mut taken_bytes = 0;
        let mut acknowledged = Instant::now();
        loop {
            match self.pieces_rx.recv_timeout(FETCH_SILENCE_MAX) {
                Ok(Piece::Chunk(chunk)) => {
                    for slice in chunk.chunks(SLICE_BYTES) {
                        out.write_all(slice)?;
                        taken_bytes += slice.len() as u64;
                        if acknowledged.elapsed() > ACK_INTERVAL {
                            self.connection.send(Kind::SnapshotAck, taken_bytes, &[])?;
                            acknowledged = Instant::now();
                        }
                    }
                    self.connection.send(Kind::SnapshotAck, taken_bytes, &[])?;
                    acknowledged = Instant::now();
                }
                Ok(Piece::End) => {
                    // Everything is here; whether the other node learns of it does not matter any more.
                    let _ = self.connection.send(Kind::SnapshotDone, taken_bytes, &[]);
                    return Ok(());
                }
                Ok(Piece::Broken(error)) => {
                    let _ = self.connection.send(Kind::SnapshotDone, taken_bytes, &[]);
                    return Err(io::Error::other(error.to_string()));
                }
                Ok(Piece::Begun) => return Err(io::Error::other(out_of_turn().to_string())),
                Err(RecvTimeoutError::Timeout) => return Err(io::Error::other(NetError::Silent.to_string())),
                Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other(out_of_turn().to_string())),
            }
        }
    }
}
