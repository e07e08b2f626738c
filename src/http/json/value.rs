//! JSON for the endpoints that answer documents: `/status`, `/nodes`, `/leader`, `/db/sql`, `/debug/vars`.
//!
//! Any thread; never fails.

use super::{number, text};
use serde_json::{Number, Value};

/// A document as text: members sorted by name at every level, escapes as everywhere in this API, four spaces per level
/// when `pretty`.
pub fn to_json(value: &Value, pretty: bool) -> String {
    let mut out = Vec::new();
    write_value(&mut out, value);
    let out = if pretty { super::indent(&out) } else { out };
    String::from_utf8(out).expect("strings are UTF-8 and escapes are ASCII")
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(b) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        Value::Number(n) => write_number(out, n),
        Value::String(s) => text::write_string(out, s.as_bytes()),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_value(out, item);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            // Sorted here, so that it does not hang on how the map of serde_json was built.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
            let mut object = ObjectWriter::new(out);
            for (name, member) in sorted {
                object.value(name, member);
            }
            object.end();
        }
    }
}

/// Integers of any size keep their digits; all else is a float.
fn write_number(out: &mut Vec<u8>, number: &Number) {
    let digits = number.to_string();
    let is_integer = digits.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    match number.as_f64() {
        Some(float) if !is_integer => number::write_f64(out, float),
        _ => out.extend_from_slice(digits.as_bytes()),
    }
}

/// Writes an object whose members have an order of their own (a node in `/nodes`, a statement in `/db/sql`).
pub struct ObjectWriter<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> ObjectWriter<'a> {
    /// Opens the object; [`ObjectWriter::end`] closes it.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        ObjectWriter { out, is_empty: true }
    }

    pub fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        text::write_string(self.out, value.as_bytes());
    }

    pub fn bool(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub fn i64(&mut self, name: &str, value: i64) {
        self.name(name);
        number::write_i64(self.out, value);
    }

    pub fn u64(&mut self, name: &str, value: u64) {
        self.name(name);
        number::write_u64(self.out, value);
    }

    pub fn f64(&mut self, name: &str, value: f64) {
        self.name(name);
        number::write_f64(self.out, value);
    }

    pub fn value(&mut self, name: &str, value: &Value) {
        self.name(name);
        write_value(self.out, value);
    }

    /// A member that `write` appends as compact JSON.
    pub fn with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name);
        write(self.out);
    }

    pub fn end(self) {
        self.out.push(b'}');
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_empty) {
            self.out.push(b',');
        }
        text::write_string(self.out, name.as_bytes());
        self.out.push(b':');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents() {
        let value = json!({"b": [1, 2.5, 1.0, null, true], "a": {"<z>": "a&b", "é": "\u{2028}"}, "c": {}, "B": []});
        assert_eq!(
            to_json(&value, false),
            r#"{"B":[],"a":{"\u003cz\u003e":"a\u0026b","é":"\u2028"},"b":[1,2.5,1,null,true],"c":{}}"#
        );
        assert_eq!(to_json(&json!({"a": [1], "b": {}}), true), "{\n    \"a\": [\n        1\n    ],\n    \"b\": {}\n}");
    }

    #[test]
    fn numbers_keep_their_digits() {
        for (parsed, written) in [
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1.0", "1"),
            ("1e21", "1e+21"),
            ("0.0000001", "1e-7"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ] {
            let value: Value = serde_json::from_str(parsed).expect("a number");
            assert_eq!(to_json(&value, false), written);
        }
    }

    #[test]
    fn objects_in_an_order_of_their_own() {
        let mut out = Vec::new();
        let mut object = ObjectWriter::new(&mut out);
        object.string("z", "<");
        object.bool("y", false);
        object.f64("x", 1.5);
        object.i64("w", -1);
        object.u64("v", u64::MAX);
        object.with("u", |out| out.extend_from_slice(b"[]"));
        object.end();
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            r#"{"z":"\u003c","y":false,"x":1.5,"w":-1,"v":18446744073709551615,"u":[]}"#
        );
    }
}
