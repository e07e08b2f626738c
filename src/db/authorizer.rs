//! What SQL may do on the connection that applies entries, decided on the actions and names that SQLite parsed.
//!
//! Called by SQLite while it compiles a statement, on the compiling thread. It must not use the connection. Our own SQL
//! (`Authority::Internal`, the default of a thread) may do everything; the connection's DEFENSIVE mode stands behind it.

use super::context::{self, Authority, Context, Control};
use super::pragma::{self, Rule};
use super::shadow;
use super::sqlite::{AuthRequest, Verdict, code};
use super::tokens::{Token, Tokens};

/// The table that holds the applied index. The prefix is reserved by SQLite: no client can create, index or alter it.
pub const RESERVED_TABLE: &str = "sqlite_ferrolite";

pub const TEXT_TRANSACTION: &str =
    "BEGIN, COMMIT, ROLLBACK and SAVEPOINT are not allowed: send the statements in one request with 'transaction'";
pub const TEXT_SAVEPOINT: &str = "SAVEPOINT, RELEASE and ROLLBACK TO are not allowed: use BEGIN and COMMIT";
pub const TEXT_TEMP: &str = "temporary tables, indexes, triggers and views are not allowed";
pub const TEXT_ATTACH: &str = "ATTACH and DETACH are not allowed";
pub const TEXT_VACUUM_INTO: &str = "VACUUM INTO is not allowed";
pub const TEXT_PRAGMA: &str = "disallowed pragma";
pub const TEXT_RESERVED: &str = "access to sqlite_ferrolite is prohibited";
pub const TEXT_PARENT: &str = "foreign keys onto tables of SQLite's own are not allowed";
pub const TEXT_PHYSICAL: &str = "access to the pages of the database is prohibited";

/// Their values carry a number or an address that differs from process to process (that of the tokenizer is switched off
/// for literals only), or name the compiler. `load_extension` is not enabled, and says so itself.
const FUNCTIONS_OF_THE_NODE: [&str; 4] =
    ["fts5_locale", "fts3_tokenizer", "sqlite_compileoption_get", "sqlite_compileoption_used"];

/// Those that may ask for the time of day, depending on their arguments.
const FUNCTIONS_OF_TIME: [&str; 10] = [
    "date",
    "time",
    "datetime",
    "julianday",
    "unixepoch",
    "strftime",
    "timediff",
    "current_time",
    "current_date",
    "current_timestamp",
];

fn is_one_of(name: &str, names: &[&str]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// For the connection that applies entries.
pub fn authorize_write(request: &AuthRequest<'_>) -> Verdict {
    context::with(|c| match c.authority.get() {
        Authority::Internal => Verdict::Allow,
        Authority::Vacuum => vacuum(c, request),
        Authority::Client | Authority::Script => client(c, request),
    })
}

/// VACUUM runs SQL of SQLite's own; the one thing that it may not do is write to a named file.
fn vacuum(c: &Context, request: &AuthRequest<'_>) -> Verdict {
    if request.action == code::SQLITE_ATTACH && !request.first.unwrap_or("").is_empty() {
        return refuse(c, TEXT_VACUUM_INTO);
    }
    Verdict::Allow
}

fn client(c: &Context, request: &AuthRequest<'_>) -> Verdict {
    // The qualified form, `CREATE TABLE temp.t`, is reported as an ordinary action on this database. ALTER TABLE looks
    // through the (empty) temporary schema for what mentions the table.
    if request.database == Some("temp") {
        let looks = [code::SQLITE_READ, code::SQLITE_UPDATE].contains(&request.action)
            && matches!(request.first, Some("sqlite_temp_master" | "sqlite_temp_schema"));
        return if looks { Verdict::Allow } else { refuse(c, TEXT_TEMP) };
    }
    match request.action {
        code::SQLITE_READ | code::SQLITE_INSERT | code::SQLITE_UPDATE | code::SQLITE_DELETE => table(c, request),
        code::SQLITE_FUNCTION => match request.second {
            Some(name) if is_one_of(name, &FUNCTIONS_OF_THE_NODE) => Verdict::Deny,
            Some(name) if is_one_of(name, &FUNCTIONS_OF_TIME) => {
                notice(c, |n| n.asks_clock = true);
                Verdict::Allow
            }
            _ => Verdict::Allow,
        },
        code::SQLITE_PRAGMA => pragma_verdict(c, request),
        code::SQLITE_TRANSACTION if c.authority.get() == Authority::Script => {
            let control = match request.first {
                Some("BEGIN") => Control::Begin,
                Some("COMMIT") => Control::Commit,
                Some("ROLLBACK") => Control::Rollback,
                _ => return refuse(c, TEXT_TRANSACTION),
            };
            notice(c, |n| n.control = Some(control));
            Verdict::Allow
        }
        code::SQLITE_SAVEPOINT if c.authority.get() == Authority::Script => refuse(c, TEXT_SAVEPOINT),
        code::SQLITE_TRANSACTION | code::SQLITE_SAVEPOINT => refuse(c, TEXT_TRANSACTION),
        code::SQLITE_ATTACH | code::SQLITE_DETACH => refuse(c, TEXT_ATTACH),
        code::SQLITE_CREATE_TEMP_INDEX
        | code::SQLITE_CREATE_TEMP_TABLE
        | code::SQLITE_CREATE_TEMP_TRIGGER
        | code::SQLITE_CREATE_TEMP_VIEW
        | code::SQLITE_DROP_TEMP_INDEX
        | code::SQLITE_DROP_TEMP_TABLE
        | code::SQLITE_DROP_TEMP_TRIGGER
        | code::SQLITE_DROP_TEMP_VIEW => refuse(c, TEXT_TEMP),
        code::SQLITE_CREATE_VTABLE => {
            notice(c, |n| n.writes_virtual = true);
            if shows_pages(request.second.unwrap_or("")) { refuse(c, TEXT_PHYSICAL) } else { Verdict::Allow }
        }
        code::SQLITE_SELECT => {
            notice(c, |n| n.selects = true);
            Verdict::Allow
        }
        code::SQLITE_CREATE_TABLE => {
            notice(c, |n| n.creates_table = true);
            Verdict::Allow
        }
        code::SQLITE_CREATE_INDEX if c.names.borrow().is_shadow(request.second.unwrap_or("")) => {
            refuse(c, shadow::TEXT_SHADOW)
        }
        code::SQLITE_ALTER_TABLE => {
            let name = request.second.unwrap_or("");
            if c.names.borrow().is_virtual(name) {
                notice(c, |n| n.writes_virtual = true);
            }
            Verdict::Allow
        }
        code::SQLITE_DROP_VTABLE => {
            notice(c, |n| n.writes_virtual = true);
            Verdict::Allow
        }
        code::SQLITE_ANALYZE => {
            notice(c, |n| n.statistics = true);
            Verdict::Allow
        }
        _ => Verdict::Allow,
    }
}

/// All names that begin like our table's are ours.
fn is_reserved(name: &str) -> bool {
    name.get(..RESERVED_TABLE.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_TABLE))
}

/// Why a statement that changes the schema is refused for the tables that its text names: ours (a foreign key onto it
/// would have a say in our own writes), or one that SQLite keeps for itself as the parent of a foreign key. The authorizer
/// is not asked about foreign keys.
pub(super) fn ddl_refusal(sql: &str) -> Option<&'static str> {
    let bytes = sql.as_bytes();
    let contains = |word: &str| bytes.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word.as_bytes()));
    if contains(RESERVED_TABLE) {
        return Some(TEXT_RESERVED);
    }
    if !contains("references") {
        return None;
    }
    let is_own = |name: &str| name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
    let mut tokens = Tokens::new(sql);
    while let Some(token) = tokens.next() {
        let is_keyword = matches!(token, Token::Word(w) if w.eq_ignore_ascii_case("references"));
        if is_keyword && let Some(Token::Word(name) | Token::Quoted(name)) = tokens.next() {
            if is_own(name) {
                return Some(TEXT_PARENT);
            }
            if shadow::is_shadow(name) {
                return Some(shadow::TEXT_SHADOW);
            }
        }
    }
    None
}

/// Modules that show the file rather than data.
fn shows_pages(module: &str) -> bool {
    ["dbstat", "sqlite_dbpage"].iter().any(|m| m.eq_ignore_ascii_case(module))
}

fn table(c: &Context, request: &AuthRequest<'_>) -> Verdict {
    let name = request.first.unwrap_or("");
    if request.action == code::SQLITE_READ {
        notice(c, |n| n.reads = true);
    } else if c.names.borrow().is_virtual(name) {
        notice(c, |n| n.writes_virtual = true);
    }
    // Nearly all names are told apart by their first letter.
    match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b's') if is_reserved(name) => refuse(c, TEXT_RESERVED),
        Some(b's') if name.eq_ignore_ascii_case("sqlite_dbpage") => refuse(c, TEXT_PHYSICAL),
        Some(b's') if request.action != code::SQLITE_READ && is_statistics(name) => {
            notice(c, |n| n.statistics = true);
            Verdict::Allow
        }
        Some(b'p') if name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("pragma_")) => {
            match pragma::rule(&name[7..]) {
                Rule::Schema | Rule::Data | Rule::Unknown => Verdict::Allow,
                _ => refuse(c, TEXT_PRAGMA),
            }
        }
        // The layout of pages is no part of what replicas agree on, so that it must not reach the data. Readers may look
        // at it (`reader_rules`): it names tables and sizes, no content, and ends by the deadline.
        Some(b'd') if name.eq_ignore_ascii_case("dbstat") => refuse(c, TEXT_PHYSICAL),
        _ => Verdict::Allow,
    }
}

fn is_statistics(name: &str) -> bool {
    ["sqlite_stat1", "sqlite_stat3", "sqlite_stat4"].iter().any(|s| s.eq_ignore_ascii_case(name))
}

fn pragma_verdict(c: &Context, request: &AuthRequest<'_>) -> Verdict {
    let has_value = request.second.is_some();
    let name = request.first.unwrap_or("");
    if c.authority.get() == Authority::Script && name.eq_ignore_ascii_case("foreign_keys") {
        notice(c, |n| n.foreign_keys = request.second.map(pragma::is_true));
    }
    match pragma::rule(name) {
        Rule::Schema | Rule::Report | Rule::Data => Verdict::Allow,
        Rule::Hint if has_value => Verdict::Ignore,
        Rule::Fixed if has_value => refuse(c, TEXT_PRAGMA),
        // Virtual tables read some of these for themselves; where a client's query would store one, `table` refuses it.
        Rule::Hint | Rule::Fixed => Verdict::Allow,
        Rule::Unknown => Verdict::Ignore,
        Rule::Optimize => {
            let mask = optimize_mask(request.second);
            notice(c, |n| n.optimize = Some(mask));
            Verdict::Ignore
        }
        Rule::DeferForeignKeys => {
            if has_value {
                notice(c, |n| n.defer_foreign_keys = true);
            }
            Verdict::Allow
        }
        Rule::Never => refuse(c, TEXT_PRAGMA),
    }
}

/// SQLite's default for `PRAGMA optimize` without an argument.
const OPTIMIZE_MASK_DEFAULT: u32 = 0xfffe;

fn optimize_mask(argument: Option<&str>) -> u32 {
    let Some(text) = argument else { return OPTIMIZE_MASK_DEFAULT };
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse::<i64>().ok().map(|mask| mask as u32),
    };
    parsed.unwrap_or(OPTIMIZE_MASK_DEFAULT)
}

fn refuse(c: &Context, text: &'static str) -> Verdict {
    c.refusal.set(Some(text));
    Verdict::Deny
}

fn notice(c: &Context, change: impl FnOnce(&mut context::Noticed)) {
    let mut noticed = c.noticed.get();
    change(&mut noticed);
    c.noticed.set(noticed);
}
