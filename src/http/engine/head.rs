//! The head of a request: where it ends, what it says, and what RFC 9112 makes us refuse. Pure functions, any thread.
//!
//! `httparse` does the grammar; this file adds what it lets pass (bare line feeds, HTTP/2.0, folded lines) and decides
//! how the body is framed. The framing rules are strict on purpose: what two readers may read differently is refused.

use super::config::{HEAD_BYTES_MAX, HEADERS_MAX};
use super::{Headers, percent};
use std::mem::MaybeUninit;

/// Why a request is refused: the status to answer before the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal(pub u16);

const BAD: Refusal = Refusal(400);

/// How the end of the body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// A head that was accepted.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Headers,
    pub framing: Framing,
    /// HTTP/1.0: no chunked answers, no keep-alive unless asked for.
    pub old: bool,
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
}

/// Finds the end of a head as its bytes arrive, looking at each byte once.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadScan {
    /// Bytes looked at.
    at: usize,
    /// Where the current line starts.
    line: usize,
    /// Empty lines before the request line; RFC 9112 section 2.2 asks to ignore one.
    blank: usize,
}

/// Empty lines tolerated before a request line.
const BLANK_LINES_MAX: usize = 2;

impl HeadScan {
    /// Looks at the bytes that came since the last call; `bytes` starts where the head starts, always.
    /// `Some((start, end))` is the head without leading empty lines, its final empty line included.
    ///
    /// # Errors
    /// 400 for control characters, bare CR or LF and folded lines; 431 when there is no end within `HEAD_BYTES_MAX`.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<Option<(usize, usize)>, Refusal> {
        while self.at < bytes.len() {
            let byte = bytes[self.at];
            if byte >= b' ' && byte != 0x7f {
                if byte == b' ' && self.at == self.line {
                    return Err(BAD);
                }
                if self.at > 0 && bytes[self.at - 1] == b'\r' {
                    return Err(BAD);
                }
                self.at += 1;
                continue;
            }
            let after_cr = self.at > 0 && bytes[self.at - 1] == b'\r';
            match byte {
                b'\n' if after_cr => {
                    let empty = self.at - 1 == self.line;
                    let start = self.blank * 2;
                    self.at += 1;
                    if empty && self.line == start {
                        self.blank += 1;
                        if self.blank > BLANK_LINES_MAX {
                            return Err(BAD);
                        }
                    } else if empty {
                        return Ok(Some((start, self.at)));
                    }
                    self.line = self.at;
                }
                b'\r' if !after_cr => self.at += 1,
                b'\t' if !after_cr && self.at != self.line => self.at += 1,
                _ => return Err(BAD),
            }
            if self.at >= HEAD_BYTES_MAX {
                break;
            }
        }
        if bytes.len() >= HEAD_BYTES_MAX { Err(Refusal(431)) } else { Ok(None) }
    }
}

/// Reads a whole head (`start..end` of [`HeadScan::advance`]).
///
/// # Errors
/// The status for what RFC 9112 forbids or this server does not do: 400, 413, 417, 431, 501, 505.
pub fn parse(bytes: &[u8], body_bytes_max: u64) -> Result<Head, Refusal> {
    let old = version(bytes)?;
    let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut room) {
        Ok(httparse::Status::Complete(used)) if used == bytes.len() => {}
        Ok(_) => return Err(BAD),
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal(431)),
        Err(_) => return Err(BAD),
    }
    let method = parsed.method.ok_or(BAD)?;
    let (path, query) = target(method, parsed.path.ok_or(BAD)?)?;
    let facts = Facts::gather(parsed.headers)?;
    if facts.hosts > 1 || (facts.hosts == 0 && !old) {
        return Err(BAD);
    }
    let framing = facts.framing(old)?;
    if matches!(framing, Framing::Length(length) if length > body_bytes_max) {
        return Err(Refusal(413));
    }
    let expects_continue = match facts.expect {
        Expect::Nothing => false,
        Expect::Continue => !old && framing != Framing::None,
        Expect::Unknown => return Err(Refusal(417)),
    };
    let headers = parsed.headers.iter().map(|h| (h.name.to_owned(), h.value.to_vec())).collect();
    Ok(Head {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers: Headers(headers),
        framing,
        old,
        keep_alive: if old { facts.keep_alive && !facts.close } else { !facts.close },
        expects_continue,
    })
}

/// Is it HTTP/1.0? Checked before the rest, because a foreign version is 505 whatever follows.
fn version(bytes: &[u8]) -> Result<bool, Refusal> {
    let end = bytes.iter().position(|&b| b == b'\r').ok_or(BAD)?;
    let line = &bytes[..end];
    let at = line.iter().rposition(|&b| b == b' ').ok_or(BAD)?;
    match &line[at + 1..] {
        b"HTTP/1.1" => Ok(false),
        b"HTTP/1.0" => Ok(true),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Refusal(505))
        }
        _ => Err(BAD),
    }
}

/// Path and query of a request target in any of its four forms (RFC 9112 section 3.2).
pub(super) fn target<'a>(method: &str, target: &'a str) -> Result<(&'a str, &'a str), Refusal> {
    if method == "CONNECT" || (target == "*" && method == "OPTIONS") {
        return Ok((target, ""));
    }
    let local = if target.starts_with('/') {
        target
    } else {
        let scheme = target.find("://").ok_or(BAD)?;
        if !target[..scheme].eq_ignore_ascii_case("http") && !target[..scheme].eq_ignore_ascii_case("https") {
            return Err(BAD);
        }
        let rest = &target[scheme + 3..];
        let authority = rest.find(['/', '?']).unwrap_or(rest.len());
        if authority == 0 {
            return Err(BAD);
        }
        &rest[authority..]
    };
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    if !percent::is_valid(path) {
        return Err(BAD);
    }
    Ok((if path.is_empty() { "/" } else { path }, query))
}

#[derive(PartialEq)]
enum Expect {
    Nothing,
    Continue,
    Unknown,
}

/// What the header lines that concern the engine say, all together.
struct Facts {
    hosts: usize,
    length: Option<u64>,
    length_too_large: bool,
    transfer_encodings: usize,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expect: Expect,
}

impl Facts {
    fn gather(headers: &[httparse::Header<'_>]) -> Result<Facts, Refusal> {
        let mut facts = Facts {
            hosts: 0,
            length: None,
            length_too_large: false,
            transfer_encodings: 0,
            chunked: false,
            close: false,
            keep_alive: false,
            expect: Expect::Nothing,
        };
        for header in headers {
            facts.take(header)?;
        }
        Ok(facts)
    }

    fn take(&mut self, header: &httparse::Header<'_>) -> Result<(), Refusal> {
        // The length tells most other names apart without a comparison.
        let name = header.name;
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                self.hosts += 1;
                if !header.value.iter().all(|&b| host_byte(b)) {
                    return Err(BAD);
                }
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                let known = header.value.eq_ignore_ascii_case(b"100-continue");
                self.expect = if known && self.expect != Expect::Unknown { Expect::Continue } else { Expect::Unknown };
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for token in header.value.split(|&b| b == b',') {
                    let token = token.trim_ascii();
                    self.close |= token.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => self.take_length(header.value)?,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                self.transfer_encodings += 1;
                self.chunked = header.value.eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
        Ok(())
    }

    /// Only digits; a repeated line must say the same (RFC 9110 section 8.6).
    fn take_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return Err(BAD);
        }
        let mut length: u64 = 0;
        for digit in value {
            let next = length.checked_mul(10).and_then(|l| l.checked_add(u64::from(digit - b'0')));
            self.length_too_large |= next.is_none();
            length = next.unwrap_or(u64::MAX);
        }
        if self.length.is_some_and(|earlier| earlier != length) {
            return Err(BAD);
        }
        self.length = Some(length);
        Ok(())
    }

    /// RFC 9112 section 6. Both lengths, or a transfer encoding in HTTP/1.0, are how requests get smuggled.
    fn framing(&self, old: bool) -> Result<Framing, Refusal> {
        if self.transfer_encodings > 0 {
            if self.length.is_some() || old || self.transfer_encodings > 1 {
                return Err(BAD);
            }
            return if self.chunked { Ok(Framing::Chunked) } else { Err(Refusal(501)) };
        }
        if self.length_too_large {
            return Err(Refusal(413));
        }
        Ok(match self.length {
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        })
    }
}

/// May this byte stand in a Host header? (RFC 3986 section 3.2.2 and the port.)
fn host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&byte)
}
