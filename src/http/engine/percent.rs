//! Percent-encoding, as far as the engine cares: is every escape in a path whole? Pure, any thread.

/// Is every `%` followed by two hexadecimal digits?
pub fn is_valid(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let whole = bytes.len() - at > 2 && bytes[at + 1].is_ascii_hexdigit() && bytes[at + 2].is_ascii_hexdigit();
            if !whole {
                return false;
            }
            at += 2;
        }
        at += 1;
    }
    true
}
