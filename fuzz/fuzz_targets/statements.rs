//! The body of `/db/execute`, `/db/query` and `/db/request`: arbitrary bytes never panic, and what a strict JSON parser
//! takes is never called malformed.
#![no_main]

use ferrolite::http::statements::{BodyError, parse_statements};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let ours = parse_statements(body);
    let strict = serde_json::from_slice::<serde_json::Value>(body);
    match (&ours, strict) {
        (Err(BodyError::InvalidJson), Ok(value)) => panic!("JSON, but refused as none: {value}"),
        (Ok(list), Ok(value)) => {
            // Empty statements are kept or skipped later; there can never be more than elements.
            let elements = value.as_array().expect("only lists hold statements").len();
            assert!(list.len() <= elements, "{} statements of {elements} elements", list.len());
        }
        _ => {}
    }
});
