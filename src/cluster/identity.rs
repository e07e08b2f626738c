//! The file `node-identity` in the data directory: which node this directory is, in which of its lives, of which cluster.
//!
//! Written before the node promises anything to anybody, so that a promise outlives a crash. Once the log exists the log is
//! right about the cluster, and this file about the incarnation. It must never be written while a node is running.
//!
//! Lives: an incarnation is drawn when a directory is first used. As long as no cluster is written here the node has never
//! voted or acknowledged, so a start without a log goes on with the same incarnation. With a cluster here and no log, the
//! log was lost: that is a new life, and it must not speak for the old one.

use crate::random;
use raft::{ClusterId, Incarnation, Membership, NodeId};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Name of the file in the data directory.
pub const IDENTITY_FILE: &str = "node-identity";

/// First line of the file.
const HEADER: &str = "ferrolite node identity 2";
/// That of versions whose promises did not say which cluster they are for.
const HEADER_1: &str = "ferrolite node identity 1";
/// No honest file is larger: some memberships of the largest kind in hexadecimal digits.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// `None` until the node's log was made.
    pub cluster: Option<ClusterId>,
    pub kept: Kept,
}

/// What a node without a cluster must not forget while one is being formed (`lobby`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Whom this node has promised to form a cluster with, while it is not known whether that came about.
    pub promised: Option<Promised>,
    /// All others have promised: this node makes the log of that cluster, and goes on with it after a crash.
    pub founding: Option<Foundation>,
    /// This life of the node never takes part in these.
    pub refused: Vec<ClusterId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promised {
    pub founder: Founder,
    /// What was promised, in one attempt after another; none if an earlier version gave the promise.
    pub plans: Vec<Foundation>,
}

/// A cluster that is to be formed: its id, and its voters, each in one life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foundation {
    pub cluster: ClusterId,
    pub membership: Membership,
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
        incarnation: Incarnation(random::u64().map_err(error)?.max(1)),
        cluster: None,
        kept: Kept::default(),
    };
    write(data_dir, &identity)?;
    Ok(identity)
}

/// The log of `cluster` exists: from here on the node may vote and acknowledge, and promises no other founder anything.
/// Called at every open, before the node runs. Returns the incarnation in which it may run.
///
/// `known` is the incarnation that the membership in the log gives this node; directories made before this file existed
/// take theirs from there. `is_empty`: nothing is in the log yet, so a cluster that this node founds still has to be put
/// there, and a crash may come first.
///
/// # Errors
/// See [`IdentityError`]; also a file that names another cluster than the log.
pub fn settle(
    data_dir: &Path,
    node: &NodeId,
    cluster: ClusterId,
    known: Option<Incarnation>,
    is_empty: bool,
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
            let drawn = random::u64().map_err(|error| IdentityError::Io { path, error })?;
            Incarnation(drawn.max(1))
        }
    };
    let founding = before.as_ref().and_then(|identity| identity.kept.founding.clone());
    let founding = founding.filter(|plan| is_empty && plan.cluster == cluster);
    let kept = Kept { founding, ..Kept::default() };
    let settled = Identity { node: node.clone(), incarnation, cluster: Some(cluster), kept };
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
    if let Some(Promised { founder, plans }) = &identity.kept.promised {
        text.push_str(&format!("promised {}\nfounder-address {}\n", quote(&founder.id.0), quote(&founder.address)));
        for plan in plans {
            text.push_str(&format!("promised-cluster {}\n", plan_line(plan)));
        }
    }
    if let Some(plan) = &identity.kept.founding {
        text.push_str(&format!("founding {}\n", plan_line(plan)));
    }
    for cluster in &identity.kept.refused {
        text.push_str(&format!("refused {cluster}\n"));
    }
    text.push_str("end\n");
    text
}

/// The cluster, and the bytes of its membership.
fn plan_line(plan: &Foundation) -> String {
    let bytes: String = plan.membership.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{} {bytes}", plan.cluster)
}

fn parse_plan(value: &str) -> Result<Foundation, &'static str> {
    let (cluster, digits) = value.split_once(' ').ok_or("a cluster has no membership")?;
    let hex = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Vec<u8> = hex.collect::<Option<_>>().ok_or("a membership is no row of bytes")?;
    let membership = Membership::decode(&bytes).map_err(|error| error.0)?;
    Ok(Foundation { cluster: parse_cluster(cluster)?, membership })
}

fn parse_cluster(value: &str) -> Result<ClusterId, &'static str> {
    u128::from_str_radix(value, 16).map(ClusterId).map_err(|_| "the cluster is no number")
}

fn parse(text: &str) -> Result<Identity, &'static str> {
    let mut lines = text.lines();
    if !matches!(lines.next(), Some(HEADER | HEADER_1)) {
        return Err("the file is no node identity of a version that this program knows");
    }
    let (mut node, mut incarnation, mut cluster, mut founder_id, mut founder_address) = (None, None, None, None, None);
    let (mut plans, mut founding, mut refused) = (Vec::new(), None, Vec::new());
    loop {
        let line = lines.next().ok_or("the file is cut short")?;
        if line == "end" {
            break;
        }
        let (name, value) = line.split_once(' ').ok_or("a line has no value")?;
        match name {
            "node" => node = Some(unquote(value)?),
            "incarnation" => incarnation = u64::from_str_radix(value, 16).ok().filter(|n| *n != 0),
            "cluster" => cluster = Some(parse_cluster(value)?),
            "promised" => founder_id = Some(unquote(value)?),
            "founder-address" => founder_address = Some(unquote(value)?),
            "promised-cluster" => plans.push(parse_plan(value)?),
            "founding" => founding = Some(parse_plan(value)?),
            "refused" => refused.push(parse_cluster(value)?),
            _ => return Err("the file has a line that this version does not know"),
        }
    }
    let promised = match (founder_id, founder_address) {
        (None, None) if plans.is_empty() => None,
        (Some(id), Some(address)) if !id.is_empty() => {
            Some(Promised { founder: Founder { id: NodeId(id.into()), address }, plans })
        }
        _ => return Err("a promise has only one half"),
    };
    Ok(Identity {
        node: NodeId(node.filter(|id| !id.is_empty()).ok_or("the node is missing")?.into()),
        incarnation: Incarnation(incarnation.ok_or("the incarnation is missing")?),
        cluster,
        kept: Kept { promised, founding, refused },
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

    fn plan(id: &str, cluster: u128) -> Foundation {
        let member = raft::Member {
            id: node(id),
            incarnation: Incarnation(5),
            suffrage: raft::Suffrage::Voter,
            address: "h:1".into(),
        };
        Foundation { cluster: ClusterId(cluster), membership: Membership::new(vec![member]).expect("valid") }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = TempDir::new("identity-roundtrip");
        let founder = Founder { id: node("a\n\"ü\nend"), address: "h:1\nend".into() };
        let founding = Some(plan("x\nend\n", 9));
        let plans = vec![plan("x\nend\n", 9), plan("y", 10)];
        let old = Kept { promised: Some(Promised { founder: founder.clone(), plans: Vec::new() }), ..Kept::default() };
        let refused = vec![ClusterId(1), ClusterId(u128::MAX)];
        let all = Kept { promised: Some(Promised { founder, plans }), founding: founding.clone(), refused };
        for (cluster, kept) in [
            (None, Kept::default()),
            (Some(ClusterId(7)), Kept::default()),
            (None, old),
            (None, all),
            (Some(ClusterId(u128::MAX)), Kept { founding, ..Kept::default() }),
        ] {
            let identity = Identity { node: node("b c\nend\n"), incarnation: Incarnation(u64::MAX), cluster, kept };
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
            kept: Kept {
                promised: Some(Promised {
                    founder: Founder { id: node("b"), address: "h:1".into() },
                    plans: vec![plan("b", 3)],
                }),
                ..Kept::default()
            },
        };
        let whole = render(&identity);
        let path = dir.path().join(IDENTITY_FILE);
        for cut in 0..whole.len() - 1 {
            std::fs::write(&path, &whole[..cut]).expect("writes");
            let error = read(dir.path(), &node("a")).expect_err("cut short").to_string();
            assert!(error.contains("move the whole data directory away"), "{cut}: {error}");
        }
        for bad in ["", "x", &whole.replace(" 2\n", " 3\n"), &whole.replace("cluster", "colour"), "\u{0}"] {
            std::fs::write(&path, bad).expect("writes");
            assert!(read(dir.path(), &node("a")).is_err(), "{bad:?}");
        }
        std::fs::write(&path, [0xff; 10]).expect("writes");
        assert!(read(dir.path(), &node("a")).is_err());
        std::fs::write(&path, vec![b'a'; 5_000_000]).expect("writes");
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
        assert_eq!(settle(dir.path(), &node("a"), cluster, None, false).expect("settles"), first.incarnation);
        assert_eq!(
            settle(dir.path(), &node("a"), cluster, Some(Incarnation(1)), false).expect("settles"),
            first.incarnation
        );
        assert!(settle(dir.path(), &node("a"), ClusterId(10), None, false).is_err());
        let second = prepare(dir.path(), &node("a")).expect("the log was lost");
        assert_ne!(second.incarnation, first.incarnation);
        assert_eq!(second.cluster, None);
    }

    #[test]
    fn a_founding_is_remembered_until_it_is_in_the_log_and_a_promise_of_version_1_is_read() {
        let dir = TempDir::new("identity-founding");
        let first = prepare(dir.path(), &node("a")).expect("new");
        let kept = Kept { founding: Some(plan("a", 9)), refused: vec![ClusterId(3)], ..Kept::default() };
        write(dir.path(), &Identity { kept, ..first.clone() }).expect("writes");
        let founding = |dir: &TempDir| read(dir.path(), &node("a")).expect("valid").expect("there").kept.founding;
        assert_eq!(prepare(dir.path(), &node("a")).expect("no log yet").kept.founding, Some(plan("a", 9)));
        settle(dir.path(), &node("a"), ClusterId(9), None, true).expect("settles");
        assert_eq!(founding(&dir), Some(plan("a", 9)), "the log is empty");
        settle(dir.path(), &node("a"), ClusterId(9), None, false).expect("settles");
        assert_eq!(founding(&dir), None);
        // With the log everything is lost.
        assert_eq!(prepare(dir.path(), &node("a")).expect("another life").kept, Kept::default());
        let text =
            "ferrolite node identity 1\nnode \"a\"\nincarnation 5\npromised \"b\"\nfounder-address \"h:1\"\nend\n";
        std::fs::write(dir.path().join(IDENTITY_FILE), text).expect("writes");
        let promised = read(dir.path(), &node("a")).expect("valid").expect("there").kept.promised.expect("kept");
        assert_eq!((&*promised.founder.id.0, promised.plans), ("b", Vec::new()));
    }

    #[test]
    fn directories_without_the_file_are_who_their_membership_says() {
        let dir = TempDir::new("identity-old");
        let settled = settle(dir.path(), &node("a"), ClusterId(1), Some(Incarnation(77)), false).expect("settles");
        assert_eq!(settled, Incarnation(77));
        assert_eq!(read(dir.path(), &node("a")).expect("written").expect("there").incarnation, settled);
        let dir = TempDir::new("identity-recovered");
        let settled = settle(dir.path(), &node("a"), ClusterId(1), Some(Incarnation(0)), false).expect("settles");
        assert_ne!(settled, Incarnation(0));
    }
}
