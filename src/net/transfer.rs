//! What the two ends of a snapshot and of a fetch have in common: a connection of its own, an opening frame, frames one at a
//! time, and a failure as the last word.

use super::codec::cut;
use super::frame::{self, FrameReader, Kind};
use super::handshake::Lane;
use super::limits::{HANDSHAKE_MAX, SNAPSHOT_HEADER_BYTES_MAX, TRANSFER_FAILURE_BYTES_MAX};
use super::outgoing::{Connected, DialError, connect};
use super::service::NetError;
use super::shared::Shared;
use super::stream::Stream;
use raft::{ClusterId, NodeId};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connects for a transfer on `lane`, within `timeout` or somewhat longer. `what` is the opening, for the error.
pub fn dial(
    shared: &Shared,
    address: &str,
    lane: Lane,
    expected: Option<&NodeId>,
    (what, opening): (&str, &[u8]),
    timeout: Duration,
) -> Result<(Connected, ClusterId), NetError> {
    if opening.len() > SNAPSHOT_HEADER_BYTES_MAX {
        return Err(NetError::Failed(format!("{what} is too long")));
    }
    let Some(cluster) = shared.cluster() else {
        return Err(NetError::Refused("this node belongs to no cluster yet".to_owned()));
    };
    let deadline = Instant::now() + timeout.max(HANDSHAKE_MAX / 5);
    let connected = connect(shared, address, lane, expected, deadline, &|| shared.is_stopping());
    let connected = connected.map_err(|error| match error {
        DialError::Refused(text) => NetError::Refused(text),
        error => NetError::Lost(error.text()),
    })?;
    Ok((connected, cluster))
}

/// The payload of the opening frame of a `what`, which comes within `patience`.
///
/// # Errors
/// Why there is none, for the log.
pub fn opening(
    what: &str,
    cluster: ClusterId,
    stream: &Arc<Stream>,
    reader: &mut FrameReader,
    patience: Duration,
) -> Result<Vec<u8>, String> {
    match reader.next(&**stream, Instant::now() + patience, |_| SNAPSHOT_HEADER_BYTES_MAX) {
        Ok(frame) if frame.kind == Kind::SnapshotOpen && frame.cluster == Some(cluster) => Ok(frame.payload.to_vec()),
        Ok(_) => Err(format!("a {what} does not begin as it should")),
        Err(error) => Err(format!("{what} broken off: {error}")),
    }
}

/// Sends one frame. Fails when nothing of it is taken for `stall`.
pub fn send(
    stream: &Stream,
    cluster: ClusterId,
    (kind, tag, payload): (Kind, u64, &[u8]),
    stall: Duration,
) -> io::Result<()> {
    let header = frame::header_of(kind, Some(cluster), tag, &[payload]);
    stream.write_all(&[&header, payload], stall).map_err(|(_, error)| error)
}

/// The payload that says why it failed.
pub fn failure(text: &str) -> &[u8] {
    cut(text, TRANSFER_FAILURE_BYTES_MAX).as_bytes()
}
