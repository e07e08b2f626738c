//! The name of a request, by which a repeat of it is known: it is applied once, however often it is sent.
//!
//! Pure; any thread.

use super::bytes::Input;
use super::{Action, DecodeError, LoadCommit, Request, codec};
use raft::Index;
use std::fmt;

/// Longest key that a client may give (`Idempotency-Key`), in bytes.
pub const CLIENT_KEY_BYTES_MAX: usize = KEY_BYTES_MAX - 1;
/// Longest key in bytes, the byte for its kind included.
const KEY_BYTES_MAX: usize = 256;
/// A key is its kind and at least one byte.
const KEY_BYTES_MIN: usize = 2;

/// Keys that a node drew for a request that it passes on.
const KIND_SERVER: u8 = 1;
/// Keys that clients chose. They can never be equal to one that a node drew.
const KIND_CLIENT: u8 = 2;

/// See the module. Two requests with the same key are the same request, sent twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// Its kind, then what the client or the node chose; 2 to 256 bytes.
    key: Box<[u8]>,
    /// No entry up to this one carries this id: an applied or committed index that its giver knew when it made the id. The
    /// id is refused, rather than applied once more, when what is kept of ids does not reach back that far. 0: not
    /// known; then only the ids that are still kept protect.
    pub issued_after: Index,
    /// Of the action that it was given to: the same key with another action is refused instead of answered wrongly.
    pub fingerprint: u64,
}

/// Why a client's key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    Empty,
    /// Longer than [`CLIENT_KEY_BYTES_MAX`].
    TooLong {
        bytes: usize,
    },
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Empty => f.write_str("the idempotency key is empty"),
            KeyError::TooLong { bytes } => {
                write!(f, "the idempotency key has {bytes} bytes, at most {CLIENT_KEY_BYTES_MAX} are allowed")
            }
        }
    }
}

impl std::error::Error for KeyError {}

impl RequestId {
    /// For a request that a client named itself.
    ///
    /// # Errors
    /// The key is empty or too long.
    pub fn from_client(key: &[u8], issued_after: Index, action: &Action) -> Result<RequestId, KeyError> {
        match key.len() {
            0 => Err(KeyError::Empty),
            bytes if bytes > CLIENT_KEY_BYTES_MAX => Err(KeyError::TooLong { bytes }),
            _ => Ok(RequestId::new(KIND_CLIENT, key, issued_after, action)),
        }
    }

    /// For a request that this node passes on; `random` comes from the operating system.
    pub fn from_server(random: [u8; 16], issued_after: Index, action: &Action) -> RequestId {
        RequestId::new(KIND_SERVER, &random, issued_after, action)
    }

    fn new(kind: u8, key: &[u8], issued_after: Index, action: &Action) -> RequestId {
        let mut whole = Vec::with_capacity(1 + key.len());
        whole.push(kind);
        whole.extend_from_slice(key);
        RequestId { key: whole.into(), issued_after, fingerprint: fingerprint(action) }
    }

    /// The key with its kind.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// A client chose it.
    pub fn is_from_client(&self) -> bool {
        RequestId::is_client_key(&self.key)
    }

    /// Is this key, with its kind, one that a client chose?
    pub fn is_client_key(key: &[u8]) -> bool {
        key.first() == Some(&KIND_CLIENT)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let length = u16::try_from(self.key.len()).expect("a key is short");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.issued_after.0.to_le_bytes());
        out.extend_from_slice(&self.fingerprint.to_le_bytes());
    }

    pub(super) fn decode(input: &mut Input<'_>) -> Result<RequestId, DecodeError> {
        let length = usize::from(input.u16()?);
        let key = input.take(length)?;
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&length) {
            return Err(DecodeError::Length(length));
        }
        if !matches!(key[0], KIND_SERVER | KIND_CLIENT) {
            return Err(DecodeError::Tag(key[0]));
        }
        Ok(RequestId { key: key.into(), issued_after: Index(input.u64()?), fingerprint: input.u64()? })
    }
}

/// Equal for actions that ask for the same. What bounds a request (`db_timeout`) is no part of what it asks for, and neither is
/// the name under which the parts of a file were sent.
fn fingerprint(action: &Action) -> u64 {
    let without_bound = |request: &Request| Request { vm_steps_max: 0, ..request.clone() };
    let bytes = match action {
        Action::Execute(request) if request.vm_steps_max > 0 => {
            codec::action_bytes(&Action::Execute(without_bound(request)))
        }
        Action::Request(request) if request.vm_steps_max > 0 => {
            codec::action_bytes(&Action::Request(without_bound(request)))
        }
        Action::Script(request) if request.vm_steps_max > 0 => {
            codec::action_bytes(&Action::Script(without_bound(request)))
        }
        Action::LoadCommit(commit) => {
            codec::action_bytes(&Action::LoadCommit(LoadCommit { load: 0, ..commit.clone() }))
        }
        _ => codec::action_bytes(action),
    };
    let hash = blake3::hash(&bytes);
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Statement;

    fn action(sql: &str, vm_steps_max: u64) -> Action {
        let statements = vec![Statement { sql: sql.to_owned(), parameters: Vec::new() }];
        Action::Execute(Request { statements, vm_steps_max, ..Request::default() })
    }

    #[test]
    fn keys_of_clients_and_nodes_never_meet() {
        let action = action("SELECT 1", 0);
        let random = [5; 16];
        let node = RequestId::from_server(random, Index(1), &action);
        let client = RequestId::from_client(&random, Index(1), &action).unwrap();
        assert_ne!(node.key(), client.key());
        assert!(client.is_from_client() && !node.is_from_client());
    }

    #[test]
    fn keys_are_neither_empty_nor_endless() {
        let action = action("SELECT 1", 0);
        let of = |length| RequestId::from_client(&vec![1; length], Index(0), &action).map(|id| id.key().len());
        assert_eq!(of(0), Err(KeyError::Empty));
        assert_eq!(of(1), Ok(2));
        assert_eq!(of(255), Ok(256));
        assert_eq!(of(256), Err(KeyError::TooLong { bytes: 256 }));
    }

    #[test]
    fn the_fingerprint_is_of_what_is_asked_for() {
        let of = |action: &Action| RequestId::from_server([0; 16], Index(0), action).fingerprint;
        assert_eq!(of(&action("SELECT 1", 0)), of(&action("SELECT 1", 99)));
        assert_ne!(of(&action("SELECT 1", 0)), of(&action("SELECT 2", 0)));
        let Action::Execute(request) = action("SELECT 1", 0) else { unreachable!() };
        assert_ne!(of(&Action::Execute(request.clone())), of(&Action::Request(request)));
        let commit = |load, bytes| Action::LoadCommit(LoadCommit { load, chunks: 1, bytes, hash: [1; 32] });
        assert_eq!(of(&commit(1, 512)), of(&commit(2, 512)));
        assert_ne!(of(&commit(1, 512)), of(&commit(1, 1024)));
        // It stands in logs and databases: it must not change from one version to the next.
        assert_eq!(of(&Action::Vacuum), FINGERPRINT_OF_VACUUM);
    }

    const FINGERPRINT_OF_VACUUM: u64 = 11_888_716_034_176_858_124;
}
