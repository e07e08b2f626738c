//! The bytes of calls and answers. Pure; run by the threads that call, and by those of connections.
//!
//! Decoding takes bytes from outside: it never panics, and allocates no more than a small multiple of the bytes at hand.
//! One value has one form.
//!
//! Integers are little-endian; bytes and texts are a length (u32) and so many bytes; an optional value is 0, or 1 and the
//! value; a log id is term (u64), index (u64).
//!
//! ```text
//! call      = version u8 = 3, callers, kind u8, body
//! callers   = count u8 (at most 16), so many (name, password)
//! body      = Meta 1:       nothing
//!             Join 2:       id, address, voter u8, incarnation u64, optional log id
//!             Notify 3:     id, address, incarnation u64, count u32, so many clusters u128
//!             Promise 4:    founder, cluster u128, membership bytes
//!             Formed 5:     cluster u128, membership bytes
//!             Remove 6:     id
//!             StepDown 7:   optional target, wait u8
//!             Write 8:      payload bytes
//!             ReadIndex 9:  level u8 (1 weak, 2 linearizable, 3 strong), purpose u8 (1 query, 2 request, 3 backup)
//!             Hash 10:      index u64
//!             SendCopy 11:  id
//!             Verify 12:    nothing
//! answer    = version u8 = 3, kind u8, body
//! body      = Done 1:       nothing
//!             Meta 2:       id, api_url, version, commit_index u64, is_leader u8, optional cluster u128
//!             Joined 3:     cluster u128
//!             Written 4:    log id, outcome bytes
//!             Readable 5:   index u64, optional index u64
//!             Hash 6:       optional 32 bytes
//!             NotLeader 7:  optional (id, address)
//!             Failed 8:     kind u8 (1 refused, 2 unknown, 3 not ready, 4 unauthorized), text
//!             Verified 9:   text bytes
//! fetch     = version u8 = 3, callers, what is wanted
//! ```

use super::call::{
    Answer, Call, CallAs, Candidate, Failure, FailureKind, JoinRequest, LeaderHint, Meta, ReadLevel, ReadPurpose,
    WriteCall,
};
use crate::auth::{Callers, Credentials};
use raft::config::NODE_ID_BYTES_MAX;
use raft::{ClusterId, Incarnation, Index, LogId, Membership, NodeId, Term};
use std::fmt;

const VERSION: u8 = 3;
/// Longest text of a call or answer, in bytes. Longer ones are not sent; a failure's text is cut.
pub const TEXT_BYTES_MAX: usize = 64 << 10;

/// Bytes that are no call or answer, or values that have no bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecError(pub &'static str);

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for CodecError {}

/// About how many bytes an encoded call takes, at most a few hundred bytes more than its texts and payloads.
pub fn call_bytes(call: &CallAs) -> usize {
    let callers: usize = call.callers.as_slice().iter().map(|caller| 8 + caller.heap_bytes()).sum();
    callers + body_bytes(&call.call)
}

fn body_bytes(call: &Call) -> usize {
    match call {
        Call::Write(write) => 16 + write.payload.len(),
        Call::Join(JoinRequest { id, address, .. }) | Call::Notify(Candidate { id, address, .. }) => {
            64 + id.len() + address.len()
        }
        Call::Remove { id } => 16 + id.len(),
        _ => 64,
    }
}

/// As `call_bytes`, for an answer.
pub fn answer_bytes(answer: &Answer) -> usize {
    match answer {
        Answer::Written { outcome, .. } => 64 + outcome.len(),
        Answer::Meta(meta) => 64 + meta.id.len() + meta.api_url.len() + meta.version.len(),
        Answer::Failed(failure) => 16 + failure.text.len(),
        _ => 64,
    }
}

/// Appends the bytes of `call` to `out`.
///
/// # Errors
/// A text is too long; what was appended is then of no use.
pub fn encode_call(call: &CallAs, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let CallAs { call, callers } = call;
    out.push(VERSION);
    put_callers(out, callers)?;
    match call {
        Call::Meta => out.push(1),
        Call::Join(JoinRequest { id, address, voter, incarnation, log }) => {
            out.push(2);
            put_text(out, id)?;
            put_text(out, address)?;
            out.push(u8::from(*voter));
            put_u64(out, incarnation.0);
            put_option(out, log.as_ref(), |out, id| {
                put_log_id(out, *id);
                Ok(())
            })?;
        }
        Call::Notify(Candidate { id, address, incarnation, refused }) => {
            out.push(3);
            put_text(out, id)?;
            put_text(out, address)?;
            put_u64(out, incarnation.0);
            let count = u32::try_from(refused.len()).map_err(|_| CodecError("too many clusters"))?;
            out.extend_from_slice(&count.to_le_bytes());
            refused.iter().for_each(|cluster| put_cluster(out, *cluster));
        }
        Call::Promise { founder, cluster, membership } => {
            out.push(4);
            put_text(out, &founder.0)?;
            put_cluster(out, *cluster);
            put_bytes(out, &membership.encode());
        }
        Call::Formed { cluster, membership } => {
            out.push(5);
            put_cluster(out, *cluster);
            put_bytes(out, &membership.encode());
        }
        Call::Remove { id } => {
            out.push(6);
            put_text(out, id)?;
        }
        Call::StepDown { target, wait } => {
            out.push(7);
            put_option(out, target.as_ref(), |out, target| put_text(out, target))?;
            out.push(u8::from(*wait));
        }
        Call::Write(WriteCall { payload }) => {
            out.push(8);
            put_bytes(out, payload);
        }
        Call::ReadIndex { level, purpose } => {
            out.push(9);
            out.push(match level {
                ReadLevel::Weak => 1,
                ReadLevel::Linearizable => 2,
                ReadLevel::Strong => 3,
            });
            out.push(match purpose {
                ReadPurpose::Query => 1,
                ReadPurpose::Request => 2,
                ReadPurpose::Backup => 3,
            });
        }
        Call::Hash { index } => {
            out.push(10);
            put_u64(out, index.0);
        }
        Call::SendCopy { id } => {
            out.push(11);
            put_text(out, id)?;
        }
        Call::Verify => out.push(12),
    }
    Ok(())
}

/// Appends the bytes of `answer` to `out`.
///
/// # Errors
/// A text is too long; what was appended is then of no use.
pub fn encode_answer(answer: &Answer, out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.push(VERSION);
    match answer {
        Answer::Done => out.push(1),
        Answer::Meta(Meta { id, api_url, version, commit_index, is_leader, cluster }) => {
            out.push(2);
            put_text(out, id)?;
            put_text(out, api_url)?;
            put_text(out, version)?;
            put_u64(out, commit_index.0);
            out.push(u8::from(*is_leader));
            put_option(out, cluster.as_ref(), |out, cluster| {
                put_cluster(out, *cluster);
                Ok(())
            })?;
        }
        Answer::Joined { cluster } => {
            out.push(3);
            put_cluster(out, *cluster);
        }
        Answer::Written { id, outcome } => {
            out.push(4);
            put_log_id(out, *id);
            put_bytes(out, outcome);
        }
        Answer::Readable { index, logged } => {
            out.push(5);
            put_u64(out, index.0);
            put_option(out, logged.as_ref(), |out, index| {
                put_u64(out, index.0);
                Ok(())
            })?;
        }
        Answer::Hash(hash) => {
            out.push(6);
            put_option(out, hash.as_ref(), |out, hash| {
                out.extend_from_slice(hash);
                Ok(())
            })?;
        }
        Answer::Verified { report } => {
            out.push(9);
            put_bytes(out, report.as_bytes());
        }
        Answer::NotLeader { leader } => {
            out.push(7);
            put_option(out, leader.as_ref(), |out, LeaderHint { id, address }| {
                put_text(out, id)?;
                put_text(out, address)
            })?;
        }
        Answer::Failed(Failure { kind, text }) => {
            out.push(8);
            out.push(match kind {
                FailureKind::Refused => 1,
                FailureKind::Unknown => 2,
                FailureKind::NotReady => 3,
                FailureKind::Unauthorized => 4,
            });
            put_text(out, cut(text, TEXT_BYTES_MAX))?;
        }
    }
    Ok(())
}

/// The bytes that ask for something large, `wanted`, in the name of `callers`.
///
/// # Errors
/// A name or a password is too long.
pub fn encode_fetch(callers: &Callers, wanted: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![VERSION];
    put_callers(&mut out, callers)?;
    out.extend_from_slice(wanted);
    Ok(out)
}

/// Reads what [`encode_fetch`] made.
///
/// # Errors
/// The bytes do not begin so.
pub fn decode_fetch(bytes: &[u8]) -> Result<(Callers, &[u8]), CodecError> {
    let mut rest = Reader(bytes);
    rest.version()?;
    Ok((rest.callers()?, rest.0))
}

/// The beginning of `text`, at most `bytes_max` bytes of whole characters.
pub fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    put_u64(out, id.term.0);
    put_u64(out, id.index.0);
}

fn put_cluster(out: &mut Vec<u8>, cluster: ClusterId) {
    out.extend_from_slice(&cluster.0.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("callers keep payloads below the limit of a frame");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), CodecError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(CodecError("a text is too long to be sent to another node"));
    }
    put_bytes(out, text.as_bytes());
    Ok(())
}

fn put_callers(out: &mut Vec<u8>, callers: &Callers) -> Result<(), CodecError> {
    let callers = callers.as_slice();
    out.push(u8::try_from(callers.len()).map_err(|_| CodecError("too many callers"))?);
    for caller in callers {
        put_text(out, caller.username())?;
        put_text(out, caller.password())?;
    }
    Ok(())
}

fn put_option<T>(
    out: &mut Vec<u8>,
    value: Option<&T>,
    put: impl FnOnce(&mut Vec<u8>, &T) -> Result<(), CodecError>,
) -> Result<(), CodecError> {
    out.push(u8::from(value.is_some()));
    value.map_or(Ok(()), |value| put(out, value))
}

/// Reads one whole call.
///
/// # Errors
/// The bytes are not exactly one call of this version.
pub fn decode_call(bytes: &[u8]) -> Result<CallAs, CodecError> {
    let mut rest = Reader(bytes);
    rest.version()?;
    let callers = rest.callers()?;
    let call = match rest.u8()? {
        1 => Call::Meta,
        2 => Call::Join(JoinRequest {
            id: rest.string()?,
            address: rest.string()?,
            voter: rest.flag()?,
            incarnation: Incarnation(rest.u64()?),
            log: rest.option(Reader::log_id)?,
        }),
        3 => Call::Notify(Candidate {
            id: rest.string()?,
            address: rest.string()?,
            incarnation: Incarnation(rest.u64()?),
            refused: rest.clusters()?,
        }),
        4 => Call::Promise { founder: rest.node_id()?, cluster: rest.cluster()?, membership: rest.membership()? },
        5 => Call::Formed { cluster: rest.cluster()?, membership: rest.membership()? },
        6 => Call::Remove { id: rest.string()? },
        7 => Call::StepDown { target: rest.option(Reader::string)?, wait: rest.flag()? },
        8 => Call::Write(WriteCall { payload: rest.bytes()?.to_vec() }),
        9 => Call::ReadIndex {
            level: match rest.u8()? {
                1 => ReadLevel::Weak,
                2 => ReadLevel::Linearizable,
                3 => ReadLevel::Strong,
                _ => return Err(CodecError("unknown level")),
            },
            purpose: match rest.u8()? {
                1 => ReadPurpose::Query,
                2 => ReadPurpose::Request,
                3 => ReadPurpose::Backup,
                _ => return Err(CodecError("unknown purpose")),
            },
        },
        10 => Call::Hash { index: Index(rest.u64()?) },
        11 => Call::SendCopy { id: rest.string()? },
        12 => Call::Verify,
        _ => return Err(CodecError("unknown kind of call")),
    };
    rest.end()?;
    Ok(CallAs { call, callers })
}

/// Reads one whole answer.
///
/// # Errors
/// The bytes are not exactly one answer of this version.
pub fn decode_answer(bytes: &[u8]) -> Result<Answer, CodecError> {
    let mut rest = Reader(bytes);
    rest.version()?;
    let answer = match rest.u8()? {
        1 => Answer::Done,
        2 => Answer::Meta(Meta {
            id: rest.string()?,
            api_url: rest.string()?,
            version: rest.string()?,
            commit_index: Index(rest.u64()?),
            is_leader: rest.flag()?,
            cluster: rest.option(Reader::cluster)?,
        }),
        3 => Answer::Joined { cluster: rest.cluster()? },
        4 => Answer::Written { id: rest.log_id()?, outcome: rest.bytes()?.to_vec() },
        5 => Answer::Readable { index: Index(rest.u64()?), logged: rest.option(|rest| rest.u64().map(Index))? },
        6 => Answer::Hash(rest.option(Reader::array)?),
        9 => Answer::Verified {
            report: String::from_utf8(rest.bytes()?.to_vec()).map_err(|_| CodecError("a text is not UTF-8"))?,
        },
        7 => Answer::NotLeader {
            leader: rest.option(|rest| Ok(LeaderHint { id: rest.string()?, address: rest.string()? }))?,
        },
        8 => Answer::Failed(Failure {
            kind: match rest.u8()? {
                1 => FailureKind::Refused,
                2 => FailureKind::Unknown,
                3 => FailureKind::NotReady,
                4 => FailureKind::Unauthorized,
                _ => return Err(CodecError("unknown kind of failure")),
            },
            text: rest.string()?,
        }),
        _ => return Err(CodecError("unknown kind of answer")),
    };
    rest.end()?;
    Ok(answer)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], CodecError> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(CodecError("the bytes are cut short"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        Ok(self.take(N)?.try_into().expect("as many bytes as asked for were taken"))
    }

    fn version(&mut self) -> Result<(), CodecError> {
        if self.u8()? == VERSION { Ok(()) } else { Err(CodecError("unknown version")) }
    }

    fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(self.take(1)?[0])
    }

    fn u64(&mut self) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn log_id(&mut self) -> Result<LogId, CodecError> {
        Ok(LogId { term: Term(self.u64()?), index: Index(self.u64()?) })
    }

    /// All of them different, as the sender has them.
    fn callers(&mut self) -> Result<Callers, CodecError> {
        let count = usize::from(self.u8()?);
        let mut callers = Callers::default();
        for known in 0..count {
            let (username, password) = (self.string()?, self.string()?);
            let caller = Credentials::new(username, password).ok_or(CodecError("a name or password is too long"))?;
            if !callers.add(&caller, Callers::MAX) || callers.as_slice().len() == known {
                return Err(CodecError("too many callers, or one twice"));
            }
        }
        Ok(callers)
    }

    /// No more than the bytes at hand can hold.
    fn clusters(&mut self) -> Result<Vec<ClusterId>, CodecError> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count > self.0.len() / size_of::<u128>() {
            return Err(CodecError("the clusters are cut short"));
        }
        (0..count).map(|_| self.cluster()).collect()
    }

    fn cluster(&mut self) -> Result<ClusterId, CodecError> {
        Ok(ClusterId(u128::from_le_bytes(self.array()?)))
    }

    fn flag(&mut self) -> Result<bool, CodecError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(CodecError("a flag is neither 0 nor 1")),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(length).map_err(|_| CodecError("a length beyond this machine"))?)
    }

    fn str(&mut self) -> Result<&'a str, CodecError> {
        let bytes = self.bytes()?;
        if bytes.len() > TEXT_BYTES_MAX {
            return Err(CodecError("a text is too long"));
        }
        std::str::from_utf8(bytes).map_err(|_| CodecError("a text is not UTF-8"))
    }

    fn string(&mut self) -> Result<String, CodecError> {
        Ok(self.str()?.to_owned())
    }

    fn node_id(&mut self) -> Result<NodeId, CodecError> {
        let text = self.str()?;
        if text.is_empty() || text.len() > NODE_ID_BYTES_MAX {
            return Err(CodecError("a node id is empty or too long"));
        }
        Ok(NodeId(text.into()))
    }

    fn membership(&mut self) -> Result<Membership, CodecError> {
        let bytes = self.bytes()?;
        let membership = Membership::decode(bytes).map_err(|error| CodecError(error.0))?;
        // Members are put into order when they are read; one membership has one form.
        if *membership.encode() != *bytes {
            return Err(CodecError("the members are not in order"));
        }
        Ok(membership)
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, CodecError>) -> Result<Option<T>, CodecError> {
        if self.flag()? { Ok(Some(read(self)?)) } else { Ok(None) }
    }

    fn end(&self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(CodecError("bytes are left over")) }
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
