//! Numbers: integers exactly, floats in the shortest form that reads back as the same number.
//!
//! Floats look as JavaScript's and Go's do: no fraction when integral, an exponent only below 1e-6 and from 1e21 on
//! (`1e-7`, `1e+21`), negative zero kept. Any thread; never fails.

/// Below this magnitude (zero excepted) a float is written with an exponent.
const PLAIN_MIN: f64 = 1e-6;
/// From this magnitude on a float is written with an exponent.
const PLAIN_END: f64 = 1e21;
/// Integral floats below this convert to an integer and back without loss.
const EXACT_INTEGER_END: f64 = 9_007_199_254_740_992.0;

pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub fn write_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a float. JSON has no infinities: they become the strings `"Infinity"` and `"-Infinity"`, so that the client
/// loses nothing; NaN (which SQLite never returns: it is NULL there) becomes `null`.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() {
        let text: &[u8] = match (value.is_nan(), value > 0.0) {
            (true, _) => b"null",
            (false, true) => b"\"Infinity\"",
            (false, false) => b"\"-Infinity\"",
        };
        return out.extend_from_slice(text);
    }
    let magnitude = value.abs();
    if magnitude < EXACT_INTEGER_END && value.trunc() == value {
        if value == 0.0 && value.is_sign_negative() {
            return out.extend_from_slice(b"-0");
        }
        return write_i64(out, value as i64);
    }
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(value).as_bytes();
    if memchr::memchr(b'e', shortest).is_none() && (PLAIN_MIN..PLAIN_END).contains(&magnitude) {
        return out.extend_from_slice(shortest.strip_suffix(b".0").unwrap_or(shortest));
    }
    Decimal::parse(shortest).write(out, (PLAIN_MIN..PLAIN_END).contains(&magnitude))
}

/// Most significant digits of a float (17) and then some.
const DIGITS_MAX: usize = 24;

/// The digits of a float: 0.d1d2d3... * 10^point.
struct Decimal {
    negative: bool,
    digits: [u8; DIGITS_MAX],
    len: usize,
    point: i32,
}

impl Decimal {
    /// Takes apart what the shortest-digits algorithm printed: `[-]ddd[.ddd][e[-]dd]`.
    fn parse(text: &[u8]) -> Self {
        let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = match memchr::memchr(b'e', text) {
            Some(at) => (&text[..at], parse_exponent(&text[at + 1..])),
            None => (text, 0),
        };
        let whole_len = memchr::memchr(b'.', mantissa).unwrap_or(mantissa.len());
        let mut decimal = Decimal { negative, digits: [0; DIGITS_MAX], len: 0, point: whole_len as i32 + exponent };
        for digit in mantissa.iter().filter(|b| **b != b'.') {
            if decimal.len == 0 && *digit == b'0' {
                decimal.point -= 1;
                continue;
            }
            decimal.digits[decimal.len] = *digit;
            decimal.len += 1;
        }
        while decimal.len > 1 && decimal.digits[decimal.len - 1] == b'0' {
            decimal.len -= 1;
        }
        decimal
    }

    fn write(&self, out: &mut Vec<u8>, plain: bool) {
        let digits = &self.digits[..self.len];
        if self.negative {
            out.push(b'-');
        }
        if !plain {
            out.push(digits[0]);
            if digits.len() > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            out.extend_from_slice(if self.point > 0 { b"e+" } else { b"e-" });
            return write_u64(out, u64::from((self.point - 1).unsigned_abs()));
        }
        if self.point <= 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + self.point.unsigned_abs() as usize, b'0');
            return out.extend_from_slice(digits);
        }
        let point = self.point as usize;
        if point >= digits.len() {
            out.extend_from_slice(digits);
            return out.resize(out.len() + point - digits.len(), b'0');
        }
        out.extend_from_slice(&digits[..point]);
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

fn parse_exponent(text: &[u8]) -> i32 {
    let (negative, digits) = match text.first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = digits.iter().fold(0, |sum, digit| sum * 10 + i32::from(*digit - b'0'));
    if negative { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(value: f64) -> String {
        let mut out = Vec::new();
        write_f64(&mut out, value);
        String::from_utf8(out).expect("digits are ASCII")
    }

    /// The rule, said with the standard library's formatting.
    fn oracle(value: f64) -> String {
        let magnitude = value.abs();
        if value == 0.0 || (1e-6..1e21).contains(&magnitude) {
            return format!("{value}");
        }
        let text = format!("{value:e}");
        if magnitude >= 1.0 { text.replace('e', "e+") } else { text }
    }

    #[test]
    fn forms_at_the_borders() {
        for (value, text) in [
            (1.0, "1"),
            (678.0, "678"),
            (-3.0, "-3"),
            (-0.0, "-0"),
            (0.0, "0"),
            (1e-6, "0.000001"),
            (9.9e-7, "9.9e-7"),
            (1e-7, "1e-7"),
            (2.26e-7, "2.26e-7"),
            (1e20, "100000000000000000000"),
            (123456789012345680000.0, "123456789012345680000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (-1.5e300, "-1.5e+300"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (9223372036854775808.0, "9223372036854776000"),
            (1.0 / 3.0, "0.3333333333333333"),
            (0.1 + 0.2, "0.30000000000000004"),
            (123456.789, "123456.789"),
            (2668328433827413.0 / 4.0, "667082108456853.2"),
            (2668328433827415.0 / 4.0, "667082108456853.8"),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn agrees_with_the_standard_library_and_reads_back() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut values: Vec<f64> = (-330..310).flat_map(|e| [10f64.powi(e), 1.7 * 10f64.powi(e)]).collect();
        for _ in 0..200_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            values.push(f64::from_bits(state));
            values.push((state >> 20) as f64 / 1000.0);
            values.push((state >> 44) as f64 * 1e-12);
        }
        for value in values.into_iter().filter(|v| v.is_finite()) {
            let text = float(value);
            let other = oracle(value);
            if text != other {
                // Two shortest forms lie equally near: the even one is right, the standard library takes the larger.
                let last_digit = |text: &str| text.split('e').next().and_then(|digits| digits.bytes().last());
                assert_eq!(text.len(), other.len(), "{text} {other}");
                assert_eq!(last_digit(&text).map(|digit| digit % 2), Some(0), "{text} {other}");
            }
            assert_eq!(text.parse::<f64>().expect("a number").to_bits(), value.to_bits());
        }
    }

    #[test]
    fn integers_are_exact() {
        let mut out = Vec::new();
        write_i64(&mut out, i64::MIN);
        out.push(b' ');
        write_i64(&mut out, 9007199254740993);
        out.push(b' ');
        write_u64(&mut out, u64::MAX);
        assert_eq!(out, b"-9223372036854775808 9007199254740993 18446744073709551615");
    }
}
