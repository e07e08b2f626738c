//! After healing: within a bounded time there is one leader, everybody agrees with it, and writing works. And nothing
//! that a client was told is lost.

use super::super::world::World;
use super::violated;
use crate::{Index, Suffrage};

const CHECKER: &str = "liveness after healing";

/// Simulated time that a healed cluster may take.
pub(in crate::sim) const LIMIT_MS: u64 = 40_000;

/// What is still missing, if anything.
pub(in crate::sim) fn missing(world: &World) -> Option<String> {
    let Some(leader) = world.leader() else { return Some("no leader".into()) };
    let replica = world.replica(leader)?;
    if replica.commit() != replica.last().index {
        return Some(format!("{} has committed {} of {}", replica.id(), replica.commit(), replica.last()));
    }
    let (_, membership) = replica.membership()?;
    for member in membership.members() {
        let at = world.index_of(&member.id);
        let node = &world.nodes[at];
        if node.incarnation != member.incarnation || member.suffrage == Suffrage::Learner {
            return Some(format!("{} is not what it was in the membership, or did not catch up", member.id));
        }
        if node.machine.state.applied != replica.last() {
            return Some(format!("{} has applied {}, not {}", member.id, node.machine.state.applied, replica.last()));
        }
    }
    None
}

pub(in crate::sim) fn too_late(what: &str, world: &World) -> ! {
    violated(CHECKER, format!("{what}\n{}", world.describe()))
}

/// All members are equal, and hold what clients know.
pub(in crate::sim) fn check_end(world: &World) {
    let Some(leader) = world.leader() else { return };
    let Some((_, membership)) = world.replica(leader).and_then(|r| r.membership()) else { return };
    let state = &world.nodes[leader].machine.state;
    for member in membership.members() {
        let other = &world.nodes[world.index_of(&member.id)].machine.state;
        if other.hash != state.hash || other.lists != state.lists {
            violated("divergence", format!("{} and n{leader} differ at {}", member.id, state.applied));
        }
    }
    for (key, list) in state.lists.iter().enumerate() {
        if list.len() < world.checks.linear.known(key) {
            violated("acknowledged is kept", format!("list {key} lost values that clients know of"));
        }
    }
    assert!(state.applied.index > Index(0), "something was committed");
}
