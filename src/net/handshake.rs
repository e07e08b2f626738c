//! The first frame each way: who are you, what is this connection for, and is that right? Run by the thread that dialled,
//! and by the thread of the incoming connection.
//!
//! ```text
//! hello   = protocol u16, lane u8, features u32, incarnation u64, run u64, node id, address, expected node id, fingerprint
//! welcome = protocol u16, features u32, incarnation u64, run u64, node id, fingerprint
//! refusal = UTF-8 text that says why, and what to do
//! ```
//!
//! Integers are little-endian, a text is its length (u16) and its UTF-8 bytes; an empty expected id stands for any node.
//! The cluster ids stand in the headers of the frames. The protocol comes first in all versions, and a refusal is a text
//! in all of them.

use super::limits::HELLO_BYTES_MAX;
use raft::config::{ADDRESS_BYTES_MAX, NODE_ID_BYTES_MAX};
use raft::{ClusterId, Incarnation, NodeId};

/// Rises whenever nodes of the version before could not take part.
pub const PROTOCOL: u16 = 2;
/// Longest fingerprint of a build, in bytes.
const FINGERPRINT_BYTES_MAX: usize = 1024;
/// Longest refusal that is taken in.
const REFUSAL_CHARS_MAX: usize = 1000;

const _: () = assert!(2 * NODE_ID_BYTES_MAX + ADDRESS_BYTES_MAX + FINGERPRINT_BYTES_MAX + 64 < HELLO_BYTES_MAX);

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Raft messages that are small and urgent.
    Control,
    /// Raft messages with entries.
    Bulk,
    Calls,
    Snapshot,
    /// Only to see who answers: the greeting is all of it, and says nothing about who greets.
    Look,
    /// Something large that the one who connects asks for.
    Fetch,
}

impl Lane {
    fn byte(self) -> u8 {
        match self {
            Lane::Control => 1,
            Lane::Bulk => 2,
            Lane::Calls => 3,
            Lane::Snapshot => 4,
            Lane::Look => 5,
            Lane::Fetch => 6,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Bulk => "bulk",
            Lane::Calls => "calls",
            Lane::Snapshot => "snapshot",
            Lane::Look => "look",
            Lane::Fetch => "fetch",
        }
    }

    /// Whether both ends must belong to the same cluster and be of the same build.
    pub fn is_for_members(self) -> bool {
        !matches!(self, Lane::Calls | Lane::Look)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub lane: Lane,
    /// Bits for what may be added within a protocol version; unknown ones are ignored.
    pub features: u32,
    pub incarnation: Incarnation,
    /// Drawn by each process when it starts: tells a copy of a directory from the original.
    pub run: u64,
    pub node_id: NodeId,
    pub address: String,
    pub expected: Option<NodeId>,
    pub fingerprint: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    pub features: u32,
    pub incarnation: Incarnation,
    pub run: u64,
    pub node_id: NodeId,
    pub fingerprint: String,
}

/// Bytes that are no handshake, or one of another version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloError {
    Protocol(u16),
    Malformed(&'static str),
}

impl std::fmt::Display for HelloError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HelloError::Protocol(theirs) => {
                write!(f, "protocol {theirs} is spoken there and {PROTOCOL} here: run one version on all nodes")
            }
            HelloError::Malformed(what) => f.write_str(what),
        }
    }
}

/// What this node says of itself in handshakes.
#[derive(Clone, Debug)]
pub struct Own {
    pub node_id: NodeId,
    pub address: String,
    pub fingerprint: String,
}

/// For the operator of a directory and its copy. `here` and `there` are where the two say that they can be reached.
pub fn twins(node: &NodeId, here: &str, there: &str) -> String {
    let (node, here, there) = (printable(&node.0), printable(here), printable(there));
    format!(
        "two processes run as node {node} on copies of one directory, at {there} and at {here}, and only the one that was there first, \
         {there}, is listened to. Stop one of them. A copy of a directory is not a second node: empty the directory of the copy, and \
         start it again with -join and a -node-id of its own"
    )
}

impl Hello {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&PROTOCOL.to_le_bytes());
        out.push(self.lane.byte());
        out.extend_from_slice(&self.features.to_le_bytes());
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.run.to_le_bytes());
        put_text(out, &self.node_id.0);
        put_text(out, &self.address);
        put_text(out, self.expected.as_ref().map_or("", |id| &id.0));
        put_text(out, &self.fingerprint);
    }

    /// # Errors
    /// The bytes are not exactly one hello of this version.
    pub fn decode(bytes: &[u8]) -> Result<Hello, HelloError> {
        let mut rest = Reader(bytes);
        rest.protocol()?;
        let lane = match rest.take(1)?[0] {
            1 => Lane::Control,
            2 => Lane::Bulk,
            3 => Lane::Calls,
            4 => Lane::Snapshot,
            5 => Lane::Look,
            6 => Lane::Fetch,
            _ => return Err(HelloError::Malformed("the connection is for an unknown purpose")),
        };
        let features = u32::from_le_bytes(rest.array()?);
        let incarnation = Incarnation(u64::from_le_bytes(rest.array()?));
        let run = u64::from_le_bytes(rest.array()?);
        let node_id = rest.node_id()?;
        let address = rest.text(ADDRESS_BYTES_MAX)?.to_owned();
        let expected = rest.text(NODE_ID_BYTES_MAX)?;
        let expected = (!expected.is_empty()).then(|| NodeId(expected.into()));
        let fingerprint = rest.text(FINGERPRINT_BYTES_MAX)?.to_owned();
        rest.end()?;
        Ok(Hello { lane, features, incarnation, run, node_id, address, expected, fingerprint })
    }

    /// Whether a node that is `own` and belongs to `own_cluster` takes this connection of a node of `cluster`.
    ///
    /// # Errors
    /// Why not, and what to do about it: a text for the operator of the other node.
    pub fn judge(&self, cluster: Option<ClusterId>, own: &Own, own_cluster: Option<ClusterId>) -> Result<(), String> {
        if let Some(expected) = &self.expected
            && *expected != own.node_id
        {
            return Err(format!(
                "node {} was looked for at this address, but this is node {}: check -raft-adv-addr and -node-id of both",
                printable(&expected.0),
                own.node_id
            ));
        }
        if !self.lane.is_for_members() {
            return Ok(());
        }
        let Some(own_cluster) = own_cluster else {
            return Err(format!("node {} belongs to no cluster yet: try again later", own.node_id));
        };
        match cluster {
            Some(cluster) if cluster == own_cluster => {}
            Some(cluster) => {
                return Err(format!(
                    "node {} belongs to cluster {own_cluster}, not to {cluster}: check the addresses, or remove the data of the node that \
                     is to change clusters",
                    own.node_id
                ));
            }
            None => return Err(format!("node {} takes Raft messages only from members of its cluster", own.node_id)),
        }
        if self.fingerprint != own.fingerprint {
            return Err(format!(
                "node {} runs another build ({}, not {}), on which SQLite could give other results: run the same build on all nodes",
                own.node_id,
                printable(&own.fingerprint),
                printable(&self.fingerprint)
            ));
        }
        Ok(())
    }
}

impl Welcome {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&PROTOCOL.to_le_bytes());
        out.extend_from_slice(&self.features.to_le_bytes());
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        out.extend_from_slice(&self.run.to_le_bytes());
        put_text(out, &self.node_id.0);
        put_text(out, &self.fingerprint);
    }

    /// # Errors
    /// The bytes are not exactly one welcome of this version.
    pub fn decode(bytes: &[u8]) -> Result<Welcome, HelloError> {
        let mut rest = Reader(bytes);
        rest.protocol()?;
        let features = u32::from_le_bytes(rest.array()?);
        let incarnation = Incarnation(u64::from_le_bytes(rest.array()?));
        let run = u64::from_le_bytes(rest.array()?);
        let node_id = rest.node_id()?;
        let fingerprint = rest.text(FINGERPRINT_BYTES_MAX)?.to_owned();
        rest.end()?;
        Ok(Welcome { features, incarnation, run, node_id, fingerprint })
    }
}

/// A text of another node, fit for a line of the log.
pub fn printable(text: &str) -> String {
    text.chars().take(REFUSAL_CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The text of a refusal, whatever its bytes.
pub fn refusal(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("options are checked when the transport starts");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

impl Own {
    /// # Errors
    /// A text that does not fit a handshake.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.node_id.0.is_empty() || self.node_id.0.len() > NODE_ID_BYTES_MAX {
            return Err("the node id must have between 1 and 512 bytes");
        }
        if self.address.len() > ADDRESS_BYTES_MAX || self.fingerprint.len() > FINGERPRINT_BYTES_MAX {
            return Err("the advertised address and the fingerprint must have at most 1024 bytes");
        }
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], HelloError> {
        let cut = HelloError::Malformed("the handshake is cut short");
        let (head, tail) = self.0.split_at_checked(count).ok_or(cut)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], HelloError> {
        Ok(self.take(N)?.try_into().expect("as many bytes as asked for were taken"))
    }

    fn protocol(&mut self) -> Result<(), HelloError> {
        match u16::from_le_bytes(self.array()?) {
            PROTOCOL => Ok(()),
            other => Err(HelloError::Protocol(other)),
        }
    }

    fn text(&mut self, bytes_max: usize) -> Result<&'a str, HelloError> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        if length > bytes_max {
            return Err(HelloError::Malformed("a text of the handshake is too long"));
        }
        std::str::from_utf8(self.take(length)?).map_err(|_| HelloError::Malformed("a text is not UTF-8"))
    }

    fn node_id(&mut self) -> Result<NodeId, HelloError> {
        match self.text(NODE_ID_BYTES_MAX)? {
            "" => Err(HelloError::Malformed("the node id is empty")),
            id => Ok(NodeId(id.into())),
        }
    }

    fn end(&self) -> Result<(), HelloError> {
        if self.0.is_empty() { Ok(()) } else { Err(HelloError::Malformed("bytes after the handshake")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(lane: Lane) -> Hello {
        Hello {
            lane,
            features: 5,
            incarnation: Incarnation(9),
            run: 77,
            node_id: NodeId("n1".into()),
            address: "host:4002".to_owned(),
            expected: Some(NodeId("n2".into())),
            fingerprint: "build".to_owned(),
        }
    }

    #[test]
    fn greetings_survive_and_cuts_and_flips_do_no_harm() {
        let welcome = Welcome {
            features: 1,
            incarnation: Incarnation(3),
            run: u64::MAX,
            node_id: NodeId("n2".into()),
            fingerprint: "x".to_owned(),
        };
        let mut bytes = Vec::new();
        welcome.encode(&mut bytes);
        assert_eq!(Welcome::decode(&bytes), Ok(welcome));
        for lane in [Lane::Control, Lane::Bulk, Lane::Calls, Lane::Snapshot, Lane::Look, Lane::Fetch] {
            let mut nobody = hello(lane);
            nobody.expected = None;
            for hello in [hello(lane), nobody] {
                let mut bytes = Vec::new();
                hello.encode(&mut bytes);
                assert_eq!(Hello::decode(&bytes), Ok(hello));
                for cut in 0..bytes.len() {
                    assert!(Hello::decode(&bytes[..cut]).is_err());
                    let _ = Welcome::decode(&bytes[..cut]);
                }
                for at in 0..bytes.len() {
                    for flip in [1u8, 0x80, 0xff] {
                        let mut bad = bytes.clone();
                        bad[at] ^= flip;
                        if let Ok(read) = Hello::decode(&bad) {
                            let mut again = Vec::new();
                            read.encode(&mut again);
                            assert_eq!(again, bad, "one greeting has one form");
                        }
                        let _ = Welcome::decode(&bad);
                    }
                }
            }
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = Vec::new();
        hello(Lane::Calls).encode(&mut bytes);
        bytes[0] = 9;
        // Whatever the rest looks like in that version.
        bytes.truncate(5);
        assert_eq!(Hello::decode(&bytes), Err(HelloError::Protocol(9)));
    }

    #[test]
    fn only_the_right_node_of_the_right_cluster_and_build_is_let_in() {
        let (ours, other) = (Some(ClusterId(1)), Some(ClusterId(2)));
        let own = Own { node_id: NodeId("n2".into()), address: "a:1".to_owned(), fingerprint: "build".to_owned() };
        let says = |verdict: Result<(), String>, words: &str| {
            let text = verdict.expect_err("it is refused");
            assert!(text.contains(words), "{text}");
        };
        for lane in [Lane::Control, Lane::Bulk, Lane::Snapshot, Lane::Fetch] {
            assert_eq!(hello(lane).judge(ours, &own, ours), Ok(()));
            says(hello(lane).judge(other, &own, ours), "belongs to cluster");
            says(hello(lane).judge(None, &own, ours), "only from members");
            says(hello(lane).judge(ours, &own, None), "no cluster yet");
            let mut changed = hello(lane);
            changed.fingerprint = "other build".to_owned();
            says(changed.judge(ours, &own, ours), "another build");
            changed.expected = Some(NodeId("n3".into()));
            says(changed.judge(ours, &own, ours), "this is node n2");
        }
        for (theirs, mine) in [(ours, ours), (other, ours), (None, ours), (ours, None), (None, None)] {
            assert_eq!(hello(Lane::Calls).judge(theirs, &own, mine), Ok(()));
            assert_eq!(hello(Lane::Look).judge(theirs, &own, mine), Ok(()));
        }
    }

    #[test]
    fn refusals_are_fit_for_a_line() {
        assert_eq!(refusal(b"a\nb\xff"), "a?b\u{fffd}");
        assert_eq!(refusal(&[b'x'; 5000]).len(), REFUSAL_CHARS_MAX);
    }
}
