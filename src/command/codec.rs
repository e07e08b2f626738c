//! The versioned bytes of a [`Command`], as they stand in log entries.
//!
//! Pure; any thread. Decoding never panics, whatever the bytes, and allocates no more than a small multiple of their
//! length: every count is checked against the bytes that are left before anything is reserved.
//!
//! Layout, version 1 (integers little-endian; `len` is a u32):
//! - version u8, action u8, unix_time_us i64, seed u64, then by action
//! - execute, request: flags u8 (1 transaction, 2 qualify columns), vm_steps_max u64, statements len, each: sql len +
//!   UTF-8, parameters len, each: kind u8 (value kind, plus 16 when a name follows), name len + UTF-8, value
//! - values: null nothing; integer i64; real f64 bits; text and blob len + bytes
//! - barrier, vacuum: nothing; optimize: mask u32

use super::{Action, Command, Parameter, Request, Statement, Value};
use std::fmt;

const VERSION: u8 = 1;

const ACTION_EXECUTE: u8 = 1;
const ACTION_REQUEST: u8 = 2;
const ACTION_BARRIER: u8 = 3;
const ACTION_VACUUM: u8 = 4;
const ACTION_OPTIMIZE: u8 = 5;

const FLAG_TRANSACTION: u8 = 1;
const FLAG_QUALIFY: u8 = 2;

const KIND_NULL: u8 = 0;
const KIND_INTEGER: u8 = 1;
const KIND_REAL: u8 = 2;
const KIND_TEXT: u8 = 3;
const KIND_BLOB: u8 = 4;
const KIND_NAMED: u8 = 16;

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

impl Command {
    /// The bytes of an entry's payload. Panics when they exceed [`COMMAND_BYTES_MAX`], which the limit of a request's
    /// body rules out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_bytes_guess());
        out.push(VERSION);
        out.push(match self.action {
            Action::Execute(_) => ACTION_EXECUTE,
            Action::Request(_) => ACTION_REQUEST,
            Action::Barrier => ACTION_BARRIER,
            Action::Vacuum => ACTION_VACUUM,
            Action::Optimize { .. } => ACTION_OPTIMIZE,
        });
        out.extend_from_slice(&self.unix_time_us.to_le_bytes());
        out.extend_from_slice(&self.seed.to_le_bytes());
        match &self.action {
            Action::Execute(request) | Action::Request(request) => encode_request(&mut out, request),
            Action::Barrier | Action::Vacuum => {}
            Action::Optimize { mask } => out.extend_from_slice(&mask.to_le_bytes()),
        }
        assert!(out.len() <= COMMAND_BYTES_MAX, "a request's body is bounded far below this");
        out
    }

    /// The command in an entry's payload.
    ///
    /// # Errors
    /// The bytes are not exactly one command of a known version.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        let mut input = Input { bytes };
        let version = input.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let action = input.u8()?;
        let unix_time_us = i64::from_le_bytes(input.array()?);
        let seed = u64::from_le_bytes(input.array()?);
        let action = match action {
            ACTION_EXECUTE => Action::Execute(decode_request(&mut input)?),
            ACTION_REQUEST => Action::Request(decode_request(&mut input)?),
            ACTION_BARRIER => Action::Barrier,
            ACTION_VACUUM => Action::Vacuum,
            ACTION_OPTIMIZE => Action::Optimize { mask: u32::from_le_bytes(input.array()?) },
            tag => return Err(DecodeError::Tag(tag)),
        };
        if !input.bytes.is_empty() {
            return Err(DecodeError::Trailing);
        }
        Ok(Command { unix_time_us, seed, action })
    }

    fn encoded_bytes_guess(&self) -> usize {
        const HEAD: usize = 48;
        const PER_STATEMENT: usize = 8;
        const PER_PARAMETER: usize = 13;
        let (Action::Execute(request) | Action::Request(request)) = &self.action else { return HEAD };
        let of_value = |p: &Parameter| match &p.value {
            Value::Text(b) | Value::Blob(b) => b.len(),
            _ => 0,
        };
        let of_statement = |s: &Statement| {
            let values: usize = s.parameters.iter().map(|p| PER_PARAMETER + of_value(p)).sum();
            PER_STATEMENT + s.sql.len() + values
        };
        HEAD + request.statements.iter().map(of_statement).sum::<usize>()
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
            let kind = match value {
                Value::Null => KIND_NULL,
                Value::Integer(_) => KIND_INTEGER,
                Value::Real(_) => KIND_REAL,
                Value::Text(_) => KIND_TEXT,
                Value::Blob(_) => KIND_BLOB,
            };
            out.push(kind | if name.is_some() { KIND_NAMED } else { 0 });
            if let Some(name) = name {
                encode_bytes(out, name.as_bytes());
            }
            match value {
                Value::Null => {}
                Value::Integer(i) => out.extend_from_slice(&i.to_le_bytes()),
                Value::Real(r) => out.extend_from_slice(&r.to_bits().to_le_bytes()),
                Value::Text(b) | Value::Blob(b) => encode_bytes(out, b),
            }
        }
    }
}

fn encode_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a part of a command is shorter than the command's limit");
    out.extend_from_slice(&length.to_le_bytes());
}

fn encode_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    encode_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn decode_request(input: &mut Input<'_>) -> Result<Request, DecodeError> {
    let flags = input.u8()?;
    if flags & !(FLAG_TRANSACTION | FLAG_QUALIFY) != 0 {
        return Err(DecodeError::Tag(flags));
    }
    let vm_steps_max = u64::from_le_bytes(input.array()?);
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
    let value = match tag & !KIND_NAMED {
        KIND_NULL => Value::Null,
        KIND_INTEGER => Value::Integer(i64::from_le_bytes(input.array()?)),
        KIND_REAL => Value::Real(f64::from_bits(u64::from_le_bytes(input.array()?))),
        KIND_TEXT => Value::Text(input.bytes()?.to_vec()),
        KIND_BLOB => Value::Blob(input.bytes()?.to_vec()),
        _ => return Err(DecodeError::Tag(tag)),
    };
    Ok(Parameter { name, value })
}

/// What is left to decode.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N)?.try_into().expect("take gives the asked length"))
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// A number of things that take at least `bytes_min` bytes each.
    fn count(&mut self, bytes_min: usize) -> Result<usize, DecodeError> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        if count > self.bytes.len() / bytes_min { Err(DecodeError::Truncated) } else { Ok(count) }
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| DecodeError::Text)
    }
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
        ]
        .into_iter()
        .map(|action| Command { unix_time_us: -5, seed: u64::MAX, action })
        .collect()
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
        bytes[27..31].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(Command::decode(&bytes), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_newer_version_is_named() {
        assert_eq!(Command::decode(&[2, 3]), Err(DecodeError::Version(2)));
    }
}
