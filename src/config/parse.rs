//! Words of the command line to values, by the grammar of Go's `flag` package. Runs on the main thread; must never
//! print, exit or touch the disk: the caller decides what an outcome means.

use std::fmt;

use super::flags::{self, FLAGS, Kind};
use crate::text::{duration, quote};

/// The value of one flag; the variant always fits the flag's [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    /// Nanoseconds.
    Duration(i64),
    Text(String),
    List(Vec<String>),
}

impl From<Kind> for Value {
    fn from(kind: Kind) -> Value {
        match kind {
            Kind::Bool(default) => Value::Bool(default),
            Kind::Int(default) => Value::Int(default),
            Kind::Uint(default) => Value::Uint(default),
            Kind::Duration(default) => Value::Duration(default),
            Kind::Text(default) => Value::Text(default.to_string()),
            Kind::List => Value::List(Vec::new()),
        }
    }
}

/// Why the words cannot be read. The texts are those of Go; the process exits with status 2 after the usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParseError {
    /// `-h` or `-help` was met: not a mistake, but the end of reading (status 0).
    HelpWanted,
    /// A word such as `---x` or `-=x`.
    BadSyntax(String),
    /// A flag that the table does not have.
    NotDefined(String),
    /// A flag at the end whose value is missing.
    NeedsArgument(&'static str),
    /// A value that its flag cannot take.
    InvalidValue { flag: &'static str, kind: Kind, value: String, reason: &'static str },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::HelpWanted => write!(f, "flag: help requested"),
            ParseError::BadSyntax(word) => write!(f, "bad flag syntax: {word}"),
            ParseError::NotDefined(name) => write!(f, "flag provided but not defined: -{name}"),
            ParseError::NeedsArgument(name) => write!(f, "flag needs an argument: -{name}"),
            ParseError::InvalidValue { flag, kind: Kind::Bool(_), value, reason } => {
                write!(f, "invalid boolean value {} for -{flag}: {reason}", quote(value))
            }
            ParseError::InvalidValue { flag, value, reason, .. } => {
                write!(f, "invalid value {} for flag -{flag}: {reason}", quote(value))
            }
        }
    }
}

impl std::error::Error for ParseError {}

/// What the command line said: a value for every flag of the table, which of them were given, and the other words.
#[derive(Debug, Clone)]
pub struct RawFlags {
    values: Vec<Value>,
    given: Vec<bool>,
    /// The words behind the flags: the data directory, and whatever should not be there.
    pub positionals: Vec<String>,
}

const PARSE_ERROR: &str = "parse error";
const OUT_OF_RANGE: &str = "value out of range";

/// Reads flags until the first word that is none (or `--`); a flag given twice keeps its last value.
pub fn parse(words: &[String]) -> Result<RawFlags, ParseError> {
    let mut raw = RawFlags::default();
    let mut rest = words.iter();
    while let Some(word) = rest.as_slice().first() {
        if word == "--" {
            rest.next();
            break;
        }
        let Some(body) = word.strip_prefix('-').filter(|body| !body.is_empty()) else { break };
        rest.next();
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.is_empty() || body.starts_with(['-', '=']) {
            return Err(ParseError::BadSyntax(word.clone()));
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(place) = flags::find(name) else {
            return Err(match name {
                "h" | "help" => ParseError::HelpWanted,
                _ => ParseError::NotDefined(name.to_string()),
            });
        };
        let flag = &FLAGS[place];
        let value = match (inline, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool(_)) => "true",
            (None, _) => rest.next().ok_or(ParseError::NeedsArgument(flag.name))?,
        };
        let read = read_value(flag.kind, value).map_err(|reason| ParseError::InvalidValue {
            flag: flag.name,
            kind: flag.kind,
            value: value.to_string(),
            reason,
        })?;
        raw.values[place] = read;
        raw.given[place] = true;
    }
    raw.positionals = rest.cloned().collect();
    Ok(raw)
}

impl Default for RawFlags {
    fn default() -> RawFlags {
        let values = FLAGS.iter().map(|flag| Value::from(flag.kind)).collect();
        RawFlags { values, given: vec![false; FLAGS.len()], positionals: Vec::new() }
    }
}

/// The accessors panic when the table has no such flag or has it with another kind: that is a mistake in this
/// program, and the unit tests read every flag.
impl RawFlags {
    fn value(&self, name: &str) -> &Value {
        &self.values[flags::find(name).expect("code asks only for flags of the table")]
    }

    /// True when the command line named the flag, whatever value it gave.
    pub fn is_given(&self, name: &str) -> bool {
        self.given[flags::find(name).expect("code asks only for flags of the table")]
    }

    /// True when the value is another than the default.
    pub fn is_changed(&self, flag: &flags::Flag) -> bool {
        *self.value(flag.name) != Value::from(flag.kind)
    }

    pub fn bool(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(value) => *value,
            other => panic!("-{name} holds {other:?}, not a bool"),
        }
    }

    pub fn int(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Int(value) => *value,
            other => panic!("-{name} holds {other:?}, not an integer"),
        }
    }

    pub fn uint(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Uint(value) => *value,
            other => panic!("-{name} holds {other:?}, not an unsigned integer"),
        }
    }

    /// Nanoseconds, perhaps negative.
    pub fn duration_ns(&self, name: &str) -> i64 {
        match self.value(name) {
            Value::Duration(value) => *value,
            other => panic!("-{name} holds {other:?}, not a duration"),
        }
    }

    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Value::Text(value) => value,
            other => panic!("-{name} holds {other:?}, not a text"),
        }
    }

    pub fn list(&self, name: &str) -> &[String] {
        match self.value(name) {
            Value::List(value) => value,
            other => panic!("-{name} holds {other:?}, not a list"),
        }
    }

    /// The name of the first flag, in the table's order, whose number or duration is negative.
    pub fn first_negative(&self) -> Option<&'static str> {
        let negative = |value: &Value| matches!(value, Value::Int(n) | Value::Duration(n) if *n < 0);
        FLAGS.iter().zip(&self.values).find(|(_, value)| negative(value)).map(|(flag, _)| flag.name)
    }
}

fn read_value(kind: Kind, text: &str) -> Result<Value, &'static str> {
    match kind {
        Kind::Bool(_) => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(PARSE_ERROR),
        },
        Kind::Int(_) => read_int(text).map(Value::Int),
        Kind::Uint(_) => read_uint(text).map(Value::Uint),
        Kind::Duration(_) => duration::parse_ns(text).map(Value::Duration).map_err(|_| PARSE_ERROR),
        Kind::Text(_) => Ok(Value::Text(text.to_string())),
        Kind::List if text.is_empty() => Ok(Value::List(Vec::new())),
        Kind::List => Ok(Value::List(text.split(',').map(str::to_string).collect())),
    }
}

/// A signed integer: sign, then what [`read_uint`] takes.
fn read_int(text: &str) -> Result<i64, &'static str> {
    let (negative, magnitude) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(read_uint(magnitude)?);
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| OUT_OF_RANGE)
}

/// An unsigned integer: `0x`, `0o`, `0b` or a leading `0` (octal) name the base; an underscore may stand between
/// two digits and behind the prefix.
fn read_uint(text: &str) -> Result<u64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (base, digits, prefixed) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..], true),
        [b'0', b'o', ..] => (8, &lower[2..], true),
        [b'0', b'b', ..] => (2, &lower[2..], true),
        [b'0', _, ..] => (8, &lower[1..], true),
        _ => (10, lower.as_str(), false),
    };
    let mut total: Option<u64> = Some(0);
    let mut may_separate = prefixed;
    let mut last_is_digit = false;
    for byte in digits.bytes() {
        if byte == b'_' {
            if !may_separate {
                return Err(PARSE_ERROR);
            }
            may_separate = false;
            last_is_digit = false;
            continue;
        }
        let digit = char::from(byte).to_digit(base).ok_or(PARSE_ERROR)?;
        total = total.and_then(|n| n.checked_mul(u64::from(base))).and_then(|n| n.checked_add(u64::from(digit)));
        may_separate = true;
        last_is_digit = true;
    }
    if !last_is_digit {
        return Err(PARSE_ERROR);
    }
    total.ok_or(OUT_OF_RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_string).collect()
    }

    fn read(line: &str) -> RawFlags {
        parse(&words(line)).expect("the line is well-formed")
    }

    fn error(line: &str) -> String {
        parse(&words(line)).expect_err("the line is malformed").to_string()
    }

    #[test]
    fn one_dash_two_dashes_equals_or_blank() {
        for line in ["-node-id a d", "--node-id a d", "-node-id=a d", "--node-id=a d", "-node-id b --node-id a d"] {
            let raw = read(line);
            assert_eq!(raw.text("node-id"), "a", "{line}");
            assert!(raw.is_given("node-id") && !raw.is_given("fk"));
            assert_eq!(raw.positionals, ["d"]);
        }
        assert_eq!(read("-node-id=a=b d").text("node-id"), "a=b");
        assert_eq!(read("-node-id -fk d").text("node-id"), "-fk");
        assert_eq!(read("-node-id= d").text("node-id"), "");
    }

    #[test]
    fn a_bool_takes_its_value_only_behind_an_equals_sign() {
        let raw = read("-fk false");
        assert!(raw.bool("fk"));
        assert_eq!(raw.positionals, ["false"]);
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert!(read(&format!("-fk={text}")).bool("fk"));
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert!(!read(&format!("-raft-shutdown-stepdown={text}")).bool("raft-shutdown-stepdown"));
        }
        assert_eq!(error("-fk=tRUE"), "invalid boolean value \"tRUE\" for -fk: parse error");
        assert_eq!(error("-fk="), "invalid boolean value \"\" for -fk: parse error");
    }

    #[test]
    fn reading_stops_at_a_word_or_two_dashes() {
        assert_eq!(read("-fk d -node-id a").positionals, ["d", "-node-id", "a"]);
        assert_eq!(read("-fk -- -d").positionals, ["-d"]);
        assert_eq!(read("-fk -").positionals, ["-"]);
        assert_eq!(read("").positionals, [""; 0]);
    }

    #[test]
    fn malformed_flags_are_told_apart() {
        assert_eq!(error("-xyz"), "flag provided but not defined: -xyz");
        assert_eq!(error("--xyz=1 d"), "flag provided but not defined: -xyz");
        assert_eq!(error("---fk"), "bad flag syntax: ---fk");
        assert_eq!(error("-=1"), "bad flag syntax: -=1");
        assert_eq!(error("--=1"), "bad flag syntax: --=1");
        assert_eq!(error("-fk -node-id"), "flag needs an argument: -node-id");
        for line in ["-h", "-help", "--help", "--h", "-fk -h -xyz"] {
            assert!(matches!(parse(&words(line)), Err(ParseError::HelpWanted)), "{line}");
        }
    }

    #[test]
    fn integers_know_bases_and_separators() {
        for (text, value) in
            [("0", 0), ("-0", 0), ("+7", 7), ("0x1F", 31), ("0o17", 15), ("017", 15), ("0b1_01", 5), ("1_000", 1000)]
        {
            assert_eq!(read(&format!("-join-attempts={text}")).int("join-attempts"), value, "{text}");
        }
        assert_eq!(read("-join-attempts -0x10").int("join-attempts"), -16);
        assert_eq!(read("-join-attempts 0x_f").int("join-attempts"), 15);
        let (min, max) = ("-9223372036854775808", "18446744073709551615");
        assert_eq!(read(&format!("-join-attempts {min}")).int("join-attempts"), i64::MIN);
        assert_eq!(read(&format!("-raft-snap {max}")).uint("raft-snap"), u64::MAX);
        for text in ["x", "1.5", "", "-", "1__0", "_1", "1_", "0x", "0x_", "08", "--1", "1e3", "+-1", "é"] {
            assert_eq!(read_int(text), Err(PARSE_ERROR), "{text}");
        }
        assert_eq!(read_int("9223372036854775808"), Err(OUT_OF_RANGE));
        assert_eq!(read_uint("18446744073709551616"), Err(OUT_OF_RANGE));
        assert_eq!(error("-join-attempts x"), "invalid value \"x\" for flag -join-attempts: parse error");
        assert_eq!(error("-raft-snap -1"), "invalid value \"-1\" for flag -raft-snap: parse error");
        assert_eq!(error("-raft-snap +1"), "invalid value \"+1\" for flag -raft-snap: parse error");
    }

    #[test]
    fn durations_and_lists() {
        assert_eq!(read("-join-interval 1h30m").duration_ns("join-interval"), 5_400_000_000_000);
        assert_eq!(error("-join-interval 5"), "invalid value \"5\" for flag -join-interval: parse error");
        assert_eq!(read("-join a:1,,b:2").list("join"), ["a:1", "", "b:2"]);
        assert_eq!(read("-join=").list("join"), [""; 0]);
    }

    #[test]
    fn defaults_hold_without_flags() {
        let raw = RawFlags::default();
        assert!(FLAGS.iter().all(|flag| !raw.is_changed(flag) && !raw.is_given(flag.name)));
        assert_eq!(raw.first_negative(), None);
        assert_eq!(read("-write-queue-capacity -1").first_negative(), Some("write-queue-capacity"));
    }

    /// Words made of pieces that the grammar cares about: none may panic, and what is read must be one of the kinds.
    #[test]
    fn no_command_line_makes_the_parser_panic() {
        let pieces =
            ["-", "--", "=", "fk", "node-id", "raft-snap", "join", "join-interval", "0x", "1", "_", "h", "é", ","];
        let mut state: u64 = 7;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let words: Vec<String> =
                (0..next(5)).map(|_| (0..next(6)).map(|_| pieces[next(pieces.len())]).collect()).collect();
            match parse(&words) {
                Ok(raw) => assert!(raw.positionals.len() <= words.len()),
                Err(error) => assert!(!error.to_string().contains('\n'), "{words:?}"),
            }
        }
    }
}
