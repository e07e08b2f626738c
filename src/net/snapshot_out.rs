//! The sending end of a snapshot: a connection of its own, used by one thread of the caller that blocks on it.
//!
//! ```text
//! sender                          receiver
//! SnapshotOpen (header)   ->
//!                         <-      SnapshotResume (tag: from which byte on), or SnapshotFailed
//! SnapshotChunk... (Zstd) ->
//!                         <-      SnapshotAck (tag: bytes taken of this connection), KeepAlive
//! SnapshotEnd             ->
//!                         <-      KeepAlive..., then SnapshotDone (answer) or SnapshotFailed (text)
//! ```
//!
//! At most `SNAPSHOT_WINDOW_BYTES` are on their way unacknowledged, so a receiver that hangs is noticed, and the network's
//! queues stay short for others.

use super::frame::{FrameError, FrameReader, Kind};
use super::handshake::{Lane, refusal};
use super::limits::{SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_HEADER_BYTES_MAX, SNAPSHOT_SILENCE_MAX, SNAPSHOT_WINDOW_BYTES};
use super::outgoing::Connected;
use super::service::NetError;
use super::shared::Shared;
use super::stream::Stream;
use super::transfer;
use raft::{ClusterId, NodeId};
use std::sync::Arc;
use std::time::Instant;

/// Quick rather than small: the disks and networks in question are faster than higher levels.
const COMPRESSION_LEVEL: i32 = 1;

/// A snapshot on its way. Dropping it breaks it off; the receiver keeps what it has.
pub struct SnapshotSender {
    stream: Arc<Stream>,
    reader: FrameReader,
    cluster: ClusterId,
    resume_from: u64,
    sent_bytes: u64,
    acknowledged_bytes: u64,
    /// Compresses chunks, and has room for one; `None` when they are sent as they are.
    compressor: Option<(zstd::bulk::Compressor<'static>, Vec<u8>)>,
}

impl Drop for SnapshotSender {
    fn drop(&mut self) {
        self.stream.shutdown();
    }
}

/// What the receiver said.
enum Said {
    Resume(u64),
    Ack(u64),
    KeepAlive,
    Done(Vec<u8>),
}

pub fn open(shared: &Shared, peer_id: &NodeId, address: &str, header: &[u8]) -> Result<SnapshotSender, NetError> {
    let opening = ("the header of the snapshot", header);
    let timeout = shared.options.connect_timeout;
    let (connected, cluster) = transfer::dial(shared, address, Lane::Snapshot, Some(peer_id), opening, timeout)?;
    let Connected { stream, reader, .. } = connected;
    let compressor = if shared.options.compress_snapshots {
        let compressor =
            zstd::bulk::Compressor::new(COMPRESSION_LEVEL).map_err(|error| NetError::Failed(error.to_string()))?;
        // Room for what is worth sending compressed: what does not fit is sent as it is.
        Some((compressor, vec![0; SNAPSHOT_CHUNK_BYTES_MAX]))
    } else {
        None
    };
    let (sent_bytes, acknowledged_bytes) = (0, 0);
    let mut sender =
        SnapshotSender { stream, reader, cluster, resume_from: 0, sent_bytes, acknowledged_bytes, compressor };
    sender.write(Kind::SnapshotOpen, header)?;
    loop {
        match sender.listen()? {
            Said::Resume(from) => {
                sender.resume_from = from;
                return Ok(sender);
            }
            Said::KeepAlive => {}
            Said::Ack(_) | Said::Done(_) => return Err(out_of_turn()),
        }
    }
}

fn out_of_turn() -> NetError {
    NetError::Failed("it does not answer as the receiver of a snapshot should".to_owned())
}

impl SnapshotSender {
    /// How many bytes of the snapshot the receiver holds already; the first chunk is to begin there.
    pub fn resume_from(&self) -> u64 {
        self.resume_from
    }

    /// Sends a part of the snapshot. Blocks while too much is on its way.
    ///
    /// # Errors
    /// The connection is lost, the receiver failed, or it takes nothing for `SNAPSHOT_SILENCE_MAX`.
    pub fn send(&mut self, chunk: &[u8]) -> Result<(), NetError> {
        for part in chunk.chunks(SNAPSHOT_CHUNK_BYTES_MAX) {
            while self.sent_bytes + part.len() as u64 - self.acknowledged_bytes > SNAPSHOT_WINDOW_BYTES {
                match self.listen()? {
                    Said::Ack(bytes) if bytes <= self.sent_bytes => {
                        self.acknowledged_bytes = self.acknowledged_bytes.max(bytes);
                    }
                    Said::KeepAlive => {}
                    Said::Ack(_) | Said::Resume(_) | Said::Done(_) => return Err(out_of_turn()),
                }
            }
            self.write_chunk(part)?;
            self.sent_bytes += part.len() as u64;
        }
        Ok(())
    }

    /// Says that this was all, and waits for the receiver's answer.
    ///
    /// # Errors
    /// The connection is lost, the receiver failed, or it says nothing for `SNAPSHOT_SILENCE_MAX`.
    pub fn finish(mut self) -> Result<Vec<u8>, NetError> {
        self.write(Kind::SnapshotEnd, &[])?;
        loop {
            match self.listen()? {
                Said::Done(answer) => return Ok(answer),
                Said::Ack(_) | Said::KeepAlive => {}
                Said::Resume(_) => return Err(out_of_turn()),
            }
        }
    }

    fn write_chunk(&mut self, part: &[u8]) -> Result<(), NetError> {
        let Some((mut compressor, mut room)) = self.compressor.take() else {
            return self.write(Kind::SnapshotChunk, part);
        };
        // An error says that it does not become smaller.
        let compressed = compressor.compress_to_buffer(part, &mut room[..part.len() - 1]);
        let written = match compressed {
            Ok(bytes) => self.write(Kind::SnapshotChunkZstd, &room[..bytes]),
            Err(_) => self.write(Kind::SnapshotChunk, part),
        };
        self.compressor = Some((compressor, room));
        written
    }

    fn write(&mut self, kind: Kind, payload: &[u8]) -> Result<(), NetError> {
        match transfer::send(&self.stream, self.cluster, (kind, self.sent_bytes, payload), SNAPSHOT_SILENCE_MAX) {
            Ok(()) => Ok(()),
            Err(error) => {
                // The receiver may have said why before it closed.
                for _ in 0..=SNAPSHOT_WINDOW_BYTES {
                    match self.listen() {
                        Ok(_) => {}
                        Err(NetError::Failed(text)) => return Err(NetError::Failed(text)),
                        Err(_) => break,
                    }
                }
                Err(NetError::Lost(error.to_string()))
            }
        }
    }

    fn listen(&mut self) -> Result<Said, NetError> {
        let deadline = Instant::now() + SNAPSHOT_SILENCE_MAX;
        let frame = self.reader.next(&*self.stream, deadline, |_| SNAPSHOT_HEADER_BYTES_MAX);
        let frame = frame.map_err(|error| match error {
            FrameError::Idle | FrameError::Stalled => NetError::Silent,
            error => NetError::Lost(error.to_string()),
        })?;
        match frame.kind {
            Kind::SnapshotResume => Ok(Said::Resume(frame.tag)),
            Kind::SnapshotAck => Ok(Said::Ack(frame.tag)),
            Kind::KeepAlive => Ok(Said::KeepAlive),
            Kind::SnapshotDone => Ok(Said::Done(frame.payload.to_vec())),
            Kind::SnapshotFailed => Err(NetError::Failed(refusal(frame.payload))),
            _ => Err(out_of_turn()),
        }
    }
}
