//! A copy of the leader's database on its way in: written beside the own one, verified, offered to the raft thread. Runs
//! on the network's thread of that connection, which may block.

use super::NodeHandle;
use super::raft_peers::ArrivedCopy;
use crate::db::{CopyMeta, CopyTarget};
use crate::net::SnapshotSource;
use crossbeam_channel::{RecvTimeoutError, bounded};
use parking_lot::Mutex;
use raft::{Membership, NodeId, SnapshotMeta};
use std::path::Path;
use std::time::Duration;

/// Between two signs of life while the copy is taken over.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// After the pages.
const CHECKSUM_BYTES: usize = 32;

/// One copy at a time: two would write the same file.
static RECEIVING: Mutex<()> = Mutex::new(());

/// Receives a copy and has it taken over.
///
/// # Errors
/// What the sender is told; the own database is untouched then.
pub fn receive(
    node: &NodeHandle,
    data_dir: &Path,
    from: &NodeId,
    header: &[u8],
    source: &mut dyn SnapshotSource,
) -> Result<Vec<u8>, String> {
    // This thread ends with the connection.
    crate::limits::work_in_background();
    let Some(_one) = RECEIVING.try_lock() else { return Err("another copy is being received".to_owned()) };
    let meta = CopyMeta::decode(header).ok_or("the header of the copy cannot be read")?;
    if meta.cluster != node.shared().cluster {
        return Err(format!("the copy belongs to cluster {}, this node to {}", meta.cluster, node.shared().cluster));
    }
    let membership = Membership::decode(&meta.membership).map_err(|error| error.to_string())?;
    let snapshot = SnapshotMeta { last: meta.applied, membership_index: meta.membership_index, membership };
    let io = |error: std::io::Error| error.to_string();
    let mut target = match CopyTarget::resume(data_dir, &meta) {
        Some(target) => target,
        None => CopyTarget::create(data_dir, &meta).map_err(io)?,
    };
    let here_bytes = target.pages() * u64::from(meta.page_bytes);
    log::info!(
        target: "store",
        "receiving a copy of the database of node {from} up to {}, {} bytes, {here_bytes} of them here already",
        meta.applied, meta.bytes()
    );
    source.accept(here_bytes).map_err(io)?;
    let mut missing_bytes = meta.bytes() - here_bytes;
    let mut checksum = Vec::new();
    while let Some(chunk) = source.read_chunk().map_err(io)? {
        let pages = chunk.len().min(usize::try_from(missing_bytes).unwrap_or(usize::MAX));
        target.write(&chunk[..pages]).map_err(io)?;
        missing_bytes -= pages as u64;
        checksum.extend_from_slice(&chunk[pages..]);
        if checksum.len() > CHECKSUM_BYTES {
            return Err("the copy is longer than was announced".to_owned());
        }
    }
    let checksum = checksum.try_into().map_err(|_| "the copy ended too early")?;
    source.keep_alive();
    let incoming = target.finish(checksum)?;
    let (done_tx, done_rx) = bounded(1);
    let done = Box::new(move |taken| {
        let _ = done_tx.send(taken);
    });
    node.copy_arrived(ArrivedCopy { meta: snapshot, incoming, done });
    loop {
        match done_rx.recv_timeout(KEEP_ALIVE_INTERVAL) {
            Ok(taken) => return taken.map(|()| Vec::new()),
            Err(RecvTimeoutError::Timeout) => source.keep_alive(),
            Err(RecvTimeoutError::Disconnected) => return Err("the node is stopping".to_owned()),
        }
    }
}
