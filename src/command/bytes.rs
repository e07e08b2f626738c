//! The parts that the encodings of this folder share: bounded reading, lengths, values.
//!
//! Pure; any thread. Reading never panics and reserves nothing that the bytes at hand do not pay for.

use super::{DecodeError, Value, ValueRef};

pub(super) const KIND_NULL: u8 = 0;
pub(super) const KIND_INTEGER: u8 = 1;
pub(super) const KIND_REAL: u8 = 2;
pub(super) const KIND_TEXT: u8 = 3;
pub(super) const KIND_BLOB: u8 = 4;
/// Added to a parameter's kind when a name follows.
pub(super) const KIND_NAMED: u8 = 16;

pub(super) fn encode_length(out: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("a part of a command is shorter than the command's limit");
    out.extend_from_slice(&length.to_le_bytes());
}

pub(super) fn encode_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    encode_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

pub(super) fn kind_of(value: ValueRef<'_>) -> u8 {
    match value {
        ValueRef::Null => KIND_NULL,
        ValueRef::Integer(_) => KIND_INTEGER,
        ValueRef::Real(_) => KIND_REAL,
        ValueRef::Text(_) => KIND_TEXT,
        ValueRef::Blob(_) => KIND_BLOB,
    }
}

/// The value without its kind.
pub(super) fn encode_value(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => {}
        ValueRef::Integer(i) => out.extend_from_slice(&i.to_le_bytes()),
        ValueRef::Real(r) => out.extend_from_slice(&r.to_bits().to_le_bytes()),
        ValueRef::Text(b) | ValueRef::Blob(b) => encode_bytes(out, b),
    }
}

pub(super) fn decode_value(input: &mut Input<'_>, kind: u8) -> Result<Value, DecodeError> {
    Ok(match kind {
        KIND_NULL => Value::Null,
        KIND_INTEGER => Value::Integer(input.i64()?),
        KIND_REAL => Value::Real(f64::from_bits(input.u64()?)),
        KIND_TEXT => Value::Text(input.bytes()?.to_vec()),
        KIND_BLOB => Value::Blob(input.bytes()?.to_vec()),
        _ => return Err(DecodeError::Tag(kind)),
    })
}

/// What is left to decode.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { bytes }
    }

    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        Ok(self.take(N)?.try_into().expect("take gives the asked length"))
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// A number of things that take at least `bytes_min` bytes each.
    pub fn count(&mut self, bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > self.bytes.len() / bytes_min { Err(DecodeError::Truncated) } else { Ok(count) }
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub fn text(&mut self) -> Result<String, DecodeError> {
        std::str::from_utf8(self.bytes()?).map(str::to_owned).map_err(|_| DecodeError::Text)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}
