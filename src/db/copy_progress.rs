//! How far a copy on its way in has surely come, for the next attempt after a crash or a broken connection.
//!
//! A small file with two places that are written in turn, never made longer or shorter: to replace it each time would free its blocks,
//! and where the disk is told of freed blocks (the mount option `discard`) everybody's next sync waits for that.

use super::copy::{CopyHash, CopyMeta};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file, beside the database.
pub const PROGRESS_FILE: &str = "db.sqlite.incoming-state";
const MAGIC: [u8; 8] = *b"ferrcpy2";
/// Each place has a block of its own, so that a torn write leaves the other whole.
const PLACE_BYTES: usize = 4096;
const PLACES: usize = 2;
/// Bytes received, running checksum, checksum of both.
const NOTE_BYTES: usize = 8 + 32 + 32;

/// See the module.
pub struct CopyProgress {
    file: File,
    /// Where the next note goes.
    place: usize,
}

impl CopyProgress {
    /// # Errors
    /// The directory cannot be written.
    pub fn create(dir: &Path) -> io::Result<CopyProgress> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(dir.join(PROGRESS_FILE))?;
        file.set_len((PLACES * PLACE_BYTES) as u64)?;
        Ok(CopyProgress { file, place: 0 })
    }

    /// What the last note about this very copy says: bytes on disk, and the running checksum there. `None`: there is none.
    pub fn resume(dir: &Path, meta: &CopyMeta) -> Option<(CopyProgress, u64, CopyHash)> {
        let file = OpenOptions::new().read(true).write(true).open(dir.join(PROGRESS_FILE)).ok()?;
        let mut notes = (0..PLACES).filter_map(|place| {
            let mut note = [0; NOTE_BYTES];
            file.read_exact_at(&mut note, (place * PLACE_BYTES) as u64).ok()?;
            decode(&note, meta).map(|(received, state)| (received, state, place))
        });
        let first = notes.next()?;
        let (received, state, place) = notes.next().filter(|second| second.0 > first.0).unwrap_or(first);
        Some((CopyProgress { file, place: (place + 1) % PLACES }, received, CopyHash::resume(state)))
    }

    /// Notes that `received` bytes are on disk, with the running checksum after them. It need not survive a power cut, so nothing
    /// waits for it; but what it says must be true by then.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn note(&mut self, meta: &CopyMeta, received: u64, state: [u8; 32]) -> io::Result<()> {
        let mut note = Vec::with_capacity(NOTE_BYTES);
        note.extend_from_slice(&received.to_le_bytes());
        note.extend_from_slice(&state);
        let checksum = checksum(&note, meta);
        note.extend_from_slice(&checksum);
        self.file.write_all_at(&note, (self.place * PLACE_BYTES) as u64)?;
        self.place = (self.place + 1) % PLACES;
        Ok(())
    }
}

/// `None`: of another copy, or damaged.
fn decode(note: &[u8; NOTE_BYTES], meta: &CopyMeta) -> Option<(u64, [u8; 32])> {
    let (content, found) = note.split_last_chunk::<32>()?;
    let (received, state) = content.split_first_chunk()?;
    let is_this = checksum(content, meta) == *found;
    is_this.then_some((u64::from_le_bytes(*received), state.try_into().ok()?))
}

fn checksum(content: &[u8], meta: &CopyMeta) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&MAGIC).update(content).update(&meta.encode());
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::tests::Scratch;
    use raft::{ClusterId, Index, LogId, Term};

    fn meta(copy_id: u128) -> CopyMeta {
        let applied = LogId { term: Term(2), index: Index(7) };
        let (membership, membership_index) = (Vec::new(), Index(0));
        CopyMeta { copy_id, cluster: ClusterId(1), applied, membership, membership_index, page_bytes: 4096, pages: 10 }
    }

    #[test]
    fn the_newest_note_that_is_whole_counts() {
        let scratch = Scratch::new();
        let received = |copy_id| CopyProgress::resume(scratch.dir(), &meta(copy_id)).map(|(_, received, _)| received);
        assert_eq!(received(1), None);
        let mut progress = CopyProgress::create(scratch.dir()).unwrap();
        assert_eq!(received(1), None, "nothing is noted yet");
        for (at, count) in [4096, 8192, 12_288].into_iter().enumerate() {
            progress.note(&meta(1), count, [at as u8; 32]).unwrap();
            assert_eq!(received(1), Some(count));
        }
        assert_eq!(received(2), None, "pages of two snapshots never mix");
        let path = scratch.dir().join(PROGRESS_FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[9] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(received(1), Some(8192), "the last one is torn");
        let (mut progress, ..) = CopyProgress::resume(scratch.dir(), &meta(1)).unwrap();
        progress.note(&meta(1), 12_288, [3; 32]).unwrap();
        bytes = std::fs::read(&path).unwrap();
        bytes[PLACE_BYTES + 9] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(received(1), Some(12_288), "it took the place of the torn one");
        std::fs::write(&path, [7; 10]).unwrap();
        assert_eq!(received(1), None);
    }
}
