//! `host:port` texts, taken apart as Go's `net.SplitHostPort` does. Pure functions; nothing here resolves a name.

use std::net::IpAddr;

/// Takes `host:port` apart: `localhost:4001`, `:4001`, `[::1]:4001`. Neither part needs to make sense as a host or
/// a port. None when a part is missing or the colons do not tell where the port begins.
pub fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').and_then(|(host, rest)| Some((host, rest.strip_prefix(':')?)))?,
        None => text.rsplit_once(':')?,
    };
    let host_may_have_colons = text.starts_with('[');
    let strange = |part: &str| part.contains(['[', ']']);
    if (!host_may_have_colons && host.contains(':')) || port.contains(':') || strange(host) || strange(port) {
        return None;
    }
    Some((host, port))
}

/// True for the addresses that mean "every interface" (`0.0.0.0`, `::`), which nobody can call.
pub fn is_unspecified(host: &str) -> bool {
    // An IPv6 zone (`::%eth0`) is no part of the address.
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) => v6.is_unspecified() || v6.to_ipv4_mapped().is_some_and(|v4| v4.is_unspecified()),
        Ok(v4) => v4.is_unspecified(),
        Err(_) => false,
    }
}

/// True for a decimal TCP port.
pub fn is_port(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits() {
        for (text, parts) in [
            ("localhost:4001", Some(("localhost", "4001"))),
            (":4001", Some(("", "4001"))),
            ("localhost:", Some(("localhost", ""))),
            (":", Some(("", ""))),
            ("[::1]:4001", Some(("::1", "4001"))),
            ("[]:1", Some(("", "1"))),
            ("http://x", Some(("http", "//x"))),
            ("localhost", None),
            ("", None),
            ("::1", None),
            ("::1:4001", None),
            ("a:b:c", None),
            ("[::1]", None),
            ("[::1]4001", None),
            ("[::1]:4:5", None),
            ("[::1:4001", None),
            ("a]:1", None),
            ("[[a]]:1", None),
        ] {
            assert_eq!(split_host_port(text), parts, "{text}");
        }
    }

    #[test]
    fn unspecified_and_ports() {
        for host in ["0.0.0.0", "::", "::ffff:0.0.0.0", "0:0:0:0:0:0:0:0"] {
            assert!(is_unspecified(host), "{host}");
        }
        for host in ["", "localhost", "127.0.0.1", "::1", "0.0.0", "0"] {
            assert!(!is_unspecified(host), "{host}");
        }
        assert!(is_port("0") && is_port("65535"));
        for text in ["", "65536", "-1", "+1", "x", "//x", "99999999999999999999"] {
            assert!(!is_port(text), "{text}");
        }
    }
}
