//! Who speaks in the name of a node: one process at a time. Pure but for the clock's values; the table of connections
//! holds it under its lock.
//!
//! A copy of a data directory (a clone of a machine, `cp -r`) has the name and the incarnation of the original, and nothing
//! in its files tells them apart. If both took part, they would vote twice in one term and acknowledge what only one of
//! them holds. So every process draws a number when it starts (its *run*), says it in every handshake, and here is
//! remembered which run speaks for which life of a node:
//! - A name that nobody holds goes to whoever comes first, and the same run may always come again.
//! - Another run gets the name when its holder is gone. It is asked: does it answer at its address (`Lane::Look`)? A
//!   process that was killed and started again is found there itself, or nobody is, and all its old connections are closed:
//!   it waits for nothing. Where connections are still open, as after a loss of power, they must have been silent for
//!   `RIVAL_SILENCE`.
//! - Otherwise it is refused, and an operator is told. Whoever takes a name over ends all connections of the one before.
//!
//! So of two processes every node listens to one only. That all listen to the same one follows where messages for the
//! node reach one of them: they are sent to one address, and nobody votes or acknowledges unasked.

use super::limits::{NAMES_MAX, RIVAL_SILENCE};
use raft::{Incarnation, NodeId};
use std::collections::HashMap;
use std::time::Instant;

/// A life of a node: what a directory and its copies have in common.
pub type Name = (NodeId, Incarnation);

/// A process that wants to speak.
#[derive(Clone, Debug)]
pub struct Claim {
    pub name: Name,
    pub run: u64,
    /// Where it says that it can be reached.
    pub address: String,
}

/// The process that speaks already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    pub run: u64,
    pub address: String,
}

struct Holder {
    run: u64,
    address: String,
    /// How much its connections had brought when it was first found so, and when that was.
    watched: Option<(u64, Instant)>,
}

/// See the module.
#[derive(Default)]
pub struct Names {
    holders: HashMap<Name, Holder>,
}

/// What became of a claim to a name that another run holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    Done,
    /// Not yet: its connections are open and have not been silent for long enough.
    Wait,
    /// Meanwhile it is somebody else's.
    Overtaken,
}

impl Names {
    /// Grants a name that is free.
    ///
    /// # Errors
    /// Who holds it.
    pub fn claim(&mut self, claim: &Claim, has_connections: impl Fn(&Name, u64) -> bool) -> Result<(), Rival> {
        if let Some(holder) = self.holders.get_mut(&claim.name) {
            if holder.run != claim.run {
                return Err(Rival { run: holder.run, address: holder.address.clone() });
            }
            // It may have moved; and who speaks is not silent.
            holder.address.clone_from(&claim.address);
            holder.watched = None;
            return Ok(());
        }
        if self.holders.len() >= NAMES_MAX {
            self.holders.retain(|name, holder| has_connections(name, holder.run));
        }
        self.put(claim);
        Ok(())
    }

    /// Gives the name that `rival` holds, which does not answer at its address, to the claimant. `received` is what the
    /// open connections of the rival have brought so far; `None`: it has none.
    pub fn take_over(&mut self, claim: &Claim, rival: u64, received: Option<u64>, now: Instant) -> TakeOver {
        let Some(holder) = self.holders.get_mut(&claim.name).filter(|holder| holder.run == rival) else {
            return TakeOver::Overtaken;
        };
        let is_silent = received.is_none_or(|received| match holder.watched {
            Some((before, since)) if before == received => now.saturating_duration_since(since) >= RIVAL_SILENCE,
            _ => {
                holder.watched = Some((received, now));
                false
            }
        });
        if !is_silent {
            return TakeOver::Wait;
        }
        self.put(claim);
        TakeOver::Done
    }

    fn put(&mut self, claim: &Claim) {
        let holder = Holder { run: claim.run, address: claim.address.clone(), watched: None };
        self.holders.insert(claim.name.clone(), holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: &str, incarnation: u64, run: u64) -> Claim {
        let name = (NodeId(id.into()), Incarnation(incarnation));
        Claim { name, run, address: format!("{run}:1") }
    }

    fn nobody(_: &Name, _: u64) -> bool {
        false
    }

    #[test]
    fn a_name_goes_to_the_first_and_the_same_run_may_come_again() {
        let mut names = Names::default();
        assert_eq!(names.claim(&claim("a", 1, 10), nobody), Ok(()));
        assert_eq!(names.claim(&claim("a", 1, 10), nobody), Ok(()));
        let held = Err(Rival { run: 10, address: "10:1".to_owned() });
        assert_eq!(names.claim(&claim("a", 1, 11), nobody), held);
        // Another life is another name: the membership tells those apart.
        assert_eq!(names.claim(&claim("a", 2, 11), nobody), Ok(()));
        assert_eq!(names.claim(&claim("b", 1, 11), nobody), Ok(()));
    }

    #[test]
    fn a_holder_without_connections_is_gone_and_one_with_must_be_silent() {
        let mut names = Names::default();
        let now = Instant::now();
        let (first, second, third) = (claim("a", 1, 10), claim("a", 1, 11), claim("a", 1, 12));
        names.claim(&first, nobody).expect("free");
        assert_eq!(names.take_over(&second, 10, None, now), TakeOver::Done);
        assert_eq!(names.take_over(&third, 10, None, now), TakeOver::Overtaken);
        let late = now + RIVAL_SILENCE;
        assert_eq!(names.take_over(&third, 11, Some(7), now), TakeOver::Wait);
        assert_eq!(names.take_over(&third, 11, Some(8), late), TakeOver::Wait, "it has said something");
        assert_eq!(names.take_over(&third, 11, Some(8), late + RIVAL_SILENCE / 2), TakeOver::Wait);
        // A second try goes on where the first stopped.
        assert_eq!(names.take_over(&third, 11, Some(8), late + RIVAL_SILENCE), TakeOver::Done);
        assert_eq!(names.claim(&third, nobody), Ok(()));
        assert!(names.claim(&second, nobody).is_err(), "it wakes up and is the second now");
    }

    #[test]
    fn the_table_is_bounded_and_forgets_who_is_not_connected() {
        let mut names = Names::default();
        for number in 0..3 * NAMES_MAX as u64 {
            names.claim(&claim("a", number + 1, 1), |name, _| name.1.0 == 1).expect("free");
            assert!(names.holders.len() <= NAMES_MAX);
        }
        assert!(names.claim(&claim("a", 1, 2), nobody).is_err(), "it is connected");
    }
}
