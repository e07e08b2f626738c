//! The command line: words separated by newlines.
#![no_main]

use ferrolite::config::{Config, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    match parse::parse(&words) {
        Ok(raw) => {
            if let Err(error) = Config::from_flags(&raw) {
                assert!(!error.to_string().is_empty());
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
