//! Tests of `frame`: what is written is read, in whatever pieces it arrives; what is damaged, cut or lying is refused.

use super::*;
use std::collections::VecDeque;

/// Gives its bytes in pieces of the given sizes, over and over; then the end.
struct Pieces {
    bytes: VecDeque<u8>,
    sizes: Vec<usize>,
    turn: usize,
}

impl Pieces {
    fn new(bytes: &[u8], sizes: &[usize]) -> Pieces {
        Pieces { bytes: bytes.iter().copied().collect(), sizes: sizes.to_vec(), turn: 0 }
    }
}

impl Read for Pieces {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes[self.turn % self.sizes.len()];
        self.turn += 1;
        if size == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = size.min(room.len()).min(self.bytes.len());
        for (slot, byte) in room.iter_mut().zip(self.bytes.drain(..count)) {
            *slot = byte;
        }
        Ok(count)
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn reader() -> FrameReader {
    FrameReader::new(Arc::default())
}

const CLUSTER: Option<ClusterId> = Some(ClusterId(77));

#[test]
fn frames_survive_in_whatever_pieces_they_arrive() {
    let lengths = [0, 1, 100, READ_BUFFER_BYTES - HEADER_BYTES, READ_BUFFER_BYTES, 300_000, 7];
    let mut bytes = Vec::new();
    let payloads: Vec<Vec<u8>> = lengths.iter().map(|length| (0..*length).map(|n| n as u8).collect()).collect();
    for (tag, payload) in payloads.iter().enumerate() {
        if tag % 2 == 0 {
            put(&mut bytes, Kind::Call, CLUSTER, tag as u64, payload);
        } else {
            let (one, two) = payload.split_at(payload.len() / 3);
            bytes.extend_from_slice(&header_of(Kind::Call, CLUSTER, tag as u64, &[one, two]));
            bytes.extend_from_slice(payload);
        }
    }
    for sizes in [vec![1], vec![0, 17], vec![usize::MAX], vec![HEADER_BYTES, 1, 1000], vec![65_000, 0, 0]] {
        let mut source = Pieces::new(&bytes, &sizes);
        let mut reader = reader();
        for (tag, payload) in payloads.iter().enumerate() {
            let frame = reader.next(&mut source, soon(), |_| 1 << 20).expect("it is whole");
            assert_eq!((frame.kind, frame.cluster, frame.tag), (Kind::Call, CLUSTER, tag as u64));
            assert!(frame.payload == *payload);
        }
        assert!(matches!(reader.next(&mut source, soon(), |_| 1 << 20), Err(FrameError::Closed)));
    }
}

#[test]
fn every_cut_and_every_flip_is_refused() {
    let mut bytes = Vec::new();
    put(&mut bytes, Kind::Message, CLUSTER, 9, b"some words");
    for cut in 1..bytes.len() {
        let error = reader().next(&bytes[..cut], soon(), |_| 100).map(drop);
        assert!(matches!(error, Err(FrameError::Cut)), "{cut}");
    }
    for at in 0..bytes.len() {
        for flip in [1u8, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            assert!(reader().next(&bad[..], soon(), |_| usize::MAX).is_err(), "{at}");
        }
    }
}

#[test]
fn a_promise_of_many_bytes_allocates_little() {
    // A header that is right in itself but whose payload never comes.
    let mut header = [0; HEADER_BYTES];
    write_header(&mut header, Kind::Message, u32::MAX as usize, CLUSTER, 0, 0);
    let error = reader().next(&header[..], soon(), |_| 1000).map(drop);
    assert!(matches!(error, Err(FrameError::TooLong { .. })));
    let mut reader = reader();
    let error = reader.next(&header[..], soon(), |_| usize::MAX).map(drop);
    assert!(matches!(error, Err(FrameError::Cut)));
    assert!(reader.large.capacity() <= READ_BUFFER_BYTES);
    // With some of it there, in proportion to that.
    let mut bytes = header.to_vec();
    bytes.resize(3 * READ_BUFFER_BYTES, 0);
    let error = reader.next(&bytes[..], soon(), |_| usize::MAX).map(drop);
    assert!(matches!(error, Err(FrameError::Cut)));
    assert!(reader.large.capacity() <= 2 * bytes.len());
}

#[test]
fn all_frames_together_hold_no_more_than_their_room() {
    let incoming = Arc::new(IncomingBytes::default());
    assert!(incoming.take(INCOMING_BYTES_MAX - READ_BUFFER_BYTES));
    let mut bytes = Vec::new();
    put(&mut bytes, Kind::Message, CLUSTER, 0, &vec![1; 4 * READ_BUFFER_BYTES]);
    let mut one = FrameReader::new(Arc::clone(&incoming));
    assert!(matches!(one.next(&bytes[..], soon(), |_| usize::MAX).map(drop), Err(FrameError::NoRoom)));
    drop(one);
    assert_eq!(incoming.0.load(Ordering::SeqCst), INCOMING_BYTES_MAX - READ_BUFFER_BYTES, "all is given back");
}

#[test]
fn deadlines_are_kept_while_bytes_trickle() {
    let mut bytes = Vec::new();
    put(&mut bytes, Kind::Message, CLUSTER, 0, &[1; 100]);
    let now = Instant::now();
    let silent = reader().next(Pieces::new(&bytes, &[0]), now, |_| 100).map(drop);
    assert!(matches!(silent, Err(FrameError::Idle)));
    let mut trickle = reader();
    let mut source = Pieces::new(&bytes, &[1]);
    assert!(matches!(trickle.fill(&mut source, HEADER_BYTES, now), Err(FrameError::Stalled)));
}

#[test]
fn every_kind_has_a_byte_of_its_own() {
    for kind in KINDS {
        assert_eq!(Kind::from_byte(kind.byte()), Some(kind));
    }
    assert_eq!(Kind::from_byte(0), None);
    assert_eq!(Kind::from_byte(KINDS.len() as u8 + 1), None);
}

#[test]
fn headers_of_other_versions_and_protocols_are_told_apart() {
    let mut bytes = Vec::new();
    put(&mut bytes, Kind::Hello, None, 0, b"");
    let mut reading = reader();
    let foreign = reading.next(&b"GET / HTTP/1.1\r\nHost: a.example.com\r\nAccept: */*\r\n\r\n"[..], soon(), |_| 100);
    assert!(matches!(foreign.map(drop), Err(FrameError::Foreign)));
    bytes[4] = 9;
    let crc = crc32c::crc32c(&bytes[..CHECKED_BYTES]);
    bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(reader().next(&bytes[..], soon(), |_| 100).map(drop), Err(FrameError::Version(9))));
}
