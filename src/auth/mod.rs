//! Who may do what: the users of the credentials file (`-auth`), their passwords and permissions.
//!
//! Reading order: `caller` (who asks), `operation` (what is asked of other nodes), `file` (what the file says), this file
//! (the decision). The file is read once, at the start; what is made of it never changes and is shared by all threads. It is asked
//! at two doors: by the HTTP front (`http::front`), and for what other nodes pass on by `coordinator::inbound`. No
//! password must reach a log: whatever holds one hides it from `Debug`.

mod caller;
mod file;
mod operation;

pub use caller::{CREDENTIAL_BYTES_MAX, Callers, Credentials};
pub use file::{CredentialFile, FileError};
pub use operation::Operation;

use std::collections::HashMap;
use std::fmt;

/// The user that stands for everybody, with or without credentials.
const EVERYBODY: &str = "*";

/// What a user may be permitted to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Everything.
    All,
    /// Bring a voting node into the cluster.
    Join,
    /// Bring a read replica into the cluster.
    JoinReadOnly,
    Remove,
    Execute,
    Query,
    Status,
    Ready,
    Backup,
    Load,
    Snapshot,
    LeaderOps,
    Ui,
}

/// The names in the file. One permission has two.
const NAMES: [(&str, Permission); 14] = [
    ("all", Permission::All),
    ("join", Permission::Join),
    ("join-read-only", Permission::JoinReadOnly),
    ("join-read-replica", Permission::JoinReadOnly),
    ("remove", Permission::Remove),
    ("execute", Permission::Execute),
    ("query", Permission::Query),
    ("status", Permission::Status),
    ("ready", Permission::Ready),
    ("backup", Permission::Backup),
    ("load", Permission::Load),
    ("snapshot", Permission::Snapshot),
    ("leader-ops", Permission::LeaderOps),
    ("ui", Permission::Ui),
];

impl Permission {
    fn from_name(name: &str) -> Option<Permission> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, permission)| *permission)
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Permissions(u16);

impl Permissions {
    fn add(&mut self, permission: Permission) {
        self.0 |= permission.bit();
    }

    fn include(self, permission: Permission) -> bool {
        self.0 & (permission.bit() | Permission::All.bit()) != 0
    }
}

struct User {
    /// `None`: nobody can be this user.
    password: Option<blake3::Hash>,
    permissions: Permissions,
}

struct Users {
    everybody: Permissions,
    named: HashMap<String, User>,
}

/// See the module.
pub struct AccessControl {
    /// `None`: there is no credentials file, and everybody may do everything.
    users: Option<Users>,
}

impl fmt::Debug for AccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "AccessControl(on)" } else { "AccessControl(off)" })
    }
}

impl AccessControl {
    /// Everybody may do everything.
    pub fn off() -> AccessControl {
        AccessControl { users: None }
    }

    /// Only what the file permits.
    pub fn of(file: &CredentialFile) -> AccessControl {
        let mut users = Users { everybody: Permissions::default(), named: HashMap::new() };
        // Of two entries with one name the later counts.
        for entry in &file.entries {
            if entry.username == EVERYBODY {
                users.everybody = entry.permissions;
                continue;
            }
            let password = entry.password.as_ref().map(|password| blake3::hash(password.as_bytes()));
            users.named.insert(entry.username.clone(), User { password, permissions: entry.permissions });
        }
        AccessControl { users: Some(users) }
    }

    pub fn is_on(&self) -> bool {
        self.users.is_some()
    }

    /// Whether `caller` has all permissions that are needed. What everybody may do, a caller with a wrong password may do too.
    pub fn permits(&self, caller: &Credentials, needed: &[Permission]) -> bool {
        let Some(users) = &self.users else { return true };
        if needed.iter().all(|permission| users.everybody.include(*permission)) {
            return true;
        }
        let Some(own) = users.authenticate(caller) else { return false };
        needed.iter().all(|permission| users.everybody.include(*permission) || own.include(*permission))
    }

    /// Whether all of `callers` may have `operation` done.
    pub fn permits_all(&self, callers: &Callers, operation: Operation) -> bool {
        match callers.as_slice() {
            [] => self.permits(&Credentials::anonymous(), operation.permissions()),
            callers => callers.iter().all(|caller| self.permits(caller, operation.permissions())),
        }
    }
}

impl Users {
    /// What the user may do that the caller proves to be.
    fn authenticate(&self, caller: &Credentials) -> Option<Permissions> {
        // What no password has as its hash, so that an unknown name takes as long as a wrong password.
        const NO_HASH: blake3::Hash = blake3::Hash::from_bytes([0; blake3::OUT_LEN]);
        let user = self.named.get(caller.username());
        let expected = user.and_then(|user| user.password).unwrap_or(NO_HASH);
        // Hashes are compared in a time that tells neither where they differ nor how long the password is.
        let is_right = blake3::hash(caller.password().as_bytes()) == expected;
        user.filter(|_| is_right).map(|user| user.permissions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(file: &str) -> AccessControl {
        AccessControl::of(&CredentialFile::parse(file.as_bytes()).expect("a valid file"))
    }

    fn caller(username: &str, password: &str) -> Credentials {
        Credentials::new(username.to_owned(), password.to_owned()).expect("short")
    }

    const FILE: &str = r#"[
        {"username": "*", "password": "star", "perms": ["ready"]},
        {"username": "root", "password": "r", "perms": ["all"]},
        {"username": "reader", "password": "p", "perms": ["query", "no-such-permission"]},
        {"username": "bare"},
        {"username": "open", "password": "", "perms": ["query"]},
        {"username": "twice", "password": "old", "perms": ["all"]},
        {"username": "twice", "password": "new", "perms": ["query"]}
    ]"#;

    #[test]
    fn without_a_file_everybody_may_do_everything() {
        let access = AccessControl::off();
        assert!(!access.is_on() && access.permits(&Credentials::anonymous(), &[Permission::Remove]));
        assert!(access.permits_all(&Callers::default(), Operation::Load));
    }

    #[test]
    fn the_decision() {
        use Permission::{Execute, Query, Ready, Remove};
        let access = access(FILE);
        assert!(access.is_on());
        for (username, password, needed, expected) in [
            // Everybody's permissions ask for nothing, and forgive everything.
            ("", "", &[Ready][..], true),
            ("reader", "wrong", &[Ready], true),
            ("stranger", "x", &[Ready], true),
            ("", "", &[Query], false),
            // The name `*` is nobody's: its password opens nothing.
            ("*", "star", &[Query], false),
            ("reader", "p", &[Query], true),
            ("reader", "p", &[Execute], false),
            ("reader", "p", &[Query, Execute], false),
            ("reader", "p", &[Query, Ready], true),
            ("root", "r", &[Query, Execute, Remove], true),
            // Name and password must be the same to the letter.
            ("reader", "P", &[Query], false),
            ("reader", "", &[Query], false),
            ("reader", "p ", &[Query], false),
            ("Reader", "p", &[Query], false),
            ("stranger", "p", &[Query], false),
            // Nothing is taken over from the entry before: neither its password nor what it may do.
            ("bare", "p", &[Query], false),
            ("bare", "", &[Query], false),
            ("open", "", &[Query], true),
            ("open", "p", &[Query], false),
            // The later of two.
            ("twice", "old", &[Query], false),
            ("twice", "new", &[Query], true),
            ("twice", "new", &[Execute], false),
        ] {
            assert_eq!(
                access.permits(&caller(username, password), needed),
                expected,
                "{username}:{password} {needed:?}"
            );
        }
    }

    #[test]
    fn a_permission_gives_itself_and_nothing_else() {
        let all = NAMES.map(|(_, permission)| permission);
        for (name, own) in NAMES {
            let access = access(&format!(r#"[{{"username": "u", "password": "p", "perms": ["{name}"]}}]"#));
            for permission in all {
                let expected = own == Permission::All || own == permission;
                assert_eq!(access.permits(&caller("u", "p"), &[permission]), expected, "{name} {permission:?}");
            }
        }
    }

    #[test]
    fn all_callers_of_one_call_must_be_permitted() {
        let access = access(FILE);
        let callers = |list: &[(&str, &str)]| {
            let mut callers = Callers::default();
            assert!(list.iter().all(|(username, password)| callers.add(&caller(username, password), 9)));
            callers
        };
        for (list, expected) in [
            (&[][..], false),
            (&[("", "")], false),
            (&[("reader", "p")], true),
            (&[("reader", "p"), ("root", "r")], true),
            (&[("reader", "p"), ("", "")], false),
            (&[("root", "r"), ("reader", "wrong")], false),
        ] {
            assert_eq!(access.permits_all(&callers(list), Operation::Query), expected, "{list:?}");
        }
    }

    #[test]
    fn nothing_that_holds_a_password_shows_it() {
        let file = CredentialFile::parse(br#"[{"username": "u", "password": "s3cret", "perms": []}]"#).expect("valid");
        let callers = Callers::from(caller("u", "s3cret"));
        let shown = format!("{file:?} {callers:?} {:?} {:#?}", AccessControl::of(&file), caller("u", "s3cret"));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
