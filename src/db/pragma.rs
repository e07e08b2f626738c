//! Which PRAGMAs clients may use, by name and form.
//!
//! Two nets: [`is_disallowed_pragma`] refuses a whole request before anything runs, as the API promises; [`rule`] is
//! what the authorizer goes by, which sees the names as SQLite parsed them and cannot be fooled by spelling.

use super::tokens::{Token, Tokens};

/// What becomes of a PRAGMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Reads the schema or the data; an argument only selects. The same on every node.
    Schema,
    /// Reads too, but the order of rows, or what they say, tells of this node: not as a table in a query.
    Report,
    /// Reads, and with an argument changes the database: through the log only.
    Data,
    /// Reading is fine where nothing is stored (it tells of this node), so not as a table in a query; a value is
    /// silently not applied, because it could change nothing but speed or memory.
    Hint,
    /// Reading as above; a value is refused, because it would change what later statements do.
    Fixed,
    /// `PRAGMA optimize`: replicated, in a form that does not depend on what this connection did before.
    Optimize,
    /// `PRAGMA defer_foreign_keys`: holds until the entry ends.
    DeferForeignKeys,
    /// Refused in every form.
    Never,
    /// SQLite, or this page, does not know it: it does nothing.
    Unknown,
}

/// The rule for a PRAGMA by its name in any case: a list of what is allowed, so that what a later SQLite adds is not.
pub fn rule(name: &str) -> Rule {
    let lower = name.to_ascii_lowercase();
    match lower.as_str() {
        "table_info" | "table_xinfo" | "index_list" | "index_info" | "index_xinfo" | "foreign_key_list" => Rule::Schema,
        // In the order of hash tables, or with what is registered when it is first used; the compiler's name.
        "table_list" | "foreign_key_check" | "integrity_check" | "quick_check" | "collation_list" | "function_list"
        | "module_list" | "pragma_list" | "compile_options" => Rule::Report,
        "user_version" | "application_id" | "incremental_vacuum" => Rule::Data,
        "foreign_keys"
        | "busy_timeout"
        | "cache_size"
        | "default_cache_size"
        | "cache_spill"
        | "temp_store"
        | "threads"
        | "soft_heap_limit"
        | "hard_heap_limit"
        | "analysis_limit"
        | "mmap_size"
        | "encoding"
        | "page_size"
        | "read_uncommitted"
        | "shrink_memory"
        | "journal_size_limit"
        | "fullfsync"
        | "checkpoint_fullfsync" => Rule::Hint,
        "auto_vacuum"
        | "automatic_index"
        | "case_sensitive_like"
        | "cell_size_check"
        | "count_changes"
        | "data_version"
        | "database_list"
        | "empty_result_callbacks"
        | "freelist_count"
        | "full_column_names"
        | "ignore_check_constraints"
        | "journal_mode"
        | "legacy_alter_table"
        | "legacy_file_format"
        | "locking_mode"
        | "max_page_count"
        | "page_count"
        | "query_only"
        | "recursive_triggers"
        | "reverse_unordered_selects"
        | "schema_version"
        | "secure_delete"
        | "short_column_names"
        | "stats"
        | "synchronous"
        | "trusted_schema"
        | "wal_autocheckpoint"
        | "writable_schema" => Rule::Fixed,
        "optimize" => Rule::Optimize,
        "defer_foreign_keys" => Rule::DeferForeignKeys,
        "wal_checkpoint"
        | "temp_store_directory"
        | "data_store_directory"
        | "lock_proxy_file"
        | "activate_extensions"
        | "hexkey"
        | "key"
        | "rekey"
        | "textkey"
        | "vdbe_addoptrace"
        | "vdbe_debug"
        | "vdbe_eqp"
        | "vdbe_listing"
        | "vdbe_trace"
        | "parser_trace"
        | "sql_trace"
        | "lock_status" => Rule::Never,
        _ => Rule::Unknown,
    }
}

/// What SQLite takes the value of a PRAGMA for that is either on or off.
pub fn is_true(value: &str) -> bool {
    let is = |word: &str| value.eq_ignore_ascii_case(word);
    is("on") || is("yes") || is("true") || value.parse::<u64>().is_ok_and(|number| number != 0)
}

/// Does this SQL hold a PRAGMA for which the API refuses the whole request: `journal_mode`, `wal_autocheckpoint`,
/// `synchronous` or `query_only` with a value, `wal_checkpoint` in any form? All statements of the string are looked
/// at, whatever the spelling (comments, quotes, blanks, the call form).
pub fn is_disallowed_pragma(sql: &str) -> bool {
    const WORD: &[u8] = b"pragma";
    let bytes = sql.as_bytes();
    let is_word_at = |at| bytes.get(at..at + WORD.len()).is_some_and(|w| w.eq_ignore_ascii_case(WORD));
    // Every request comes by here, and nearly none has a pragma in it.
    if !memchr::memchr2_iter(b'p', b'P', bytes).any(is_word_at) {
        return false;
    }
    let mut tokens = Tokens::new(sql).peekable();
    let mut at_start = true;
    while let Some(token) = tokens.next() {
        let is_pragma = at_start && matches!(token, Token::Word(w) if w.eq_ignore_ascii_case("pragma"));
        // Some pragmas act while they are compiled, so that EXPLAIN does not disarm them.
        let explains = |w: &str| ["explain", "query", "plan"].iter().any(|e| w.eq_ignore_ascii_case(e));
        at_start = token == Token::Symbol(';') || at_start && matches!(token, Token::Word(w) if explains(w));
        if !is_pragma {
            continue;
        }
        let Some(Token::Word(mut name) | Token::Quoted(mut name)) = tokens.next_if(|t| !matches!(t, Token::Symbol(_)))
        else {
            continue;
        };
        if tokens.next_if_eq(&Token::Symbol('.')).is_some() {
            match tokens.next_if(|t| !matches!(t, Token::Symbol(_))) {
                Some(Token::Word(n) | Token::Quoted(n)) => name = n,
                _ => continue,
            }
        }
        let has_value = matches!(tokens.peek(), Some(Token::Symbol('=' | '(')));
        let one_of = |names: &[&str]| names.iter().any(|n| name.eq_ignore_ascii_case(n));
        if one_of(&["wal_checkpoint"])
            || has_value && one_of(&["journal_mode", "wal_autocheckpoint", "synchronous", "query_only"])
        {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pragmas_that_would_change_the_node_refuse_the_request_in_every_spelling() {
        let refused = [
            "PRAGMA journal_mode=DELETE",
            "  pragma SYNCHRONOUS = normal",
            "PRAGMA wal_checkpoint",
            "PRAGMA main.wal_checkpoint(TRUNCATE)",
            "/* c */ PRAGMA journal_mode=wal",
            "PRAGMA journal_mode(delete)",
            "PRAGMA \"main\" . 'journal_mode' = wal",
            "SELECT 1; PRAGMA query_only=0",
            "SELECT ';'; -- ;\n PRAGMA [wal_autocheckpoint]=1",
            "PRAGMA journal_mode;PRAGMA journal_mode=off",
            "SELECT ';'; /* ; */ PRAGMA/**/journal_mode/**/=/**/off",
            "EXPLAIN PRAGMA synchronous=OFF",
            "EXPLAIN QUERY PLAN PRAGMA synchronous=OFF",
            "\u{feff}PRAGMA synchronous=0",
            ";PRAGMA `query_only`(off)",
        ];
        for sql in refused {
            assert!(is_disallowed_pragma(sql), "{sql}");
        }
        let fine = [
            "PRAGMA journal_mode",
            "PRAGMA synchronous;",
            "PRAGMA table_info(journal_mode)",
            "PRAGMA user_version=7",
            "SELECT 'PRAGMA journal_mode=x'",
            "INSERT INTO t VALUES('; PRAGMA journal_mode=1')",
            "-- ; PRAGMA journal_mode=1",
            "PRAGMA",
            "PRAGMA main.",
            "PRAGMA ;",
            "SELECT [; PRAGMA synchronous=1] FROM t",
            "SELECT [",
            "SELECT 1 /* ; PRAGMA journal_mode=off",
            "SELECT 'it''s; PRAGMA synchronous=1'",
            "",
        ];
        for sql in fine {
            assert!(!is_disallowed_pragma(sql), "{sql}");
        }
    }
}
