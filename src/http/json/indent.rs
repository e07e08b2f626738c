//! `pretty`: compact JSON in, the same with four spaces per level out.
//!
//! Works on pieces: a string or a nesting may begin in one piece and end in another. The whole state is `Copy`, so that
//! a writer that takes back what it wrote can take back the state as well. Any thread; never fails.

const INDENT: &[u8; 64] = &[b' '; 64];
const SPACES_PER_LEVEL: usize = 4;

/// Where in a compact document the last piece ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Indenter {
    depth: usize,
    in_string: bool,
    /// The last byte was a backslash inside a string.
    escaped: bool,
    /// A container was opened and nothing is in it so far: it stays on its line if nothing comes.
    opened: bool,
}

impl Indenter {
    /// Appends a piece of valid compact JSON to `out`.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut at = 0;
        while let Some(&byte) = piece.get(at) {
            if self.in_string {
                at += self.feed_string(&piece[at..], out);
                continue;
            }
            match byte {
                b'{' | b'[' => {
                    self.begin_item(out);
                    out.push(byte);
                    self.depth += 1;
                    self.opened = true;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if !std::mem::take(&mut self.opened) {
                        self.new_line(out);
                    }
                    out.push(byte);
                }
                b',' => {
                    out.push(b',');
                    self.new_line(out);
                }
                b':' => out.extend_from_slice(b": "),
                _ => {
                    self.begin_item(out);
                    self.in_string = byte == b'"';
                    out.push(byte);
                }
            }
            at += 1;
        }
    }

    /// Copies up to the end of the string or of the piece; says how many bytes that was.
    fn feed_string(&mut self, piece: &[u8], out: &mut Vec<u8>) -> usize {
        if std::mem::take(&mut self.escaped) {
            out.push(piece[0]);
            return 1;
        }
        let len = match memchr::memchr2(b'"', b'\\', piece) {
            Some(at) => {
                self.escaped = piece[at] == b'\\';
                self.in_string = self.escaped;
                at + 1
            }
            None => piece.len(),
        };
        out.extend_from_slice(&piece[..len]);
        len
    }

    fn begin_item(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.opened) {
            self.new_line(out);
        }
    }

    fn new_line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        let mut spaces = self.depth * SPACES_PER_LEVEL;
        while spaces > 0 {
            let piece = spaces.min(INDENT.len());
            out.extend_from_slice(&INDENT[..piece]);
            spaces -= piece;
        }
    }
}

/// A whole compact document, indented.
pub fn indent(compact: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(compact.len() * 2);
    Indenter::default().feed(compact, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for (compact, pretty) in [
            ("{}", "{}"),
            ("[]", "[]"),
            ("1", "1"),
            (r#"{"results":[]}"#, "{\n    \"results\": []\n}"),
            (r#"{"results":[{}]}"#, "{\n    \"results\": [\n        {}\n    ]\n}"),
            (r#"[1,-2.5e+21,null,true]"#, "[\n    1,\n    -2.5e+21,\n    null,\n    true\n]"),
            (
                r#"{"a":{"b":[[]]},"c":""}"#,
                "{\n    \"a\": {\n        \"b\": [\n            []\n        ]\n    },\n    \"c\": \"\"\n}",
            ),
            (r#"["{\"[,:]\\"]"#, "[\n    \"{\\\"[,:]\\\\\"\n]"),
        ] {
            assert_eq!(String::from_utf8(indent(compact.as_bytes())).expect("UTF-8"), pretty);
        }
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let compact = r#"{"k\"":[{},[],"a\\","\u003c",[1,[2,"x"]],{"y":null}],"z":-0}"#.as_bytes();
        let whole = indent(compact);
        for size in 1..compact.len() {
            let (mut out, mut indenter) = (Vec::new(), Indenter::default());
            compact.chunks(size).for_each(|piece| indenter.feed(piece, &mut out));
            assert_eq!(out, whole);
        }
    }
}
