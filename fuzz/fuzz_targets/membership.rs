//! The bytes of a membership entry, which come from peers and from the log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raft::membership::Membership;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(members) = Membership::decode(bytes) {
        let again = Membership::decode(&members.encode()).expect("what we encode, we decode");
        assert_eq!(format!("{members:?}"), format!("{again:?}"));
    }
});
