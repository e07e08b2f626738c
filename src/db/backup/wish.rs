//! What a backup is to look like, and the bytes in which one node asks another for it. Pure; any thread.
//!
//! ```text
//! wish = version u8 = 1, format u8, compress u8, for each table: length u32 (little-endian), name
//! ```

const VERSION: u8 = 1;
const WAL: u8 = 1;
const DELETE: u8 = 2;
const VACUUMED: u8 = 3;
const TEXT: u8 = 4;

/// What a backup looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// A database file, page by page, with a header that asks for a WAL.
    Wal,
    /// The same, with the older kind of journal: for programs that must not make a second file beside it.
    Delete,
    /// A file rebuilt without free pages, with the older kind of journal.
    Vacuumed,
    /// SQL. The tables to be in it; none: all.
    Text { tables: Vec<String> },
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub format: Format,
    /// As one gzip stream.
    pub compress: bool,
}

impl Wish {
    pub fn encode(&self) -> Vec<u8> {
        let (format, tables): (u8, &[String]) = match &self.format {
            Format::Wal => (WAL, &[]),
            Format::Delete => (DELETE, &[]),
            Format::Vacuumed => (VACUUMED, &[]),
            Format::Text { tables } => (TEXT, tables),
        };
        let mut out = vec![VERSION, format, u8::from(self.compress)];
        for table in tables {
            let length = u32::try_from(table.len()).expect("a request's head is far smaller than 4 GiB");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(table.as_bytes());
        }
        out
    }

    /// `None`: these bytes are no wish.
    pub fn decode(bytes: &[u8]) -> Option<Wish> {
        let [VERSION, format, compress @ (0 | 1), rest @ ..] = bytes else { return None };
        let mut rest = rest;
        let mut tables = Vec::new();
        while !rest.is_empty() {
            let (length, behind) = rest.split_first_chunk()?;
            let (name, behind) = behind.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            tables.push(String::from_utf8(name.to_vec()).ok()?);
            rest = behind;
        }
        let format = match *format {
            TEXT => Format::Text { tables },
            WAL if tables.is_empty() => Format::Wal,
            DELETE if tables.is_empty() => Format::Delete,
            VACUUMED if tables.is_empty() => Format::Vacuumed,
            _ => return None,
        };
        Some(Wish { format, compress: *compress == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_survive_and_cuts_and_flips_do_no_harm() {
        let tables = vec!["a".to_owned(), "zwei Wörter".to_owned(), String::new()];
        for format in [Format::Wal, Format::Delete, Format::Vacuumed, Format::Text { tables }] {
            for compress in [false, true] {
                let wish = Wish { format: format.clone(), compress };
                let bytes = wish.encode();
                for at in 0..bytes.len() {
                    assert_ne!(Wish::decode(&bytes[..at]).as_ref(), Some(&wish));
                    for flip in [1, 0x80, 0xff] {
                        let mut bad = bytes.clone();
                        bad[at] ^= flip;
                        if let Some(read) = Wish::decode(&bad) {
                            assert_eq!(read.encode(), bad, "one wish has one form");
                        }
                    }
                }
                assert_eq!(Wish::decode(&bytes), Some(wish));
            }
        }
    }
}
