//! Encodes the head of an answer. Pure but for the clock; any thread.

use super::{Response, ResponseBody};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the connection does to the head of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Answering HTTP/1.0.
    pub old: bool,
    /// Answering HEAD: the head of the answer, without the answer.
    pub head_only: bool,
    pub keep_alive: bool,
}

/// How the body of an answer is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    /// Nothing follows the head.
    Nothing,
    Length,
    Chunked,
    /// By the end of the connection (streams to HTTP/1.0).
    Close,
}

/// How `response` has to be delimited.
pub fn delimited(response: &Response, manner: Manner) -> Delimited {
    if manner.head_only || bodiless(response.status) {
        return Delimited::Nothing;
    }
    match &response.body {
        ResponseBody::Stream(_) if manner.old => Delimited::Close,
        ResponseBody::Stream(_) => Delimited::Chunked,
        ResponseBody::Empty | ResponseBody::Bytes(_) => Delimited::Length,
    }
}

/// Statuses that never have a body nor a length (RFC 9110 section 8.6).
fn bodiless(status: u16) -> bool {
    status == 204 || status == 304 || status < 200
}

/// Appends the head of `response` to `out`.
pub fn encode_head(response: &Response, manner: Manner, date: &mut DateCache, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(response.status));
    out.push(b' ');
    out.extend_from_slice(reason(response.status).as_bytes());
    out.extend_from_slice(b"\r\nDate: ");
    out.extend_from_slice(date.now());
    out.extend_from_slice(b"\r\n");
    for (name, value) in &response.headers {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        push_value(out, value);
        out.extend_from_slice(b"\r\n");
    }
    if !bodiless(response.status) {
        match &response.body {
            ResponseBody::Empty => out.extend_from_slice(b"Content-Length: 0\r\n"),
            ResponseBody::Bytes(bytes) => {
                out.extend_from_slice(b"Content-Length: ");
                push_number(out, bytes.len() as u64);
                out.extend_from_slice(b"\r\n");
            }
            ResponseBody::Stream(_) if manner.old => {}
            ResponseBody::Stream(_) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        }
    }
    if !manner.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if manner.old {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// A header's value may hold what a client sent (a redirect's target): a line end in it must not start a new header.
fn push_value(out: &mut Vec<u8>, value: &str) {
    let start = out.len();
    out.extend_from_slice(value.as_bytes());
    for byte in &mut out[start..] {
        if matches!(byte, b'\r' | b'\n' | 0) {
            *byte = b' ';
        }
    }
}

/// Appends a decimal number.
fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The engine's own answer to what never reaches the handler.
pub fn plain(status: u16) -> Response {
    Response {
        status,
        headers: vec![("Content-Type", "text/plain; charset=utf-8".to_owned())],
        body: ResponseBody::Bytes(format!("{status} {}", reason(status)).into_bytes()),
    }
}

/// The usual words for a status.
pub fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        417 => "Expectation Failed",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Status",
    }
}

/// The `Date` header's text, made once per second.
#[derive(Default)]
pub struct DateCache {
    second: u64,
    text: Vec<u8>,
}

impl DateCache {
    pub fn now(&mut self) -> &[u8] {
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text = imf_fixdate(second).into_bytes();
        }
        &self.text
    }
}

/// RFC 9110 section 5.6.7. The civil date is Howard Hinnant's `civil_from_days`.
fn imf_fixdate(second: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, of_day) = (second / 86_400, second % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize - 1],
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_as_other_servers_write_them() {
        assert_eq!(imf_fixdate(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(imf_fixdate(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(imf_fixdate(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(imf_fixdate(4_102_444_799), "Thu, 31 Dec 2099 23:59:59 GMT");
    }

    #[test]
    fn a_header_value_cannot_start_another_header() {
        let response = Response {
            status: 302,
            headers: vec![("Location", "/a\r\nSet-Cookie: x".to_owned())],
            body: ResponseBody::Empty,
        };
        let mut out = Vec::new();
        let manner = Manner { old: false, head_only: false, keep_alive: true };
        encode_head(&response, manner, &mut DateCache::default(), &mut out);
        let text = String::from_utf8(out).expect("ASCII");
        assert!(text.contains("Location: /a  Set-Cookie: x\r\n"));
        assert!(text.starts_with("HTTP/1.1 302 Found\r\nDate: "));
        assert!(text.ends_with("Content-Length: 0\r\n\r\n"));
    }
}
