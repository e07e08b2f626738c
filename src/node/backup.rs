//! A backup of this node's own copy of the database: the snapshot, and what may end it early. Runs on the thread that sends
//! it, which may block.

use super::NodeHandle;
use super::pins::Pin;
use crate::db::backup::{Backup, Wish};
use crate::db::readers::Guest;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A backup that is ready to be written. The fields are dropped in their order: the snapshot ends first.
pub struct OwnBackup {
    backup: Backup,
    /// Counted among the reads that keep the WAL from being reset, until it is dropped.
    _guest: Arc<Guest>,
    _pin: Arc<Pin>,
}

impl NodeHandle {
    /// Takes the snapshot.
    ///
    /// It is treated like any long read (`db::checkpoint`): nothing waits for it, but when the WAL has grown too large over it,
    /// it must end. And it ends when the node stops, or gets another database.
    ///
    /// # Errors
    /// Why there is none, for the client.
    pub fn backup(&self, wish: &Wish) -> Result<OwnBackup, String> {
        let Some(pin) = self.shared.pins.take() else { return Err("the database is being replaced".to_owned()) };
        let (pin, guest) = (Arc::new(pin), Arc::new(self.readers.enter_guest()));
        let (pins, stay) = (Arc::clone(&self.shared.pins), Arc::clone(&guest));
        let may_go_on = move || {
            if pins.cancelled().load(Ordering::Acquire) {
                return Err(io::Error::other("the node is stopping, or gets another database"));
            }
            if stay.is_ended() {
                return Err(io::Error::other(
                    "the -wal file has grown too large meanwhile: read faster, or with vacuum",
                ));
            }
            Ok(())
        };
        let backup = Backup::open(self.readers.path(), wish, Arc::new(may_go_on)).map_err(|error| error.to_string())?;
        Ok(OwnBackup { backup, _guest: guest, _pin: pin })
    }
}

impl OwnBackup {
    /// Writes all of it; see [`Backup::write_to`].
    ///
    /// # Errors
    /// Those of `out`, and why it must end.
    pub fn write_to(self, out: &mut dyn Write) -> io::Result<()> {
        self.backup.write_to(out)
    }
}
