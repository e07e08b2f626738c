//! What `/db/sql` shows: a statement with its calls of random and of time replaced by values, as clients of this API
//! expect to see it.
//!
//! It is a dry run. Nothing that this function returns is ever executed or logged: entries carry a clock and a seed, so
//! that the statement itself stays as the client wrote it (see the applier). Pure but for the values it is given; any
//! thread. The text is cut into tokens by SQLite's rules, so that strings, names and comments are never touched.

use std::fmt::Write;

/// Longest `randomblob` that is spelled out, bytes.
const BLOB_BYTES_MAX: usize = 4096;

/// Functions of time, and which of their arguments may be the word `now`.
const TIME_FUNCTIONS: [(&str, &[usize]); 7] = [
    ("date", &[0]),
    ("time", &[0]),
    ("datetime", &[0]),
    ("julianday", &[0]),
    ("unixepoch", &[0]),
    ("strftime", &[1]),
    ("timediff", &[0, 1]),
];

/// The values to put in; `None` leaves the calls.
pub struct Values<'a> {
    /// Gives 64 random bits with each call.
    pub random: Option<&'a mut dyn FnMut() -> u64>,
    /// Now, as a Julian day number.
    pub julian_day: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// White space or a comment.
    Blank,
    /// A keyword or a bare name.
    Word,
    Number,
    /// In single quotes.
    Text,
    /// In any other quotes.
    Name,
    /// One character.
    Mark,
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: Kind,
    text: &'a str,
}

impl Token<'_> {
    fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    fn is_mark(&self, mark: &str) -> bool {
        self.kind == Kind::Mark && self.text == mark
    }

    /// `'now'`, `"now"` or `now`.
    fn is_now(&self) -> bool {
        match self.kind {
            Kind::Word => self.text.eq_ignore_ascii_case("now"),
            Kind::Text | Kind::Name => {
                self.text.get(1..self.text.len() - 1).is_some_and(|text| text.eq_ignore_ascii_case("now"))
            }
            _ => false,
        }
    }
}

/// Writes `sql` with values put in. Definitions (`CREATE`) stay as they are, and so does what an `ORDER BY` sorts by:
/// a value there would change what the statement means.
pub fn render(sql: &str, mut values: Values<'_>) -> String {
    let all = tokens(sql);
    let significant: Vec<usize> = (0..all.len()).filter(|&at| all[at].kind != Kind::Blank).collect();
    let token = |n: usize| significant.get(n).map(|&at| all[at]);
    // For each significant token: nothing, or what stands for it. Tokens of a replaced call become empty.
    let mut replaced: Vec<Option<String>> = vec![None; significant.len()];
    // For each open parenthesis, and the outermost level: are we in the terms of an ORDER BY?
    let mut sorting = vec![false];
    let mut begins = true;
    let mut n = 0;
    while let Some(current) = token(n) {
        let next = |distance: usize| token(n + distance);
        let in_order = *sorting.last().expect("the outermost level stays");
        if begins && current.is_word("create") {
            break;
        }
        begins = current.is_mark(";");
        if begins {
            sorting = vec![false];
        } else if current.is_mark("(") {
            sorting.push(in_order);
        } else if current.is_mark(")") && sorting.len() > 1 {
            sorting.pop();
        } else if current.is_word("order") && next(1).is_some_and(|token| token.is_word("by")) {
            *sorting.last_mut().expect("the outermost level stays") = true;
        } else if current.is_word("limit") {
            *sorting.last_mut().expect("the outermost level stays") = false;
        } else if current.kind == Kind::Word && next(1).is_some_and(|token| token.is_mark("(")) {
            if let Some(random) = values.random.as_mut().filter(|_| !in_order)
                && let Some((literal, length)) = random_literal(current.text, &next, random)
            {
                replaced[n] = Some(literal);
                replaced[n + 1..n + length].fill(Some(String::new()));
                n += length;
                continue;
            }
            if let Some(julian_day) = values.julian_day {
                for at in now_arguments(current.text, n, &token) {
                    replaced[at] = Some(format!("{julian_day:.6}"));
                }
            }
        }
        n += 1;
    }
    assemble(&all, &significant, &replaced)
}

fn assemble(all: &[Token<'_>], significant: &[usize], replaced: &[Option<String>]) -> String {
    let mut out = String::new();
    let mut from = 0;
    for (&at, replacement) in significant.iter().zip(replaced) {
        let Some(replacement) = replacement else { continue };
        all[from..at].iter().for_each(|token| out.push_str(token.text));
        out.push_str(replacement);
        from = at + 1;
    }
    all[from..].iter().for_each(|token| out.push_str(token.text));
    out
}

/// The value for a call of `random` or `randomblob`, and how many tokens the call has.
fn random_literal<'a>(
    name: &str,
    next: &dyn Fn(usize) -> Option<Token<'a>>,
    random: &mut dyn FnMut() -> u64,
) -> Option<(String, usize)> {
    if name.eq_ignore_ascii_case("random") && next(2)?.is_mark(")") {
        return Some(((random() >> 1).to_string(), 3));
    }
    if name.eq_ignore_ascii_case("randomblob") && next(2)?.kind == Kind::Number && next(3)?.is_mark(")") {
        let length: usize = next(2)?.text.parse().ok().filter(|length| *length <= BLOB_BYTES_MAX)?;
        let mut literal = String::from("x'");
        for _ in 0..length.max(1) {
            write!(literal, "{:02X}", random() & 0xff).expect("a String takes all that is written");
        }
        literal.push('\'');
        return Some((literal, 4));
    }
    None
}

/// Places of arguments that are the word `now`, in a call whose name is token `n`.
fn now_arguments<'a>(name: &str, n: usize, token: &dyn Fn(usize) -> Option<Token<'a>>) -> Vec<usize> {
    let Some((_, positions)) = TIME_FUNCTIONS.iter().find(|(function, _)| name.eq_ignore_ascii_case(function)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (mut depth, mut argument, mut begins) = (0, 0, false);
    for at in n + 1.. {
        let Some(current) = token(at) else { break };
        let ends_after = token(at + 1).is_some_and(|next| next.is_mark(",") || next.is_mark(")"));
        if depth == 1 && begins && ends_after && current.is_now() && positions.contains(&argument) {
            found.push(at);
        }
        begins = false;
        if current.is_mark("(") {
            depth += 1;
            begins = true;
        } else if current.is_mark(")") {
            depth -= 1;
            if depth == 0 {
                break;
            }
        } else if current.is_mark(",") && depth == 1 {
            argument += 1;
            begins = true;
        }
        if argument > 1 {
            break;
        }
    }
    found
}

/// Cuts SQL into tokens that together are the whole text.
fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while !rest.is_empty() {
        let (kind, length) = first_token(rest.as_bytes());
        let (text, after) = rest.split_at(length);
        tokens.push(Token { kind, text });
        rest = after;
    }
    tokens
}

/// Kind and length of the token that `bytes` begins with. Every byte of a character beyond ASCII counts as part of a
/// name, so that a token always ends between characters.
fn first_token(bytes: &[u8]) -> (Kind, usize) {
    let run =
        |from: usize, accept: fn(&u8) -> bool| from + bytes[from..].iter().take_while(|byte| accept(byte)).count();
    match (bytes[0], bytes.get(1)) {
        (byte, _) if byte.is_ascii_whitespace() => (Kind::Blank, run(0, u8::is_ascii_whitespace)),
        (b'-', Some(b'-')) => (Kind::Blank, run(0, |byte| *byte != b'\n')),
        (b'/', Some(b'*')) => {
            let end = bytes[2..].windows(2).position(|pair| pair == b"*/");
            (Kind::Blank, end.map_or(bytes.len(), |at| 2 + at + 2))
        }
        (b'\'', _) => (Kind::Text, quoted(bytes, b'\'')),
        (b'"', _) => (Kind::Name, quoted(bytes, b'"')),
        (b'`', _) => (Kind::Name, quoted(bytes, b'`')),
        (b'[', _) => (Kind::Name, bytes.iter().position(|byte| *byte == b']').map_or(bytes.len(), |at| at + 1)),
        (b'x' | b'X', Some(b'\'')) => (Kind::Number, 1 + quoted(&bytes[1..], b'\'')),
        (b'0'..=b'9', _) => (Kind::Number, run(0, |byte| is_name(byte) || *byte == b'.')),
        (byte, _) if is_name(&byte) => (Kind::Word, run(0, is_name)),
        _ => (Kind::Mark, 1),
    }
}

fn is_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte >= 0x80 || matches!(byte, b'_' | b'$')
}

/// Length of what is quoted; a doubled quote stands for one.
fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        if *byte == quote {
            if bytes.get(at) != Some(&quote) {
                return at;
            }
            at += 1;
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(sql: &str) -> String {
        let mut number = 0xAB00u64;
        let mut random = || {
            number += 2;
            number
        };
        render(sql, Values { random: Some(&mut random), julian_day: Some(2_440_422.5) })
    }

    #[test]
    fn calls_become_values() {
        for (sql, expected) in [
            ("INSERT INTO foo(v) VALUES(RANDOM())", "INSERT INTO foo(v) VALUES(21889)"),
            ("VALUES(random ( ), random/*c*/())", "VALUES(21889  , 21890/*c*/)"),
            ("VALUES(RANDOMBLOB(3))", "VALUES(x'020406')"),
            ("VALUES(randomblob(0))", "VALUES(x'02')"),
            ("VALUES(time('now'))", "VALUES(time(2440422.500000))"),
            ("VALUES(strftime('%Y', 'now', 'utc'))", "VALUES(strftime('%Y', 2440422.500000, 'utc'))"),
            (
                "VALUES(DATE(\"NOW\", '+1 day'), unixepoch(now))",
                "VALUES(DATE(2440422.500000, '+1 day'), unixepoch(2440422.500000))",
            ),
            ("VALUES(timediff('now', 'now'))", "VALUES(timediff(2440422.500000, 2440422.500000))"),
            ("VALUES(abs(random()))", "VALUES(abs(21889))"),
        ] {
            assert_eq!(rendered(sql), expected);
        }
    }

    #[test]
    fn what_means_something_else_stays() {
        for sql in [
            "SELECT a FROM foo ORDER BY random()",
            "SELECT a FROM foo ORDER BY abs(random()), b",
            "CREATE TABLE t(a DEFAULT (random()))",
            "SELECT 'random()', \"random()\", [random()], `random()` -- random()",
            "SELECT /* random() */ random, randomblob(?), randomblob(-1), randomblob(9999999)",
            "SELECT datetime(), strftime('%s'), strftime('now', a), date('now' || x), date(f('now'))",
            "SELECT now, 'now', CURRENT_TIMESTAMP, my_random(), é(random",
            "SELECT 'open",
            "SELECT /* open",
            "",
        ] {
            assert_eq!(rendered(sql), sql);
        }
        assert_eq!(
            rendered("SELECT (SELECT a FROM t ORDER BY random() LIMIT random()), random()"),
            "SELECT (SELECT a FROM t ORDER BY random() LIMIT 21889), 21890"
        );
        assert_eq!(rendered("SELECT 1 ORDER BY random(); SELECT random()"), "SELECT 1 ORDER BY random(); SELECT 21889");
    }

    #[test]
    fn flags_leave_calls() {
        let sql = "VALUES(random(), date('now'))";
        assert_eq!(render(sql, Values { random: None, julian_day: None }), sql);
    }

    #[test]
    fn tokens_are_the_whole_text() {
        for sql in ["SELECT é, 'a''b' FROM [x y] -- end\n;", "x'ab' X'", "'", "''", "/*", "--", "/", "é'ü", "1.5e3+.5"]
        {
            let text: String = tokens(sql).iter().map(|token| token.text).collect();
            assert_eq!(text, sql);
        }
    }
}
