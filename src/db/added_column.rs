//! A column that is added beside an index which holds its name as a double-quoted string.
//!
//! Applier thread only. This program does not let such an index be made (`Connection::harden`), but a database that was
//! made elsewhere may have one: `CREATE INDEX i ON t("foo")` where `t` has no column `foo` indexes the text 'foo'. With
//! the column added, SQLite reads the same words as the column, and what stands in the index is wrong: the first DELETE
//! would find it damaged, on every node and at every start. So the index is made anew, as part of the statement.

use super::rowids::{identifier, literal};
use super::sqlite::{Connection, Error};
use super::tokens::{Token, Tokens};

/// The table that this statement adds a column (or a constraint) to, if that is what it does.
pub(super) fn table_that_grows(sql: &str) -> Option<String> {
    let mut tokens = Tokens::new(sql);
    let is = |token: Option<Token<'_>>, keyword: &str| matches!(token, Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
    if !is(tokens.next(), "alter") || !is(tokens.next(), "table") {
        return None;
    }
    let mut name = tokens.next()?;
    let mut next = tokens.next();
    if next == Some(Token::Symbol('.')) {
        name = tokens.next()?;
        next = tokens.next();
    }
    if !is(next, "add") {
        return None;
    }
    match name {
        Token::Word(word) => Some(word.to_owned()),
        // Whatever the quote is, doubling stands for one of it. (A `]` cannot be doubled.)
        Token::Quoted(inner) => Some(["\"", "'", "`"].iter().fold(inner.to_owned(), |n, q| n.replace(&q.repeat(2), q))),
        Token::Symbol(_) => None,
    }
}

/// Makes the table's indexes anew if one of them may have taken the name of the new column for a string.
///
/// # Errors
/// SQLite's: two rows are no longer different in a UNIQUE index. The statement must then be undone.
pub(super) fn mend_indexes(connection: &Connection, table: &str) -> Result<(), Error> {
    let info = format!("pragma_table_xinfo({})", literal(table));
    let Some(column) = connection.query_texts(&format!("SELECT name FROM {info} ORDER BY cid DESC LIMIT 1"))?.pop()
    else {
        return Ok(());
    };
    let texts = |kind: &str| {
        let table = literal(table);
        let sql = format!(
            "SELECT sql FROM sqlite_schema WHERE type = '{kind}' AND tbl_name = {table} COLLATE NOCASE AND sql NOT NULL"
        );
        connection.query_texts(&sql)
    };
    let in_index = texts("index")?.iter().any(|sql| quotes(sql, &column));
    // An index on a virtual column depends on the words of the table (which may also have the new column itself in quotes).
    let computes = connection.query_integer(&format!("SELECT 1 FROM {info} WHERE hidden = 2 LIMIT 1"))?.is_some();
    if in_index || computes && texts("table")?.iter().any(|sql| quotes(sql, &column)) {
        connection.execute(&format!("REINDEX main.{}", identifier(table)))?;
    }
    Ok(())
}

/// Does the name stand in the text in quotes?
fn quotes(sql: &str, name: &str) -> bool {
    let quoted = identifier(name);
    let inner = &quoted[1..quoted.len() - 1];
    let is_name = |token: &Token<'_>| matches!(token, Token::Quoted(text) if text.eq_ignore_ascii_case(inner));
    Tokens::new(sql).any(|token| is_name(&token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_is_known_in_every_spelling() {
        let grows = [
            ("ALTER TABLE t ADD COLUMN foo", "t"),
            ("alter/**/table main.\"a\"\"b\" add foo int", "a\"b"),
            ("ALTER TABLE [x y] -- c\n ADD z", "x y"),
        ];
        for (sql, table) in grows {
            assert_eq!(table_that_grows(sql).as_deref(), Some(table), "{sql}");
        }
        let others =
            ["ALTER TABLE t RENAME TO u", "ALTER TABLE t DROP COLUMN c", "CREATE TABLE t(add)", "ALTER TABLE", "", "x"];
        for sql in others {
            assert_eq!(table_that_grows(sql), None, "{sql}");
        }
        assert!(quotes("CREATE INDEX i ON t(\"Foo\")", "foo") && !quotes("CREATE INDEX i ON t(foo)", "foo"));
    }
}
