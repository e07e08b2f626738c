//! What a node asks of another in a caller's name, and which permissions the other one looks for. Data only.

use super::Permission;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Execute,
    Query,
    Request,
    Backup,
    Load,
    RemoveNode,
    StepDown,
    Verify,
    /// Bring a node in that votes, or wait with it for a cluster to be formed.
    Join,
    /// Bring a read replica in.
    JoinReadOnly,
}

impl Operation {
    /// All of them are needed.
    pub const fn permissions(self) -> &'static [Permission] {
        match self {
            Operation::Execute => &[Permission::Execute],
            Operation::Query => &[Permission::Query],
            Operation::Request => &[Permission::Query, Permission::Execute],
            Operation::Backup => &[Permission::Backup],
            Operation::Load => &[Permission::Load],
            Operation::RemoveNode => &[Permission::Remove],
            Operation::StepDown => &[Permission::LeaderOps],
            Operation::Verify => &[Permission::Snapshot],
            Operation::Join => &[Permission::Join],
            Operation::JoinReadOnly => &[Permission::JoinReadOnly],
        }
    }

    /// As clients are told that the leader refuses it: `remote <name> not authorized`.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Execute => "Execute",
            Operation::Query => "query",
            Operation::Request => "Request",
            Operation::Backup => "backup",
            Operation::Load => "load",
            Operation::RemoveNode => "remove node",
            Operation::StepDown => "stepdown",
            Operation::Verify => "verify",
            Operation::Join | Operation::JoinReadOnly => "join",
        }
    }
}
