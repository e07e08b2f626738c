//! Who asks for something: a name and a password as they were given, not yet believed.

use std::fmt;

/// Longest name and longest password, in bytes. They travel between nodes and wait in the queue of writes, so they must not
/// be of any length.
pub const CREDENTIAL_BYTES_MAX: usize = 4096;

/// A user's name and password. Without a name: a caller who says nothing, and is nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    username: String,
    password: String,
}

impl Credentials {
    /// `None`: longer than those of any user.
    pub fn new(username: String, password: String) -> Option<Credentials> {
        let fits = |text: &str| text.len() <= CREDENTIAL_BYTES_MAX;
        (fits(&username) && fits(&password)).then_some(Credentials { username, password })
    }

    pub fn anonymous() -> Credentials {
        Credentials::default()
    }

    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty()
    }

    pub fn username(&self) -> &str {
        &self.username
    }

    /// To be shown to no person and no log.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// What they take in memory beyond themselves.
    pub fn heap_bytes(&self) -> usize {
        self.username.len() + self.password.len()
    }
}

/// A mistyped request may have the password in the place of the name, so neither is shown.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_anonymous() { "Credentials(none)" } else { "Credentials(<hidden>)" })
    }
}

/// In whose name one node asks another: one caller's, or those of all whose queued writes go together. Empty: nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Callers(Vec<Credentials>);

impl Callers {
    /// Most callers of one call.
    pub const MAX: usize = 16;

    /// Has `caller` among them; `false`: they are `max` already, and it is none of them.
    #[must_use]
    pub fn add(&mut self, caller: &Credentials, max: usize) -> bool {
        if self.0.contains(caller) {
            return true;
        }
        let has_room = self.0.len() < max.min(Callers::MAX);
        if has_room {
            self.0.push(caller.clone());
        }
        has_room
    }

    pub fn as_slice(&self) -> &[Credentials] {
        &self.0
    }
}

impl From<Credentials> for Callers {
    fn from(caller: Credentials) -> Callers {
        Callers(if caller.is_anonymous() { Vec::new() } else { vec![caller] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(username: &str) -> Credentials {
        Credentials::new(username.to_owned(), "p".to_owned()).expect("short")
    }

    #[test]
    fn what_is_longer_than_any_users_is_nobody() {
        let long = "x".repeat(CREDENTIAL_BYTES_MAX);
        assert!(Credentials::new(long.clone(), long.clone()).is_some());
        assert!(Credentials::new(long.clone() + "x", String::new()).is_none());
        assert!(Credentials::new("u".to_owned(), long + "x").is_none());
    }

    #[test]
    fn callers_are_counted_once_and_are_few() {
        assert_eq!(Callers::from(Credentials::anonymous()), Callers::default());
        let mut callers = Callers::from(named("0"));
        for n in 0..Callers::MAX {
            assert!(callers.add(&named(&n.to_string()), usize::MAX));
        }
        assert_eq!(callers.as_slice().len(), Callers::MAX);
        assert!(!callers.add(&named("one more"), usize::MAX));
        assert!(callers.add(&named("3"), 1));
        assert!(!Callers::from(named("0")).add(&named("1"), 1));
    }
}
