//! Disaster recovery: `raft/peers.json` in the data directory, written by an operator when the quorum is lost for good,
//! names the members with which the node is to go on. Read at start, on the main thread, before anything else.
//!
//! The texts of errors are those that operators of this API know.

use crate::config::address::split_host_port;
use raft::{Incarnation, Member, Membership, NodeId, Suffrage};
use serde_json::Value;
use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The directory that operators put the file in; made at every open.
pub const RECOVERY_DIR: &str = "raft";
const PEERS_FILE: &str = "peers.json";
/// What the file is called after it was used.
const PEERS_USED: &str = "peers.info";
/// A file for the most members with the longest names is far smaller.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why the file cannot be used.
#[derive(Debug)]
pub enum PeersError {
    /// It cannot be read, or is not the JSON that is wanted: `failed to read peers file: ...`.
    Read(String),
    /// It does not describe a cluster: `failed to recover node: ...`.
    Recover(String),
    /// The directory cannot be made, or the file not renamed.
    Io(PathBuf, io::Error),
}

impl fmt::Display for PeersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeersError::Read(text) => write!(f, "failed to read peers file: {text}"),
            PeersError::Recover(text) => write!(f, "failed to recover node: {text}"),
            PeersError::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for PeersError {}

/// The file that was found, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    pub path: PathBuf,
    /// At least one voter; ids and addresses are unique. Incarnations are not known (0).
    pub members: Vec<Member>,
}

/// Makes the directory for the file, and reads the file if it is there.
///
/// # Errors
/// See [`PeersError`]; a node must not start then, since the operator wanted another membership than the log has.
pub fn find(data_dir: &Path) -> Result<Option<Peers>, PeersError> {
    let dir = data_dir.join(RECOVERY_DIR);
    fs::create_dir_all(&dir).map_err(|error| PeersError::Io(dir.clone(), error))?;
    let path = dir.join(PEERS_FILE);
    let bytes = match fs::metadata(&path) {
        Ok(meta) if meta.len() > FILE_BYTES_MAX => return Err(PeersError::Read("the file is too large".into())),
        Ok(_) => fs::read(&path).map_err(|error| PeersError::Read(error.to_string()))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PeersError::Read(error.to_string())),
    };
    let members = parse(&bytes).map_err(PeersError::Read)?;
    check(&members).map_err(PeersError::Recover)?;
    Ok(Some(Peers { path, members }))
}

impl Peers {
    /// The members, with the life of the one that is known.
    pub fn members_with(&self, node: &NodeId, incarnation: Incarnation) -> Vec<Member> {
        let mut members = self.members.clone();
        for member in members.iter_mut().filter(|member| member.id == *node) {
            member.incarnation = incarnation;
        }
        members
    }

    /// The recovery is durable: the next start must not do it again.
    ///
    /// # Errors
    /// The file cannot be renamed.
    pub fn used(&self) -> Result<(), PeersError> {
        let dir = self.path.parent().expect("the file lies in a directory");
        let rename = || {
            fs::rename(&self.path, dir.join(PEERS_USED))?;
            File::open(dir)?.sync_all()
        };
        rename().map_err(|error| PeersError::Io(self.path.clone(), error))
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Member>, String> {
    let Value::Array(list) = serde_json::from_slice(bytes).map_err(|error| error.to_string())? else {
        return Err("the file must hold a list".into());
    };
    list.iter().map(member).collect()
}

/// Names of other keys are let through, as decoders of this file always did.
fn member(value: &Value) -> Result<Member, String> {
    let Value::Object(fields) = value else { return Err("every peer must be an object".into()) };
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("{name} must be a string")),
    };
    let suffrage = match fields.get("non_voter") {
        None | Some(Value::Null | Value::Bool(false)) => Suffrage::Voter,
        Some(Value::Bool(true)) => Suffrage::NonVoter,
        Some(_) => return Err("non_voter must be true or false".into()),
    };
    Ok(Member {
        id: NodeId(text("id")?.into()),
        incarnation: Incarnation(0),
        suffrage,
        address: text("address")?.into(),
    })
}

fn check(members: &[Member]) -> Result<(), String> {
    let (mut ids, mut addresses) = (HashSet::new(), HashSet::new());
    for member in members {
        let address = &*member.address;
        if member.id.0.is_empty() {
            return Err(format!("empty ID in configuration: {}", shown(members)));
        }
        if address.is_empty() {
            return Err(format!("empty address in configuration: {}", shown(members)));
        }
        if address.contains("://") {
            return Err(format!("protocol specified in address: {address}"));
        }
        if split_host_port(address).is_none() {
            return Err(format!("invalid address in configuration: {address}"));
        }
        if !ids.insert(&member.id) {
            return Err(format!("found duplicate ID in configuration: {}", member.id));
        }
        if !addresses.insert(address) {
            return Err(format!("found duplicate address in configuration: {address}"));
        }
    }
    if !members.iter().any(|member| member.suffrage == Suffrage::Voter) {
        return Err(format!("need at least one voter in configuration: {}", shown(members)));
    }
    Membership::new(members.to_vec()).map(drop).map_err(|error| format!("{error} in configuration"))
}

/// A configuration as one text.
pub(super) fn shown(members: &[Member]) -> String {
    let member = |member: &Member| {
        let suffrage = if member.suffrage == Suffrage::NonVoter { "Nonvoter" } else { "Voter" };
        format!("{{{suffrage} {} {}}}", member.id, member.address)
    };
    let members: Vec<String> = members.iter().map(member).collect();
    format!("{{[{}]}}", members.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::testing::TempDir;
    use super::*;

    fn found(dir: &TempDir, text: &str) -> Result<Option<Peers>, String> {
        fs::create_dir_all(dir.path().join(RECOVERY_DIR)).expect("writes");
        fs::write(dir.path().join("raft/peers.json"), text).expect("writes");
        find(dir.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_file_is_read_once() {
        let dir = TempDir::new("peers-once");
        assert_eq!(find(dir.path()).expect("no file"), None);
        assert!(dir.path().join("raft").is_dir(), "operators put their file there");
        let text = r#"[{"id":"1","address":"h1:4002","non_voter":false},{"id":"2","address":"[::1]:4002","non_voter":true},
            {"id":"3","address":"h3:4002"}]"#;
        let peers = found(&dir, text).expect("valid").expect("there");
        let suffrages: Vec<_> = peers.members.iter().map(|member| (&*member.id.0, member.suffrage)).collect();
        assert_eq!(suffrages, [("1", Suffrage::Voter), ("2", Suffrage::NonVoter), ("3", Suffrage::Voter)]);
        assert!(peers.members.iter().all(|member| member.incarnation == Incarnation(0)));
        let known: Vec<u64> =
            peers.members_with(&NodeId("2".into()), Incarnation(7)).iter().map(|member| member.incarnation.0).collect();
        assert_eq!(known, [0, 7, 0]);
        peers.used().expect("renames");
        assert_eq!(find(dir.path()).expect("valid"), None);
        assert!(dir.path().join("raft/peers.info").is_file());
    }

    #[test]
    fn mistakes_have_their_texts() {
        let dir = TempDir::new("peers-mistakes");
        for (text, error) in [
            (r#"[{"id":"","address":"h:1"}]"#, "failed to recover node: empty ID in configuration: {"),
            (r#"[{"address":"h:1"}]"#, "failed to recover node: empty ID in configuration: {"),
            (r#"[{"id":"1","address":""}]"#, "failed to recover node: empty address in configuration: {"),
            (
                r#"[{"id":"1","address":"http://h:1"}]"#,
                "failed to recover node: protocol specified in address: http://h:1",
            ),
            (r#"[{"id":"1","address":"h"}]"#, "failed to recover node: invalid address in configuration: h"),
            (
                r#"[{"id":"1","address":"h:1"},{"id":"1","address":"h:2"}]"#,
                "failed to recover node: found duplicate ID in configuration: 1",
            ),
            (
                r#"[{"id":"1","address":"h:1"},{"id":"2","address":"h:1"}]"#,
                "failed to recover node: found duplicate address in configuration: h:1",
            ),
            ("[]", "failed to recover node: need at least one voter in configuration: {"),
            (
                r#"[{"id":"1","address":"h:1","non_voter":true}]"#,
                "failed to recover node: need at least one voter in configuration: {",
            ),
            ("{}", "failed to read peers file: "),
            ("", "failed to read peers file: "),
            ("[1]", "failed to read peers file: "),
            (r#"[{"id":1}]"#, "failed to read peers file: id must be a string"),
            (r#"[{"id":"1","address":"h:1","non_voter":"yes"}]"#, "failed to read peers file: "),
        ] {
            let told = found(&dir, text).expect_err(text);
            assert!(told.starts_with(error), "{text}: {told}");
        }
    }
}
