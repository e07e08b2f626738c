//! The query string and the path of a request.
#![no_main]

use ferrolite::http::params::{Params, decode_path};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (path, query) = text.split_once('?').unwrap_or((text, text));
    let first = format!("{:?}", Params::parse(query).map(|p| p.read_options()));
    let again = format!("{:?}", Params::parse(query).map(|p| p.read_options()));
    assert_eq!(first, again);
    if let Some(decoded) = decode_path(path) {
        assert!(decoded.len() <= path.len(), "decoding never makes a path longer");
    }
});
