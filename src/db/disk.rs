//! Room on the disk, looked at before something large is begun: a node whose writes find it full must stop.

use crate::limits::free_disk_bytes;
use std::path::Path;

/// What must stay free.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Are so many bytes free on the disk of the directory `dir`, and [`FREE_BYTES_MIN`] more?
///
/// # Errors
/// There is no room `what` (such as "to load the database"), or the disk cannot be asked.
pub(super) fn check_room(dir: &Path, bytes: u64, what: &str) -> Result<(), String> {
    let free_bytes = free_disk_bytes(dir).map_err(|error| format!("asking the disk for its room: {error}"))?;
    let needed_bytes = bytes.saturating_add(FREE_BYTES_MIN);
    if free_bytes < needed_bytes {
        let text = format!("no room {what}: it may need {needed_bytes} bytes on the disk, {free_bytes} are free");
        return Err(text);
    }
    Ok(())
}
