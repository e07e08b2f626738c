//! Who sends a request, as its header `Authorization` says (HTTP Basic, RFC 7617). Pure; any thread.

use super::engine::Headers;
use crate::auth::Credentials;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const AUTHORIZATION: &str = "Authorization";
const SCHEME: &str = "Basic ";

/// The name and password of a request. Whatever is no such header names nobody, as none does.
pub fn caller(headers: &Headers) -> Credentials {
    headers.get(AUTHORIZATION).and_then(decode).unwrap_or_default()
}

fn decode(value: &str) -> Option<Credentials> {
    let (scheme, encoded) = value.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    Credentials::new(username.to_owned(), password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::CREDENTIAL_BYTES_MAX;

    fn read(value: &str) -> Option<(String, String)> {
        let caller = caller(&Headers(vec![("authorization".to_owned(), value.as_bytes().to_vec())]));
        (!caller.is_anonymous()).then(|| (caller.username().to_owned(), caller.password().to_owned()))
    }

    fn basic(text: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn name_and_password_stand_around_the_first_colon() {
        for (text, username, password) in [
            ("bob:secret", "bob", "secret"),
            ("bob:", "bob", ""),
            ("bob:a:b", "bob", "a:b"),
            ("b\u{fc}b:p\u{e4}ss", "b\u{fc}b", "p\u{e4}ss"),
            (" bob : x ", " bob ", " x "),
        ] {
            assert_eq!(read(&basic(text.as_bytes())), Some((username.to_owned(), password.to_owned())), "{text}");
        }
        assert_eq!(read("bAsIc Ym9iOnNlY3JldA=="), Some(("bob".to_owned(), "secret".to_owned())));
    }

    #[test]
    fn anything_else_is_nobody() {
        for value in [
            "",
            "Basic",
            "Basic ",
            "Basic !!!",
            "Basic  Ym9iOnNlY3JldA==",
            "Basic Ym9iOnNlY3JldA",
            "Basic\u{e4}Ym9iOnNlY3JldA==",
            "Bearer Ym9iOnNlY3JldA==",
            "Ym9iOnNlY3JldA==",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
        assert_eq!(read(&basic(b"bob")), None, "no colon");
        assert_eq!(read(&basic(b":secret")), None, "no name");
        assert_eq!(read(&basic(b"bob:\xff")), None, "no UTF-8");
        assert_eq!(read(&basic(format!("bob:{}", "x".repeat(CREDENTIAL_BYTES_MAX + 1)).as_bytes())), None, "too long");
        assert!(caller(&Headers::default()).is_anonymous());
    }
}
