//! Durations as Go writes them: whatever parses is written in one form, which parses to the same value.
#![no_main]

use ferrolite::text::duration::{format_ns, parse_ns};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(ns) = parse_ns(text) {
        let written = format_ns(ns);
        assert_eq!(parse_ns(&written), Ok(ns), "{text} is written as {written}");
    }
    if let Some(bytes) = text.as_bytes().first_chunk::<8>() {
        let ns = i64::from_le_bytes(*bytes);
        assert_eq!(parse_ns(&format_ns(ns)), Ok(ns));
    }
});
