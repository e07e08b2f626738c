//! A backup: the database as clients know it, one state of it, written to a stream while writing goes on.
//!
//! Runs on the thread that sends it. The snapshot is a read transaction like that of a copy ([`super::copy`]); memory does
//! not grow with the database, and only the vacuumed format needs a file, without a name once it is made.
//!
//! Our own table is in no format of it. It says of a database that it belongs to a cluster, up to which entry, and which
//! requests it has seen: true of the node, wrong of any other database that the backup is loaded into, and nothing that a
//! client has ever written. The text leaves it out; for the binary formats SQLite drops it in a layer over the snapshot
//! ([`pages`]), so that the result is a database that was only ever written by SQLite.

mod depends;
mod pages;
#[cfg(test)]
mod tests;
mod text;
mod vacuum;
mod wish;

use super::fatal::Fatal;
use super::snapshot;
use super::sqlite::overlay::JOURNAL_DELETE;
use flate2::Compression;
use flate2::write::GzEncoder;
use pages::Stripped;
pub(super) use pages::drop_own_table;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
pub use vacuum::discard;
pub use wish::{Format, Wish};

/// The newer kind of journal, in the header of a database: it is opened with a WAL.
const JOURNAL_WAL: u8 = 2;
/// What is gathered before it goes out.
const BUFFER_BYTES: usize = 128 * 1024;
/// How long an entry that is applied in several transactions is waited for: its parts are no state that anybody may see.
const HALF_APPLIED_WAIT_MAX: Duration = Duration::from_secs(10);
const HALF_APPLIED_PAUSE: Duration = Duration::from_millis(20);

/// Asked again and again while a backup is made: an error says why it must end now.
pub type MayGoOn = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// A backup that is ready to be written. It keeps the WAL from being reset as long as it lives, but for the vacuumed format.
pub struct Backup {
    content: Content,
    compress: bool,
    may_go_on: MayGoOn,
}

enum Content {
    Pages { stripped: Stripped, journal: u8 },
    File(File),
    Text { connection: super::sqlite::Connection, tables: Vec<String> },
}

impl Backup {
    /// Takes the snapshot of the database at `path`; for the vacuumed format also makes the file, which takes long.
    ///
    /// # Errors
    /// The database cannot be read, or the disk has no room.
    pub fn open(path: &Path, wish: &Wish, may_go_on: MayGoOn) -> Result<Backup, Fatal> {
        let connection = pin(path, &may_go_on)?;
        let stripped = |connection| Stripped::new(connection, &may_go_on);
        let content = match &wish.format {
            Format::Wal => Content::Pages { stripped: stripped(connection)?, journal: JOURNAL_WAL },
            Format::Delete => Content::Pages { stripped: stripped(connection)?, journal: JOURNAL_DELETE },
            Format::Vacuumed => Content::File(vacuum::vacuum(&stripped(connection)?, path)?),
            Format::Text { tables } => Content::Text { connection, tables: tables.clone() },
        };
        Ok(Backup { content, compress: wish.compress, may_go_on })
    }

    /// Writes all of it. After an error what was written is not whole and must not be taken for it.
    ///
    /// # Errors
    /// Those of `out`; the database cannot be read; it must end.
    pub fn write_to(self, out: &mut dyn Write) -> io::Result<()> {
        if !self.compress {
            return self.write_plain(out);
        }
        // Quick rather than small, as the reference has it.
        let mut encoder = GzEncoder::new(UntilCut { out, is_cut: false }, Compression::fast());
        let written = self.write_plain(&mut encoder);
        if written.is_err() {
            encoder.get_mut().is_cut = true;
        }
        written?;
        encoder.finish().map(drop)
    }

    fn write_plain(self, out: &mut dyn Write) -> io::Result<()> {
        match self.content {
            Content::Pages { stripped, journal } => stripped.write_to(journal, out),
            Content::File(file) => vacuum::write_to(&file, &self.may_go_on, out),
            Content::Text { connection, tables } => text::write(&connection, &tables, &self.may_go_on, out),
        }
    }
}

/// Takes nothing more once it is cut: an encoder that is dropped ends its stream as if it were whole.
struct UntilCut<'a> {
    out: &'a mut dyn Write,
    is_cut: bool,
}

impl Write for UntilCut<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.is_cut { Err(io::ErrorKind::BrokenPipe.into()) } else { self.out.write(data) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.is_cut { Err(io::ErrorKind::BrokenPipe.into()) } else { self.out.flush() }
    }
}

fn pin(path: &Path, may_go_on: &MayGoOn) -> Result<super::sqlite::Connection, Fatal> {
    let deadline = Instant::now() + HALF_APPLIED_WAIT_MAX;
    loop {
        may_go_on().map_err(|error| Fatal::new(error.to_string()))?;
        let (connection, record) = snapshot::pin(path)?;
        if record.progress.statements == 0 {
            return Ok(connection);
        }
        drop(connection);
        if Instant::now() >= deadline {
            let text = format!("the entry after {} takes long and is half applied: try again later", record.applied);
            return Err(Fatal::new(text));
        }
        std::thread::sleep(HALF_APPLIED_PAUSE);
    }
}

/// It is opened on one thread and may be written on another.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Backup>();
};
