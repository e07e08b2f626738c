//! Calls, answers and Raft messages: arbitrary bytes never panic, and what is read has one form.
#![no_main]

use ferrolite::net::codec::{decode_answer, decode_call, encode_answer, encode_call};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The version in front is mostly right, so that the rest is reached.
    let versioned = |version: u8| [&[version], bytes].concat();
    // 1 of Raft messages, 3 of calls and answers.
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
        again.clear();
        if let Ok(envelope) = raft::wire::decode(bytes) {
            raft::wire::encode(&envelope, &mut again);
            assert_eq!(again, bytes);
        }
    }
});
