//! The query string: parsed once for every request, checked before anything else looks at the request.
//!
//! Pure functions, run by HTTP workers. They must never look at the path: a bad query string is refused on every path,
//! also on unknown ones. The texts of the errors are part of the API.

use crate::coordinator::{Level, ReadOptions};
use crate::text::{self, duration};
use std::borrow::Cow;
use std::time::Duration;

/// `timeout` when the client gives none.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// `linearizable_timeout` when the client gives none.
const LINEARIZABLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// What a `linearizable_timeout` of zero means.
const LINEARIZABLE_TIMEOUT_OF_ZERO: Duration = Duration::from_secs(1);

/// Parameters that are true by being there, whatever their value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Flag {
    Pretty,
    Timings,
    Transaction,
    Associative,
    BlobArray,
    QualifyColumns,
    FreshnessStrict,
    Redirect,
    Queue,
    Wait,
    NoLeader,
    RaftIndex,
    NoRewriteRandom,
    NoRewriteTime,
    NoParse,
    Vacuum,
    Compress,
    NonVoters,
    Sync,
    Bypass,
}

const FLAGS: [(&str, Flag); 20] = [
    ("pretty", Flag::Pretty),
    ("timings", Flag::Timings),
    ("transaction", Flag::Transaction),
    ("associative", Flag::Associative),
    ("blob_array", Flag::BlobArray),
    ("qualify_columns", Flag::QualifyColumns),
    ("freshness_strict", Flag::FreshnessStrict),
    ("redirect", Flag::Redirect),
    ("queue", Flag::Queue),
    ("wait", Flag::Wait),
    ("noleader", Flag::NoLeader),
    ("raft_index", Flag::RaftIndex),
    ("norwrandom", Flag::NoRewriteRandom),
    ("norwtime", Flag::NoRewriteTime),
    ("noparse", Flag::NoParse),
    ("vacuum", Flag::Vacuum),
    ("compress", Flag::Compress),
    ("nonvoters", Flag::NonVoters),
    ("sync", Flag::Sync),
    ("bypass", Flag::Bypass),
];

/// What is wrong with a query string. `Display` is the text that the client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamError {
    Semicolon,
    /// The offending characters, at most three.
    Escape(String),
    StrictWithoutFreshness,
    Duration(&'static str),
    Integer(&'static str),
    EmptyQuery,
    /// `q` decodes to bytes that are not UTF-8, so it cannot be SQL.
    QueryNotUtf8,
}

impl std::fmt::Display for ParamError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ParamError::Semicolon => f.write_str("invalid semicolon separator in query"),
            ParamError::Escape(text) => write!(f, "invalid URL escape {}", text::quote(text)),
            ParamError::StrictWithoutFreshness => f.write_str("freshness_strict requires freshness"),
            ParamError::Duration(name) => write!(f, "{name} is not a valid duration"),
            ParamError::Integer(name) => write!(f, "{name} is not a valid integer"),
            ParamError::EmptyQuery => f.write_str("query parameter not set"),
            ParamError::QueryNotUtf8 => f.write_str("query parameter is not valid UTF-8"),
        }
    }
}

impl std::error::Error for ParamError {}

/// A checked query string, with defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Params {
    /// One bit for each [`Flag`].
    flags: u32,
    pub level: Level,
    /// Zero: off.
    pub freshness: Duration,
    pub linearizable_timeout: Duration,
    /// Bound of network operations and of waiting for the queue.
    pub timeout: Duration,
    /// Bound of the SQL's execution; zero: none.
    pub db_timeout: Duration,
    pub retries: u32,
    /// Zero: as configured.
    pub trailing_logs: u64,
    /// A read waits until this node has applied so much of the log; zero: no matter how much.
    pub min_index: u64,
    /// SQL of a GET; never empty.
    pub q: Option<String>,
    /// Path into `/status`, or entry of `/debug/vars`.
    pub key: Option<String>,
    /// `ver=2`: the array form of `/nodes`.
    pub nodes_as_array: bool,
    /// What a backup looks like.
    pub format: Option<String>,
    /// Tables that a dump is to hold; none: all.
    pub tables: Vec<String>,
}

impl Default for Params {
    fn default() -> Params {
        Params {
            flags: 0,
            level: Level::Weak,
            freshness: Duration::ZERO,
            linearizable_timeout: LINEARIZABLE_TIMEOUT_DEFAULT,
            timeout: TIMEOUT_DEFAULT,
            db_timeout: Duration::ZERO,
            retries: 0,
            trailing_logs: 0,
            min_index: 0,
            q: None,
            key: None,
            nodes_as_array: false,
            format: None,
            tables: Vec::new(),
        }
    }
}

impl Params {
    /// Parses and checks a raw query string (without its `?`).
    ///
    /// # Errors
    /// The first thing that is wrong: first the syntax from left to right, then the parameters in a fixed order.
    pub fn parse(query: &str) -> Result<Params, ParamError> {
        if query.is_empty() {
            return Ok(Params::default());
        }
        let pairs = Pairs::parse(query)?;
        let flags = pairs.flags();
        let has = |flag: Flag| flags & (1 << flag as u32) != 0;

        let freshness_given = pairs.get("freshness").is_some();
        if has(Flag::FreshnessStrict) && !freshness_given {
            return Err(ParamError::StrictWithoutFreshness);
        }
        let timeout_ns = pairs.duration_ns("timeout")?;
        let freshness_ns = pairs.duration_ns("freshness")?;
        let db_timeout_ns = pairs.duration_ns("db_timeout")?;
        let linearizable_timeout_ns = pairs.duration_ns("linearizable_timeout")?;
        let retries = pairs.integer("retries")?;
        let trailing_logs = pairs.integer("trailing_logs")?;
        let min_index = pairs.integer("min_index")?;
        let q = match pairs.get("q") {
            Some([]) => return Err(ParamError::EmptyQuery),
            Some(sql) => Some(String::from_utf8(sql.to_vec()).map_err(|_| ParamError::QueryNotUtf8)?),
            None => None,
        };
        Ok(Params {
            flags,
            level: pairs.get("level").map_or(Level::Weak, level),
            freshness: freshness_ns.map_or(Duration::ZERO, freshness),
            linearizable_timeout: match linearizable_timeout_ns {
                None => LINEARIZABLE_TIMEOUT_DEFAULT,
                Some(ns) if ns <= 0 => LINEARIZABLE_TIMEOUT_OF_ZERO,
                Some(ns) => Duration::from_nanos(ns.unsigned_abs()),
            },
            timeout: timeout_ns.map_or(TIMEOUT_DEFAULT, not_negative),
            db_timeout: db_timeout_ns.map_or(Duration::ZERO, not_negative),
            retries: u32::try_from(retries.unwrap_or(0).max(0)).unwrap_or(u32::MAX),
            trailing_logs: u64::try_from(trailing_logs.unwrap_or(0)).unwrap_or(0),
            min_index: u64::try_from(min_index.unwrap_or(0)).unwrap_or(0),
            q,
            key: pairs.get("key").map(|key| String::from_utf8_lossy(key).into_owned()),
            nodes_as_array: pairs.get("ver") == Some(b"2"),
            format: pairs.get("fmt").map(|format| String::from_utf8_lossy(format).into_owned()),
            tables: pairs.get("tables").map_or_else(Vec::new, names),
        })
    }

    /// Whether a flag is there.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags & (1 << flag as u32) != 0
    }

    /// How the coordinator is to serve a request with these parameters.
    pub fn read_options(&self) -> ReadOptions {
        ReadOptions {
            level: self.level,
            freshness: self.freshness,
            freshness_strict: self.has(Flag::FreshnessStrict),
            linearizable_timeout: self.linearizable_timeout,
            timeout: self.timeout,
            db_timeout: self.db_timeout,
            retries: self.retries,
            redirect: self.has(Flag::Redirect),
            min_index: self.min_index,
            ..ReadOptions::default()
        }
    }
}

/// Names between commas, without blanks around them.
fn names(list: &[u8]) -> Vec<String> {
    let list = String::from_utf8_lossy(list);
    list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Unknown and empty levels are weak.
fn level(value: &[u8]) -> Level {
    const LEVELS: [(&str, Level); 4] = [
        ("none", Level::None),
        ("linearizable", Level::Linearizable),
        ("strong", Level::Strong),
        ("auto", Level::Auto),
    ];
    let found = LEVELS.iter().find(|(name, _)| value.eq_ignore_ascii_case(name.as_bytes()));
    found.map_or(Level::Weak, |(_, level)| *level)
}

/// A negative freshness makes every read stale that can be; the shortest positive one comes to the same, and zero
/// would mean that freshness is off.
fn freshness(ns: i64) -> Duration {
    if ns < 0 { Duration::from_nanos(1) } else { Duration::from_nanos(ns.unsigned_abs()) }
}

fn not_negative(ns: i64) -> Duration {
    Duration::from_nanos(ns.max(0).unsigned_abs())
}

/// The decoded pairs of a query string in their order. The head of a request is bounded, and so is their number.
struct Pairs<'a>(Vec<(Bytes<'a>, Bytes<'a>)>);

/// Decoded: borrowed where nothing had to be decoded.
type Bytes<'a> = Cow<'a, [u8]>;

impl<'a> Pairs<'a> {
    fn parse(query: &'a str) -> Result<Pairs<'a>, ParamError> {
        let mut pairs = Vec::new();
        for piece in query.split('&').filter(|piece| !piece.is_empty()) {
            if piece.contains(';') {
                return Err(ParamError::Semicolon);
            }
            let (key, value) = piece.split_once('=').unwrap_or((piece, ""));
            pairs.push((unescape(key)?, unescape(value)?));
        }
        Ok(Pairs(pairs))
    }

    /// The first value of a parameter.
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(key, _)| &key[..] == name.as_bytes()).map(|(_, value)| &value[..])
    }

    fn flags(&self) -> u32 {
        let mut flags = 0;
        for (key, _) in &self.0 {
            if let Some((_, flag)) = FLAGS.iter().find(|(name, _)| name.as_bytes() == &key[..]) {
                flags |= 1 << *flag as u32;
            }
        }
        flags
    }

    fn duration_ns(&self, name: &'static str) -> Result<Option<i64>, ParamError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|_| ParamError::Duration(name))?;
        duration::parse_ns(text).map(Some).map_err(|_| ParamError::Duration(name))
    }

    fn integer(&self, name: &'static str) -> Result<Option<i64>, ParamError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or(ParamError::Integer(name))
    }
}

/// Decodes the path of a request, in which `+` is an ordinary character; `None` when it is not valid.
pub fn decode_path(path: &str) -> Option<Cow<'_, str>> {
    match percent_decode(path, false).ok()? {
        Cow::Borrowed(_) => Some(Cow::Borrowed(path)),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

fn unescape(text: &str) -> Result<Bytes<'_>, ParamError> {
    percent_decode(text, true)
}

fn percent_decode(text: &str, plus_is_blank: bool) -> Result<Bytes<'_>, ParamError> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|&byte| byte == b'%' || (plus_is_blank && byte == b'+')) {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'+' if plus_is_blank => out.push(b' '),
            b'%' => match (hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
                (Some(high), Some(low)) => {
                    out.push(high << 4 | low);
                    at += 2;
                }
                _ => {
                    let shown = &bytes[at..bytes.len().min(at + 3)];
                    return Err(ParamError::Escape(String::from_utf8_lossy(shown).into_owned()));
                }
            },
            byte => out.push(byte),
        }
        at += 1;
    }
    Ok(Cow::Owned(out))
}

fn hex(digit: Option<&u8>) -> Option<u8> {
    char::from(*digit?).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(query: &str) -> String {
        Params::parse(query).expect_err(query).to_string()
    }

    #[test]
    fn texts_of_errors_are_those_of_the_api() {
        for (query, text) in [
            ("q=", "query parameter not set"),
            ("q", "query parameter not set"),
            ("timeout=abc", "timeout is not a valid duration"),
            ("timeout=5", "timeout is not a valid duration"),
            ("timeout=", "timeout is not a valid duration"),
            ("freshness=1d", "freshness is not a valid duration"),
            ("db_timeout=1+s", "db_timeout is not a valid duration"),
            ("linearizable_timeout=x", "linearizable_timeout is not a valid duration"),
            ("retries=1.5", "retries is not a valid integer"),
            ("retries=", "retries is not a valid integer"),
            ("trailing_logs=many", "trailing_logs is not a valid integer"),
            ("freshness_strict", "freshness_strict requires freshness"),
            ("a=%ZZ", "invalid URL escape \"%ZZ\""),
            ("a=%", "invalid URL escape \"%\""),
            ("a=%2&b=1", "invalid URL escape \"%2\""),
            ("a=1;b=2", "invalid semicolon separator in query"),
            ("q=%FF", "query parameter is not valid UTF-8"),
        ] {
            assert_eq!(error(query), text, "{query}");
        }
    }

    #[test]
    fn the_first_problem_is_reported() {
        assert_eq!(error("retries=x&timeout=y"), "timeout is not a valid duration");
        assert_eq!(error("q=&trailing_logs=x&retries=y"), "retries is not a valid integer");
        assert_eq!(error("timeout=x&freshness_strict"), "freshness_strict requires freshness");
        assert_eq!(error("timeout=x&a;b"), "invalid semicolon separator in query");
        assert_eq!(error("a=%&b;c"), "invalid URL escape \"%\"");
    }

    #[test]
    fn a_flag_is_set_by_presence() {
        for query in ["pretty", "pretty=", "pretty=false", "a=b&pretty=0", "%70retty"] {
            assert!(Params::parse(query).expect(query).has(Flag::Pretty), "{query}");
        }
        assert!(!Params::parse("Pretty").expect("valid").has(Flag::Pretty), "names are case-sensitive");
        for (name, flag) in FLAGS {
            let query = format!("{name}&freshness=1s");
            assert!(Params::parse(&query).expect("valid").has(flag), "{name}");
        }
    }

    #[test]
    fn the_first_value_wins() {
        let params = Params::parse("q=SELECT+1&q=SELECT%202&level=none&level=strong&ver=2&ver=3").expect("valid");
        assert_eq!(params.q.as_deref(), Some("SELECT 1"));
        assert_eq!(params.level, Level::None);
        assert!(params.nodes_as_array);
    }

    #[test]
    fn values_and_defaults() {
        let params = Params::parse("").expect("valid");
        assert_eq!(params, Params::default());
        assert_eq!(Params::parse("&&x=y&=z").expect("valid"), params);
        let params = Params::parse("timeout=1m30s&db_timeout=1.5s&linearizable_timeout=0&retries=-3").expect("valid");
        assert_eq!(params.timeout, Duration::from_secs(90));
        assert_eq!(params.db_timeout, Duration::from_millis(1500));
        assert_eq!(params.linearizable_timeout, Duration::from_secs(1));
        assert_eq!(params.retries, 0);
        let params = Params::parse("timeout=-1s&db_timeout=-5s&freshness=-1s&trailing_logs=7").expect("valid");
        assert_eq!((params.timeout, params.db_timeout), (Duration::ZERO, Duration::ZERO));
        assert_eq!(params.freshness, Duration::from_nanos(1));
        assert_eq!(params.trailing_logs, 7);
        for (value, level) in [("STRONG", Level::Strong), ("Linearizable", Level::Linearizable), ("", Level::Weak)] {
            assert_eq!(Params::parse(&format!("level={value}")).expect("valid").level, level);
        }
        assert_eq!(Params::parse("level=bogus").expect("valid").level, Level::Weak);
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(decode_path("/db/%71uery").as_deref(), Some("/db/query"));
        assert_eq!(decode_path("/a+b%2B").as_deref(), Some("/a+b+"));
        assert_eq!(decode_path("/%").as_deref(), None);
        assert_eq!(decode_path("/%ff").as_deref(), None);
    }

    #[test]
    fn no_query_string_panics() {
        for first in 0..=127u8 {
            for second in ["", "%", "%4", "é", "=", "&", ";"] {
                let query = format!("{}{second}q={second}", char::from(first));
                let _ = Params::parse(&query);
            }
        }
    }
}
