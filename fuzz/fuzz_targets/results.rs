//! The answer encoder: whatever is stored, the answer is JSON, also indented, and never far beyond its limit.
#![no_main]

use ferrolite::command::{Column, StatementResult, Value};
use ferrolite::http::json::{EncodeOptions, ResponseTail, ResultEncoder};
use libfuzzer_sys::{arbitrary::Unstructured, fuzz_target};

const TYPES: [&str; 8] = ["", "text", "integer", "boolean", "date", "datetime", "blob", "varchar(10)"];

fuzz_target!(|bytes: &[u8]| {
    let mut u = Unstructured::new(bytes);
    let Ok(results) = results(&mut u) else { return };
    let flag = |u: &mut Unstructured| u.arbitrary().unwrap_or(false);
    let options = EncodeOptions {
        associative: flag(&mut u),
        timings: flag(&mut u),
        blob_array: flag(&mut u),
        pretty: flag(&mut u),
        bytes_max: if flag(&mut u) { 200 } else { EncodeOptions::default().bytes_max },
    };
    let mut encoder = ResultEncoder::new(options);
    for result in &results {
        encoder.push(result);
    }
    let answer = encoder.finish(&ResponseTail::default());
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("the answer is JSON");
    let count = answer["results"].as_array().expect("results are a list").len();
    assert_eq!(count, results.len());
});

fn results(u: &mut Unstructured) -> libfuzzer_sys::arbitrary::Result<Vec<StatementResult>> {
    let mut out = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        out.push(match u.int_in_range(0..=3)? {
            0 => StatementResult::Error { text: u.arbitrary()?, is_read: u.arbitrary()? },
            1 => StatementResult::Write { last_insert_id: u.arbitrary()?, rows_affected: u.arbitrary()?, time: 0.5 },
            _ => rows(u)?,
        });
    }
    Ok(out)
}

fn rows(u: &mut Unstructured) -> libfuzzer_sys::arbitrary::Result<StatementResult> {
    let mut columns = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        columns.push(Column { name: u.arbitrary()?, decl_type: (*u.choose(&TYPES)?).to_owned() });
    }
    let mut rows = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        rows.push(columns.iter().map(|_| value(u)).collect::<Result<Vec<_>, _>>()?);
    }
    Ok(StatementResult::Rows { columns, rows, time: 0.25 })
}

fn value(u: &mut Unstructured) -> libfuzzer_sys::arbitrary::Result<Value> {
    Ok(match u.int_in_range(0..=4)? {
        0 => Value::Null,
        1 => Value::Integer(u.arbitrary()?),
        // SQLite stores NaN as NULL, so it never comes out.
        2 => Value::Real(Some(u.arbitrary::<f64>()?).filter(|r| !r.is_nan()).unwrap_or(0.0)),
        3 => Value::Text(u.arbitrary()?),
        _ => Value::Blob(u.arbitrary()?),
    })
}
