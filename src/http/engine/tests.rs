//! Tests of the decoders: every refusal by name, every split of the input, and a slow, obvious parser beside them.

use super::config::{HEAD_BYTES_MAX, HEADERS_MAX};
use super::fuzz::{Decoded, decode_pieces, fuzz_head, fuzz_stream};
use super::head::{self, Framing, Head, HeadScan};

/// Bytes of the largest body here.
const BODY_MAX: u64 = 1 << 20;

fn decode(text: &str) -> Decoded {
    fuzz_stream(text.as_bytes())
}

fn status(text: &str) -> u16 {
    decode(text).refused.unwrap_or(200)
}

fn body(text: &str) -> Result<Vec<u8>, String> {
    let mut decoded = decode(text);
    match decoded.requests.pop() {
        Some((_, body)) if decoded.refused.is_none() && !decoded.is_partial => Ok(body),
        _ => Err(format!("{decoded:?}")),
    }
}

fn parse(text: &str) -> Result<Head, head::Refusal> {
    head::parse(text.as_bytes(), BODY_MAX)
}

#[test]
fn lengths_that_lie_are_refused_at_once() {
    for (length, expected) in [
        ("10000000000000", 413),
        ("18446744073709551615", 413),
        ("18446744073709551616", 413),
        ("99999999999999999999999999", 413),
        ("-1", 400),
        ("+5", 400),
        ("5, 6", 400),
        ("5, 5", 400),
        ("0x5", 400),
        ("", 400),
        ("5 5", 400),
    ] {
        let text = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(status(&text), expected, "{length:?}");
    }
    let two = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello";
    assert_eq!(status(two), 400);
    let same = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(body(same).as_deref(), Ok(&b"hello"[..]));
}

#[test]
fn transfer_encodings_are_chunked_or_refused() {
    for (lines, expected) in [
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: chunked, gzip", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding:", 501),
        ("Transfer-Encoding: \x0bchunked", 400),
    ] {
        assert_eq!(status(&format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n")), expected, "{lines:?}");
    }
    assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
}

#[test]
fn chunked_bodies_end_where_they_say() {
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n";
    let good = |chunks: &str| body(&format!("{head}{chunks}"));
    assert_eq!(good("5\r\nhello\r\n0\r\n\r\n").as_deref(), Ok(&b"hello"[..]));
    assert_eq!(good("A;name=\"v\"\r\n0123456789\r\n00a\r\n0123456789\r\n0\r\n\r\n").map(|b| b.len()), Ok(20));
    assert_eq!(good("0\r\nTrailer: a\r\nOther: b\r\n\r\n").as_deref(), Ok(&b""[..]));
    for chunks in [
        "10000000000000\r\nx", // 2^52
        "FFFFFFFFFFFFFFFFF\r\nx",
        "00000000000000000005\r\nhello\r\n",
        "g\r\n",
        "\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "-5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\rhello",
        "0\r\nno colon\r\n\r\n",
        "0\r\n: x\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "0\r\na: \0\r\n\r\n",
    ] {
        assert_eq!(status(&format!("{head}{chunks}")), 400, "{chunks:?}");
    }
    assert_eq!(status(&format!("{head}200000\r\nx")), 413, "more than the limit");
    assert_eq!(status(&format!("{head}0\r\na: {}\r\n\r\n", "x".repeat(10_000))), 431);
    assert_eq!(status(&format!("{head}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(10_000))), 400);
    for cut in ["5\r\nhel", "5\r\nhello", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\n\r"] {
        assert!(decode(&format!("{head}{cut}")).is_partial, "{cut:?} is no whole body");
    }
}

#[test]
fn heads_that_two_readers_could_read_differently_are_refused() {
    for (text, expected) in [
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\n\r\n", 505),
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/1\r\n\r\n", 400),
        ("GET / http/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03", 400),
        ("GET / HTTP/1.1\nHost: x\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\rA: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\n: empty\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /a% HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET ftp://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET http:///a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 417),
        ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET /?%zz HTTP/1.1\r\nHost:\r\n\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: [::1]:4001\r\n\r\n", 200),
    ] {
        assert_eq!(status(text), expected, "{text:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(HEAD_BYTES_MAX));
    assert_eq!(decode_pieces(line.as_bytes().chunks(1000)).refused, Some(431));
    let header = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {}", "b".repeat(HEAD_BYTES_MAX));
    assert_eq!(decode_pieces(header.as_bytes().chunks(1000)).refused, Some(431));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX));
    assert_eq!(status(&many), 431);
    let just = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX - 1));
    assert_eq!(status(&just), 200);
}

#[test]
fn targets_and_connections_are_understood() {
    let absolute = parse("GET HTTP://user@h:1/a%20b?c=d?e HTTP/1.1\r\nHost: h\r\n\r\n").expect("good");
    assert_eq!((absolute.path.as_str(), absolute.query.as_str()), ("/a%20b", "c=d?e"));
    let bare = parse("GET http://h?q HTTP/1.1\r\nHost: h\r\n\r\n").expect("good");
    assert_eq!((bare.path.as_str(), bare.query.as_str()), ("/", "q"));
    for (version, connection, keeps) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = parse(&format!("GET / HTTP/{version}\r\nHost: x\r\n{connection}\r\n")).expect("good");
        assert_eq!(head.keep_alive, keeps, "{version} {connection:?}");
    }
}

/// Requests one after another with every feature of the framing.
const MIXED: &str = "POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
    \r\nPOST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n\
    GET /d HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\
    HEAD http://x/e HTTP/1.1\r\nHost: x\r\nX-Y:\t spaced \t\r\n\r\n";

#[test]
fn every_split_of_the_input_gives_the_same_requests() {
    let bytes = MIXED.as_bytes();
    let whole = fuzz_stream(bytes);
    assert_eq!(whole.requests.len(), 4);
    assert!(!whole.is_partial && whole.refused.is_none());
    for at in 0..=bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(decode_pieces([first, second].into_iter()), whole, "split at {at}");
        let prefix = fuzz_stream(first);
        assert!(prefix.refused.is_none() && prefix.requests.len() <= 4, "cut at {at}");
        fuzz_head(first);
    }
}

/// Method, path, query, headers, framing, is it HTTP/1.0.
type Obvious = (String, String, String, Vec<(String, Vec<u8>)>, Framing, bool);

/// A slow parser that follows the grammar word by word; `None`: refused or not whole.
fn obvious(bytes: &[u8]) -> Option<Obvious> {
    let mut rest = bytes;
    for _ in 0..2 {
        rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
    }
    let end = (0..rest.len()).find(|&at| rest[at..].starts_with(b"\r\n\r\n"))?;
    if end == 0 {
        return None;
    }
    let mut lines = Vec::new();
    let mut left = &rest[..end];
    while let Some(at) = (0..left.len()).find(|&at| left[at..].starts_with(b"\r\n")) {
        lines.push(&left[..at]);
        left = &left[at + 2..];
    }
    lines.push(left);
    let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let words: Vec<&[u8]> = lines[0].split(|&b| b == b' ').collect();
    let [method, target, version] = words[..] else { return None };
    let old = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return None,
    };
    if method.is_empty() || !method.iter().all(is_token) || target.iter().any(|&b| b < 0x21 || b == 0x7f) {
        return None;
    }
    let target = std::str::from_utf8(target).ok()?;
    if !target.starts_with('/') || method == b"CONNECT" {
        return None;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let escapes_are_whole = path
        .split('%')
        .skip(1)
        .all(|after| after.len() >= 2 && after.as_bytes()[..2].iter().all(u8::is_ascii_hexdigit));
    if !escapes_are_whole {
        return None;
    }
    let mut headers = Vec::new();
    for line in &lines[1..] {
        let colon = line.iter().position(|&b| b == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(is_token) || value.iter().any(|&b| (b < 0x20 && b != 9) || b == 0x7f) {
            return None;
        }
        let blank = |b: &u8| *b == b' ' || *b == b'\t';
        let from = value.iter().position(|b| !blank(b)).unwrap_or(value.len());
        let to = value.iter().rposition(|b| !blank(b)).map_or(from, |at| at + 1);
        headers.push((String::from_utf8(name.to_vec()).ok()?, value[from..to].to_vec()));
    }
    let all = |wanted: &str| -> Vec<&[u8]> {
        headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| &v[..]).collect()
    };
    let hosts = all("host");
    let host_is_clean =
        hosts.iter().all(|host| host.iter().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(b)));
    if hosts.len() > 1 || (hosts.is_empty() && !old) || !host_is_clean {
        return None;
    }
    if all("expect").iter().any(|value| !value.eq_ignore_ascii_case(b"100-continue")) {
        return None;
    }
    let lengths = all("content-length");
    let framing = match (&all("transfer-encoding")[..], lengths.first()) {
        ([], None) => Framing::None,
        ([], Some(first)) => {
            let clean = |value: &&[u8]| !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let number = |value: &[u8]| std::str::from_utf8(value).ok()?.parse::<u64>().ok();
            if !lengths.iter().all(clean) || lengths.iter().any(|other| number(other) != number(first)) {
                return None;
            }
            match number(first)? {
                0 => Framing::None,
                length if length > BODY_MAX => return None,
                length => Framing::Length(length),
            }
        }
        ([encoding], None) if !old && encoding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        _ => return None,
    };
    if headers.len() > HEADERS_MAX {
        return None;
    }
    let method = String::from_utf8(method.to_vec()).ok()?;
    Some((method, path.to_owned(), query.to_owned(), headers, framing, old))
}

fn ours(bytes: &[u8]) -> Option<Head> {
    let (start, end) = HeadScan::default().advance(bytes).ok()??;
    head::parse(&bytes[start..end], BODY_MAX).ok()
}

#[test]
fn agrees_with_a_slow_obvious_parser() {
    const PARTS: [&str; 34] = [
        "GET ",
        "POST ",
        "/a",
        "/",
        "?b=c",
        "%41",
        "%4",
        " HTTP/1.1",
        " HTTP/1.0",
        " HTTP/2.0",
        "\r\n",
        "\r\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\n",
        "Host: x",
        "Host: y z",
        "Content-Length: 5",
        "Content-Length: 05",
        "Content-Length: +5",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Expect: 100-continue",
        "Expect: x",
        "A: b",
        "A : b",
        " folded",
        "\t",
        "\0",
        "\u{e9}",
        ":",
        "Connection: close",
        "\u{7f}",
    ];
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut accepted = 0;
    for round in 0..40_000 {
        let mut bytes = Vec::new();
        if round % 2 == 0 {
            for _ in 0..random(12) {
                bytes.extend_from_slice(PARTS[random(PARTS.len())].as_bytes());
            }
        } else {
            // A good request with a few parts put in, or bytes changed, at random places.
            bytes.extend_from_slice(b"POST /a?b HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n");
            for _ in 0..random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = random(256) as u8,
                    1 => drop(bytes.remove(at)),
                    _ => drop(bytes.splice(at..at, PARTS[random(PARTS.len())].bytes())),
                }
            }
        }
        let (ours, expected) = (ours(&bytes), obvious(&bytes));
        if let Some(head) = &ours {
            // Absolute targets and OPTIONS * are left to tests of their own.
            if !head.path.starts_with('/') {
                continue;
            }
            accepted += 1;
        }
        let ours = ours.map(|h| (h.method, h.path, h.query, h.headers.0, h.framing, h.old));
        assert_eq!(ours, expected, "{:?}", String::from_utf8_lossy(&bytes));
        fuzz_head(&bytes);
    }
    assert!(accepted > 5_000, "the inputs are good enough to be accepted now and then: {accepted}");
}
