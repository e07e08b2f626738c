//! A reader of JSON text, token by token, that allocates only for what it hands out.
//!
//! Pure; run by HTTP workers on bodies of clients. It never recurses, so depth cannot exhaust a stack, and numbers keep
//! the spelling that the client gave them. Grammar: RFC 8259, with one liberty: half a surrogate pair in an escape
//! becomes U+FFFD instead of an error.

use std::borrow::Cow;

/// How deep arrays and objects may be nested in a value that is skipped.
pub const DEPTH_MAX: usize = 10_000;

/// The text is not JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A place in a JSON text.
#[derive(Clone)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0 }
    }

    /// The first byte of the next token, behind white space; `None` at the end of the text.
    pub fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes one punctuation mark.
    pub fn take(&mut self, mark: u8) -> Result<(), Malformed> {
        if self.peek() != Some(mark) {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Steps through an array or object whose opening mark is taken: true when a member follows (behind its comma, when
    /// it is not the `first`), false when `close` was taken.
    pub fn next_member(&mut self, close: u8, first: bool) -> Result<bool, Malformed> {
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                // A comma promises a member.
                if self.peek() == Some(close) { Err(Malformed) } else { Ok(true) }
            }
            Some(_) if first => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// Reads a string.
    pub fn string(&mut self) -> Result<Cow<'a, str>, Malformed> {
        self.take(b'"')?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut at = start;
        let mut escaped = false;
        loop {
            at = skip_plain(bytes, at);
            match bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    at += 2;
                }
                Some(0..=0x1f) | None => return Err(Malformed),
                Some(_) => at += 1,
            }
        }
        // Both ends stand beside a quote, which is never part of a longer character.
        let raw = &self.text[start..at];
        self.at = at + 1;
        if escaped { unescape(raw).map(Cow::Owned) } else { Ok(Cow::Borrowed(raw)) }
    }

    /// Reads a number; gives its spelling.
    pub fn number(&mut self) -> Result<&'a str, Malformed> {
        self.peek();
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |at: usize| at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let mut at = start + usize::from(bytes.get(start) == Some(&b'-'));
        let whole = digits(at);
        if whole == at || (bytes[at] == b'0' && whole > at + 1) {
            return Err(Malformed);
        }
        at = whole;
        if bytes.get(at) == Some(&b'.') {
            let end = digits(at + 1);
            if end == at + 1 {
                return Err(Malformed);
            }
            at = end;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1 + usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
            let end = digits(at.min(bytes.len()));
            if end == at {
                return Err(Malformed);
            }
            at = end;
        }
        self.at = at;
        Ok(&self.text[start..at])
    }

    /// Takes `true`, `false` or `null`.
    pub fn word(&mut self, word: &str) -> Result<(), Malformed> {
        self.peek();
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Malformed);
        }
        self.at += word.len();
        Ok(())
    }

    /// Passes over one value of any kind, checking it.
    pub fn skip(&mut self) -> Result<(), Malformed> {
        // The closing marks of what is open.
        let mut open: Vec<u8> = Vec::new();
        loop {
            let close = match self.peek().ok_or(Malformed)? {
                b'[' => Some(b']'),
                b'{' => Some(b'}'),
                _ => {
                    self.skip_scalar()?;
                    None
                }
            };
            if let Some(close) = close {
                self.at += 1;
                if open.len() == DEPTH_MAX {
                    return Err(Malformed);
                }
                open.push(close);
                if self.next_member(close, true)? {
                    self.skip_key(close)?;
                    continue;
                }
                open.pop();
            }
            // A value has ended: go on with its neighbour, or leave what it is the last member of.
            loop {
                let Some(&close) = open.last() else { return Ok(()) };
                if self.next_member(close, false)? {
                    self.skip_key(close)?;
                    break;
                }
                open.pop();
            }
        }
    }

    fn skip_scalar(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number().map(drop),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(Malformed),
        }
    }

    fn skip_key(&mut self, close: u8) -> Result<(), Malformed> {
        if close == b'}' {
            self.string()?;
            self.take(b':')?;
        }
        Ok(())
    }
}

/// The first place at or after `at` that may hold a quote, a backslash or a control character; eight bytes at a time.
fn skip_plain(bytes: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const CONTROLS: u64 = u64::from_ne_bytes([0x20; 8]);
    // The high bit of a byte is set where `word` holds zero; a borrow may also set bits above such a place, never
    // below, so the test for "none at all" is exact.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    while let Some(chunk) = bytes.get(at..at + 8) {
        let word = u64::from_ne_bytes(chunk.try_into().expect("a chunk has eight bytes"));
        let quote = zeros(word ^ u64::from_ne_bytes([b'"'; 8]));
        let backslash = zeros(word ^ u64::from_ne_bytes([b'\\'; 8]));
        let control = word.wrapping_sub(CONTROLS) & !word & HIGHS;
        if quote | backslash | control != 0 {
            break;
        }
        at += 8;
    }
    at
}

/// Decodes what stands between the quotes.
fn unescape(raw: &str) -> Result<String, Malformed> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let mark = *rest.as_bytes().get(at + 1).ok_or(Malformed)?;
        let plain = match mark {
            b'"' | b'\\' | b'/' => Some(char::from(mark)),
            b'b' => Some('\u{8}'),
            b'f' => Some('\u{c}'),
            b'n' => Some('\n'),
            b'r' => Some('\r'),
            b't' => Some('\t'),
            b'u' => None,
            _ => return Err(Malformed),
        };
        rest = &rest[at + 2..];
        match plain {
            Some(c) => out.push(c),
            None => {
                let (c, after) = unicode_escape(rest)?;
                out.push(c);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Decodes the four digits behind `\u`, and the second half of a surrogate pair where there is one.
fn unicode_escape(text: &str) -> Result<(char, &str), Malformed> {
    let (unit, rest) = four_digits(text)?;
    if let Some(c) = char::from_u32(unit) {
        return Ok((c, rest));
    }
    if unit < 0xdc00
        && let Some(second) = rest.strip_prefix("\\u")
    {
        let (low, after) = four_digits(second)?;
        if (0xdc00..0xe000).contains(&low) {
            let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            return Ok((char::from_u32(code).expect("a pair of surrogates is a character"), after));
        }
    }
    Ok((char::REPLACEMENT_CHARACTER, rest))
}

fn four_digits(text: &str) -> Result<(u32, &str), Malformed> {
    let digits = text.as_bytes().get(..4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit)).ok_or(Malformed)?;
    let unit = digits.iter().fold(0, |unit, &digit| unit << 4 | char::from(digit).to_digit(16).unwrap_or(0));
    Ok((unit, &text[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skip_agrees_with_serde_json_on_what_is_json() {
        let fragments = [
            "[", "]", "{", "}", ",", ":", "1", "-", "0", ".5", "e3", "\"a\"", "\"\\n\"", "\"\\x\"", "\"", "true",
            "nul", "null", " ", "01", "\u{1}", "é",
        ];
        // Every text of up to four fragments.
        let n = fragments.len();
        for number in 0..n.pow(4) {
            let text: String = (0..4).map(|digit| fragments[number / n.pow(digit) % n]).collect();
            let mut scanner = Scanner::new(&text);
            let ours = scanner.skip().is_ok() && scanner.peek().is_none();
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            assert_eq!(ours, theirs, "{text:?}");
        }
    }

    #[test]
    fn strings_decode_as_in_serde_json() {
        for text in [
            r#""plain text that is longer than eight bytes""#,
            r#""é ü 漢字 😀 and more text""#,
            r#""\"\\\/\b\f\n\r\t""#,
            r#""\u00e9\ud83d\ude00\u0000""#,
            r#""a long beginning, then \u0041 and an end""#,
            r#""""#,
        ] {
            let expected: String = serde_json::from_str(text).expect("valid");
            assert_eq!(Scanner::new(text).string().expect("valid"), expected);
        }
        for text in [r#""\u12""#, r#""\u12g4""#, r#""\"#, r#""abc"#, "\"a\nb\"", r#""\é""#, r#""\u+123""#] {
            assert_eq!(Scanner::new(text).string(), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        for (text, expected) in [
            (r#""\ud800""#, "\u{fffd}"),
            (r#""\ud800x""#, "\u{fffd}x"),
            (r#""\ud800\u0041""#, "\u{fffd}A"),
            (r#""\udc00\ud83d\ude00""#, "\u{fffd}😀"),
        ] {
            assert_eq!(Scanner::new(text).string().expect("valid"), expected);
        }
    }

    #[test]
    fn depth_is_bounded_and_uses_no_stack() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(Scanner::new(&deep(DEPTH_MAX)).skip(), Ok(()));
        assert_eq!(Scanner::new(&deep(DEPTH_MAX + 1)).skip(), Err(Malformed));
        assert_eq!(Scanner::new(&deep(1_000_000)).skip(), Err(Malformed));
    }
}
