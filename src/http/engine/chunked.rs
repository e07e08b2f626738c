//! Decodes a chunked request body (RFC 9112 section 7.1) from pieces of any size. Pure, any thread.
//!
//! Strict: CRLF only, at least one hexadecimal digit, nothing before the size, no end but the last chunk's. A body
//! that stops anywhere else is never taken for whole.

use super::config::{CHUNK_BYTES_MAX, CHUNK_EXTENSION_BYTES_MAX, TRAILER_BYTES_MAX};
use super::head::Refusal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SizeFirst,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerFirst,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Where in the body we are.
#[derive(Clone, Debug)]
pub struct Chunked {
    state: State,
    /// Bytes that the current chunk still has to bring; while its size is read, the size so far.
    left: u64,
    /// Bytes of data announced so far.
    total: u64,
    total_max: u64,
    /// Digits of the current size; leading zeros must not go on for ever.
    digits: u8,
    extension_bytes: usize,
    trailer_bytes: usize,
}

/// Digits of a chunk size, leading zeros included.
const SIZE_DIGITS_MAX: u8 = 16;

/// What one step of [`Chunked::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The next bytes of the body.
    Data(&'a [u8]),
    /// The input is used up.
    More,
    /// The body and its trailers have ended; what is left of the input belongs to the next request.
    End,
}

impl Chunked {
    /// A body that may hold up to `total_max` bytes of data.
    pub fn new(total_max: u64) -> Self {
        Chunked {
            state: State::SizeFirst,
            left: 0,
            total: 0,
            total_max,
            digits: 0,
            extension_bytes: 0,
            trailer_bytes: 0,
        }
    }

    /// Takes bytes off the front of `input` up to the next piece of data.
    ///
    /// # Errors
    /// 400 for broken framing, 413 for too much data, 431 for too long trailers.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Piece<'a>, Refusal> {
        loop {
            if self.state == State::Done {
                return Ok(Piece::End);
            }
            if self.state == State::Data {
                let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
                if take == 0 {
                    return Ok(Piece::More);
                }
                let (data, rest) = input.split_at(take);
                *input = rest;
                self.left -= take as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(Piece::Data(data));
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(Piece::More) };
            *input = rest;
            self.state = self.step(byte)?;
        }
    }

    fn step(&mut self, byte: u8) -> Result<State, Refusal> {
        match (self.state, byte) {
            (State::SizeFirst | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).expect("a hexadecimal digit");
                self.left = (self.left << 4) | u64::from(digit);
                self.digits += 1;
                // Small enough that the next shift cannot overflow.
                let nonsense = self.left > CHUNK_BYTES_MAX || self.digits > SIZE_DIGITS_MAX;
                if nonsense { Err(Refusal(400)) } else { Ok(State::Size) }
            }
            (State::Size, b';') => Ok(State::Extension),
            (State::Size | State::Extension, b'\r') => self.size_known(),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extension_bytes += 1;
                if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX { Err(Refusal(400)) } else { Ok(State::Extension) }
            }
            (State::SizeLf, b'\n') => Ok(if self.left == 0 { State::TrailerFirst } else { State::Data }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SizeFirst),
            (State::TrailerFirst, b'\r') => Ok(State::EndLf),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::TrailerFirst, _) => self.trailer(byte, State::TrailerName),
            (State::TrailerName, b':') => self.trailer(b'a', State::TrailerValue),
            (State::TrailerName, _) => self.trailer(byte, State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => self.trailer(b'a', State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerFirst),
            _ => Err(Refusal(400)),
        }
    }

    fn size_known(&mut self) -> Result<State, Refusal> {
        self.digits = 0;
        // Cannot overflow: both are at most 2^40 here.
        self.total += self.left;
        if self.total > self.total_max.min(CHUNK_BYTES_MAX) { Err(Refusal(413)) } else { Ok(State::SizeLf) }
    }

    /// Counts one byte of a trailer; in a name, only token characters (RFC 9110 section 5.6.2) may stand.
    fn trailer(&mut self, byte: u8, next: State) -> Result<State, Refusal> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(Refusal(431));
        }
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if token { Ok(next) } else { Err(Refusal(400)) }
    }
}
