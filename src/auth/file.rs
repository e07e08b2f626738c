//! The credentials file: a JSON array with an object for each user. Read on the main thread, before any other exists.
//!
//! ```json
//! [{"username": "bob", "password": "secret", "perms": ["query", "execute"]}, {"username": "*", "perms": ["ready"]}]
//! ```
//!
//! Each entry stands for itself. What can only be a mistake is an error that says where it is; what other programs accept and
//! what harms nobody is a warning.

use super::{CREDENTIAL_BYTES_MAX, Credentials, EVERYBODY, NAMES, Permission, Permissions};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::Path;

/// What the file says.
pub struct CredentialFile {
    pub(super) entries: Vec<Entry>,
    /// What is likely not meant so, each as a text that says where.
    pub warnings: Vec<String>,
}

/// One user.
pub(super) struct Entry {
    pub username: String,
    /// `None`: there is none, so that nobody can be this user.
    pub password: Option<String>,
    pub permissions: Permissions,
}

impl fmt::Debug for CredentialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialFile({} entries)", self.entries.len())
    }
}

/// Why a file cannot be used.
#[derive(Debug)]
pub enum FileError {
    Unreadable(io::Error),
    /// Says the line and the column.
    NotJson(serde_json::Error),
    NotAnArray,
    Entry {
        /// The first one is 1.
        number: usize,
        /// Where it is known.
        username: Option<String>,
        problem: String,
    },
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::Unreadable(error) => error.fmt(f),
            FileError::NotJson(error) => write!(f, "not JSON: {error}"),
            FileError::NotAnArray => f.write_str(
                r#"not an array of users, such as [{"username": "bob", "password": "secret", "perms": ["query"]}]"#,
            ),
            FileError::Entry { number, username, problem } => {
                write!(f, "{}: {problem}", place(*number, username.as_deref()))
            }
        }
    }
}

impl std::error::Error for FileError {}

fn place(number: usize, username: Option<&str>) -> String {
    match username {
        Some(username) => format!("entry {number} (user {username:?})"),
        None => format!("entry {number}"),
    }
}

impl CredentialFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn read(path: &Path) -> Result<CredentialFile, FileError> {
        CredentialFile::parse(&std::fs::read(path).map_err(FileError::Unreadable)?)
    }

    /// The same from its bytes.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn parse(bytes: &[u8]) -> Result<CredentialFile, FileError> {
        let Value::Array(items) = serde_json::from_slice(bytes).map_err(FileError::NotJson)? else {
            return Err(FileError::NotAnArray);
        };
        let mut file = CredentialFile { entries: Vec::with_capacity(items.len()), warnings: Vec::new() };
        let mut seen = HashSet::new();
        for (before, item) in items.into_iter().enumerate() {
            let entry = Record { number: before + 1, username: None }.entry(item, &mut file.warnings)?;
            if !seen.insert(entry.username.clone()) {
                let here = place(before + 1, Some(&entry.username));
                file.warnings.push(format!("{here}: an earlier entry has the same name and does not count"));
            }
            file.entries.push(entry);
        }
        Ok(file)
    }

    /// Name and password of a user; `None`: there is no such user, or nobody can be it.
    pub fn credentials_of(&self, username: &str) -> Option<Credentials> {
        let entry = self.entries.iter().rfind(|entry| entry.username == username && username != EVERYBODY)?;
        Credentials::new(entry.username.clone(), entry.password.clone()?)
    }
}

/// An entry while it is read: where it is, for complaints.
struct Record {
    number: usize,
    username: Option<String>,
}

impl Record {
    fn entry(mut self, item: Value, warnings: &mut Vec<String>) -> Result<Entry, FileError> {
        let Value::Object(mut members) = item else {
            return Err(self.error("not an object with username, password and perms"));
        };
        let username = self.text(&mut members, "username")?.filter(|username| !username.is_empty());
        let username = username.ok_or_else(|| self.error(r#""username" is missing or empty"#))?;
        self.username = Some(username.clone());
        let password = self.text(&mut members, "password")?;
        if password.is_none() && username != EVERYBODY {
            warnings.push(format!("{}: no password, so that nobody can be this user", self.place()));
        }
        let mut permissions = Permissions::default();
        for name in self.names(&mut members, "perms")? {
            match Permission::from_name(&name) {
                Some(permission) => permissions.add(permission),
                None => {
                    let known = NAMES.map(|(name, _)| name).join(", ");
                    let text = format!("{}: there is no permission {name:?}; there are {known}", self.place());
                    warnings.push(text);
                }
            }
        }
        Ok(Entry { username, password, permissions })
    }

    fn place(&self) -> String {
        place(self.number, self.username.as_deref())
    }

    fn error(&self, problem: impl Into<String>) -> FileError {
        FileError::Entry { number: self.number, username: self.username.clone(), problem: problem.into() }
    }

    /// A member, in whatever case its name is written; null is as good as none.
    fn member(&self, members: &mut Map<String, Value>, name: &str) -> Result<Option<Value>, FileError> {
        let spelt: Vec<String> = members.keys().filter(|key| key.eq_ignore_ascii_case(name)).cloned().collect();
        match &spelt[..] {
            [] => Ok(None),
            [key] => Ok(members.remove(key).filter(|value| !value.is_null())),
            // Two readers may read it differently.
            [one, other, ..] => Err(self.error(format!("it has both {one:?} and {other:?}"))),
        }
    }

    fn text(&self, members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, FileError> {
        match self.member(members, name)? {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= CREDENTIAL_BYTES_MAX => Ok(Some(text)),
            Some(Value::String(_)) => Err(self.error(format!("{name:?} is longer than {CREDENTIAL_BYTES_MAX} bytes"))),
            Some(_) => Err(self.error(format!("{name:?} is not a string"))),
        }
    }

    fn names(&self, members: &mut Map<String, Value>, name: &str) -> Result<Vec<String>, FileError> {
        let not_names = || self.error(format!("{name:?} is not an array of strings"));
        let items = match self.member(members, name)? {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(not_names()),
        };
        let name = |item| match item {
            Value::String(name) => Ok(name),
            _ => Err(not_names()),
        };
        items.into_iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        CredentialFile::parse(text.as_bytes()).expect_err("a mistake").to_string()
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, expected) in [
            ("", "not JSON: EOF while parsing a value at line 1 column 0"),
            ("[\n  {\"username\": \"bob\",}\n]", "not JSON: trailing comma at line 2 column 22"),
            ("[] []", "not JSON: trailing characters at line 1 column 4"),
            ("[\"bob\"]", "entry 1: not an object with username, password and perms"),
            ("[{\"password\": \"x\"}]", "entry 1: \"username\" is missing or empty"),
            ("[{\"username\": \"\"}]", "entry 1: \"username\" is missing or empty"),
            ("[{\"username\": 7}]", "entry 1: \"username\" is not a string"),
            (
                "[{\"username\": \"a\"}, {\"username\": \"b\", \"password\": 7}]",
                "entry 2 (user \"b\"): \"password\" is not a string",
            ),
            (
                "[{\"username\": \"a\", \"perms\": \"all\"}]",
                "entry 1 (user \"a\"): \"perms\" is not an array of strings",
            ),
            ("[{\"username\": \"a\", \"perms\": [1]}]", "entry 1 (user \"a\"): \"perms\" is not an array of strings"),
            ("[{\"username\": \"a\", \"Username\": \"b\"}]", "entry 1: it has both \"Username\" and \"username\""),
        ] {
            assert_eq!(error(text), expected, "{text}");
        }
        for text in ["{}", "null", "\"bob\""] {
            assert!(error(text).starts_with("not an array of users, such as [{"), "{text}");
        }
        let long = "x".repeat(CREDENTIAL_BYTES_MAX + 1);
        let text = format!(r#"[{{"username": "a", "password": "{long}"}}]"#);
        assert_eq!(error(&text), "entry 1 (user \"a\"): \"password\" is longer than 4096 bytes");
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let error = CredentialFile::read(Path::new("/nonexistent/credentials")).expect_err("there is none");
        assert!(error.to_string().contains("No such file"), "{error}");
    }

    #[test]
    fn what_harms_nobody_is_a_warning() {
        let text = r#"[
            {"username": "a", "password": "1", "perms": ["query", "exectue"], "comment": {"ignored": []}},
            {"username": "b", "perms": null},
            {"username": "*", "perms": []},
            {"USERNAME": "a", "Password": "2", "Perms": ["all"]}
        ]"#;
        let file = CredentialFile::parse(text.as_bytes()).expect("valid");
        let [unknown, bare, twice] = &file.warnings[..] else { panic!("{:?}", file.warnings) };
        assert!(unknown.starts_with("entry 1 (user \"a\"): there is no permission \"exectue\"; there are all, join, "));
        assert_eq!(bare, "entry 2 (user \"b\"): no password, so that nobody can be this user");
        assert_eq!(twice, "entry 4 (user \"a\"): an earlier entry has the same name and does not count");
        assert!(CredentialFile::parse(b"[]").expect("valid").warnings.is_empty());
    }

    #[test]
    fn credentials_are_those_of_the_entry_that_counts() {
        let text = r#"[{"username": "a", "password": "1"}, {"username": "a", "password": "2"}, {"username": "b"},
                       {"username": "*", "password": "3"}]"#;
        let file = CredentialFile::parse(text.as_bytes()).expect("valid");
        let credentials = file.credentials_of("a").expect("there is one");
        assert_eq!((credentials.username(), credentials.password()), ("a", "2"));
        for nobody in ["b", "c", "", "*"] {
            assert!(file.credentials_of(nobody).is_none(), "{nobody}");
        }
    }
}
