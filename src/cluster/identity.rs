//! The file `node-identity` in the data directory: which node this directory is, in which of its lives, of which cluster.
//!
//! Written before the node promises anything to anybody, so that a promise outlives a crash. Once the log exists the log is
//! right about the cluster, and this file about the incarnation. It must never be written while a node is running.
//!
//! Lives: an incarnation is drawn when a directory is first used. As long as no cluster is written here the node has never
//! voted or acknowledged, so a start without a log goes on with the same incarnation. With a cluster here and no log, the
//! log was lost: that is a new life, and it must not speak for the old one.

use crate::node::open::random_u64;
use raft::{ClusterId, Incarnation, NodeId};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
pub const IDENTITY_FILE: &str = "node-identity";

/// First line of the file.
const HEADER: &str = "ferrolite node identity 1";
/// No honest file is larger: an id and an address of the longest kind, doubled by quoting.
const FILE_BYTES_MAX: u64 = 16 * 1024;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// `None` until the node's log was made.
    pub cluster: Option<ClusterId>,
    /// Whom this node has promised to form a cluster with, while it is not known whether that came about.
    pub promised: Option<Founder>,
}

/// The node that forms a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    pub id: NodeId,
    /// Its Raft address, host:port.
    pub address: String,
}

/// Why the identity cannot be used.
#[derive(Debug)]
pub enum IdentityError {
    Io {
        path: PathBuf,
        error: io::Error,
    },
    /// The file is damaged or of a later version.
    Unreadable {
        path: PathBuf,
        why: &'static str,
    },
    /// The directory belongs to another node.
    OtherNode {
        path: PathBuf,
        owner: NodeId,
        started_as: NodeId,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            IdentityError::Unreadable { path, why } => write!(
                f,
                "{}: {why}; restore the file, or move the whole data directory away and let the node join anew",
                path.display()
            ),
            IdentityError::OtherNode { path, owner, started_as } => write!(
                f,
                "the data directory belongs to node {owner} ({}), but this node is started as {started_as}: start it with \
                 -node-id {owner}, or give it another directory",
                path.display()
            ),
        }
    }
}

impl std::error::Error for IdentityError {}

/// Reads the identity of a directory; `None` when it has none (it is new, or was made by a version without the file).
///
/// # Errors
/// The file is there and cannot be used, or names another node than `node`.
pub fn read(data_dir: &Path, node: &NodeId) -> Result<Option<Identity>, IdentityError> {
    match read_any(data_dir)? {
        Some(identity) if identity.node != *node => Err(IdentityError::OtherNode {
            path: data_dir.join(IDENTITY_FILE),
            owner: identity.node,
            started_as: node.clone(),
        }),
        identity => Ok(identity),
    }
}

fn read_any(data_dir: &Path) -> Result<Option<Identity>, IdentityError> {
    let path = data_dir.join(IDENTITY_FILE);
    let io_error = |error| IdentityError::Io { path: path.clone(), error };
    let size = match std::fs::metadata(&path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    let unreadable = |why| IdentityError::Unreadable { path: path.clone(), why };
    if size > FILE_BYTES_MAX {
        return Err(unreadable("the file is too large"));
    }
    let bytes = std::fs::read(&path).map_err(io_error)?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable("the file is not text"))?;
    parse(&text).map(Some).map_err(unreadable)
}

/// The identity with which a node without a log sets out to find its cluster; durable when this returns.
///
/// # Errors
/// See [`IdentityError`].
pub fn prepare(data_dir: &Path, node: &NodeId) -> Result<Identity, IdentityError> {
    match read(data_dir, node)? {
        Some(identity) if identity.cluster.is_none() => return Ok(identity),
        Some(_) => log::warn!(
            target: "store",
            "the directory has lost its log: node {node} begins a new life and its cluster will send it everything anew"
        ),
        None => {}
    }
    let error = |error| IdentityError::Io { path: data_dir.join(IDENTITY_FILE), error };
    let identity = Identity {
        node: node.clone(),
        incarnation: Incarnation(random_u64().map_err(error)?.max(1)),
        cluster: None,
        promised: None,
    };
    write(data_dir, &identity)?;
    Ok(identity)
}

/// The log of `cluster` exists: from here on the node may vote and acknowledge, and promises no other founder anything.
/// Called at every open, before the node runs. Returns the incarnation in which it may run.
///
/// `known` is the incarnation that the membership in the log gives this node; directories made before this file existed
/// take theirs from there.
///
/// # Errors
/// See [`IdentityError`]; also a file that names another cluster than the log.
pub fn settle(
    data_dir: &Path,
    node: &NodeId,
    cluster: ClusterId,
    known: Option<Incarnation>,
) -> Result<Incarnation, IdentityError> {
    let path = data_dir.join(IDENTITY_FILE);
    let before = read(data_dir, node)?;
    if before.as_ref().and_then(|identity| identity.cluster).is_some_and(|named| named != cluster) {
        return Err(IdentityError::Unreadable { path, why: "the file names another cluster than the raft log" });
    }
    let incarnation = match (&before, known.filter(|known| known.0 != 0)) {
        (Some(identity), _) => identity.incarnation,
        (None, Some(known)) => known,
        (None, None) => {
            let drawn = random_u64().map_err(|error| IdentityError::Io { path, error })?;
            Incarnation(drawn.max(1))
        }
    };
    let settled = Identity { node: node.clone(), incarnation, cluster: Some(cluster), promised: None };
    if before.as_ref() != Some(&settled) {
        write(data_dir, &settled)?;
    }
    Ok(incarnation)
}

/// After a recovery by hand (`peers.json`) the node may have another name: keeps the life and renames the node.
///
/// # Errors
/// See [`IdentityError`].
pub fn rename(data_dir: &Path, node: &NodeId) -> Result<(), IdentityError> {
    match read_any(data_dir)? {
        Some(identity) if identity.node != *node => write(data_dir, &Identity { node: node.clone(), ..identity }),
        _ => Ok(()),
    }
}

/// Replaces the file; durable when this returns.
///
/// # Errors
/// `IdentityError::Io`; the file is then the old one or the new one.
pub fn write(data_dir: &Path, identity: &Identity) -> Result<(), IdentityError> {
    let path = data_dir.join(IDENTITY_FILE);
    replace(data_dir, &path, render(identity).as_bytes()).map_err(|error| IdentityError::Io { path, error })
}

fn replace(data_dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = data_dir.join(format!("{IDENTITY_FILE}.tmp"));
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    File::open(data_dir)?.sync_all()
}

/// Lines of a name and a value; texts as JSON strings, so that no id can forge a line.
fn render(identity: &Identity) -> String {
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!("{HEADER}\nnode {}\nincarnation {:016x}\n", quote(&identity.node.0), identity.incarnation.0);
    if let Some(cluster) = identity.cluster {
        text.push_str(&format!("cluster {cluster}\n"));
    }
    if let Some(founder) = &identity.promised {
        text.push_str(&format!("promised {}\nfounder-address {}\n", quote(&founder.id.0), quote(&founder.address)));
    }
    text.push_str("end\n");
    text
}

fn parse(text: &str) -> Result<Identity, &'static str> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err("the file is no node identity of a version that this program knows");
    }
    let (mut node, mut incarnation, mut cluster, mut founder_id, mut founder_address) = (None, None, None, None, None);
    loop {
        let line = lines.next().ok_or("the file is cut short")?;
        if line == "end" {
            break;
        }
        let (name, value) = line.split_once(' ').ok_or("a line has no value")?;
        match name {
            "node" => node = Some(unquote(value)?),
            "incarnation" => incarnation = u64::from_str_radix(value, 16).ok().filter(|n| *n != 0),
            "cluster" => cluster = Some(u128::from_str_radix(value, 16).map_err(|_| "the cluster is no number")?),
            "promised" => founder_id = Some(unquote(value)?),
            "founder-address" => founder_address = Some(unquote(value)?),
            _ => return Err("the file has a line that this version does not know"),
        }
    }
    let promised = match (founder_id, founder_address) {
        (Some(id), Some(address)) => Some(Founder { id: NodeId(id.into()), address }),
        (None, None) => None,
        _ => return Err("half of a promise is missing"),
    };
    Ok(Identity {
        node: NodeId(node.filter(|id| !id.is_empty()).ok_or("the node is missing")?.into()),
        incarnation: Incarnation(incarnation.ok_or("the incarnation is missing")?),
        cluster: cluster.map(ClusterId),
        promised,
    })
}

fn unquote(text: &str) -> Result<String, &'static str> {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::String(text)) => Ok(text),
        _ => Err("a text is not quoted"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::TempDir;
    use super::*;

    fn node(id: &str) -> NodeId {
        NodeId(id.into())
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = TempDir::new("identity-roundtrip");
        let founder = Founder { id: node("a\n\"ü\nend"), address: "h:1\nend".into() };
        for (cluster, promised) in
            [(None, None), (Some(ClusterId(7)), None), (None, Some(founder)), (Some(ClusterId(u128::MAX)), None)]
        {
            let identity = Identity { node: node("b c\nend\n"), incarnation: Incarnation(u64::MAX), cluster, promised };
            write(dir.path(), &identity).expect("the directory can be written");
            assert_eq!(read(dir.path(), &identity.node).expect("valid"), Some(identity));
        }
    }

    #[test]
    fn damage_and_strangers_are_refused_with_a_way_out() {
        let dir = TempDir::new("identity-damage");
        assert_eq!(read(dir.path(), &node("a")).expect("no file is fine"), None);
        let identity = Identity {
            node: node("a"),
            incarnation: Incarnation(5),
            cluster: Some(ClusterId(6)),
            promised: Some(Founder { id: node("b"), address: "h:1".into() }),
        };
        let whole = render(&identity);
        let path = dir.path().join(IDENTITY_FILE);
        for cut in 0..whole.len() - 1 {
            std::fs::write(&path, &whole[..cut]).expect("writes");
            let error = read(dir.path(), &node("a")).expect_err("cut short").to_string();
            assert!(error.contains("move the whole data directory away"), "{cut}: {error}");
        }
        for bad in ["", "x", &whole.replace(" 1\n", " 2\n"), &whole.replace("cluster", "colour"), "\u{0}"] {
            std::fs::write(&path, bad).expect("writes");
            assert!(read(dir.path(), &node("a")).is_err(), "{bad:?}");
        }
        std::fs::write(&path, [0xff; 10]).expect("writes");
        assert!(read(dir.path(), &node("a")).is_err());
        std::fs::write(&path, vec![b'a'; 20_000]).expect("writes");
        assert!(read(dir.path(), &node("a")).is_err());
        std::fs::write(&path, whole).expect("writes");
        let error = read(dir.path(), &node("c")).expect_err("another node").to_string();
        assert!(error.contains("belongs to node a") && error.contains("-node-id a"), "{error}");
    }

    #[test]
    fn a_life_ends_only_with_a_lost_log() {
        let dir = TempDir::new("identity-lives");
        let first = prepare(dir.path(), &node("a")).expect("new");
        assert_eq!(prepare(dir.path(), &node("a")).expect("again"), first, "no log yet: the same life");
        let cluster = ClusterId(9);
        assert_eq!(settle(dir.path(), &node("a"), cluster, None).expect("settles"), first.incarnation);
        assert_eq!(settle(dir.path(), &node("a"), cluster, Some(Incarnation(1))).expect("settles"), first.incarnation);
        assert!(settle(dir.path(), &node("a"), ClusterId(10), None).is_err());
        let second = prepare(dir.path(), &node("a")).expect("the log was lost");
        assert_ne!(second.incarnation, first.incarnation);
        assert_eq!(second.cluster, None);
    }

    #[test]
    fn directories_without_the_file_are_who_their_membership_says() {
        let dir = TempDir::new("identity-old");
        let settled = settle(dir.path(), &node("a"), ClusterId(1), Some(Incarnation(77))).expect("settles");
        assert_eq!(settled, Incarnation(77));
        assert_eq!(read(dir.path(), &node("a")).expect("written").expect("there").incarnation, settled);
        let dir = TempDir::new("identity-recovered");
        let settled = settle(dir.path(), &node("a"), ClusterId(1), Some(Incarnation(0))).expect("settles");
        assert_ne!(settled, Incarnation(0));
    }
}
