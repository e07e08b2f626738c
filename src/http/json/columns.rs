//! What is known of a result's columns, prepared once per result so that a row costs only its values.
//!
//! Any thread; belongs to one encoder and is reused from statement to statement.

use crate::command::{Column, ValueRef};
use std::ops::Range;

/// What a column's declared type changes in how values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Boolean,
    Time,
}

struct ColumnInfo {
    kind: Kind,
    blob_as_text: bool,
    /// The declared type, or what the first row says, as a quoted JSON string in `text`.
    type_json: Range<usize>,
    type_is_open: bool,
    /// The name as a quoted JSON string in `text`.
    name_json: Range<usize>,
}

/// The columns of the result under way.
#[derive(Default)]
pub struct Columns {
    infos: Vec<ColumnInfo>,
    /// All names and types, quoted and escaped.
    text: Vec<u8>,
    /// Positions in byte order of their names; of equal names only the last.
    sorted: Vec<usize>,
}

impl Columns {
    /// Takes over the columns of a new result; `sorted` only when rows become objects.
    pub fn set(&mut self, columns: &[Column], is_associative: bool) {
        self.infos.clear();
        self.text.clear();
        self.sorted.clear();
        for column in columns {
            let name_json = self.push_string(column.name.as_bytes());
            let type_json = self.push_string(column.decl_type.as_bytes());
            self.infos.push(ColumnInfo {
                kind: kind_of(&column.decl_type),
                blob_as_text: is_textual(&column.decl_type),
                type_json,
                type_is_open: column.decl_type.is_empty(),
                name_json,
            });
        }
        if is_associative {
            self.sorted.extend(0..columns.len());
            // Stable: equal names stay in column order, and the last of them is the one that counts.
            self.sorted.sort_by(|a, b| columns[*a].name.as_bytes().cmp(columns[*b].name.as_bytes()));
            let names: Vec<&str> = self.sorted.iter().map(|at| columns[*at].name.as_str()).collect();
            let is_last = |at: usize| names.get(at + 1) != Some(&names[at]);
            let kept = (0..names.len()).filter(|at| is_last(*at)).map(|at| self.sorted[at]).collect();
            self.sorted = kept;
        }
    }

    /// Gives columns without a declared type the type of their value in the first row. A NULL leaves it open for good.
    pub fn infer_types(&mut self, first_row: &[ValueRef<'_>]) {
        for (at, value) in first_row.iter().enumerate() {
            if !self.infos[at].type_is_open {
                continue;
            }
            // A BLOB counts as text, and is then shown as text.
            let (inferred, blob_as_text) = match value {
                ValueRef::Null => ("", true),
                ValueRef::Integer(_) => ("integer", false),
                ValueRef::Real(_) => ("real", false),
                ValueRef::Text(_) | ValueRef::Blob(_) => ("text", true),
            };
            let type_json = self.push_string(inferred.as_bytes());
            let info = &mut self.infos[at];
            (info.type_json, info.blob_as_text) = (type_json, blob_as_text);
        }
    }

    pub fn len(&self) -> usize {
        self.infos.len()
    }

    /// Positions in the order in which an object's members are written.
    pub fn sorted(&self) -> &[usize] {
        &self.sorted
    }

    /// Quoted and escaped.
    pub fn name(&self, at: usize) -> &[u8] {
        &self.text[self.infos[at].name_json.clone()]
    }

    /// Quoted and escaped.
    pub fn type_name(&self, at: usize) -> &[u8] {
        &self.text[self.infos[at].type_json.clone()]
    }

    pub fn kind(&self, at: usize) -> Kind {
        self.infos[at].kind
    }

    pub fn is_blob_text(&self, at: usize) -> bool {
        self.infos[at].blob_as_text
    }

    fn push_string(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.text.len();
        super::write_string(&mut self.text, bytes);
        start..self.text.len()
    }
}

/// Exact matches only: `bool` and `timestamp(3)` are plain.
fn kind_of(decl_type: &str) -> Kind {
    match decl_type {
        "boolean" => Kind::Boolean,
        "date" | "datetime" | "timestamp" => Kind::Time,
        _ => Kind::Plain,
    }
}

/// Is a BLOB in a column of this declared type shown as the text that its bytes are?
fn is_textual(decl_type: &str) -> bool {
    const PREFIXES: [&str; 6] = ["varchar", "varying character", "nchar", "native character", "nvarchar", "clob"];
    matches!(decl_type, "" | "text" | "json") || PREFIXES.iter().any(|prefix| decl_type.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn textual_types() {
        for textual in
            ["", "text", "json", "varchar(36)", "varchar", "nvarchar(1)", "nchar(5)", "native character(70)", "clob"]
        {
            assert!(is_textual(textual), "{textual}");
        }
        for binary in ["blob", "text(20)", "text2", "jsonb", "character(20)", "integer", "bytea", "varbinary(16)"] {
            assert!(!is_textual(binary), "{binary}");
        }
    }

    #[test]
    fn names_sort_by_bytes_and_the_last_of_equals_counts() {
        let column = |name: &str| Column { name: name.to_owned(), decl_type: String::new() };
        let mut columns = Columns::default();
        columns.set(&["b", "a", "B", "a", "é", "z", "b"].map(column), true);
        assert_eq!(columns.sorted(), [2, 3, 6, 5, 4]);
    }
}
