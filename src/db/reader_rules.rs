//! What a client's SQL may do on a read-only connection: the authorizer and the functions of readers.
//!
//! Called by SQLite on the thread that prepares or steps. Statements that write are not refused here, because EXPLAIN
//! of a write is a read and looks the same to an authorizer: `reader.rs` looks at the finished statement, and
//! `query_only` on a connection opened read-only stands behind that.

use super::authorizer::{RESERVED_TABLE, TEXT_ATTACH, TEXT_PHYSICAL, TEXT_PRAGMA, TEXT_RESERVED, TEXT_TRANSACTION};
use super::pragma::{Rule, rule};
use super::random::Random;
use super::sqlite::{Arguments, AuthRequest, Connection, Error, Verdict, Volatility, code};
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};

/// Raw pages would show what the rules above hide. `dbstat`, which only counts them, is allowed here, as in rqlite: it reads
/// the whole file at worst, and a read has a deadline. What goes through the log is refused both (`authorizer`).
const RAW_PAGES_TABLE: &str = "sqlite_dbpage";

thread_local! {
    /// Why the authorizer refused, where SQLite's own text would say too little.
    static REFUSAL: Cell<Option<&'static str>> = const { Cell::new(None) };
    /// `PRAGMA journal_mode` was compiled in its reading form.
    static READS_JOURNAL_MODE: Cell<bool> = const { Cell::new(false) };
    /// A pragma was left out that does something when it goes through the log.
    static HAS_LEFT_OUT: Cell<bool> = const { Cell::new(false) };
    /// Set while a reader runs its own BEGIN and COMMIT.
    static IS_OURS: Cell<bool> = const { Cell::new(false) };
    /// This thread's random numbers; the seed comes from the operating system.
    static RANDOM: RefCell<Random> = RefCell::new(Random::new(random_key()));
}

/// Runs `f` with the rules for clients off.
pub fn as_ours<T>(f: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            IS_OURS.set(self.0);
        }
    }
    let _restore = Restore(IS_OURS.replace(true));
    f()
}

/// Forgets what was noticed about statements that this thread prepared before.
pub fn forget() {
    let _ = (take_refusal(), take_has_left_out(), take_reads_journal_mode());
}

/// Why the last statement that was prepared on this thread was refused, if it was; then forgets it.
pub fn take_refusal() -> Option<&'static str> {
    REFUSAL.take()
}

/// Was a pragma ignored since the last call that changes the database when it goes through the log?
pub fn take_has_left_out() -> bool {
    HAS_LEFT_OUT.take()
}

/// Was `PRAGMA journal_mode` compiled since the last call? SQLite does not call it read-only, because the same opcode
/// can change the mode; without an argument it does not.
pub fn take_reads_journal_mode() -> bool {
    READS_JOURNAL_MODE.take()
}

fn refuse(text: &'static str) -> Verdict {
    REFUSAL.set(Some(text));
    Verdict::Deny
}

/// Installs the rules and functions on a new connection.
///
/// # Errors
/// SQLite refuses to register a function.
pub fn install(connection: &Connection) -> Result<(), Error> {
    connection.set_authorizer(authorize);
    connection.create_function(c"random", 0, Volatility::PerRow, random)?;
    connection.create_function(c"randomblob", 1, Volatility::PerRow, randomblob)
}

fn authorize(request: &AuthRequest<'_>) -> Verdict {
    if IS_OURS.get() {
        return Verdict::Allow;
    }
    match request.action {
        code::SQLITE_READ => match request.first {
            Some(table) if is_reserved(table) => refuse(TEXT_RESERVED),
            Some(table) if is(table, RAW_PAGES_TABLE) => refuse(TEXT_PHYSICAL),
            _ => Verdict::Allow,
        },
        code::SQLITE_PRAGMA => judge_pragma(request.first.unwrap_or(""), request.second),
        // A client's BEGIN would pin a snapshot on a connection that the next client gets.
        code::SQLITE_TRANSACTION | code::SQLITE_SAVEPOINT => refuse(TEXT_TRANSACTION),
        code::SQLITE_ATTACH | code::SQLITE_DETACH => refuse(TEXT_ATTACH),
        _ => Verdict::Allow,
    }
}

/// The replica's own bookkeeping: every name that begins so.
fn is_reserved(table: &str) -> bool {
    table.get(..RESERVED_TABLE.len()).is_some_and(|start| is(start, RESERVED_TABLE))
}

fn is(name: &str, other: &str) -> bool {
    name.eq_ignore_ascii_case(other)
}

/// Pragmas that only look: their argument says at what.
const LOOKING: [&str; 10] = [
    "table_info",
    "table_xinfo",
    "table_list",
    "index_info",
    "index_xinfo",
    "index_list",
    "foreign_key_list",
    "foreign_key_check",
    "integrity_check",
    "quick_check",
];

/// Pragmas that write to the file: the finished statement is not read-only, and is refused with the right text.
const WRITING: [&str; 4] = ["user_version", "application_id", "schema_version", "incremental_vacuum"];

/// Pragmas that do something although they have no argument.
const ACTING: [&str; 2] = ["optimize", "shrink_memory"];

/// A pooled connection serves other clients next, so that a pragma must not change it. One that would change what reads
/// answer is refused, as on writes; a hint of speed is ignored (the client sees it succeed without rows, as the change of a
/// connection that it may never meet again).
fn judge_pragma(name: &str, argument: Option<&str>) -> Verdict {
    let among = |names: &[&str]| names.iter().any(|other| is(name, other));
    let has_argument = argument.is_some();
    if is(name, "optimize") {
        HAS_LEFT_OUT.set(true);
    }
    if is(name, "journal_mode") {
        READS_JOURNAL_MODE.set(true);
    }
    let is_plain = !has_argument && !among(&ACTING) && rule(name) != Rule::Never;
    if among(&WRITING) || among(&LOOKING) || is_plain {
        return Verdict::Allow;
    }
    match rule(name) {
        Rule::Never | Rule::Fixed => refuse(TEXT_PRAGMA),
        _ => Verdict::Ignore,
    }
}

/// The standard library keys its hash maps from the operating system's random numbers.
fn random_key() -> [u32; 8] {
    std::array::from_fn(|word| RandomState::new().hash_one(word) as u32)
}

/// SQLite's own generator is shared by the whole process, and the applier's results must not depend on who reads
/// meanwhile. As SQLite's: never the one value whose `abs()` overflows.
fn random(arguments: &Arguments<'_>) {
    let value = RANDOM.with_borrow_mut(Random::next_u64) as i64;
    arguments.return_integer(if value == i64::MIN { 0 } else { value });
}

/// As SQLite's: one byte at least, `string or blob too big` beyond the connection's limit.
fn randomblob(arguments: &Arguments<'_>) {
    let bytes = arguments.integer(0).max(1);
    if bytes > arguments.length_max() {
        return arguments.return_too_big();
    }
    let mut blob = vec![0; usize::try_from(bytes).expect("a length within the limit")];
    RANDOM.with_borrow_mut(|random| random.fill(&mut blob));
    arguments.return_blob(&blob);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_hidden_in_any_case() {
        for name in ["sqlite_ferrolite", "SQLite_Ferrolite_retry"] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["sqlite_master", "sqlite_ferrolit", "ferrolite", "", "sqlite_ferrolité", "größe_größe_größe"]
        {
            assert!(!is_reserved(name), "{name}");
        }
    }

    #[test]
    fn pragmas() {
        assert_eq!(judge_pragma("journal_mode", None), Verdict::Allow);
        assert_eq!(judge_pragma("journal_mode", Some("off")), Verdict::Deny);
        assert_eq!(judge_pragma("WAL_CHECKPOINT", None), Verdict::Deny);
        assert_eq!(judge_pragma("foreign_keys", Some("ON")), Verdict::Ignore);
        assert_eq!(judge_pragma("foreign_keys", None), Verdict::Allow);
        assert_eq!(judge_pragma("table_info", Some("t")), Verdict::Allow);
        assert_eq!(judge_pragma("user_version", Some("7")), Verdict::Allow);
        assert_eq!(judge_pragma("optimize", None), Verdict::Ignore);
        assert_eq!(judge_pragma("nonsense", Some("1")), Verdict::Ignore);
        assert_eq!(judge_pragma("Case_Sensitive_Like", Some("1")), Verdict::Deny);
        assert_eq!(judge_pragma("case_sensitive_like", None), Verdict::Allow);
        assert_eq!(judge_pragma("cache_size", Some("1")), Verdict::Ignore);
        assert_eq!(judge_pragma("schema_version", Some("1")), Verdict::Allow, "refused as the write that it is");
    }

    #[test]
    fn random_numbers_differ_between_threads() {
        let first = || RANDOM.with_borrow_mut(Random::next_u64);
        let other = std::thread::spawn(move || RANDOM.with_borrow_mut(Random::next_u64)).join().unwrap();
        assert!(first() != first() && first() != other);
    }
}
