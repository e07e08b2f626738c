//! Tests of `codec`: every value survives, every cut is refused, damage never panics, lying counts allocate nothing.

use super::*;
use crate::auth::CREDENTIAL_BYTES_MAX;
use raft::{Member, Suffrage};

fn membership() -> Membership {
    let member = |id: &str, suffrage| Member {
        id: NodeId(id.into()),
        incarnation: Incarnation(4),
        suffrage,
        address: format!("{id}:4002").into(),
    };
    Membership::new(vec![member("a", Suffrage::Voter), member("b", Suffrage::Learner)]).expect("it is one")
}

/// Each call in nobody's name, and some of them in somebody's.
fn calls() -> Vec<CallAs> {
    let caller =
        |username: &str, password: &str| Credentials::new(username.to_owned(), password.to_owned()).expect("short");
    let mut several = Callers::from(caller("b\u{fc}b", "s:cret"));
    for other in [Credentials::anonymous(), caller("ann", "")] {
        assert!(several.add(&other, Callers::MAX));
    }
    let named = [
        Call::Meta.in_name_of(caller("bob", "secret")),
        Call::Remove { id: "n1".to_owned() }.in_name_of(caller("bob", "")),
        Call::Write(WriteCall { payload: vec![4; 20] }).in_name_of(several),
    ];
    plain_calls().into_iter().map(CallAs::from).chain(named).collect()
}

fn plain_calls() -> Vec<Call> {
    let purpose = ReadPurpose::Query;
    let (id, address, incarnation) = ("n1".to_owned(), "host:4002".to_owned(), Incarnation(u64::MAX));
    let cluster = ClusterId(u128::MAX - 5);
    vec![
        Call::Meta,
        Call::Join(JoinRequest { id: id.clone(), address: address.clone(), voter: true, incarnation, log: None }),
        Call::Join(JoinRequest {
            id: String::new(),
            address: "ü".to_owned(),
            voter: false,
            incarnation,
            log: Some(LogId { term: Term(3), index: Index(u64::MAX) }),
        }),
        Call::Notify(Candidate { id: id.clone(), address: address.clone(), incarnation, refused: Vec::new() }),
        Call::Notify(Candidate { id: id.clone(), address, incarnation, refused: vec![cluster, ClusterId(1)] }),
        Call::Promise { founder: NodeId("f".into()), cluster, membership: membership() },
        Call::Formed { cluster, membership: membership() },
        Call::Remove { id },
        Call::StepDown { target: None, wait: true },
        Call::StepDown { target: Some("n2".to_owned()), wait: false },
        Call::Write(WriteCall { payload: vec![1, 2, 3] }),
        Call::Write(WriteCall { payload: Vec::new() }),
        Call::ReadIndex { level: ReadLevel::Weak, purpose },
        Call::ReadIndex { level: ReadLevel::Linearizable, purpose },
        Call::ReadIndex { level: ReadLevel::Strong, purpose },
        Call::ReadIndex { level: ReadLevel::Weak, purpose: ReadPurpose::Request },
        Call::ReadIndex { level: ReadLevel::Weak, purpose: ReadPurpose::Backup },
        Call::Hash { index: Index(12) },
    ]
}

fn answers() -> Vec<Answer> {
    let meta = Meta {
        id: "n1".to_owned(),
        api_url: "http://h:4001".to_owned(),
        version: "v1".to_owned(),
        commit_index: Index(8),
        is_leader: true,
        cluster: None,
    };
    let failed = |kind| Answer::Failed(Failure { kind, text: "why".to_owned() });
    vec![
        Answer::Done,
        Answer::Meta(Meta { cluster: Some(ClusterId(3)), ..meta.clone() }),
        Answer::Meta(meta),
        Answer::Joined { cluster: ClusterId(9) },
        Answer::Written { id: LogId { term: Term(3), index: Index(4) }, outcome: vec![5; 30] },
        Answer::Readable { index: Index(7), logged: None },
        Answer::Readable { index: Index(7), logged: Some(Index(6)) },
        Answer::Hash(None),
        Answer::Hash(Some([7; 32])),
        Answer::NotLeader { leader: None },
        Answer::NotLeader { leader: Some(LeaderHint { id: "n1".to_owned(), address: "h:4002".to_owned() }) },
        failed(FailureKind::Refused),
        failed(FailureKind::Unknown),
        failed(FailureKind::NotReady),
        Answer::Failed(Failure::unauthorized()),
    ]
}

/// Encodes, decodes, cuts, damages.
fn check<T: PartialEq + fmt::Debug>(
    values: Vec<T>,
    encode: fn(&T, &mut Vec<u8>) -> Result<(), CodecError>,
    decode: fn(&[u8]) -> Result<T, CodecError>,
    bytes_about: fn(&T) -> usize,
) {
    for value in values {
        let mut bytes = Vec::new();
        encode(&value, &mut bytes).expect("its texts are short");
        assert!(bytes.len() <= bytes_about(&value) + 512);
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err());
        }
        for at in 0..bytes.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[at] ^= flip;
                if let Ok(read) = decode(&bad) {
                    let mut again = Vec::new();
                    encode(&read, &mut again).expect("what was read is short");
                    assert_eq!(again, bad, "one value has one form");
                }
            }
        }
        assert_eq!(decode(&bytes), Ok(value));
        bytes.push(0);
        assert!(decode(&bytes).is_err());
    }
}

#[test]
fn every_call_survives_and_damage_does_no_harm() {
    check(calls(), encode_call, decode_call, call_bytes);
}

#[test]
fn every_answer_survives_and_damage_does_no_harm() {
    check(answers(), encode_answer, decode_answer, answer_bytes);
}

#[test]
fn a_lying_length_allocates_nothing() {
    let mut bytes = vec![VERSION, 0, 8];
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode_call(&bytes), Err(CodecError("the bytes are cut short")));
}

#[test]
fn long_texts_are_not_sent_and_long_failures_are_cut() {
    let long = "ü".repeat(TEXT_BYTES_MAX);
    let mut out = Vec::new();
    assert!(encode_call(&Call::Remove { id: long.clone() }.into(), &mut out).is_err());
    out.clear();
    let failed = Answer::Failed(Failure { kind: FailureKind::Refused, text: long });
    encode_answer(&failed, &mut out).expect("it is cut");
    let Ok(Answer::Failed(failure)) = decode_answer(&out) else { panic!() };
    assert_eq!(failure.text.len(), TEXT_BYTES_MAX);
    assert_eq!(cut("aü", 2), "a");
    assert_eq!(cut("aü", 9), "aü");
}

#[test]
fn callers_are_few_short_and_different() {
    let with = |callers: &[(&str, &str)]| {
        let mut bytes = vec![VERSION, u8::try_from(callers.len()).expect("few")];
        for (username, password) in callers {
            put_bytes(&mut bytes, username.as_bytes());
            put_bytes(&mut bytes, password.as_bytes());
        }
        bytes.push(1);
        bytes
    };
    assert!(decode_call(&with(&[("a", "x"), ("a", "y"), ("b", "x")])).is_ok());
    assert!(decode_call(&with(&[("a", "x"), ("b", "x"), ("a", "x")])).is_err());
    let names: Vec<String> = (0..=Callers::MAX).map(|n| n.to_string()).collect();
    let named: Vec<_> = names.iter().map(|name| (name.as_str(), "p")).collect();
    assert!(decode_call(&with(&named[1..])).is_ok());
    assert!(decode_call(&with(&named)).is_err());
    let long = "x".repeat(CREDENTIAL_BYTES_MAX + 1);
    assert!(decode_call(&with(&[("a", &long[1..])])).is_ok());
    assert!(decode_call(&with(&[("a", &long)])).is_err());
    assert!(decode_call(&with(&[(&long, "a")])).is_err());
}

#[test]
fn a_fetch_says_for_whom_and_what() {
    let caller = Credentials::new("bob".to_owned(), "secret".to_owned()).expect("short");
    for callers in [Callers::default(), caller.into()] {
        for wanted in [&b""[..], b"everything"] {
            let bytes = encode_fetch(&callers, wanted).expect("short");
            assert_eq!(decode_fetch(&bytes), Ok((callers.clone(), wanted)));
            for cut in 0..bytes.len() - wanted.len() {
                assert!(decode_fetch(&bytes[..cut]).is_err());
            }
        }
    }
}
