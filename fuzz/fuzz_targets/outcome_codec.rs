//! The bytes of an outcome, from another node or from the database: arbitrary and damaged ones never panic, and what
//! decodes has one encoding.
#![no_main]

use ferrolite::command::{Column, Outcome, Repeat, StatementResult, Value};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use raft::{Index, LogId, Term};

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut u = Unstructured::new(bytes);
    let Ok(outcome) = outcome(&mut u) else { return };
    let mut encoded = outcome.encode();
    let decoded = Outcome::decode(&encoded).expect("what we encode, we decode");
    // By bytes: a REAL that is not a number is never equal to itself.
    assert_eq!(decoded.encode(), encoded);
    for _ in 0..4 {
        let at = u.arbitrary::<u32>().unwrap_or(0) as usize % encoded.len();
        encoded[at] = u.arbitrary().unwrap_or(0xff);
    }
    check(&encoded);
    let end = u.arbitrary::<u32>().unwrap_or(0) as usize % encoded.len();
    check(&encoded[..end]);
});

fn check(bytes: &[u8]) {
    if let Ok(outcome) = Outcome::decode(bytes) {
        assert_eq!(outcome.encode(), bytes);
        if let Some(kept) = outcome.encode_timeless(bytes.len()) {
            Outcome::decode(&kept).expect("what we encode, we decode");
        }
    }
}

fn outcome(u: &mut Unstructured) -> Result<Outcome> {
    let mut results = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        results.push(result(u)?);
    }
    let id = LogId { term: Term(u.arbitrary()?), index: Index(u.arbitrary()?) };
    let repeat = match u.int_in_range(0..=4)? {
        0 => Repeat::First,
        1 => Repeat::Of(id),
        2 => Repeat::ResultNotKept(id),
        3 => Repeat::OtherRequest(id),
        _ => Repeat::Expired,
    };
    Ok(Outcome { results, request_error: u.arbitrary()?, repeat })
}

fn result(u: &mut Unstructured) -> Result<StatementResult> {
    Ok(match u.int_in_range(0..=2)? {
        0 => {
            let mut columns = Vec::new();
            for _ in 0..u.int_in_range(0..=3)? {
                columns.push(Column { name: u.arbitrary()?, decl_type: u.arbitrary()? });
            }
            let mut rows = Vec::new();
            let count = if columns.is_empty() { 0 } else { u.int_in_range(0..=3)? };
            for _ in 0..count {
                rows.push(columns.iter().map(|_| value(u)).collect::<Result<Vec<_>>>()?);
            }
            StatementResult::Rows { columns, rows, time: u.arbitrary()? }
        }
        1 => StatementResult::Write {
            last_insert_id: u.arbitrary()?,
            rows_affected: u.arbitrary()?,
            time: u.arbitrary()?,
        },
        _ => StatementResult::Error { text: u.arbitrary()?, is_read: u.arbitrary()? },
    })
}

fn value(u: &mut Unstructured) -> Result<Value> {
    Ok(match u.int_in_range(0..=4)? {
        0 => Value::Null,
        1 => Value::Integer(u.arbitrary()?),
        2 => Value::Real(u.arbitrary()?),
        3 => Value::Text(u.arbitrary()?),
        _ => Value::Blob(u.arbitrary()?),
    })
}
