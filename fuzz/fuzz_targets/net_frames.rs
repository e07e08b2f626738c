//! The byte stream between nodes: arbitrary and damaged bytes never panic, never allocate much more than they are, and a
//! frame that is read is the frame that was written.
#![no_main]

use ferrolite::net::frame::{self, FrameReader, Kind};
use libfuzzer_sys::fuzz_target;
use raft::ClusterId;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Gives its bytes in pieces whose sizes come from the input.
struct Pieces<'a> {
    bytes: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let size = usize::from(*self.sizes.next().unwrap_or(&1)) + 1;
        let count = size.min(room.len()).min(self.bytes.len());
        room[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes = &self.bytes[count..];
        Ok(count)
    }
}

fn frames(bytes: &[u8], sizes: &[u8]) -> Vec<(Kind, u64, Vec<u8>)> {
    let mut source = Pieces { bytes, sizes: sizes.iter().cycle() };
    let mut reader = FrameReader::new(Arc::default());
    let mut frames = Vec::new();
    while let Ok(frame) = reader.next(&mut source, Instant::now() + Duration::from_secs(60), |_| usize::MAX) {
        frames.push((frame.kind, frame.tag, frame.payload.to_vec()));
    }
    frames
}

fuzz_target!(|bytes: &[u8]| {
    let (sizes, rest) = bytes.split_at(bytes.len().min(8));
    frames(rest, sizes);
    let mut written = Vec::new();
    let cluster = Some(ClusterId(1 + rest.len() as u128));
    let pieces: Vec<&[u8]> = rest.chunks(1 + usize::from(*sizes.first().unwrap_or(&9))).collect();
    for (tag, piece) in pieces.iter().enumerate() {
        frame::put(&mut written, Kind::Message, cluster, tag as u64, piece);
    }
    let read = frames(&written, sizes);
    assert_eq!(read.len(), pieces.len());
    for (tag, (frame, piece)) in read.iter().zip(&pieces).enumerate() {
        assert_eq!((frame.0, frame.1, &frame.2[..]), (Kind::Message, tag as u64, *piece));
    }
    // One damaged byte: all before its frame is read, that frame is not.
    if let Some(at) = rest.first().map(|byte| usize::from(*byte) * 31 % written.len()) {
        written[at] ^= 0x10;
        assert!(frames(&written, sizes).len() < pieces.len());
    }
});
