//! Texts in the forms that Go programs print and read, since clients and scripts depend on them. Pure functions,
//! except for the local time zone in `time`; any thread may call them.

pub mod duration;
pub mod size;
pub mod time;

/// Puts `text` in double quotes as Go's `%q` does, so that error texts match and control characters of a hostile
/// argument cannot reach a terminal.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_control() && (c as u32) < 0x80 => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn quotes_as_go_does() {
        assert_eq!(quote("x"), "\"x\"");
        assert_eq!(quote(""), "\"\"");
        assert_eq!(quote("a\"b\\c\n\t\u{1b}[0m'µ"), "\"a\\\"b\\\\c\\n\\t\\x1b[0m'µ\"");
        assert_eq!(quote("\u{7f}\u{85}"), "\"\\x7f\\u0085\"");
    }
}
