//! Cheap looks at a replica for those who drive it; nothing here changes anything.

use crate::replica::Replica;
use crate::{Index, LogId, NodeId, RoleKind};

impl Replica {
    pub fn id(&self) -> &NodeId {
        &self.config.id
    }

    pub fn role(&self) -> RoleKind {
        self.role.kind()
    }

    /// The newest entry of the log, durable or not.
    pub fn last(&self) -> LogId {
        self.log.last()
    }

    /// What the state machine has reported.
    pub fn applied_index(&self) -> Index {
        self.handover.applied
    }

    /// The last entry that came out of `Effects::committed` or `Effects::committed_in_log`.
    pub fn handed_over(&self) -> Index {
        self.handover.handed
    }

    /// Committed and durable entries are held back until the state machine reports more as applied.
    pub fn waits_for_applied(&self) -> bool {
        self.handover.handed < self.commit.min(self.ledger.durable())
    }
}
