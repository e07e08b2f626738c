//! The versioned bytes of a [`Command`], as they stand in log entries.
//!
//! Pure; any thread. Decoding never panics, whatever the bytes, and allocates no more than a small multiple of their
//! length: every count is checked against the bytes that are left before anything is reserved.
//!
//! Layout, version 2 (integers little-endian; `len` is a u32):
//! - version u8, action u8, unix_time_us i64, seed u64, flags u8 (1: a request id follows), then by action
//! - request id: key len u16 + bytes, issued_after u64, fingerprint u64
//! - execute, request, script: flags u8 (1 transaction, 2 qualify columns), vm_steps_max u64, statements len, each: sql len +
//!   UTF-8, parameters len, each: kind u8 (value kind, plus 16 when a name follows), name len + UTF-8, value
//! - values: null nothing; integer i64; real f64 bits; text and blob len + bytes
//! - barrier, vacuum, hash: nothing; optimize: mask u32; verdict: index u64, hash 32 bytes
//! - load chunk: load u128, number u32, bytes to the end; load commit: load u128, chunks u32, bytes u64, hash 32 bytes
//!
//! Version 1 has no flags and no request ids; it is read, and never written.

use super::bytes::{Input, KIND_NAMED, decode_value, encode_bytes, encode_length, encode_value, kind_of};
use super::{
    Action, Command, LOAD_CHUNK_BYTES, LoadChunk, LoadCommit, Parameter, Request, RequestId, Statement, Value,
};
use raft::Index;
use std::fmt;

const VERSION: u8 = 2;
const VERSION_WITHOUT_IDS: u8 = 1;

const ACTION_EXECUTE: u8 = 1;
const ACTION_REQUEST: u8 = 2;
const ACTION_BARRIER: u8 = 3;
const ACTION_VACUUM: u8 = 4;
const ACTION_OPTIMIZE: u8 = 5;
const ACTION_HASH: u8 = 6;
const ACTION_VERDICT: u8 = 7;
const ACTION_SCRIPT: u8 = 8;
const ACTION_LOAD_CHUNK: u8 = 9;
const ACTION_LOAD_COMMIT: u8 = 10;

/// A request id follows the stamps.
const FLAG_ID: u8 = 1;

const FLAG_TRANSACTION: u8 = 1;
const FLAG_QUALIFY: u8 = 2;

/// Where the stamps stand: behind version and action.
const TIME_RANGE: std::ops::Range<usize> = 2..10;
const SEED_RANGE: std::ops::Range<usize> = 10..18;

/// The shortest statement (two lengths) and parameter (a kind): what a count is checked against.
const STATEMENT_BYTES_MIN: usize = 8;
const PARAMETER_BYTES_MIN: usize = 1;

/// Most bytes of one command: a request's body is smaller than this, and its encoding hardly larger than its body.
pub const COMMAND_BYTES_MAX: usize = 1 << 30;

/// Bytes that are no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// They end too early, or a count promises more than follows.
    Truncated,
    /// A version that this program does not know.
    Version(u8),
    /// A tag or flag that has no meaning.
    Tag(u8),
    /// A key or a list has a length that it cannot have.
    Length(usize),
    /// A text that is not UTF-8.
    Text,
    /// Bytes are left over.
    Trailing,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Truncated => f.write_str("the command is cut off"),
            DecodeError::Version(version) => write!(f, "command version {version} is not known"),
            DecodeError::Tag(tag) => write!(f, "the command has an unknown tag {tag}"),
            DecodeError::Length(length) => write!(f, "something in the command has the impossible length {length}"),
            DecodeError::Text => f.write_str("a text in the command is not UTF-8"),
            DecodeError::Trailing => f.write_str("bytes follow the command"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Writes the leader's stamps into an encoded command, which is encoded before its place in the log is known.
///
/// Panics when `bytes` are no encoded command.
pub fn stamp(bytes: &mut [u8], unix_time_us: i64, seed: u64) {
    bytes[TIME_RANGE].copy_from_slice(&unix_time_us.to_le_bytes());
    bytes[SEED_RANGE].copy_from_slice(&seed.to_le_bytes());
}

/// Whether these bytes say that they are a command with SQL. Nothing else about them is checked.
pub fn has_sql(bytes: &[u8]) -> bool {
    matches!(bytes, [_, ACTION_EXECUTE | ACTION_REQUEST | ACTION_SCRIPT, ..])
}

/// Whether these bytes say that they are the last part of a load. Nothing else about them is checked.
pub fn is_load_commit(bytes: &[u8]) -> bool {
    matches!(bytes, [_, ACTION_LOAD_COMMIT, ..])
}

impl Command {
    /// The bytes of an entry's payload. Panics when they exceed [`COMMAND_BYTES_MAX`], which the limit of a request's
    /// body rules out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_bytes_guess());
        out.push(VERSION);
        out.push(tag(&self.action));
        out.extend_from_slice(&self.unix_time_us.to_le_bytes());
        out.extend_from_slice(&self.seed.to_le_bytes());
        match &self.request {
            None => out.push(0),
            Some(id) => {
                out.push(FLAG_ID);
                id.encode(&mut out);
            }
        }
        encode_action(&mut out, &self.action);
        assert!(out.len() <= COMMAND_BYTES_MAX, "a request's body is bounded far below this");
        out
    }

    /// The command in an entry's payload.
    ///
    /// # Errors
    /// The bytes are not exactly one command of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        let mut input = Input::new(bytes);
        let version = input.u8()?;
        if version != VERSION && version != VERSION_WITHOUT_IDS {
            return Err(DecodeError::Version(version));
        }
        let action = input.u8()?;
        let unix_time_us = input.i64()?;
        let seed = input.u64()?;
        let flags = if version == VERSION_WITHOUT_IDS { 0 } else { input.u8()? };
        let request = match flags {
            0 => None,
            FLAG_ID => Some(RequestId::decode(&mut input)?),
            _ => return Err(DecodeError::Tag(flags)),
        };
        let action = decode_action(&mut input, action)?;
        input.end()?;
        Ok(Command { unix_time_us, seed, action, request })
    }

    fn encoded_bytes_guess(&self) -> usize {
        const HEAD: usize = 64;
        let id = self.request.as_ref().map_or(0, |id| id.key().len() + 18);
        HEAD + id + action_bytes_guess(&self.action)
    }
}

/// The action's bytes alone, for those who compare actions. Nothing follows from it for [`Command::decode`].
pub(super) fn action_bytes(action: &Action) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + action_bytes_guess(action));
    out.push(tag(action));
    encode_action(&mut out, action);
    out
}

fn action_bytes_guess(action: &Action) -> usize {
    const REQUEST: usize = 13;
    const PER_STATEMENT: usize = 8;
    const PER_PARAMETER: usize = 13;
    let request = match action {
        Action::Execute(request) | Action::Request(request) | Action::Script(request) => request,
        Action::LoadChunk(chunk) => return 21 + chunk.bytes.len(),
        _ => return 61,
    };
    let of_value = |p: &Parameter| match &p.value {
        Value::Text(b) | Value::Blob(b) => b.len(),
        _ => 0,
    };
    let of_statement = |s: &Statement| {
        let values: usize = s.parameters.iter().map(|p| PER_PARAMETER + of_value(p)).sum();
        PER_STATEMENT + s.sql.len() + values
    };
    REQUEST + request.statements.iter().map(of_statement).sum::<usize>()
}

fn tag(action: &Action) -> u8 {
    match action {
        Action::Execute(_) => ACTION_EXECUTE,
        Action::Request(_) => ACTION_REQUEST,
        Action::Barrier => ACTION_BARRIER,
        Action::Vacuum => ACTION_VACUUM,
        Action::Optimize { .. } => ACTION_OPTIMIZE,
        Action::Hash => ACTION_HASH,
        Action::Verdict { .. } => ACTION_VERDICT,
        Action::Script(_) => ACTION_SCRIPT,
        Action::LoadChunk(_) => ACTION_LOAD_CHUNK,
        Action::LoadCommit(_) => ACTION_LOAD_COMMIT,
    }
}

fn encode_action(out: &mut Vec<u8>, action: &Action) {
    match action {
        Action::Execute(request) | Action::Request(request) | Action::Script(request) => encode_request(out, request),
        Action::Barrier | Action::Vacuum | Action::Hash => {}
        Action::Optimize { mask } => out.extend_from_slice(&mask.to_le_bytes()),
        Action::Verdict { index, hash } => {
            out.extend_from_slice(&index.0.to_le_bytes());
            out.extend_from_slice(hash);
        }
        Action::LoadChunk(LoadChunk { load, number, bytes }) => {
            out.extend_from_slice(&load.to_le_bytes());
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(bytes);
        }
        Action::LoadCommit(LoadCommit { load, chunks, bytes, hash }) => {
            out.extend_from_slice(&load.to_le_bytes());
            out.extend_from_slice(&chunks.to_le_bytes());
            out.extend_from_slice(&bytes.to_le_bytes());
            out.extend_from_slice(hash);
        }
    }
}

fn decode_action(input: &mut Input<'_>, tag: u8) -> Result<Action, DecodeError> {
    Ok(match tag {
        ACTION_EXECUTE => Action::Execute(decode_request(input)?),
        ACTION_REQUEST => Action::Request(decode_request(input)?),
        ACTION_BARRIER => Action::Barrier,
        ACTION_VACUUM => Action::Vacuum,
        ACTION_OPTIMIZE => Action::Optimize { mask: input.u32()? },
        ACTION_HASH => Action::Hash,
        ACTION_VERDICT => Action::Verdict { index: Index(input.u64()?), hash: input.array()? },
        ACTION_SCRIPT => Action::Script(decode_request(input)?),
        ACTION_LOAD_CHUNK => Action::LoadChunk(decode_load_chunk(input)?),
        ACTION_LOAD_COMMIT => Action::LoadCommit(LoadCommit {
            load: u128::from_le_bytes(input.array()?),
            chunks: input.u32()?,
            bytes: input.u64()?,
            hash: input.array()?,
        }),
        tag => return Err(DecodeError::Tag(tag)),
    })
}

fn decode_load_chunk(input: &mut Input<'_>) -> Result<LoadChunk, DecodeError> {
    let (load, number) = (u128::from_le_bytes(input.array()?), input.u32()?);
    let bytes = input.rest();
    match bytes.len() {
        1..=LOAD_CHUNK_BYTES => Ok(LoadChunk { load, number, bytes: bytes.to_vec() }),
        0 => Err(DecodeError::Truncated),
        length => Err(DecodeError::Length(length)),
    }
}

fn encode_request(out: &mut Vec<u8>, request: &Request) {
    let transaction = if request.transaction { FLAG_TRANSACTION } else { 0 };
    let qualify = if request.qualify_columns { FLAG_QUALIFY } else { 0 };
    out.push(transaction | qualify);
    out.extend_from_slice(&request.vm_steps_max.to_le_bytes());
    encode_length(out, request.statements.len());
    for statement in &request.statements {
        encode_bytes(out, statement.sql.as_bytes());
        encode_length(out, statement.parameters.len());
        for Parameter { name, value } in &statement.parameters {
            out.push(kind_of(value.as_ref()) | if name.is_some() { KIND_NAMED } else { 0 });
            if let Some(name) = name {
                encode_bytes(out, name.as_bytes());
            }
            encode_value(out, value.as_ref());
        }
    }
}

fn decode_request(input: &mut Input<'_>) -> Result<Request, DecodeError> {
    let flags = input.u8()?;
    if flags & !(FLAG_TRANSACTION | FLAG_QUALIFY) != 0 {
        return Err(DecodeError::Tag(flags));
    }
    let vm_steps_max = input.u64()?;
    let count = input.count(STATEMENT_BYTES_MIN)?;
    let mut statements = Vec::with_capacity(count);
    for _ in 0..count {
        let sql = input.text()?;
        let count = input.count(PARAMETER_BYTES_MIN)?;
        let mut parameters = Vec::new();
        for _ in 0..count {
            parameters.push(decode_parameter(input)?);
        }
        statements.push(Statement { sql, parameters });
    }
    Ok(Request {
        statements,
        transaction: flags & FLAG_TRANSACTION != 0,
        qualify_columns: flags & FLAG_QUALIFY != 0,
        vm_steps_max,
    })
}

fn decode_parameter(input: &mut Input<'_>) -> Result<Parameter, DecodeError> {
    let tag = input.u8()?;
    let name = if tag & KIND_NAMED != 0 { Some(input.text()?) } else { None };
    let value = decode_value(input, tag & !KIND_NAMED)?;
    Ok(Parameter { name, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Command> {
        let value = |value| Parameter { name: None, value };
        let parameters = vec![
            value(Value::Null),
            value(Value::Integer(i64::MIN)),
            value(Value::Real(-0.0)),
            value(Value::Text("größe\0".into())),
            value(Value::Blob(vec![0, 255])),
            Parameter { name: Some("n".to_owned()), value: Value::Integer(1) },
            Parameter { name: Some(String::new()), value: Value::Text(vec![0xff]) },
        ];
        let request = Request {
            statements: vec![
                Statement { sql: "INSERT INTO t VALUES(?)".to_owned(), parameters },
                Statement { sql: String::new(), parameters: Vec::new() },
            ],
            transaction: true,
            qualify_columns: false,
            vm_steps_max: 12345,
        };
        let other = Request { qualify_columns: true, ..Request::default() };
        [
            Action::Execute(request.clone()),
            Action::Request(request),
            Action::Request(other),
            Action::Barrier,
            Action::Vacuum,
            Action::Optimize { mask: 0xfffe },
            Action::Hash,
            Action::Verdict { index: Index(7), hash: [0xab; 32] },
            Action::Script(Request { vm_steps_max: 7, ..Request::default() }),
            Action::LoadCommit(LoadCommit { load: u128::MAX - 1, chunks: 3, bytes: 1 << 40, hash: [9; 32] }),
        ]
        .into_iter()
        .flat_map(|action| {
            let ids = [
                None,
                Some(RequestId::from_server([7; 16], Index(9), &action)),
                Some(RequestId::from_client(b"k", Index(0), &action).unwrap()),
            ];
            ids.map(|request| Command { unix_time_us: -5, seed: u64::MAX, action: action.clone(), request })
        })
        .collect()
    }

    #[test]
    fn stamps_go_where_decoding_finds_them() {
        for mut command in samples() {
            let mut bytes = command.encode();
            stamp(&mut bytes, 77, 88);
            (command.unix_time_us, command.seed) = (77, 88);
            assert_eq!(Command::decode(&bytes), Ok(command));
        }
    }

    #[test]
    fn the_version_without_ids_is_still_read() {
        for command in samples().into_iter().filter(|c| c.request.is_none()) {
            let mut bytes = command.encode();
            assert_eq!(bytes.remove(SEED_RANGE.end), 0, "the flags");
            bytes[0] = VERSION_WITHOUT_IDS;
            assert_eq!(Command::decode(&bytes), Ok(command));
        }
    }

    #[test]
    fn an_id_of_another_kind_or_length_is_refused() {
        let command = samples().into_iter().find(|c| c.request.is_some()).unwrap();
        let bytes = command.encode();
        let key_at = SEED_RANGE.end + 3;
        let mut other_kind = bytes.clone();
        other_kind[key_at] = 9;
        assert_eq!(Command::decode(&other_kind), Err(DecodeError::Tag(9)));
        for length in [0u16, 1, 257, u16::MAX] {
            let mut other_length = bytes.clone();
            other_length[key_at - 2..key_at].copy_from_slice(&length.to_le_bytes());
            assert!(Command::decode(&other_length).is_err(), "{length}");
        }
    }

    #[test]
    fn every_command_comes_back_as_it_went() {
        for command in samples() {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    #[test]
    fn bytes_cut_anywhere_or_followed_by_others_are_refused() {
        for command in samples() {
            let mut bytes = command.encode();
            for length in 0..bytes.len() {
                assert!(Command::decode(&bytes[..length]).is_err(), "{command:?} cut at {length}");
            }
            bytes.push(0);
            assert_eq!(Command::decode(&bytes), Err(DecodeError::Trailing));
        }
    }

    /// A part has no length of its own: it ends with the entry, whose length the log keeps.
    #[test]
    fn a_part_of_a_file_holds_as_much_as_it_may_and_no_more() {
        let chunk = |bytes| {
            let chunk = LoadChunk { load: 1 << 100, number: 4, bytes };
            Command { unix_time_us: 1, seed: 2, action: Action::LoadChunk(chunk), request: None }
        };
        for bytes in [vec![7], vec![3; LOAD_CHUNK_BYTES]] {
            let command = chunk(bytes);
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
        let whole = chunk(vec![1]).encode();
        for length in 0..whole.len() {
            assert!(Command::decode(&whole[..length]).is_err(), "{length}");
        }
        let too_long = chunk(vec![3; LOAD_CHUNK_BYTES + 1]).encode();
        assert_eq!(Command::decode(&too_long), Err(DecodeError::Length(LOAD_CHUNK_BYTES + 1)));
    }

    #[test]
    fn damaged_bytes_never_panic_and_huge_counts_reserve_nothing() {
        for command in samples() {
            let bytes = command.encode();
            for at in 0..bytes.len() {
                for flip in [0x01, 0x10, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= flip;
                    if let Ok(other) = Command::decode(&damaged) {
                        assert!(Command::decode(&other.encode()).is_ok());
                    }
                }
            }
        }
        let mut bytes = samples()[0].encode();
        bytes[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Command::decode(&bytes), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_newer_version_is_named() {
        assert_eq!(Command::decode(&[3, 3]), Err(DecodeError::Version(3)));
    }
}
