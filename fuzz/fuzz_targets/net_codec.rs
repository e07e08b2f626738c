//! Calls, answers, fetches and Raft messages: arbitrary bytes never panic, and what is read has one form.
#![no_main]

use ferrolite::net::codec::{decode_answer, decode_call, decode_fetch, encode_answer, encode_call, encode_fetch};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The version in front is mostly right, so that the rest is reached.
    let versioned = |version: u8| [&[version], bytes].concat();
    // 1 of Raft messages, 3 of all others.
    for bytes in [bytes, &versioned(1), &versioned(3)] {
        let mut again = Vec::new();
        if let Ok(call) = decode_call(bytes) {
            encode_call(&call, &mut again).expect("what was read is short");
            assert_eq!(again, bytes);
        }
        again.clear();
        if let Ok(answer) = decode_answer(bytes) {
            encode_answer(&answer, &mut again).expect("what was read is short");
            assert_eq!(again, bytes);
        }
        if let Ok((callers, wanted)) = decode_fetch(bytes) {
            assert_eq!(encode_fetch(&callers, wanted).expect("what was read is short"), bytes);
        }
        again.clear();
        if let Ok(envelope) = raft::wire::decode(bytes) {
            raft::wire::encode(&envelope, &mut again);
            assert_eq!(again, bytes);
        }
    }
});
