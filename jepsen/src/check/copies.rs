//! The copies of all nodes, read with level `none` from each one alone, and whether they are equal. Called when nothing is
//! written any more.

use super::Verdict;
use crate::client::rows;
use crate::http::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Rows that one request takes.
const PAGE_ROWS: usize = 10_000;
const READ_LIMIT: Duration = Duration::from_secs(60);

/// All rows of all tables, each with its rowid first; and the schema.
pub type Copy = BTreeMap<String, Vec<Vec<Value>>>;

/// Reads a node's copy.
pub fn read(port: u16) -> Result<Copy, String> {
    let mut client = Client::new(port).with_timeout(READ_LIMIT);
    let schema = "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2";
    let schema = query(&mut client, json!([[schema]]))?;
    let tables: Vec<String> =
        schema.iter().filter(|row| row[0] == "table").filter_map(|row| Some(row[1].as_str()?.to_owned())).collect();
    let mut copy = Copy::from([("sqlite_master".to_owned(), schema)]);
    for table in tables {
        let mut all: Vec<Vec<Value>> = Vec::new();
        loop {
            let after = all.last().map_or(json!(i64::MIN), |row| row[0].clone());
            let sql = format!("SELECT rowid AS place, * FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT {PAGE_ROWS}");
            let page = query(&mut client, json!([[sql, after]]))?;
            let last = page.len() < PAGE_ROWS;
            all.extend(page);
            if last {
                break;
            }
        }
        copy.insert(table, all);
    }
    Ok(copy)
}

fn query(client: &mut Client, body: Value) -> Result<Vec<Vec<Value>>, String> {
    let reply = client.post("/db/query?level=none", &body.to_string()).map_err(|e| format!("{body}: {e}"))?;
    match serde_json::from_slice::<Value>(&reply.body) {
        Ok(json) if !reply.text().contains("\"error\"") => Ok(rows(&json)),
        _ => Err(format!("{body}: {} {:.300}", reply.status, reply.text())),
    }
}

pub fn check(copies: &[(String, Copy)]) -> Verdict {
    let mut verdict = Verdict::new("copies: all nodes hold the same");
    let Some(((first_name, first), others)) = copies.split_first() else { return verdict };
    verdict.checked = first.values().map(|rows| rows.len() as u64).sum();
    verdict.note(format!("{} nodes", copies.len()));
    for (name, copy) in others {
        for table in first.keys().chain(copy.keys().filter(|table| !first.contains_key(*table))) {
            let empty = Vec::new();
            let (left, right) = (first.get(table).unwrap_or(&empty), copy.get(table).unwrap_or(&empty));
            if left == right {
                continue;
            }
            let at = left.iter().zip(right).position(|(l, r)| l != r).unwrap_or(left.len().min(right.len()));
            verdict.violation(format!(
                "table {table}: {first_name} has {} rows, {name} {}; first difference at row {at}: {:?} and {:?}",
                left.len(),
                right.len(),
                left.get(at),
                right.get(at)
            ));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(values: &[i64]) -> Copy {
        Copy::from([("t".to_owned(), values.iter().map(|v| vec![json!(v)]).collect())])
    }

    #[test]
    fn differences_are_found() {
        let check = |other: Copy| check(&[("n1".into(), copy(&[1, 2])), ("n2".into(), other)]).holds();
        assert!(check(copy(&[1, 2])));
        assert!(!check(copy(&[1])));
        assert!(!check(copy(&[1, 3])));
        assert!(!check(copy(&[1, 2, 3])));
        assert!(!check(Copy::new()));
        let mut more = copy(&[1, 2]);
        more.insert("u".into(), vec![vec![json!(1)]]);
        assert!(!check(more));
    }
}
