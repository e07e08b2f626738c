//! Bodies of requests: a JSON list of statements, or one string of SQL.
//!
//! Pure; run by HTTP workers on every write, so it reads the body once, builds no tree and allocates once per string.
//! Errors are found in the order of the text; an element is judged only when it is whole, so that broken JSON is
//! called broken JSON. The texts of the errors are part of the API.

use super::scan::{Malformed, Scanner};
use crate::command::{Parameter, Statement, Value};
use crate::text;
use std::borrow::Cow;
use std::fmt;

/// Most statements and parameters in one body, together. Each takes about a hundred bytes of memory for as little as two
/// bytes of text, and its result as much again, so that the size of the body alone would not bound it.
pub const ITEMS_MAX: usize = 250_000;

/// From this many members on, an object's names are compared by sorting them.
const NAMES_COMPARED_PAIRWISE_MAX: usize = 16;

/// Most characters of the body that an error text repeats.
const SPELLING_CHARS_MAX: usize = 400;

/// Why a body holds no statements. `Display` is the text that the client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyError {
    InvalidJson,
    /// A JSON value, and more behind it.
    TrailingBytes,
    /// JSON, but no list of statements.
    InvalidRequest,
    /// An empty list.
    NoStatements,
    /// A value that cannot be bound: its kind, or the spelling of a number that is no byte.
    UnsupportedType(String),
    /// A number beyond every REAL; its spelling.
    InvalidNumber(String),
    /// Two values for one name in one object: which of them is meant cannot be known.
    DuplicateName(String),
    NotUtf8,
    TooManyItems,
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::InvalidJson | BodyError::TrailingBytes => f.write_str("invalid JSON body"),
            BodyError::InvalidRequest => f.write_str("invalid request"),
            BodyError::NoStatements => f.write_str("no statements"),
            BodyError::UnsupportedType(kind) => write!(f, "unsupported type {kind}"),
            BodyError::InvalidNumber(spelling) => write!(f, "invalid number {spelling}"),
            BodyError::DuplicateName(name) => write!(f, "duplicate parameter {}", text::quote(name)),
            BodyError::NotUtf8 => f.write_str("body is not valid UTF-8"),
            BodyError::TooManyItems => {
                write!(f, "more than {ITEMS_MAX} statements and parameters: send them in several requests")
            }
        }
    }
}

impl std::error::Error for BodyError {}

impl From<Malformed> for BodyError {
    fn from(_: Malformed) -> BodyError {
        BodyError::InvalidJson
    }
}

/// Reads a JSON list whose elements are strings of SQL, or lists of one such string and its parameters.
pub fn parse_statements(body: &[u8]) -> Result<Vec<Statement>, BodyError> {
    let text = std::str::from_utf8(body).map_err(|_| BodyError::NotUtf8)?;
    let mut reader = Reader { scanner: Scanner::new(text), items_left: ITEMS_MAX };
    match reader.scanner.peek() {
        Some(b'[') => reader.scanner.take(b'[')?,
        Some(b'{') => return Err(BodyError::InvalidRequest),
        _ => {
            reader.scanner.skip()?;
            return Err(BodyError::InvalidRequest);
        }
    }
    let mut statements = Vec::with_capacity(1);
    while reader.scanner.next_member(b']', statements.is_empty())? {
        let start = reader.scanner.clone();
        match reader.statement() {
            Ok(statement) => statements.push(statement),
            Err(error) => {
                // Only a whole element is blamed for what it says.
                start.clone().skip()?;
                return Err(error);
            }
        }
    }
    if reader.scanner.peek().is_some() {
        return Err(BodyError::TrailingBytes);
    }
    if statements.is_empty() {
        return Err(BodyError::NoStatements);
    }
    Ok(statements)
}

/// A body of `text/plain`: one string of SQL.
pub fn plain_statement(body: Vec<u8>) -> Result<Statement, BodyError> {
    let sql = String::from_utf8(body).map_err(|_| BodyError::NotUtf8)?;
    Ok(Statement { sql, parameters: Vec::new() })
}

struct Reader<'a> {
    scanner: Scanner<'a>,
    items_left: usize,
}

impl Reader<'_> {
    fn count_item(&mut self) -> Result<(), BodyError> {
        self.items_left = self.items_left.checked_sub(1).ok_or(BodyError::TooManyItems)?;
        Ok(())
    }

    fn statement(&mut self) -> Result<Statement, BodyError> {
        self.count_item()?;
        match self.scanner.peek() {
            Some(b'"') => Ok(Statement { sql: self.scanner.string()?.into_owned(), parameters: Vec::new() }),
            Some(b'[') => {
                self.scanner.take(b'[')?;
                self.parameterized()
            }
            _ => Err(BodyError::InvalidRequest),
        }
    }

    /// The rest of `["SQL", parameter, ...]`, behind its bracket.
    fn parameterized(&mut self) -> Result<Statement, BodyError> {
        if !self.scanner.next_member(b']', true)? || self.scanner.peek() != Some(b'"') {
            return Err(BodyError::InvalidRequest);
        }
        let sql = self.scanner.string()?.into_owned();
        let mut parameters = Vec::new();
        while self.scanner.next_member(b']', false)? {
            if self.scanner.peek() == Some(b'{') {
                self.scanner.take(b'{')?;
                self.named(&mut parameters)?;
            } else {
                self.count_item()?;
                parameters.push(Parameter { name: None, value: self.value()? });
            }
        }
        Ok(Statement { sql, parameters })
    }

    /// The rest of `{"name": value, ...}`, behind its brace.
    fn named(&mut self, parameters: &mut Vec<Parameter>) -> Result<(), BodyError> {
        let before = parameters.len();
        while self.scanner.next_member(b'}', parameters.len() == before)? {
            self.count_item()?;
            let name = self.scanner.string()?.into_owned();
            self.scanner.take(b':')?;
            parameters.push(Parameter { name: Some(name), value: self.value()? });
        }
        match duplicate(&parameters[before..]) {
            Some(name) => Err(BodyError::DuplicateName(shorten(name))),
            None => Ok(()),
        }
    }

    fn value(&mut self) -> Result<Value, BodyError> {
        match self.scanner.peek() {
            Some(b'"') => Ok(text_or_blob(self.scanner.string()?)),
            Some(b'-' | b'0'..=b'9') => number(self.scanner.number()?),
            Some(b't') => self.scanner.word("true").map(|()| Value::Integer(1)).map_err(BodyError::from),
            Some(b'f') => self.scanner.word("false").map(|()| Value::Integer(0)).map_err(BodyError::from),
            Some(b'n') => self.scanner.word("null").map(|()| Value::Null).map_err(BodyError::from),
            Some(b'[') => {
                self.scanner.take(b'[')?;
                self.bytes()
            }
            Some(b'{') => Err(BodyError::UnsupportedType("object".to_owned())),
            _ => Err(BodyError::InvalidJson),
        }
    }

    /// The rest of `[222, 173, ...]`, behind its bracket: a BLOB, byte by byte.
    fn bytes(&mut self) -> Result<Value, BodyError> {
        let mut bytes = Vec::new();
        while self.scanner.next_member(b']', bytes.is_empty())? {
            let kind = match self.scanner.peek() {
                Some(b'-' | b'0'..=b'9') => {
                    let spelling = self.scanner.number()?;
                    let byte = spelling.parse().map_err(|_| BodyError::UnsupportedType(shorten(spelling)))?;
                    bytes.push(byte);
                    continue;
                }
                Some(b'"') => "string",
                Some(b't' | b'f') => "bool",
                Some(b'n') => "null",
                Some(b'[') => "array",
                Some(b'{') => "object",
                _ => return Err(BodyError::InvalidJson),
            };
            return Err(BodyError::UnsupportedType(kind.to_owned()));
        }
        Ok(Value::Blob(bytes))
    }
}

/// A name that occurs twice.
fn duplicate(parameters: &[Parameter]) -> Option<&str> {
    if parameters.len() <= NAMES_COMPARED_PAIRWISE_MAX {
        let again = (1..parameters.len()).find(|&n| parameters[..n].iter().any(|p| p.name == parameters[n].name))?;
        return parameters[again].name.as_deref();
    }
    let mut names: Vec<&str> = parameters.iter().filter_map(|parameter| parameter.name.as_deref()).collect();
    names.sort_unstable();
    names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

/// A number that is an i64 as it is spelled is an INTEGER, every other a REAL.
fn number(spelling: &str) -> Result<Value, BodyError> {
    if let Ok(integer) = spelling.parse() {
        return Ok(Value::Integer(integer));
    }
    match spelling.parse::<f64>() {
        Ok(real) if real.is_finite() => Ok(Value::Real(real)),
        _ => Err(BodyError::InvalidNumber(shorten(spelling))),
    }
}

/// `x'0102'`, in either case and with white space around it, is a BLOB; other strings are TEXT.
fn text_or_blob(text: Cow<'_, str>) -> Value {
    match hex_literal(&text) {
        Some(bytes) => Value::Blob(bytes),
        None => Value::Text(text.into_owned().into_bytes()),
    }
}

fn hex_literal(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim().strip_prefix(['x', 'X'])?.strip_prefix('\'')?.strip_suffix('\'')?.as_bytes();
    if digits.len() % 2 != 0 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0) as u8;
    Some(digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect())
}

/// The beginning of a text, for an error to repeat.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(SPELLING_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
