//! Making a connection to another node: dial, then shake hands. Run by the threads that own outgoing connections.

use super::frame::{self, FrameError, FrameReader, Kind};
use super::handshake::{Hello, Lane, Welcome, refusal, twins};
use super::limits::{HANDSHAKE_MAX, HELLO_BYTES_MAX, RIVAL_LOOK_MAX, WRITE_STALL_MAX};
use super::shared::Shared;
use super::stream::{Stream, dial};
use raft::NodeId;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A connection that both ends have agreed on.
pub struct Connected {
    pub stream: Arc<Stream>,
    pub reader: FrameReader,
    /// The process at the other end.
    pub run: u64,
}

#[derive(Debug)]
pub enum DialError {
    /// Nobody there, or nobody that answers.
    Unreachable(String),
    /// The other node does not want this connection, or is not the one that was looked for.
    Refused(String),
    /// Not wanted any more by the caller.
    Cancelled,
}

impl DialError {
    pub fn text(self) -> String {
        match self {
            DialError::Unreachable(text) | DialError::Refused(text) => text,
            DialError::Cancelled => "the connection is no longer wanted".to_owned(),
        }
    }
}

/// Connects to `address` for `lane`, to the node `expected` if one is.
pub fn connect(
    shared: &Shared,
    address: &str,
    lane: Lane,
    expected: Option<&NodeId>,
    deadline: Instant,
    is_cancelled: &dyn Fn() -> bool,
) -> Result<Connected, DialError> {
    let unreachable = |text: String| DialError::Unreachable(format!("{address}: {text}"));
    let stream = match dial(&shared.streams, address, deadline, is_cancelled) {
        Ok(stream) => stream,
        Err(_) if is_cancelled() => return Err(DialError::Cancelled),
        Err(error) => return Err(unreachable(error.to_string())),
    };
    if lane == Lane::Look {
        stream.be_impatient(RIVAL_LOOK_MAX).map_err(|error| unreachable(error.to_string()))?;
    }
    let cluster = shared.cluster();
    let hello = Hello {
        lane,
        features: 0,
        incarnation: shared.incarnation(),
        run: shared.run,
        node_id: shared.own.node_id.clone(),
        address: shared.own.address.clone(),
        expected: expected.cloned(),
        fingerprint: shared.own.fingerprint.clone(),
    };
    let mut out = Vec::new();
    let at = frame::begin(&mut out);
    hello.encode(&mut out);
    frame::finish(&mut out, at, Kind::Hello, cluster, 0);
    stream.write_all(&[&out], WRITE_STALL_MAX).map_err(|(_, error)| unreachable(error.to_string()))?;
    let mut reader = FrameReader::new(Arc::clone(&shared.incoming));
    let deadline = match lane {
        Lane::Look => deadline,
        _ => deadline.max(Instant::now() + HANDSHAKE_MAX / 5).min(Instant::now() + HANDSHAKE_MAX),
    };
    let frame = match reader.next(&*stream, deadline, |_| HELLO_BYTES_MAX) {
        Ok(frame) => frame,
        Err(FrameError::Idle) => return Err(unreachable("it takes connections but does not answer".to_owned())),
        Err(error) => return Err(unreachable(error.to_string())),
    };
    let refused = |text: String| Err(DialError::Refused(format!("{address}: {text}")));
    let welcome = match frame.kind {
        Kind::Welcome => match Welcome::decode(frame.payload) {
            Ok(welcome) => welcome,
            Err(error) => return refused(error.to_string()),
        },
        Kind::Refusal => return refused(refusal(frame.payload)),
        _ => return refused("it does not answer as a node should".to_owned()),
    };
    if expected.is_some_and(|id| *id != welcome.node_id) {
        return refused(format!("node {} answers there", welcome.node_id));
    }
    if lane.is_for_members() && frame.cluster != cluster {
        return refused("it belongs to another cluster".to_owned());
    }
    let run = welcome.run;
    if lane != Lane::Look && shared.is_twin(cluster == frame.cluster, &welcome.node_id, welcome.incarnation, run) {
        let text = twins(&welcome.node_id, &shared.own.address, address);
        shared.complaints.shout(&welcome.node_id.0, &text);
        return refused(text);
    }
    Ok(Connected { stream, reader, run })
}

/// Whether the process `run` of node `id` answers at `address`.
pub fn answers_there(shared: &Shared, address: &str, id: &NodeId, run: u64) -> bool {
    let deadline = Instant::now() + RIVAL_LOOK_MAX;
    let found = connect(shared, address, Lane::Look, Some(id), deadline, &|| shared.is_stopping());
    found.is_ok_and(|connected| connected.run == run)
}

/// A random part, up to a half, taken off `pause`, so that many who wait for one node do not come all at once.
pub fn jittered(pause: Duration) -> Duration {
    // Each of these hashers starts from other random keys.
    let random = RandomState::new().build_hasher().finish();
    let half_ns = u64::try_from(pause.as_nanos() / 2).unwrap_or(u64::MAX);
    pause - Duration::from_nanos(random.checked_rem(half_ns).unwrap_or(0))
}
