//! The bytes of a log entry: arbitrary and damaged ones never panic, and what decodes has one encoding.
#![no_main]

use ferrolite::command::{
    Action, Command, LoadChunk, LoadCommit, Parameter, Request, RequestId, Statement, Value,
};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use raft::Index;

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    let mut u = Unstructured::new(bytes);
    let Ok(command) = command(&mut u) else { return };
    let mut encoded = command.encode();
    check(&encoded);
    for _ in 0..4 {
        let at = u.arbitrary::<u32>().unwrap_or(0) as usize % encoded.len();
        encoded[at] = u.arbitrary().unwrap_or(0xff);
    }
    check(&encoded);
    let end = u.arbitrary::<u32>().unwrap_or(0) as usize % encoded.len();
    check(&encoded[..end]);
});

fn check(bytes: &[u8]) {
    if let Ok(command) = Command::decode(bytes) {
        let encoded = command.encode();
        let again = Command::decode(&encoded).expect("what we encode, we decode");
        // By bytes: a REAL that is not a number is never equal to itself.
        assert_eq!(encoded, again.encode());
    }
}

fn command(u: &mut Unstructured) -> Result<Command> {
    let action = match u.int_in_range(0..=9)? {
        0 => Action::Execute(request(u)?),
        1 => Action::Request(request(u)?),
        2 => Action::Barrier,
        3 => Action::Vacuum,
        4 => Action::Optimize { mask: u.arbitrary()? },
        5 => Action::Hash,
        6 => Action::Script(request(u)?),
        7 => Action::LoadChunk(LoadChunk { load: u.arbitrary()?, number: u.arbitrary()?, bytes: u.arbitrary()? }),
        8 => Action::LoadCommit(LoadCommit {
            load: u.arbitrary()?,
            chunks: u.arbitrary()?,
            bytes: u.arbitrary()?,
            hash: u.arbitrary()?,
        }),
        _ => Action::Verdict { index: Index(u.arbitrary()?), hash: u.arbitrary()? },
    };
    let issued_after = Index(u.arbitrary()?);
    let request = match u.int_in_range(0..=2)? {
        0 => None,
        1 => Some(RequestId::from_server(u.arbitrary()?, issued_after, &action)),
        _ => RequestId::from_client(u.arbitrary()?, issued_after, &action).ok(),
    };
    Ok(Command { unix_time_us: u.arbitrary()?, seed: u.arbitrary()?, action, request })
}

fn request(u: &mut Unstructured) -> Result<Request> {
    let mut statements = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let mut parameters = Vec::new();
        for _ in 0..u.int_in_range(0..=3)? {
            parameters.push(Parameter { name: u.arbitrary()?, value: value(u)? });
        }
        statements.push(Statement { sql: u.arbitrary()?, parameters });
    }
    Ok(Request {
        statements,
        transaction: u.arbitrary()?,
        qualify_columns: u.arbitrary()?,
        vm_steps_max: u.arbitrary()?,
    })
}

fn value(u: &mut Unstructured) -> Result<Value> {
    Ok(match u.int_in_range(0..=4)? {
        0 => Value::Null,
        1 => Value::Integer(u.arbitrary()?),
        2 => Value::Real(u.arbitrary()?),
        3 => Value::Text(u.arbitrary()?),
        _ => Value::Blob(u.arbitrary()?),
    })
}
