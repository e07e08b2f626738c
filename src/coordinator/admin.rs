//! What operators ask for: snapshot, step-down, removal.

use super::{Coordinator, Error};
use crate::node::handle::SnapshotDone;
use crossbeam_channel::RecvTimeoutError;
use std::time::Duration;

/// How long a snapshot may take. It waits its turn behind what is being applied.
const SNAPSHOT_TIME_MAX: Duration = Duration::from_secs(120);

impl Coordinator {
    /// `POST /snapshot`: makes everything applied durable in the database file and drops the log before it, but for
    /// `trailing_logs` entries (0 = the configured number). `Ok(false)`: nothing new. Blocks the calling worker, within a deadline.
    pub fn snapshot(&self, trailing_logs: u64) -> Result<bool, Error> {
        let (done_tx, done_rx) = crossbeam_channel::bounded(1);
        let trailing = (trailing_logs > 0).then_some(trailing_logs);
        let done: SnapshotDone = Box::new(move |result| {
            let _ = done_tx.send(result);
        });
        self.node()?.snapshot(trailing, done);
        match done_rx.recv_timeout(SNAPSHOT_TIME_MAX) {
            Ok(result) => result.map_err(Error::from),
            Err(RecvTimeoutError::Timeout) => {
                let text = format!("the snapshot is not done after {SNAPSHOT_TIME_MAX:?}; it goes on");
                Err(Error::Request(text))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::Request("the node is stopping".into())),
        }
    }

    /// Hands leadership to `target`, or to any voter. Without `wait` the hand-over is only started.
    pub fn step_down(&self, target: Option<&str>, wait: bool) -> Result<(), Error> {
        let node = self.leading_node()?;
        if let Some(target) = target {
            if self.leader().is_some_and(|(id, _)| id == target) {
                return Err(Error::AlreadyLeader);
            }
            if !node.shared().members.lock().iter().any(|m| m.id == target) {
                return Err(Error::NodeNotFound);
            }
        }
        // A node alone has nobody to hand over to, which only a caller that waits is told.
        if wait { Err(Error::NotEnoughNodes) } else { Ok(()) }
    }

    /// Takes a node out of the cluster; one that is no member is no error.
    pub fn remove_node(&self, id: &str, _timeout: Duration) -> Result<(), Error> {
        let node = self.leading_node()?;
        match node.shared().members.lock().iter().any(|m| m.id == id) {
            true => Err(Error::Request(format!("{id} is the only voter of its cluster and cannot be removed"))),
            false => Ok(()),
        }
    }
}
