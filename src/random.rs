//! Random numbers of the operating system: for names that nothing else may have, and for seeds. Any thread.
//!
//! What the state machine calls random comes from the log entry instead (`db::random`).

use std::io;

/// # Errors
/// The system has none.
pub fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// # Errors
/// As `bytes`.
pub fn u64() -> io::Result<u64> {
    bytes().map(u64::from_le_bytes)
}

/// # Errors
/// As `bytes`.
pub fn u128() -> io::Result<u128> {
    bytes().map(u128::from_le_bytes)
}
