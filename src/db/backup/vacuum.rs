//! The vacuumed format: SQLite makes a new file in the data directory, which loses its name as soon as it is made.
//!
//! The snapshot ends with the making, so that a slow reader of this format holds nothing but disk space.

use super::pages::Stripped;
use super::{BUFFER_BYTES, MayGoOn};
use crate::db::disk;
use crate::db::fatal::Fatal;
use crate::db::swap::dir_of;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names of the files begin so, beside the database.
const FILE_PREFIX: &str = "db.sqlite.backup-";

/// Removes what a process that died while it made a file has left behind in `dir`.
///
/// # Errors
/// A file is there and cannot be removed.
pub fn discard(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(FILE_PREFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// A file that is removed when it is no longer wanted under its name.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        for suffix in ["", "-journal"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            // It may never have come to be; what cannot be removed now is removed at the next start.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Makes the file beside the database at `path`.
pub(super) fn vacuum(stripped: &Stripped, path: &Path) -> Result<File, Fatal> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let dir = dir_of(path);
    let on_disk = |error: io::Error| Fatal::new(format!("making a vacuumed copy: {error}"));
    disk::check_room(dir, stripped.bytes(), "for a vacuumed copy")
        .map_err(|text| Fatal::new(format!("{text}; a backup without vacuum needs none")))?;
    let scratch = Scratch(dir.join(format!("{FILE_PREFIX}{}", MADE.fetch_add(1, Ordering::Relaxed))));
    stripped.vacuum_into(&scratch.0)?;
    File::open(&scratch.0).map_err(on_disk)
}

/// Writes the file from its start.
pub(super) fn write_to(mut file: &File, may_go_on: &MayGoOn, out: &mut dyn Write) -> io::Result<()> {
    let mut room = vec![0; BUFFER_BYTES];
    loop {
        may_go_on()?;
        match file.read(&mut room)? {
            0 => return Ok(()),
            got => out.write_all(&room[..got])?,
        }
    }
}
