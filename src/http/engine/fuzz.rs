//! Entry points for fuzzing: the decoders as pure functions over bytes, with the checks that must hold for any input.
//! Any thread; no IO.

use super::chunked::{Chunked, Piece};
use super::head::{self, Framing, Head, HeadScan};

/// The largest body that these decoders accept, in bytes.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// What a stream of requests decodes to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Decoded {
    /// One line per request's head, and its body.
    pub requests: Vec<(String, Vec<u8>)>,
    /// The status that ended the stream.
    pub refused: Option<u16>,
    /// The stream stopped inside a request.
    pub is_partial: bool,
}

/// Decodes a head that stands at the start of `bytes`, if it is whole.
///
/// # Panics
/// When reading the same bytes one by one gives something else: a bug.
pub fn fuzz_head(bytes: &[u8]) {
    let whole = HeadScan::default().advance(bytes);
    let mut scan = HeadScan::default();
    let stepwise = (0..=bytes.len()).find_map(|end| scan.advance(&bytes[..end]).transpose()).transpose();
    assert_eq!(whole, stepwise, "the pieces in which a head arrives matter");
    if let Ok(Some((start, end))) = whole {
        let head = &bytes[start..end];
        assert!(head.ends_with(b"\r\n\r\n"));
        let _ = head::parse(head, BODY_BYTES_MAX);
    }
}

/// Decodes a stream of requests.
///
/// # Panics
/// When reading the same bytes one by one gives something else: a bug.
pub fn fuzz_stream(bytes: &[u8]) -> Decoded {
    let whole = decode_pieces([bytes].into_iter());
    let stepwise = decode_pieces(bytes.chunks(1));
    assert_eq!(whole, stepwise, "the pieces in which requests arrive matter");
    whole
}

/// Decodes a stream of requests that arrives in the given pieces.
pub fn decode_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Decoded {
    let mut decoder = StreamDecoder {
        buffer: Vec::new(),
        stage: Stage::Head(HeadScan::default()),
        done: Decoded { requests: Vec::new(), refused: None, is_partial: false },
    };
    for piece in pieces {
        decoder.buffer.extend_from_slice(piece);
        while decoder.done.refused.is_none() {
            match decoder.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(refusal) => decoder.done.refused = Some(refusal.0),
            }
        }
    }
    let in_body = matches!(decoder.stage, Stage::Body(..));
    decoder.done.is_partial = decoder.done.refused.is_none() && (in_body || !decoder.buffer.is_empty());
    decoder.done
}

struct StreamDecoder {
    buffer: Vec<u8>,
    stage: Stage,
    done: Decoded,
}

enum Stage {
    Head(HeadScan),
    Body(Box<Head>, Left, Vec<u8>),
}

enum Left {
    Bytes(u64),
    Chunks(Chunked),
}

impl StreamDecoder {
    /// `false`: more input is needed.
    fn step(&mut self) -> Result<bool, head::Refusal> {
        match &mut self.stage {
            Stage::Head(scan) => {
                let Some((start, end)) = scan.advance(&self.buffer)? else { return Ok(false) };
                let head = head::parse(&self.buffer[start..end], BODY_BYTES_MAX)?;
                self.buffer.drain(..end);
                let left = match head.framing {
                    Framing::None => Left::Bytes(0),
                    Framing::Length(length) => Left::Bytes(length),
                    Framing::Chunked => Left::Chunks(Chunked::new(BODY_BYTES_MAX)),
                };
                self.stage = Stage::Body(Box::new(head), left, Vec::new());
                Ok(true)
            }
            Stage::Body(_, left, body) => {
                let mut input = &self.buffer[..];
                let is_whole = take_body(left, &mut input, body)?;
                let used = self.buffer.len() - input.len();
                self.buffer.drain(..used);
                if is_whole {
                    let stage = std::mem::replace(&mut self.stage, Stage::Head(HeadScan::default()));
                    if let Stage::Body(head, _, body) = stage {
                        self.done.requests.push((format!("{head:?}"), body));
                    }
                }
                Ok(is_whole)
            }
        }
    }
}

fn take_body(left: &mut Left, input: &mut &[u8], body: &mut Vec<u8>) -> Result<bool, head::Refusal> {
    match left {
        Left::Bytes(count) => {
            let take = usize::try_from(*count).unwrap_or(usize::MAX).min(input.len());
            body.extend_from_slice(&input[..take]);
            *input = &input[take..];
            *count -= take as u64;
            Ok(*count == 0)
        }
        Left::Chunks(chunked) => loop {
            match chunked.next(input)? {
                Piece::Data(data) => body.extend_from_slice(data),
                Piece::More => return Ok(false),
                Piece::End => return Ok(true),
            }
        },
    }
}
