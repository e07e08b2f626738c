//! Who belongs to the cluster: the configuration, its bytes in the log, and its short history.
//!
//! A configuration is in force from the moment it is appended, committed or not (thesis, section 4.1); when the
//! entry is overwritten by another leader, the one before it is in force again.

use crate::config::{ADDRESS_BYTES_MAX, Incarnation, MEMBERS_MAX, NODE_ID_BYTES_MAX};
use crate::{Index, NodeId};
use std::fmt;
use std::sync::Arc;

const FORMAT_VERSION: u8 = 1;

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suffrage {
    /// Votes, and counts towards quorums.
    Voter,
    /// Receives the log, does not count yet; the leader makes it a voter when it has caught up (thesis, 4.2.1).
    Learner,
    /// Receives the log and never votes.
    NonVoter,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    pub incarnation: Incarnation,
    pub suffrage: Suffrage,
    /// Where peers reach it; opaque here.
    pub address: Arc<str>,
}

/// A configuration. Members are in order of their ids, each id once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    members: Vec<Member>,
}

/// Bytes or members that do not make a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipError(pub &'static str);

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for MembershipError {}

impl Membership {
    /// # Errors
    /// An id twice, an empty or overlong id or address, more than `MEMBERS_MAX` members, or no voter at all.
    pub fn new(mut members: Vec<Member>) -> Result<Membership, MembershipError> {
        members.sort_by(|a, b| a.id.cmp(&b.id));
        if members.len() > MEMBERS_MAX {
            return Err(MembershipError("too many members"));
        }
        if members.windows(2).any(|pair| pair[0].id == pair[1].id) {
            return Err(MembershipError("a node id occurs twice"));
        }
        if members.iter().any(|m| m.id.0.is_empty() || m.id.0.len() > NODE_ID_BYTES_MAX) {
            return Err(MembershipError("a node id is empty or too long"));
        }
        if members.iter().any(|m| m.address.len() > ADDRESS_BYTES_MAX) {
            return Err(MembershipError("an address is too long"));
        }
        if !members.iter().any(|m| m.suffrage == Suffrage::Voter) {
            return Err(MembershipError("need at least one voter"));
        }
        Ok(Membership { members })
    }

    /// All members, ordered by id.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn get(&self, id: &NodeId) -> Option<&Member> {
        self.members.binary_search_by(|m| m.id.cmp(id)).ok().map(|at| &self.members[at])
    }

    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.suffrage == Suffrage::Voter)
    }

    /// How many voters make a majority.
    pub fn quorum(&self) -> usize {
        if mutant!("half_is_a_majority") {
            return self.voters().count().div_ceil(2);
        }
        self.voters().count() / 2 + 1
    }

    /// Whether this life of this node votes here.
    pub fn is_voter(&self, id: &NodeId, incarnation: Incarnation) -> bool {
        self.get(id).is_some_and(|m| m.suffrage == Suffrage::Voter && m.incarnation.matches(incarnation))
    }

    /// Whether that node is the only voter.
    pub fn is_sole_voter(&self, id: &NodeId, incarnation: Incarnation) -> bool {
        self.is_voter(id, incarnation) && self.voters().count() == 1
    }

    /// The payload of a membership entry: version (1 byte), count (2), then for each member suffrage (1),
    /// incarnation (8), id length (2), id, address length (2), address. Integers are little-endian.
    pub fn encode(&self) -> Arc<[u8]> {
        let mut out = vec![FORMAT_VERSION];
        out.extend_from_slice(&u16::try_from(self.members.len()).expect("members are bounded").to_le_bytes());
        for m in &self.members {
            out.push(match m.suffrage {
                Suffrage::Voter => 1,
                Suffrage::Learner => 2,
                Suffrage::NonVoter => 3,
            });
            out.extend_from_slice(&m.incarnation.0.to_le_bytes());
            for text in [&m.id.0, &m.address] {
                out.extend_from_slice(&u16::try_from(text.len()).expect("texts are bounded").to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            }
        }
        out.into()
    }

    /// # Errors
    /// Anything that `encode` does not write; allocates no more than the bytes at hand.
    pub fn decode(bytes: &[u8]) -> Result<Membership, MembershipError> {
        let mut rest = bytes;
        if take(&mut rest, 1)?[0] != FORMAT_VERSION {
            return Err(MembershipError("unknown version of the membership format"));
        }
        let count = take_u16(&mut rest)?;
        if count > MEMBERS_MAX {
            return Err(MembershipError("too many members"));
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let suffrage = match take(&mut rest, 1)?[0] {
                1 => Suffrage::Voter,
                2 => Suffrage::Learner,
                3 => Suffrage::NonVoter,
                _ => return Err(MembershipError("unknown suffrage")),
            };
            let raw = take(&mut rest, 8)?;
            let incarnation = Incarnation(u64::from_le_bytes(raw.try_into().expect("eight bytes were taken")));
            let id = NodeId(take_text(&mut rest)?);
            let address = take_text(&mut rest)?;
            members.push(Member { id, incarnation, suffrage, address });
        }
        if !rest.is_empty() {
            return Err(MembershipError("bytes after the last member"));
        }
        Membership::new(members)
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], MembershipError> {
    let (head, tail) = rest.split_at_checked(count).ok_or(MembershipError("the membership is cut short"))?;
    *rest = tail;
    Ok(head)
}

fn take_u16(rest: &mut &[u8]) -> Result<usize, MembershipError> {
    let raw = take(rest, 2)?;
    Ok(usize::from(u16::from_le_bytes([raw[0], raw[1]])))
}

fn take_text(rest: &mut &[u8]) -> Result<Arc<str>, MembershipError> {
    let length = take_u16(rest)?;
    let raw = take(rest, length)?;
    let text = std::str::from_utf8(raw).map_err(|_| MembershipError("a text is not UTF-8"))?;
    Ok(text.into())
}

/// The configurations that may still come into force: the newest that is surely committed, and all after it.
///
/// Invariant: indexes rise strictly; the last is in force.
#[derive(Clone, Debug)]
pub(crate) struct MembershipHistory {
    entries: Vec<(Index, Arc<Membership>)>,
}

impl MembershipHistory {
    /// `entries` in order of their indexes; none in a node that belongs to no cluster yet.
    pub(crate) fn new(entries: Vec<(Index, Membership)>) -> Result<MembershipHistory, MembershipError> {
        if entries.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return Err(MembershipError("memberships must come in the order of the log"));
        }
        let entries: Vec<_> = entries.into_iter().map(|(index, m)| (index, Arc::new(m))).collect();
        Ok(MembershipHistory { entries })
    }

    pub(crate) fn current(&self) -> Option<&Arc<Membership>> {
        let in_force = if mutant!("configuration_used_at_commit") { self.entries.first() } else { self.entries.last() };
        in_force.map(|(_, m)| m)
    }

    pub(crate) fn current_index(&self) -> Index {
        self.entries.last().map_or(Index(0), |(index, _)| *index)
    }

    /// Whether `test` holds for the newest configuration that is surely committed or for any after it.
    pub(crate) fn any(&self, test: impl Fn(&Membership) -> bool) -> bool {
        self.entries.iter().any(|(_, m)| test(m))
    }

    /// The newest configuration that is surely committed, and all after it.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn in_play(&self) -> impl Iterator<Item = &Arc<Membership>> {
        self.entries.iter().map(|(_, m)| m)
    }

    /// The configuration in force at `index`.
    pub(crate) fn at(&self, index: Index) -> Option<(Index, &Arc<Membership>)> {
        self.entries.iter().rev().find(|(at, _)| *at <= index).map(|(at, m)| (*at, m))
    }

    pub(crate) fn push(&mut self, index: Index, membership: Arc<Membership>) {
        if mutant!("configuration_not_rolled_back") {
            self.entries.retain(|(at, _)| *at < index);
        }
        assert!(self.entries.is_empty() || index > self.current_index(), "memberships come in the order of the log");
        self.entries.push((index, membership));
    }

    /// Forgets configurations after `index`: their entries were overwritten. Returns whether any was. None may be left
    /// in a node that had only just heard of its first one: it belongs to no cluster, again.
    pub(crate) fn truncate_after(&mut self, index: Index) -> bool {
        if mutant!("configuration_not_rolled_back") {
            return false;
        }
        let before = self.entries.len();
        self.entries.retain(|(at, _)| *at <= index);
        before != self.entries.len()
    }

    /// Forgets configurations that can never be rolled back to.
    pub(crate) fn committed(&mut self, commit: Index) {
        let keep_from = self.entries.iter().rposition(|(at, _)| *at <= commit).unwrap_or(0);
        self.entries.drain(..keep_from);
    }

    /// After a snapshot was installed.
    pub(crate) fn reset(&mut self, index: Index, membership: Arc<Membership>) {
        if mutant!("membership_of_snapshot_ignored") && !self.entries.is_empty() {
            return;
        }
        self.entries.clear();
        self.entries.push((index, membership));
    }
}
