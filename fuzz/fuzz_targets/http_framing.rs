//! The head and the chunked body of a request, as they arrive in pieces: the same verdict however the bytes are cut.
#![no_main]
// The engine keeps these files to itself; they are compiled in here, so that nothing becomes public for a test.
#![allow(dead_code)]
#[path = "../../src/http/engine/chunked.rs"]
mod chunked;
#[path = "../../src/http/engine/config.rs"]
mod config;
#[path = "../../src/http/engine/head.rs"]
mod head;
#[path = "../../src/http/engine/percent.rs"]
mod percent;

pub use ferrolite::http::engine::Headers;

use chunked::{Chunked, Piece};
use head::{Framing, HeadScan, Refusal, parse};
use libfuzzer_sys::fuzz_target;

const BODY_BYTES_MAX: u64 = 100_000;

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, bytes) = input;
    let step = usize::from(cut).max(1);
    let whole = HeadScan::default().advance(bytes);
    let mut scan = HeadScan::default();
    let mut pieces = Ok(None);
    let mut end = 0;
    while end < bytes.len() && matches!(pieces, Ok(None)) {
        end = (end + step).min(bytes.len());
        pieces = scan.advance(&bytes[..end]);
    }
    assert_eq!(whole, pieces, "the cut changes the verdict");
    let Ok(Some((start, end))) = whole else { return };
    let Ok(head) = parse(&bytes[start..end], BODY_BYTES_MAX) else { return };
    match head.framing {
        Framing::Length(length) => assert!(length <= BODY_BYTES_MAX),
        Framing::Chunked => assert_eq!(dechunk(&bytes[end..], usize::MAX), dechunk(&bytes[end..], step)),
        Framing::None => {}
    }
});

/// The body and the bytes left behind it; `None` for an unfinished one.
fn dechunk(bytes: &[u8], step: usize) -> Result<Option<(Vec<u8>, usize)>, Refusal> {
    let mut decoder = Chunked::new(BODY_BYTES_MAX);
    let mut body = Vec::new();
    let mut rest = bytes;
    for piece in bytes.chunks(step.min(bytes.len().max(1))) {
        let mut input = piece;
        loop {
            match decoder.next(&mut input)? {
                Piece::Data(data) => body.extend_from_slice(data),
                Piece::End => return Ok(Some((body, rest.len() - (piece.len() - input.len())))),
                Piece::More => break,
            }
        }
        rest = &rest[piece.len()..];
    }
    Ok(None)
}
