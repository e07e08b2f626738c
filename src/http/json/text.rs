//! String literals: UTF-8 goes out raw, except what could end a string, a script block or a line of JavaScript.
//!
//! `<`, `>`, `&` become `\u003c`, `\u003e`, `\u0026`; U+2028 and U+2029 become `\u2028` and `\u2029`; each byte that is
//! not part of valid UTF-8 becomes `\ufffd`. Any thread; never fails.

const HEX: &[u8; 16] = b"0123456789abcdef";

/// One bit in each byte of a word.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Appends `bytes` as a quoted JSON string. SQLite does not promise that text is UTF-8, so neither does the argument.
pub fn write_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    write_escaped(out, bytes);
    out.push(b'"');
}

/// Appends `bytes` escaped, without the quotes.
fn write_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut clean_from = 0;
    let mut at = 0;
    while at < bytes.len() {
        at += clean_prefix(&bytes[at..]);
        let Some(&byte) = bytes.get(at) else { break };
        if byte >= 0x80 {
            out.extend_from_slice(&bytes[clean_from..at]);
            return write_not_ascii(out, &bytes[at..]);
        }
        out.extend_from_slice(&bytes[clean_from..at]);
        write_special(out, byte);
        at += 1;
        clean_from = at;
    }
    out.extend_from_slice(&bytes[clean_from..]);
}

/// Length of the longest prefix that needs neither an escape nor a look at its encoding; eight bytes at a time.
#[inline]
fn clean_prefix(bytes: &[u8]) -> usize {
    let mut at = 0;
    for word in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight bytes"));
        let marks = special_bytes(word);
        if marks != 0 {
            return at + (marks.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + bytes[at..].iter().position(|b| !is_clean(*b)).unwrap_or(bytes.len() - at)
}

/// Sets the high bit of every byte that is not clean. A byte after (above) the first one that is set may be set
/// wrongly, because a subtraction borrows upwards; only the lowest one is used.
#[inline]
fn special_bytes(word: u64) -> u64 {
    let zero_bytes = |w: u64| w.wrapping_sub(ONES) & !w & HIGHS;
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    let backslash = zero_bytes(word ^ (ONES * 0x5c));
    // 0x22 (quote) and 0x26 (ampersand) differ in one bit, and so do 0x3c and 0x3e (angle brackets).
    let quote_or_ampersand = zero_bytes((word | (ONES * 0x04)) ^ (ONES * 0x26));
    let angle = zero_bytes((word | (ONES * 0x02)) ^ (ONES * 0x3e));
    (word & HIGHS) | control | backslash | quote_or_ampersand | angle
}

#[inline]
fn is_clean(byte: u8) -> bool {
    (0x20..0x80).contains(&byte) && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

/// The same from the first byte on that is not ASCII: the rest is checked once for valid UTF-8.
fn write_not_ascii(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        write_valid(out, chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
}

fn write_valid(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut clean_from = 0;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        if is_clean(byte) || (byte >= 0x80 && byte != 0xe2) {
            at += 1;
            continue;
        }
        // U+2028 and U+2029 are E2 80 A8 and E2 80 A9.
        if byte == 0xe2 {
            if bytes[at + 1] == 0x80 && matches!(bytes[at + 2], 0xa8 | 0xa9) {
                out.extend_from_slice(&bytes[clean_from..at]);
                out.extend_from_slice(if bytes[at + 2] == 0xa8 { b"\\u2028" } else { b"\\u2029" });
                clean_from = at + 3;
            }
            at += 3;
            continue;
        }
        out.extend_from_slice(&bytes[clean_from..at]);
        write_special(out, byte);
        at += 1;
        clean_from = at;
    }
    out.extend_from_slice(&bytes[clean_from..]);
}

/// Escapes one ASCII byte.
fn write_special(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 0xf)]];
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_string(&mut out, bytes);
        String::from_utf8(out).expect("output is UTF-8 whatever goes in")
    }

    /// The rule, said one character at a time.
    fn oracle(bytes: &[u8]) -> String {
        let mut out = String::from("\"");
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '"' => out.push_str("\\\""),
                    '\\' => out.push_str("\\\\"),
                    '\n' => out.push_str("\\n"),
                    '\r' => out.push_str("\\r"),
                    '\t' => out.push_str("\\t"),
                    '\u{8}' => out.push_str("\\b"),
                    '\u{c}' => out.push_str("\\f"),
                    '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                        out.push_str(&format!("\\u{:04x}", c as u32))
                    }
                    _ => out.push(c),
                }
            }
            chunk.invalid().iter().for_each(|_| out.push_str("\\ufffd"));
        }
        out.push('"');
        out
    }

    #[test]
    fn every_byte_at_every_offset() {
        for byte in 0..=255u8 {
            for offset in 0..20 {
                let mut bytes = vec![b'x'; offset];
                bytes.push(byte);
                bytes.extend_from_slice(b"yyyyyyyyyyy");
                assert_eq!(quoted(&bytes), oracle(&bytes), "{byte:#x} at {offset}");
            }
        }
    }

    #[test]
    fn every_pair_of_interesting_bytes() {
        let interesting: Vec<u8> = (0..=255).collect();
        for a in &interesting {
            for b in &interesting {
                let bytes = [b'k', *a, *b, b'l', *b, *a, b'm', b'n', b'o'];
                assert_eq!(quoted(&bytes), oracle(&bytes));
            }
        }
    }

    #[test]
    fn every_character_alone() {
        for c in ('\0'..=char::MAX).step_by(1) {
            let text = c.to_string();
            assert_eq!(quoted(text.as_bytes()), oracle(text.as_bytes()));
        }
    }

    #[test]
    fn each_invalid_byte_is_one_replacement() {
        assert_eq!(quoted(b"a\xffb"), "\"a\\ufffdb\"");
        assert_eq!(quoted(b"\xe2\x82"), "\"\\ufffd\\ufffd\"", "cut short at the end");
        assert_eq!(quoted(b"\xe2\x80"), "\"\\ufffd\\ufffd\"", "half of U+2028");
        assert_eq!(quoted(b"\xf0\x9f\x98x"), "\"\\ufffd\\ufffd\\ufffdx\"", "cut short inside");
        assert_eq!(quoted(b"\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\"", "a surrogate");
        assert_eq!(quoted("\u{fffd}".as_bytes()), "\"\u{fffd}\"", "a real U+FFFD stays");
    }

    #[test]
    fn parsers_read_back_what_was_meant() {
        let text = "é日本😀 \u{2028}<script>&amp;\"\\/\u{1}\u{7f}\u{80} end";
        let read: String = serde_json::from_str(&quoted(text.as_bytes())).expect("valid JSON");
        assert_eq!(read, text);
    }
}
