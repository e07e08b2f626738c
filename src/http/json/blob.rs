//! BLOBs: standard base64 with padding, or an array of integers. Any thread; never fails.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Appends a quoted base64 string.
pub fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).expect("room for the padded length was made");
    out.truncate(start + written);
    out.push(b'"');
}

/// Appends `[1,2,255]`.
pub fn write_array(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'[');
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(itoa::Buffer::new().format(*byte).as_bytes());
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        for (bytes, base64, array) in [
            (&b""[..], "\"\"", "[]"),
            (b"\xff", "\"/w==\"", "[255]"),
            (b"\xff\x00", "\"/wA=\"", "[255,0]"),
            (b"\xde\xad\xbe\xef", "\"3q2+7w==\"", "[222,173,190,239]"),
            (b"abc", "\"YWJj\"", "[97,98,99]"),
        ] {
            let mut out = Vec::new();
            write_base64(&mut out, bytes);
            assert_eq!(out, base64.as_bytes());
            out.clear();
            write_array(&mut out, bytes);
            assert_eq!(out, array.as_bytes());
        }
    }
}
