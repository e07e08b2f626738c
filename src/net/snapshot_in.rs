//! The receiving end of a snapshot, on the connection's own thread. What it sends and when stands in `snapshot_out`.

use super::frame::{FrameError, FrameReader, Kind};
use super::limits::{
    LINGER_MAX, SNAPSHOT_ACK_BYTES, SNAPSHOT_CHUNK_BYTES_MAX, SNAPSHOT_FRAME_BYTES_MAX, SNAPSHOT_HEADER_BYTES_MAX,
    SNAPSHOT_SILENCE_MAX, WRITE_STALL_MAX,
};
use super::service::{Service, SnapshotSource};
use super::shared::Shared;
use super::stream::Stream;
use super::transfer;
use raft::{ClusterId, NodeId};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keep-alives go out at most this often.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);

struct Source<'a> {
    shared: &'a Shared,
    cluster: ClusterId,
    stream: &'a Arc<Stream>,
    reader: &'a mut FrameReader,
    stage: Stage,
    taken_bytes: u64,
    acknowledged_bytes: u64,
    kept_alive: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Opened,
    Accepted,
    Ended,
}

/// Serves one snapshot. Gives why the connection was closed, if that is worth a line in the log.
pub fn serve(
    shared: &Shared,
    service: &dyn Service,
    from: NodeId,
    stream: &Arc<Stream>,
    reader: &mut FrameReader,
) -> Result<(), String> {
    let Some(cluster) = shared.cluster() else { return Ok(()) };
    let header = transfer::opening("snapshot", cluster, stream, reader, SNAPSHOT_SILENCE_MAX)?;
    let kept_alive = Instant::now();
    let (taken_bytes, acknowledged_bytes) = (0, 0);
    let mut source =
        Source { shared, cluster, stream, reader, stage: Stage::Opened, taken_bytes, acknowledged_bytes, kept_alive };
    let verdict = match service.snapshot(from, header, &mut source) {
        Ok(answer) if answer.len() > SNAPSHOT_HEADER_BYTES_MAX => Err("the receiver's answer is too long".to_owned()),
        verdict => verdict,
    };
    let is_whole = source.stage == Stage::Ended;
    match &verdict {
        Ok(answer) => drop(source.write(Kind::SnapshotDone, 0, answer)),
        Err(text) => {
            drop(source.write(Kind::SnapshotFailed, 0, transfer::failure(text)));
        }
    }
    if !is_whole {
        linger(stream, reader);
    }
    verdict.map(drop).map_err(|text| format!("snapshot not installed: {text}"))
}

/// Reads on for a moment: closing with bytes unread would tear the connection down before our last words are read.
fn linger(stream: &Arc<Stream>, reader: &mut FrameReader) {
    stream.shutdown_write();
    let deadline = Instant::now() + LINGER_MAX;
    while Instant::now() < deadline && reader.next(&**stream, deadline, |_| SNAPSHOT_FRAME_BYTES_MAX).is_ok() {}
}

impl Source<'_> {
    fn write(&mut self, kind: Kind, tag: u64, payload: &[u8]) -> io::Result<()> {
        transfer::send(self.stream, self.cluster, (kind, tag, payload), WRITE_STALL_MAX)
    }
}

impl SnapshotSource for Source<'_> {
    fn accept(&mut self, resume_from: u64) -> io::Result<()> {
        assert_eq!(self.stage, Stage::Opened, "a snapshot is accepted once");
        self.stage = Stage::Accepted;
        self.write(Kind::SnapshotResume, resume_from, &[])
    }

    fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        assert_ne!(self.stage, Stage::Opened, "a snapshot is accepted before it is read");
        if self.stage == Stage::Ended {
            return Ok(None);
        }
        let deadline = Instant::now() + SNAPSHOT_SILENCE_MAX;
        let next = self.reader.next(&**self.stream, deadline, |_| SNAPSHOT_FRAME_BYTES_MAX);
        let frame = next.map_err(|error| match error {
            FrameError::Io(error) => error,
            FrameError::Idle | FrameError::Stalled => {
                io::Error::new(io::ErrorKind::TimedOut, "the sender has fallen silent")
            }
            error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
        })?;
        let chunk = match frame.kind {
            Kind::SnapshotChunk => frame.payload.to_vec(),
            // Takes at most a chunk's room, whatever the bytes promise.
            Kind::SnapshotChunkZstd => zstd::bulk::decompress(frame.payload, SNAPSHOT_CHUNK_BYTES_MAX)?,
            Kind::SnapshotEnd => {
                self.stage = Stage::Ended;
                return Ok(None);
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of another kind in a snapshot")),
        };
        self.taken_bytes += chunk.len() as u64;
        if self.taken_bytes - self.acknowledged_bytes >= SNAPSHOT_ACK_BYTES {
            self.acknowledged_bytes = self.taken_bytes;
            self.write(Kind::SnapshotAck, self.taken_bytes, &[])?;
        }
        Ok(Some(chunk))
    }

    fn keep_alive(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.kept_alive) >= KEEP_ALIVE_INTERVAL && !self.shared.is_stopping() {
            self.kept_alive = now;
            // A lost connection shows at the next read, or when the verdict is sent.
            let _ = self.write(Kind::KeepAlive, 0, &[]);
        }
    }
}
