//! What a client's SQL asks for, before it runs: refused pragmas, and whether all of a request only reads.
//!
//! Any thread. Reading or writing is decided by SQLite itself (see `reader.rs`), never by looking at the text; only
//! the refusal of pragmas looks at it, because it must answer before the node knows who leads. The authorizers stand
//! behind that: what this scanner does not see, they refuse or ignore.

/// Does some statement of this string set a pragma that a replicated database cannot let go of: `journal_mode`,
/// `synchronous`, `wal_autocheckpoint`, `query_only`, or run `wal_checkpoint`? Such a request is refused as a whole.
///
/// Sees through comments, quoted names, blanks around the dot, the call form, and to every statement of the string.
pub fn has_disallowed_pragma(sql: &str) -> bool {
    let bytes = sql.as_bytes();
    if !mentions_pragma(bytes) {
        return false;
    }
    let mut scanner = Scanner { bytes, at: 0 };
    let mut at_start = true;
    while let Some(token) = scanner.next() {
        match token {
            Token::Symbol(b';') => at_start = true,
            Token::Word(word) if at_start && word.eq_ignore_ascii_case(b"pragma") => {
                if scanner.is_disallowed_pragma() {
                    return true;
                }
                at_start = false;
            }
            // Some pragmas act while they are compiled, so that EXPLAIN does not disarm them.
            Token::Word(word) if at_start => {
                at_start = [&b"explain"[..], b"query", b"plan"].iter().any(|w| word.eq_ignore_ascii_case(w));
            }
            _ => at_start = false,
        }
    }
    false
}

/// Most SQL has no pragma in it: one quick look spares the scan.
fn mentions_pragma(bytes: &[u8]) -> bool {
    let word = b"pragma";
    memchr::memchr2_iter(b'p', b'P', bytes)
        .any(|at| bytes.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word)))
}

/// A token of SQL, as far as pragmas need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A keyword, an identifier or a number.
    Word(&'a [u8]),
    /// What stands between quotes or brackets.
    Quoted(&'a [u8]),
    Symbol(u8),
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// The next token; white space and comments are skipped.
    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blank();
        let rest = &self.bytes[self.at..];
        let first = *rest.first()?;
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'$' || *byte >= 0x80;
        let (token, len) = match first {
            b'\'' | b'"' | b'`' => self.quoted(first),
            b'[' => {
                let len = memchr::memchr(b']', rest).map_or(rest.len(), |at| at + 1);
                (Token::Quoted(&rest[1..len - usize::from(rest[len - 1] == b']')]), len)
            }
            _ if is_word(&first) => {
                let len = rest.iter().take_while(|byte| is_word(byte)).count();
                (Token::Word(&rest[..len]), len)
            }
            _ => (Token::Symbol(first), 1),
        };
        self.at += len;
        Some(token)
    }

    /// From a quote to its match; a doubled quote inside does not end it.
    fn quoted(&self, quote: u8) -> (Token<'a>, usize) {
        let rest = &self.bytes[self.at..];
        let mut end = 1;
        while end < rest.len() {
            if rest[end] != quote {
                end += 1;
            } else if rest.get(end + 1) == Some(&quote) {
                end += 2;
            } else {
                return (Token::Quoted(&rest[1..end]), end + 1);
            }
        }
        (Token::Quoted(&rest[1..]), rest.len())
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.bytes[self.at..];
            self.at += match rest {
                [b'-', b'-', ..] => memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1),
                [b'/', b'*', ..] => memchr::memmem::find(&rest[2..], b"*/").map_or(rest.len(), |at| at + 4),
                // SQLite counts a form feed as white space; a byte order mark it skips as well.
                [b' ' | b'\t' | b'\n' | b'\r' | 0x0c, ..] => 1,
                [0xef, 0xbb, 0xbf, ..] => 3,
                _ => return,
            };
        }
    }

    /// Called behind the keyword `PRAGMA`: `[schema .] name [= value | ( value )]`.
    fn is_disallowed_pragma(&mut self) -> bool {
        let mut name = match self.next() {
            Some(Token::Word(name) | Token::Quoted(name)) => name,
            _ => return false,
        };
        let mut before = self.at;
        let mut following = self.next();
        if following == Some(Token::Symbol(b'.')) {
            name = match self.next() {
                Some(Token::Word(name) | Token::Quoted(name)) => name,
                _ => return false,
            };
            before = self.at;
            following = self.next();
        }
        let sets = matches!(following, Some(Token::Symbol(b'=' | b'(')));
        // What follows the name may be the `;` that ends the statement: the caller wants to see it.
        self.at = before;
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        is("wal_checkpoint")
            || sets && (is("journal_mode") || is("synchronous") || is("wal_autocheckpoint") || is("query_only"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_forms_are_refused_however_they_are_written() {
        for sql in [
            "PRAGMA journal_mode=DELETE",
            "pragma JOURNAL_MODE = wal",
            "  PRAGMA synchronous = NORMAL",
            "PRAGMA wal_autocheckpoint=100",
            "PRAGMA wal_checkpoint",
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "PRAGMA wal_checkpoint;",
            "PRAGMA query_only=0",
            "PRAGMA main.journal_mode=MEMORY",
            "PRAGMA main . journal_mode = off",
            "PRAGMA journal_mode(delete)",
            "PRAGMA 'journal_mode'=wal",
            "PRAGMA \"main\".[synchronous] (1)",
            "PRAGMA `query_only`=off",
            "/* c */ PRAGMA synchronous=0",
            "-- c\nPRAGMA synchronous=0",
            "SELECT 1; PRAGMA query_only=0",
            "PRAGMA foreign_keys; PRAGMA query_only=0",
            "PRAGMA journal_mode;PRAGMA journal_mode=off",
            "SELECT ';'; /* ; */ PRAGMA/**/journal_mode/**/=/**/off",
            "EXPLAIN PRAGMA synchronous=OFF",
            "EXPLAIN QUERY PLAN PRAGMA synchronous=OFF",
            "\u{feff}PRAGMA synchronous=0",
            ";PRAGMA synchronous=0",
        ] {
            assert!(has_disallowed_pragma(sql), "{sql}");
        }
    }

    #[test]
    fn reading_forms_and_look_alikes_pass() {
        for sql in [
            "PRAGMA journal_mode",
            "PRAGMA main.journal_mode;",
            "PRAGMA synchronous; SELECT 1",
            "PRAGMA foreign_keys=ON",
            "PRAGMA user_version = 7",
            "PRAGMA table_info(journal_mode)",
            "PRAGMA",
            "PRAGMA main.",
            "PRAGMA ;",
            "SELECT 'PRAGMA journal_mode=off'",
            "SELECT \"x; PRAGMA journal_mode=off\" FROM t",
            "SELECT 1 -- ; PRAGMA journal_mode=off",
            "SELECT 1 /* ; PRAGMA journal_mode=off",
            "INSERT INTO pragma VALUES('journal_mode=')",
            "SELECT * FROM pragma_journal_mode",
            "SELECT [; PRAGMA synchronous=1] FROM t",
            "SELECT [",
            "SELECT 'it''s; PRAGMA synchronous=1'",
            "",
        ] {
            assert!(!has_disallowed_pragma(sql), "{sql}");
        }
    }

    #[test]
    fn any_bytes_are_scanned_to_their_end() {
        let pieces =
            ["PRAGMA", "journal_mode", "=", "(", "'", "\"", "[", "]", ";", "--", "\n", "/*", "*/", ".", "é", " "];
        let mut state = 7u32;
        for _ in 0..20_000 {
            let mut sql = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(1664525).wrapping_add(1013904223);
                sql.push_str(pieces[(state >> 16) as usize % pieces.len()]);
            }
            has_disallowed_pragma(&sql);
        }
    }
}
