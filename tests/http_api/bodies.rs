//! The statement list against serde_json, which reads the same texts by another way, and against the table of the API.

use ferrolite::command::{Parameter, Statement, Value};
use ferrolite::http::statements::{BodyError, parse_statements};
use serde_json::Value as Json;

fn text(body: &str) -> String {
    parse_statements(body.as_bytes()).expect_err(body).to_string()
}

fn value(json: &str) -> Value {
    let body = format!("[[\"q\",{json}]]");
    let mut statements = parse_statements(body.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(statements.len(), 1);
    let parameters = std::mem::take(&mut statements[0].parameters);
    assert_eq!(parameters.len(), 1);
    parameters[0].value.clone()
}

#[test]
fn broken_bodies_have_the_texts_of_the_api() {
    for (expected, bodies) in [
        (
            "invalid JSON body",
            &[
                "",
                " ",
                "not json",
                "[\"SELECT 1\"",
                "[\"a\",]",
                "[\"a\" \"b\"]",
                "[[\"a\", \"b\"]",
                "[",
                "['SELECT 1']",
                "/* c */ [\"SELECT 1\"]",
                "[\"\\x\"]",
                "[\"SELECT\n1\"]",
                "[\"a\"] trailing",
                "[\"a\"]]",
                "nul",
                "\"open",
                "[[\"q\",01]]",
                "[[1",
                "[,]",
                "[[\"q\",]]",
                "[[\"q\",{]]",
                "[[\"q\",{\"a\"}]]",
                "[[\"q\",{\"a\":1,}]]",
                "[[\"q\",[1,]]]",
                "[[\"q\",-]]",
                "[{\"a\":}]",
            ][..],
        ),
        ("no statements", &["[]", " [ ] "]),
        (
            "invalid request",
            &[
                "{}",
                "{\"sql\":\"SELECT 1\"}",
                "\"SELECT 1\"",
                "null",
                "1",
                "true",
                "[1]",
                "[null]",
                "[true]",
                "[{}]",
                "[[]]",
                "[[1]]",
                "[[1,\"x\",2]]",
                "[[[\"SELECT 1\"]]]",
                "[[null,\"x\"]]",
                "\"a\" \"b\"",
                "[\"a\",1]",
                "[1] trailing",
                "[1,",
            ],
        ),
        ("unsupported type 256", &["[[\"q\",[256]]]"]),
        ("unsupported type -4", &["[[\"q\",[1,-4]]]"]),
        ("unsupported type 1.5", &["[[\"q\",[1.5]]]", "[[\"q\",{\"a\":[1.5]}]]"]),
        ("unsupported type string", &["[[\"q\",[\"a\"]]]"]),
        ("unsupported type bool", &["[[\"q\",[true]]]"]),
        ("unsupported type null", &["[[\"q\",[null]]]"]),
        ("unsupported type array", &["[[\"q\",[[1]]]]"]),
        ("unsupported type object", &["[[\"q\",{\"a\":{\"b\":1}}]]", "[[\"q\",[{}]]]"]),
        ("invalid number 1e400", &["[[\"q\",1e400]]"]),
        ("duplicate parameter \"a\"", &["[[\"q\",{\"a\":1,\"a\":2}]]", "[[\"q\",{\"\\u0061\":1,\"b\":2,\"a\":3}]]"]),
        ("invalid number -1e400", &["[[\"q\",{\"a\":-1e400}]]"]),
    ] {
        for body in bodies {
            assert_eq!(text(body), expected, "{body}");
        }
    }
    assert_eq!(parse_statements(b"[\"\xff\"]"), Err(BodyError::NotUtf8));
}

#[test]
fn hostile_bodies_are_refused() {
    for mark in ["[", "{\"a\":", "[[\"q\","] {
        assert_eq!(
            text(&mark.repeat(1_000_000)),
            if mark.starts_with('{') { "invalid request" } else { "invalid JSON body" }
        );
    }
    let deep = format!("[[\"q\",{}{}]]", "[".repeat(1_000_000), "]".repeat(1_000_000));
    assert_eq!(text(&deep), "invalid JSON body");
    let long = format!("[[\"q\",{}]]", "9".repeat(1_000_000));
    assert!(text(&long).starts_with("invalid number 999") && text(&long).len() < 500);
    let names: Vec<String> = (0..50_000).map(|n| format!("\"n{n}\":1")).collect();
    let many = format!("[[\"q\",{{{}}}]]", names.join(","));
    assert_eq!(parse_statements(many.as_bytes()).expect("valid")[0].parameters.len(), 50_000);
    let doubled = many.replace("\"n49999\"", "\"n7\"");
    assert_eq!(text(&doubled), "duplicate parameter \"n7\"");
}

#[test]
fn values_keep_their_kind() {
    for (json, expected) in [
        ("20", Value::Integer(20)),
        ("-5", Value::Integer(-5)),
        ("9007199254740993", Value::Integer(9007199254740993)),
        ("9223372036854775807", Value::Integer(i64::MAX)),
        ("-9223372036854775808", Value::Integer(i64::MIN)),
        ("9223372036854775808", Value::Real(9223372036854775808.0)),
        ("1.0", Value::Real(1.0)),
        ("1e3", Value::Real(1000.0)),
        ("1E-7", Value::Real(1e-7)),
        ("1e-400", Value::Real(0.0)),
        ("true", Value::Integer(1)),
        ("false", Value::Integer(0)),
        ("null", Value::Null),
        ("\"abc\"", Value::Text(b"abc".to_vec())),
        ("\"\\ud83d\\ude00\"", Value::Text("😀".as_bytes().to_vec())),
        ("\"x'deadbeef'\"", Value::Blob(vec![0xde, 0xad, 0xbe, 0xef])),
        ("\"\\u00a0X'CAFE' \\n\"", Value::Blob(vec![0xca, 0xfe])),
        ("\"x''\"", Value::Blob(Vec::new())),
        ("\"x'010203\"", Value::Text(b"x'010203".to_vec())),
        ("\"x'abc'\"", Value::Text(b"x'abc'".to_vec())),
        ("\"x'zz'\"", Value::Text(b"x'zz'".to_vec())),
        ("\"x'\"", Value::Text(b"x'".to_vec())),
        ("[222,173]", Value::Blob(vec![222, 173])),
        ("[]", Value::Blob(Vec::new())),
    ] {
        assert_eq!(value(json), expected, "{json}");
    }
}

#[test]
fn objects_give_named_parameters_in_their_order() {
    let body = br#"[ "a" , ["b"], ["c", 1, {"x":2, "":3}, {}, {"y":[1]}, "t"] ]"#;
    let named = |name: &str, value| Parameter { name: Some(name.to_owned()), value };
    let statement = |sql: &str, parameters| Statement { sql: sql.to_owned(), parameters };
    let expected = vec![
        statement("a", vec![]),
        statement("b", vec![]),
        statement(
            "c",
            vec![
                Parameter { name: None, value: Value::Integer(1) },
                named("x", Value::Integer(2)),
                named("", Value::Integer(3)),
                named("y", Value::Blob(vec![1])),
                Parameter { name: None, value: Value::Text(b"t".to_vec()) },
            ],
        ),
    ];
    assert_eq!(parse_statements(body), Ok(expected));
}

/// The rules of the API, said once more on a tree.
fn oracle(document: &Json) -> Result<Vec<Statement>, String> {
    let Json::Array(elements) = document else { return Err("invalid request".to_owned()) };
    if elements.is_empty() {
        return Err("no statements".to_owned());
    }
    elements.iter().map(oracle_statement).collect()
}

fn oracle_statement(element: &Json) -> Result<Statement, String> {
    let items = match element {
        Json::String(sql) => return Ok(Statement { sql: sql.clone(), parameters: Vec::new() }),
        Json::Array(items) => items,
        _ => return Err("invalid request".to_owned()),
    };
    let Some(Json::String(sql)) = items.first() else { return Err("invalid request".to_owned()) };
    let mut parameters = Vec::new();
    for item in &items[1..] {
        match item {
            Json::Object(members) => {
                for (name, member) in members {
                    parameters.push(Parameter { name: Some(name.clone()), value: oracle_value(member)? });
                }
            }
            item => parameters.push(Parameter { name: None, value: oracle_value(item)? }),
        }
    }
    Ok(Statement { sql: sql.clone(), parameters })
}

fn oracle_value(json: &Json) -> Result<Value, String> {
    match json {
        Json::Null => Ok(Value::Null),
        Json::Bool(b) => Ok(Value::Integer(i64::from(*b))),
        Json::Number(number) => {
            let spelling = number.to_string();
            match spelling.parse::<i64>() {
                Ok(integer) => Ok(Value::Integer(integer)),
                Err(_) => Ok(Value::Real(spelling.parse().expect("a number"))),
            }
        }
        Json::String(text) => {
            let trimmed = text.trim();
            let inner = trimmed.get(2..trimmed.len().max(3) - 1).unwrap_or("");
            let is_quoted = trimmed.len() >= 3 && trimmed.to_lowercase().starts_with("x'") && trimmed.ends_with('\'');
            if is_quoted && inner.len() % 2 == 0 && inner.chars().all(|c| c.is_ascii_hexdigit()) {
                let bytes =
                    (0..inner.len()).step_by(2).map(|at| u8::from_str_radix(&inner[at..at + 2], 16).expect("hex"));
                return Ok(Value::Blob(bytes.collect()));
            }
            Ok(Value::Text(text.clone().into_bytes()))
        }
        Json::Array(items) => {
            let mut bytes = Vec::new();
            for item in items {
                let kind = match item {
                    Json::Number(number) => match number.to_string().parse::<u8>() {
                        Ok(byte) => {
                            bytes.push(byte);
                            continue;
                        }
                        Err(_) => number.to_string(),
                    },
                    Json::String(_) => "string".to_owned(),
                    Json::Bool(_) => "bool".to_owned(),
                    Json::Null => "null".to_owned(),
                    Json::Array(_) => "array".to_owned(),
                    Json::Object(_) => "object".to_owned(),
                };
                return Err(format!("unsupported type {kind}"));
            }
            Ok(Value::Blob(bytes))
        }
        Json::Object(_) => Err("unsupported type object".to_owned()),
    }
}

/// Deterministic numbers, so that a failure can be seen again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        // Constants of Knuth's MMIX generator.
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % limit
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

const STRINGS: &[&str] = &[
    r#""SELECT ?""#,
    r#""""#,
    r#""x'ab'""#,
    r#"" X'AbCd'\t""#,
    r#""x'a'""#,
    r#""caf\u00e9 \ud83d\ude00 \\ \"""#,
    r#""漢字 and a rather long text, longer than a word""#,
    r#""INSERT INTO t(a, b) VALUES(:a, ?)""#,
];
const NUMBERS: &[&str] =
    &["0", "-0", "1", "255", "256", "-1", "1.50", "2e+3", "9223372036854775808", "1e-3", "123456789012"];

fn generate(random: &mut Random, depth: usize, out: &mut String) {
    let kinds = if depth == 0 { 4 } else { 8 };
    match random.below(kinds) {
        0 | 1 => out.push_str(random.one_of(STRINGS)),
        2 => out.push_str(random.one_of(NUMBERS)),
        3 => out.push_str(random.one_of(&["true", "false", "null"])),
        4 | 5 => {
            // A statement, more often than not.
            let lead = if random.below(4) > 0 { random.one_of(STRINGS) } else { random.one_of(NUMBERS) };
            out.push('[');
            out.push_str(lead);
            generate_rest(random, depth, out, ']');
        }
        6 => {
            out.push('[');
            out.push_str(random.one_of(NUMBERS));
            generate_rest(random, depth, out, ']');
        }
        _ => {
            // One member only: the order of several is not kept by the oracle's map.
            out.push_str(random.one_of(&["{\"a\":", "{ \"\" : ", "{\"\\u0062\":"]));
            generate(random, depth - 1, out);
            out.push('}');
        }
    }
}

fn generate_rest(random: &mut Random, depth: usize, out: &mut String, close: char) {
    for _ in 0..random.below(4) {
        out.push_str(random.one_of(&[",", " ,\n", ", "]));
        generate(random, depth - 1, out);
    }
    out.push(close);
}

#[test]
fn the_reader_agrees_with_serde_json() {
    let mut random = Random(1);
    let (mut good, mut bad) = (0, 0);
    for round in 0..60_000 {
        let mut body = String::from("[");
        let lead = if random.below(8) > 0 { "[\"SELECT 1\"" } else { "[" };
        body.push_str(if random.below(2) == 0 { lead } else { "[\"q\"" });
        if lead.len() > 1 || body.ends_with('"') {
            generate_rest(&mut random, 3, &mut body, ']');
        } else {
            body.push(']');
        }
        generate_rest(&mut random, 3, &mut body, ']');
        let document: Json = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{round}: {error}: {body}"));
        let ours = parse_statements(body.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(ours, oracle(&document), "{round}: {body}");
        if ours.is_ok() { good += 1 } else { bad += 1 }
    }
    assert!(good > 1000 && bad > 1000, "the generator makes both kinds: {good} good, {bad} bad");
}

#[test]
fn a_changed_byte_never_panics_and_never_passes_for_json() {
    let mut random = Random(2);
    let body = r#"[["INSERT INTO t VALUES(?,?)",1.5e3,{"a":[1,2],"b":"x'ab'"},null,true,"caf\u00e9"],"SELECT 1"]"#;
    for _ in 0..60_000 {
        let mut bytes = body.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len().max(1));
            if bytes.is_empty() {
                break;
            }
            match random.below(3) {
                0 => bytes[at] = b"[]{},:\"\\0x-.e \x00\xc3"[random.below(16)],
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        if parse_statements(&bytes).is_ok() {
            let accepted = serde_json::from_slice::<Json>(&bytes).is_ok();
            assert!(accepted, "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
