//! Just enough of SQL's lexical grammar to see how statements begin. SQLite itself decides everything else.
//!
//! Pure; any thread. Linear in the length of the text.

/// A token, as far as anyone here cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A bare word: keyword, identifier or number.
    Word(&'a str),
    /// Something quoted: a string, or an identifier in any of SQLite's quotes; without the quotes.
    Quoted(&'a str),
    /// Any other single character.
    Symbol(char),
}

/// The tokens of a text, without white space and comments.
pub struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    pub fn new(sql: &'a str) -> Tokens<'a> {
        Tokens { rest: sql }
    }

    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{feff}');
            if let Some(comment) = self.rest.strip_prefix("--") {
                self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
            } else if let Some(comment) = self.rest.strip_prefix("/*") {
                self.rest = comment.split_once("*/").map_or("", |(_, rest)| rest);
            } else {
                return;
            }
        }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.skip_blanks();
        let first = self.rest.chars().next()?;
        let close = match first {
            '\'' | '"' | '`' => Some(first),
            '[' => Some(']'),
            _ => None,
        };
        if let Some(close) = close {
            let (inner, rest) = quoted(&self.rest[1..], close);
            self.rest = rest;
            return Some(Token::Quoted(inner));
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
        if is_word(first) {
            let length = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(length);
            self.rest = rest;
            return Some(Token::Word(word));
        }
        self.rest = &self.rest[first.len_utf8()..];
        Some(Token::Symbol(first))
    }
}

/// Splits behind the closing quote; a doubled quote does not close (but `]` cannot be doubled).
fn quoted(text: &str, close: char) -> (&str, &str) {
    let mut from = 0;
    while let Some(at) = text[from..].find(close).map(|at| from + at) {
        let doubled = close != ']' && text[at + 1..].starts_with(close);
        if !doubled {
            return (&text[..at], &text[at + 1..]);
        }
        from = at + 2;
    }
    (text, "")
}

/// What a statement begins with, as far as it matters for how it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leading {
    /// INSERT, REPLACE, UPDATE, DELETE.
    Dml,
    /// SELECT, VALUES.
    Select,
    /// WITH: a SELECT or a write.
    With,
    Pragma,
    Vacuum,
    Other,
}

/// Looks at the first word of the first statement, whatever blanks, comments and semicolons stand before it.
pub fn leading(sql: &str) -> Leading {
    let word = Tokens::new(sql).find(|t| *t != Token::Symbol(';'));
    let Some(Token::Word(word)) = word else { return Leading::Other };
    let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
    match word.as_bytes()[0].to_ascii_lowercase() {
        b'i' if is("insert") => Leading::Dml,
        b'u' if is("update") => Leading::Dml,
        b'd' if is("delete") => Leading::Dml,
        b'r' if is("replace") => Leading::Dml,
        b's' if is("select") => Leading::Select,
        b'v' if is("values") => Leading::Select,
        b'w' if is("with") => Leading::With,
        b'p' if is("pragma") => Leading::Pragma,
        b'v' if is("vacuum") => Leading::Vacuum,
        _ => Leading::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_quotes_hide_nothing() {
        assert_eq!(leading("/* INSERT */ -- x\n ;; vAcuum main"), Leading::Vacuum);
        assert_eq!(leading("'insert'"), Leading::Other);
        assert_eq!(leading("insertion"), Leading::Other);
        assert_eq!(leading(""), Leading::Other);
        assert_eq!(leading("/* open"), Leading::Other);
        assert_eq!(leading("\u{feff}PRAGMA x"), Leading::Pragma);
    }

    #[test]
    fn tokens_split_as_sqlite_splits_them() {
        let tokens: Vec<_> = Tokens::new("a.\"b\"\"c\"['x']--y\n'it''s;'").collect();
        let expected = [
            Token::Word("a"),
            Token::Symbol('.'),
            Token::Quoted("b\"\"c"),
            Token::Quoted("'x'"),
            Token::Quoted("it''s;"),
        ];
        assert_eq!(tokens, expected);
        assert_eq!(Tokens::new("'open").collect::<Vec<_>>(), [Token::Quoted("open")]);
    }
}
