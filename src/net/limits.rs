//! Every bound of the transport in one place: sizes, counts, times. Constants only; each says what happens beyond it.

use std::time::Duration;

/// Largest payload of one log entry, as `raft::Limits` has it (a test compares them).
pub const ENTRY_BYTES_MAX: usize = 300 << 20;
/// What may stand around the largest entry in one message: other entries of its batch, heads, names.
const AROUND_ENTRY_BYTES: usize = 16 << 20;

/// Largest frame of the control lane.
pub const CONTROL_FRAME_BYTES_MAX: usize = 64 << 10;
/// Largest frame of the bulk lane: an Append of one entry of the largest size.
pub const BULK_FRAME_BYTES_MAX: usize = ENTRY_BYTES_MAX + AROUND_ENTRY_BYTES;
/// Largest call or answer between members of one cluster.
pub const CALL_FRAME_BYTES_MAX: usize = ENTRY_BYTES_MAX + AROUND_ENTRY_BYTES;
/// Largest call from a node of no cluster or of another one: a membership of 64 long names fits.
pub const STRANGER_CALL_BYTES_MAX: usize = 256 << 10;
/// Largest frame of a handshake.
pub const HELLO_BYTES_MAX: usize = 16 << 10;
/// Largest header that opens a snapshot, and largest answer that ends one.
pub const SNAPSHOT_HEADER_BYTES_MAX: usize = 1 << 20;
/// Largest chunk of a snapshot before compression; what is longer is sent as several.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1 << 20;
/// Largest frame of the snapshot lane; a chunk that grows under compression is sent as it is.
pub const SNAPSHOT_FRAME_BYTES_MAX: usize = SNAPSHOT_CHUNK_BYTES_MAX;
/// A sender of a snapshot waits for an acknowledgement when this much is on its way.
pub const SNAPSHOT_WINDOW_BYTES: u64 = 8 << 20;
/// The receiver acknowledges at least this often.
pub const SNAPSHOT_ACK_BYTES: u64 = SNAPSHOT_WINDOW_BYTES / 8;

/// Longest text of a failure that ends a snapshot or a fetch, in bytes.
pub const TRANSFER_FAILURE_BYTES_MAX: usize = 4096;

/// Chunks of a fetch; all but the last have this size.
pub const FETCH_CHUNK_BYTES: usize = 128 << 10;
/// The giver of a fetch waits for an acknowledgement when this much is on its way.
pub const FETCH_WINDOW_BYTES: u64 = 2 << 20;
/// Pieces of a fetch that wait at the asking end: what the window allows, and the words around them.
pub const FETCH_PIECES_MAX: usize = FETCH_WINDOW_BYTES as usize / FETCH_CHUNK_BYTES + 4;

/// What all frames that are being received may hold together beyond their connections' buffers; a frame that would go
/// beyond ends its connection.
pub const INCOMING_BYTES_MAX: usize = 2 * BULK_FRAME_BYTES_MAX;
/// A connection's receive buffer. Frames up to this size are read in place.
pub const READ_BUFFER_BYTES: usize = 64 << 10;
/// A sender's buffer: so much is encoded before it is written.
pub const WRITE_BATCH_BYTES: usize = 256 << 10;
/// A buffer that grew beyond this for one large message is given back.
pub const BUFFER_KEPT_BYTES: usize = 1 << 20;

/// Messages that wait for a peer's control lane; beyond it the oldest is dropped.
pub const CONTROL_QUEUE_MAX: usize = 1024;
/// Messages that wait for a peer's bulk lane; beyond it the newest is dropped.
pub const BULK_QUEUE_MAX: usize = 1024;
/// Bytes that wait for a peer's bulk lane (one message may be larger alone); beyond it the newest is dropped.
pub const BULK_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Calls under way on one connection, queued ones included; beyond it a call is not sent.
pub const CALLS_IN_FLIGHT_MAX: usize = 8192;
/// Bytes of calls that wait to be written to one connection (one may be larger alone); beyond it a call is not sent.
pub const CALL_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Calls from this size on take a connection of their own kind, so that small ones never wait behind them.
pub const LARGE_CALL_BYTES: usize = 128 << 10;
/// Calls of one connection that are not answered yet; beyond it further ones are refused at once. More than one client has
/// under way, since it gives up late ones.
pub const CALLS_UNANSWERED_MAX: usize = 2 * CALLS_IN_FLIGHT_MAX;
/// Answers that wait for a client to read; beyond it its connection is closed.
pub const ANSWER_QUEUE_MAX: usize = CALLS_UNANSWERED_MAX;
/// Bytes of answers that wait for a client to read (one may be larger alone); beyond it its connection is closed.
pub const ANSWER_QUEUE_BYTES_MAX: usize = 64 << 20;
/// Addresses with connections for calls; beyond it a call is not sent.
pub const LINKS_MAX: usize = 256;

/// Incoming connections; beyond it a new one is closed at once.
pub const CONNECTIONS_MAX: usize = 512;
/// When fewer places than these are left, each new connection ends one that has not greeted for `GREETING_PATIENCE`.
pub const CONNECTIONS_SPARE: usize = 16;
/// Connections of one node on a Raft or snapshot lane; the oldest is closed for a newer one: it is a dead one's rest.
pub const CONNECTIONS_PER_LANE_MAX: usize = 2;
/// Connections of one node on the calls lane; the oldest is closed for a newer one.
pub const CALL_CONNECTIONS_MAX: usize = 8;
/// Stack of a connection's thread. Pages are touched only when used.
pub const STACK_BYTES: usize = 1 << 20;

/// How long one system call on a socket may block before deadlines are looked at.
pub const IO_TICK: Duration = Duration::from_secs(2);
/// When there are too many connections, one that has not greeted within this time makes room.
pub const GREETING_PATIENCE: Duration = Duration::from_secs(1);
/// A handshake must be over by then.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// A frame that began must go on within this time.
pub const FRAME_STALL_MAX: Duration = Duration::from_secs(10);
/// A frame must arrive at this rate on the whole, after `FRAME_STALL_MAX`.
pub const FRAME_BYTES_PER_S_MIN: u64 = 64 << 10;
/// A write that the peer takes nothing of for this long ends the connection.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(10);
/// Sent bytes that the peer's kernel does not acknowledge for this long end the connection.
pub const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);
/// Silence after which the kernel asks whether the peer still lives; twice more at `KEEPALIVE_INTERVAL`.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
pub const KEEPALIVE_PROBES: u32 = 3;
/// An outgoing connection that carried nothing for this long is closed.
pub const IDLE_OUT_MAX: Duration = Duration::from_secs(120);
/// An incoming connection that carried nothing for this long is closed; the other end closes it sooner.
pub const IDLE_IN_MAX: Duration = Duration::from_secs(300);
/// A connection attempt of a Raft lane takes no longer, whatever `connect_timeout` says: the peer may be back by then.
pub const RAFT_CONNECT_MAX: Duration = Duration::from_secs(2);
/// A longer `connect_timeout` is cut to this.
pub const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// A longer time for a call is cut to this.
pub const CALL_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Pauses after failed attempts of a Raft lane, doubling, each shortened by a random part of up to a half.
pub const BACK_OFF_MIN: Duration = Duration::from_millis(50);
pub const BACK_OFF_MAX: Duration = Duration::from_millis(500);
/// Pause after a refusal: what was refused will rarely be right a moment later.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// A snapshot whose other end says nothing for this long has failed.
pub const SNAPSHOT_SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long the giver of a fetch may take to begin: it may have to make a file first.
pub const FETCH_PREPARE_MAX: Duration = Duration::from_secs(600);
/// A fetch of which nothing comes for this long, while everything that came was passed on, has failed.
pub const FETCH_SILENCE_MAX: Duration = Duration::from_secs(30);
/// The giver of a fetch waits no longer for a sign that the asker passes it on: longer than a client of that one may take.
pub const FETCH_ACK_WAIT_MAX: Duration = Duration::from_secs(60);
/// How long the receiver of a snapshot goes on reading after it said that it failed, so that its words arrive.
pub const LINGER_MAX: Duration = Duration::from_secs(3);
/// A process whose name another one claims, and which does not answer at its address, keeps the name as long as its
/// connections are not silent for this long (the usual election timeout).
pub const RIVAL_SILENCE: Duration = Duration::from_secs(1);
/// So long it may take to answer there.
pub const RIVAL_LOOK_MAX: Duration = Duration::from_millis(300);
/// So long the claimant waits for it to be silent; then it is refused, and tries again.
pub const RIVAL_WAIT_MAX: Duration = Duration::from_millis(1200);
/// Between two looks whether it is.
pub const RIVAL_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Names of processes that are remembered; beyond it those without connections are forgotten.
pub const NAMES_MAX: usize = CONNECTIONS_MAX;
/// A refusal of the same peer is logged at most this often.
pub const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Threads that do not end within this time after `stop` are left behind.
pub const STOP_MAX: Duration = Duration::from_secs(5);

const _: () = assert!(BULK_FRAME_BYTES_MAX < u32::MAX as usize, "a frame's length is a u32");
const _: () = assert!(IDLE_OUT_MAX.as_secs() * 2 < IDLE_IN_MAX.as_secs(), "the sender closes first");
const _: () = assert!(RIVAL_WAIT_MAX.as_millis() > RIVAL_SILENCE.as_millis(), "a silent one is found out in one go");
const _: () = assert!(
    RIVAL_LOOK_MAX.as_millis() + RIVAL_WAIT_MAX.as_millis() < RAFT_CONNECT_MAX.as_millis(),
    "the claimant waits for its answer"
);
const _: () = assert!(SNAPSHOT_ACK_BYTES + (SNAPSHOT_CHUNK_BYTES_MAX as u64) < SNAPSHOT_WINDOW_BYTES);

#[cfg(test)]
mod tests {
    #[test]
    fn the_largest_entry_is_the_same_for_raft_and_for_the_transport() {
        assert_eq!(super::ENTRY_BYTES_MAX as u64, raft::Limits::default().entry_bytes_max);
    }
}
