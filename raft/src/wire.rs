//! The bytes of messages between nodes. Pure; run by the threads that send to and receive from peers.
//!
//! Decoding takes bytes from outside: it never panics, and allocates no more than a small multiple of the bytes at
//! hand. The frame around a message (length, checksum, cluster id) belongs to the transport.
//!
//! Integers are little-endian; a text is its length (u16) and its UTF-8 bytes; a log id is term (u64), index (u64).
//!
//! ```text
//! message  = version u8 = 1, kind u8, from text, from incarnation u64, to text, to incarnation u64, term u64, body
//! body     = PreVote 1:        last
//!            PreVoteReply 2:   granted u8
//!            Vote 3:           last, transfer u8
//!            VoteReply 4:      granted u8
//!            Append 5:         prev, commit u64, count u32, entries
//!            AppendReply 6:    matched u64
//!            AppendReject 7:   prev, hint
//!            Heartbeat 8:      round u64, matched log id, commit u64
//!            HeartbeatReply 9: round u64, accepted u64, matched u64
//!            TimeoutNow 10:    nothing
//! entry    = term u64, kind u8 (1 no-op, 2 command, 3 membership), length u32, payload; its index follows from prev
//! ```

use crate::config::{INDEX_MAX, Incarnation, NODE_ID_BYTES_MAX};
use crate::message::{Envelope, Message};
use crate::{Entry, EntryKind, Index, LogId, NodeId, Term};
use std::fmt;
use std::sync::Arc;

const VERSION: u8 = 1;
/// Term, kind and length.
const ENTRY_HEAD_BYTES: usize = 13;
/// Upper bound of what a message takes besides the payloads of its entries and their heads.
const MESSAGE_HEAD_BYTES_MAX: usize = 128 + 2 * NODE_ID_BYTES_MAX;

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError(pub &'static str);

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for WireError {}

/// Upper bound of the encoded size of a message whose entries together have `payload_bytes` in `entries` payloads.
pub fn encoded_bytes_max(entries: usize, payload_bytes: usize) -> usize {
    MESSAGE_HEAD_BYTES_MAX + entries * ENTRY_HEAD_BYTES + payload_bytes
}

/// Appends the bytes of `envelope` to `out`.
///
/// # Panics
/// A text, a payload or a number of entries is beyond the bounds of this crate's configuration, or the entries do
/// not follow `prev`: a replica makes no such message.
pub fn encode(envelope: &Envelope, out: &mut Vec<u8>) {
    let message = &envelope.message;
    out.extend_from_slice(&[VERSION, kind_of(message)]);
    put_text(out, &envelope.from.0);
    put_u64(out, envelope.from_incarnation.0);
    put_text(out, &envelope.to.0);
    put_u64(out, envelope.to_incarnation.0);
    put_u64(out, message.term().0);
    match message {
        Message::PreVote { last, .. } => put_id(out, *last),
        Message::PreVoteReply { granted, .. } | Message::VoteReply { granted, .. } => out.push(u8::from(*granted)),
        Message::Vote { last, transfer, .. } => {
            put_id(out, *last);
            out.push(u8::from(*transfer));
        }
        Message::Append { prev, entries, commit, .. } => {
            put_id(out, *prev);
            put_u64(out, commit.0);
            put_entries(out, *prev, entries);
        }
        Message::AppendReply { matched, .. } => put_u64(out, matched.0),
        Message::AppendReject { prev, hint, .. } => {
            put_id(out, *prev);
            put_id(out, *hint);
        }
        Message::Heartbeat { round, matched, commit, .. } => {
            put_u64(out, *round);
            put_id(out, *matched);
            put_u64(out, commit.0);
        }
        Message::HeartbeatReply { round, accepted, matched, .. } => {
            put_u64(out, *round);
            put_u64(out, accepted.0);
            put_u64(out, matched.0);
        }
        Message::TimeoutNow { .. } => {}
    }
}

fn kind_of(message: &Message) -> u8 {
    match message {
        Message::PreVote { .. } => 1,
        Message::PreVoteReply { .. } => 2,
        Message::Vote { .. } => 3,
        Message::VoteReply { .. } => 4,
        Message::Append { .. } => 5,
        Message::AppendReply { .. } => 6,
        Message::AppendReject { .. } => 7,
        Message::Heartbeat { .. } => 8,
        Message::HeartbeatReply { .. } => 9,
        Message::TimeoutNow { .. } => 10,
    }
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_id(out: &mut Vec<u8>, id: LogId) {
    put_u64(out, id.term.0);
    put_u64(out, id.index.0);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    assert!(text.len() <= NODE_ID_BYTES_MAX, "node ids are bounded");
    out.extend_from_slice(&u16::try_from(text.len()).expect("node ids are bounded").to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_entries(out: &mut Vec<u8>, prev: LogId, entries: &[Entry]) {
    let payload_bytes: usize = entries.iter().map(|e| e.payload.len()).sum();
    out.reserve(payload_bytes + entries.len() * ENTRY_HEAD_BYTES);
    out.extend_from_slice(&u32::try_from(entries.len()).expect("a batch is bounded").to_le_bytes());
    for (entry, index) in entries.iter().zip(prev.index.0 + 1..) {
        assert_eq!(entry.id.index.0, index, "entries follow each other");
        put_u64(out, entry.id.term.0);
        out.push(match entry.kind {
            EntryKind::Noop => 1,
            EntryKind::Command => 2,
            EntryKind::Membership => 3,
        });
        out.extend_from_slice(&u32::try_from(entry.payload.len()).expect("payloads are bounded").to_le_bytes());
        out.extend_from_slice(&entry.payload);
    }
}

/// Reads one whole message.
///
/// # Errors
/// The bytes are not exactly one message of this version.
pub fn decode(bytes: &[u8]) -> Result<Envelope, WireError> {
    let mut rest = Reader(bytes);
    if rest.u8()? != VERSION {
        return Err(WireError("unknown version"));
    }
    let kind = rest.u8()?;
    let from = rest.node_id()?;
    let from_incarnation = Incarnation(rest.u64()?);
    let to = rest.node_id()?;
    let to_incarnation = Incarnation(rest.u64()?);
    let term = Term(rest.u64()?);
    let message = rest.message(kind, term)?;
    if !rest.0.is_empty() {
        return Err(WireError("bytes after the message"));
    }
    Ok(Envelope { from, from_incarnation, to, to_incarnation, message })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(WireError("the message is cut short"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        Ok(self.take(N)?.try_into().expect("as many bytes as asked for were taken"))
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<usize, WireError> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| WireError("a length beyond this machine"))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn flag(&mut self) -> Result<bool, WireError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError("a flag is neither 0 nor 1")),
        }
    }

    fn index(&mut self) -> Result<Index, WireError> {
        Ok(Index(self.u64()?))
    }

    fn id(&mut self) -> Result<LogId, WireError> {
        Ok(LogId { term: Term(self.u64()?), index: self.index()? })
    }

    fn node_id(&mut self) -> Result<NodeId, WireError> {
        let length = usize::from(u16::from_le_bytes(self.array()?));
        if length == 0 || length > NODE_ID_BYTES_MAX {
            return Err(WireError("a node id is empty or too long"));
        }
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| WireError("a node id is not UTF-8"))?;
        Ok(NodeId(text.into()))
    }

    fn message(&mut self, kind: u8, term: Term) -> Result<Message, WireError> {
        Ok(match kind {
            1 => Message::PreVote { term, last: self.id()? },
            2 => Message::PreVoteReply { term, granted: self.flag()? },
            3 => Message::Vote { term, last: self.id()?, transfer: self.flag()? },
            4 => Message::VoteReply { term, granted: self.flag()? },
            5 => {
                let prev = self.id()?;
                let commit = self.index()?;
                Message::Append { term, prev, entries: self.entries(prev)?, commit }
            }
            6 => Message::AppendReply { term, matched: self.index()? },
            7 => Message::AppendReject { term, prev: self.id()?, hint: self.id()? },
            8 => Message::Heartbeat { term, round: self.u64()?, matched: self.id()?, commit: self.index()? },
            9 => Message::HeartbeatReply { term, round: self.u64()?, accepted: self.index()?, matched: self.index()? },
            10 => Message::TimeoutNow { term },
            _ => return Err(WireError("unknown kind of message")),
        })
    }

    fn entries(&mut self, prev: LogId) -> Result<Vec<Entry>, WireError> {
        let count = self.u32()?;
        // Before anything is allocated: so many entries need at least so many bytes.
        if count > self.0.len() / ENTRY_HEAD_BYTES || prev.index.0 > INDEX_MAX {
            return Err(WireError("more entries than bytes, or beyond all indexes"));
        }
        let mut entries = Vec::with_capacity(count);
        for index in (prev.index.0 + 1..).take(count) {
            let term = Term(self.u64()?);
            let kind = match self.u8()? {
                1 => EntryKind::Noop,
                2 => EntryKind::Command,
                3 => EntryKind::Membership,
                _ => return Err(WireError("unknown kind of entry")),
            };
            let length = self.u32()?;
            let payload: Arc<[u8]> = self.take(length)?.into();
            entries.push(Entry { id: LogId { term, index: Index(index) }, kind, payload });
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Envelope> {
        let id = |term, index| LogId { term: Term(term), index: Index(index) };
        let term = Term(7);
        let entry = |term, index, kind, bytes: &[u8]| Entry { id: id(term, index), kind, payload: bytes.into() };
        let entries = vec![
            entry(5, 10, EntryKind::Command, b"one"),
            entry(6, 11, EntryKind::Noop, b""),
            entry(7, 12, EntryKind::Membership, &[0; 300]),
        ];
        let messages = [
            Message::PreVote { term, last: id(3, 4) },
            Message::PreVoteReply { term, granted: true },
            Message::Vote { term, last: id(3, 4), transfer: true },
            Message::VoteReply { term, granted: false },
            Message::Append { term, prev: id(5, 9), entries, commit: Index(8) },
            Message::AppendReply { term, matched: Index(99) },
            Message::AppendReject { term, prev: id(5, 9), hint: id(4, 2) },
            Message::Heartbeat { term, round: 12, matched: id(5, 9), commit: Index(9) },
            Message::HeartbeatReply { term, round: 12, accepted: Index(10), matched: Index(9) },
            Message::TimeoutNow { term },
        ];
        let wrap = |message| Envelope {
            from: NodeId("n1".into()),
            from_incarnation: Incarnation(11),
            to: NodeId("a longer name".into()),
            to_incarnation: Incarnation(u64::MAX),
            message,
        };
        messages.into_iter().map(wrap).collect()
    }

    #[test]
    fn every_message_survives_and_every_cut_is_refused() {
        for envelope in all() {
            let mut bytes = Vec::new();
            encode(&envelope, &mut bytes);
            assert_eq!(decode(&bytes), Ok(envelope));
            for cut in 0..bytes.len() {
                assert!(decode(&bytes[..cut]).is_err());
            }
            bytes.push(0);
            assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn flipped_bytes_never_panic_and_what_is_read_can_be_written() {
        for envelope in all() {
            let mut bytes = Vec::new();
            encode(&envelope, &mut bytes);
            for at in 0..bytes.len() {
                for flip in [1u8, 0x80, 0xff] {
                    let mut bad = bytes.clone();
                    bad[at] ^= flip;
                    if let Ok(read) = decode(&bad) {
                        let mut again = Vec::new();
                        encode(&read, &mut again);
                        assert_eq!(again, bad, "one message has one form");
                    }
                }
            }
        }
    }

    #[test]
    fn a_lying_count_allocates_nothing() {
        let Some(envelope) = all().into_iter().find(|e| e.message.name() == "Append") else { panic!() };
        let mut bytes = Vec::new();
        encode(&envelope, &mut bytes);
        let at = bytes.len() - (3 + 300 + 3 * ENTRY_HEAD_BYTES) - 4;
        assert_eq!(bytes[at..at + 4], 3u32.to_le_bytes());
        bytes[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(decode(&bytes), Err(WireError("more entries than bytes, or beyond all indexes")));
    }
}
