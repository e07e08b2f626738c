//! The giving end of a fetch, on the connection's own thread: something large that another node has asked for, as it is made.
//!
//! ```text
//! asker                           giver
//! SnapshotOpen (request)  ->
//!                         <-      SnapshotResume when it begins, or SnapshotFailed (text)
//!                         <-      SnapshotChunk...
//! SnapshotAck (tag: bytes taken) ->
//!                         <-      SnapshotEnd, or SnapshotFailed (text)
//! SnapshotDone            ->
//! ```
//!
//! The frames are those of a snapshot, with the roles turned round. At most `FETCH_WINDOW_BYTES` are unacknowledged, and the
//! asker acknowledges what it has passed on: so the pace is that of the last reader, and nobody keeps more than that much.

use super::codec::decode_fetch;
use super::frame::{FrameReader, Kind};
use super::limits::{FETCH_ACK_WAIT_MAX, FETCH_CHUNK_BYTES, FETCH_WINDOW_BYTES, HANDSHAKE_MAX, WRITE_STALL_MAX};
use super::service::{Feed, Service};
use super::shared::Shared;
use super::stream::Stream;
use super::transfer;
use raft::{ClusterId, NodeId};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

struct Feeder<'a> {
    cluster: ClusterId,
    stream: &'a Arc<Stream>,
    reader: &'a mut FrameReader,
    chunk: Vec<u8>,
    sent_bytes: u64,
    acknowledged_bytes: u64,
}

/// Serves one fetch. Gives why it was broken off, if that is worth a line in the log.
pub fn serve(
    shared: &Shared,
    service: &dyn Service,
    from: NodeId,
    stream: &Arc<Stream>,
    reader: &mut FrameReader,
) -> Result<(), String> {
    let Some(cluster) = shared.cluster() else { return Ok(()) };
    let request = transfer::opening("fetch", cluster, stream, reader, HANDSHAKE_MAX)?;
    let chunk = Vec::with_capacity(FETCH_CHUNK_BYTES);
    let mut feeder = Feeder { cluster, stream, reader, chunk, sent_bytes: 0, acknowledged_bytes: 0 };
    let asked = decode_fetch(&request).map_err(|error| format!("the request is not understood: {error}"));
    let given = asked.and_then(|(callers, wanted)| service.fetch(from, &callers, wanted, &mut feeder)).and_then(|()| {
        let ended = feeder.flush().and_then(|()| feeder.frame(Kind::SnapshotEnd, &[]));
        ended.map_err(|error| error.to_string())
    });
    match given {
        // Closing before the asker has read everything could take the rest away from it.
        Ok(()) => feeder.wait_for_done().map_err(|error| format!("fetch broken off at its end: {error}")),
        Err(text) => {
            drop(feeder.frame(Kind::SnapshotFailed, transfer::failure(&text)));
            drop(feeder.wait_for_done());
            Err(format!("fetch broken off: {text}"))
        }
    }
}

impl Feeder<'_> {
    fn frame(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        transfer::send(self.stream, self.cluster, (kind, self.sent_bytes, payload), WRITE_STALL_MAX)
    }

    /// Waits for the asker's next word; says whether it was the last.
    fn listen(&mut self) -> io::Result<bool> {
        let deadline = Instant::now() + FETCH_ACK_WAIT_MAX;
        let frame = self.reader.next(&**self.stream, deadline, |_| 0);
        let frame = frame.map_err(|error| io::Error::other(error.to_string()))?;
        match frame.kind {
            Kind::SnapshotAck if frame.tag <= self.sent_bytes => {
                self.acknowledged_bytes = self.acknowledged_bytes.max(frame.tag);
                Ok(false)
            }
            Kind::SnapshotDone => Ok(true),
            _ => Err(io::Error::other("the asker does not answer as it should")),
        }
    }

    fn wait_for_done(&mut self) -> io::Result<()> {
        while !self.listen()? {}
        Ok(())
    }

    fn send_chunk(&mut self) -> io::Result<()> {
        let chunk = std::mem::take(&mut self.chunk);
        while self.sent_bytes + chunk.len() as u64 - self.acknowledged_bytes > FETCH_WINDOW_BYTES {
            if self.listen()? {
                return Err(io::Error::other("the asker wants no more"));
            }
        }
        self.frame(Kind::SnapshotChunk, &chunk)?;
        self.sent_bytes += chunk.len() as u64;
        self.chunk = chunk;
        self.chunk.clear();
        Ok(())
    }
}

impl Feed for Feeder<'_> {
    fn begin(&mut self) -> io::Result<()> {
        self.frame(Kind::SnapshotResume, &[])
    }
}

impl Write for Feeder<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let take = data.len().min(FETCH_CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&data[..take]);
        if self.chunk.len() == FETCH_CHUNK_BYTES {
            self.send_chunk()?;
        }
        Ok(take)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() { Ok(()) } else { self.send_chunk() }
    }
}
