//! Greetings between nodes: arbitrary ones never panic, what is read has one form, and judging it never fails but with words.
#![no_main]

use ferrolite::net::handshake::{Hello, Own, Welcome, refusal};
use libfuzzer_sys::fuzz_target;
use raft::{ClusterId, NodeId};

fuzz_target!(|bytes: &[u8]| {
    // The version in front is mostly right, so that the rest is reached.
    let mut versioned = vec![2, 0];
    versioned.extend_from_slice(bytes);
    for bytes in [bytes, &versioned] {
        if let Ok(hello) = Hello::decode(bytes) {
            let mut again = Vec::new();
            hello.encode(&mut again);
            assert_eq!(again, bytes);
            let own = Own { node_id: NodeId("n".into()), address: String::new(), fingerprint: String::new() };
            for cluster in [None, Some(ClusterId(1))] {
                if let Err(words) = hello.judge(cluster, &own, Some(ClusterId(1))) {
                    assert!(!words.is_empty() && !words.contains('\n'));
                }
            }
        }
        if let Ok(welcome) = Welcome::decode(bytes) {
            let mut again = Vec::new();
            welcome.encode(&mut again);
            assert_eq!(again, bytes);
        }
        assert!(!refusal(bytes).contains('\n'));
    }
});
