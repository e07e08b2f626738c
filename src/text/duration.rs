//! Durations as Go writes them: `1h30m`, `250ms`, `16.963009139s`. Pure functions for any thread.
//!
//! A duration is a signed number of nanoseconds in an `i64`, because clients may send negative ones and because
//! that is the range of the format: about 292 years either way. Fractions are computed in integers, so that
//! formatting and parsing are exact opposites.

use std::time::Duration;

const MICROSECOND_NS: u64 = 1_000;
const MILLISECOND_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60 * SECOND_NS;
const HOUR_NS: u64 = 60 * MINUTE_NS;

/// Digits of a fraction that can still matter: an hour has 3.6e12 nanoseconds, so what follows the 18th digit
/// cannot add a whole one except by rounding, and the format truncates.
const FRACTION_DIGITS_MAX: usize = 18;

/// The text is not a duration, or one beyond the range of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotADuration;

/// Reads a duration in nanoseconds: an optional sign, then `0` or one or more decimal numbers, each with a unit
/// (`ns`, `us`, `µs`, `ms`, `s`, `m`, `h`).
pub fn parse_ns(text: &str) -> Result<i64, NotADuration> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(NotADuration);
    }
    // The magnitude of i64::MIN is one more than that of i64::MAX.
    let limit_ns = i64::MAX as u64 + u64::from(negative);
    let mut total_ns: u64 = 0;
    while !rest.is_empty() {
        let (part_ns, after) = parse_part(rest)?;
        total_ns = total_ns.checked_add(part_ns).filter(|total| *total <= limit_ns).ok_or(NotADuration)?;
        rest = after;
    }
    Ok(if negative { (total_ns as i64).wrapping_neg() } else { total_ns as i64 })
}

/// Reads one number with its unit; gives its nanoseconds and what follows.
fn parse_part(text: &str) -> Result<(u64, &str), NotADuration> {
    let digits_len = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits_len(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits_len(rest)),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(NotADuration);
    }
    let unit_len = rest.bytes().take_while(|byte| *byte != b'.' && !byte.is_ascii_digit()).count();
    let (unit, rest) = rest.split_at(unit_len);
    let unit_ns = unit_ns(unit).ok_or(NotADuration)?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| NotADuration)? };
    let mut part_ns = whole.checked_mul(unit_ns).ok_or(NotADuration)?;
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS_MAX)];
    if !fraction.is_empty() {
        let numerator: u64 = fraction.parse().map_err(|_| NotADuration)?;
        let scale = 10u128.pow(fraction.len() as u32);
        let fraction_ns = u128::from(numerator) * u128::from(unit_ns) / scale;
        part_ns = part_ns.checked_add(fraction_ns as u64).ok_or(NotADuration)?;
    }
    Ok((part_ns, rest))
}

fn unit_ns(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter look alike; keyboards have either.
        "us" | "\u{b5}s" | "\u{3bc}s" => MICROSECOND_NS,
        "ms" => MILLISECOND_NS,
        "s" => SECOND_NS,
        "m" => MINUTE_NS,
        "h" => HOUR_NS,
        _ => return None,
    })
}

/// Writes a number of nanoseconds: `0s`, `402ns`, `1.5µs`, `50ms`, `10s`, `1m30s`, `1h0m0s`.
pub fn format_ns(duration_ns: i64) -> String {
    if duration_ns == 0 {
        return "0s".to_string();
    }
    let sign = if duration_ns < 0 { "-" } else { "" };
    let ns = duration_ns.unsigned_abs();
    if ns < SECOND_NS {
        let (unit_ns, unit) = if ns < MICROSECOND_NS {
            (1, "ns")
        } else if ns < MILLISECOND_NS {
            (MICROSECOND_NS, "\u{b5}s")
        } else {
            (MILLISECOND_NS, "ms")
        };
        return format!("{sign}{}{unit}", decimal(ns, unit_ns));
    }
    let (hours, minutes) = (ns / HOUR_NS, ns % HOUR_NS / MINUTE_NS);
    let seconds = decimal(ns % MINUTE_NS, SECOND_NS);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, _) => format!("{sign}{minutes}m{seconds}s"),
        _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// Writes a duration as [`format_ns`] does; one beyond 292 years is written as the longest there is.
pub fn format(duration: Duration) -> String {
    format_ns(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

/// `value / unit` (a power of ten) as a decimal number without trailing zeros.
fn decimal(value: u64, unit: u64) -> String {
    let (whole, fraction) = (value / unit, value % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{fraction:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_the_known_examples() {
        for (ns, text) in [
            (0, "0s"),
            (1, "1ns"),
            (402, "402ns"),
            (1_500, "1.5µs"),
            (1_000, "1µs"),
            (999_999, "999.999µs"),
            (50_000_000, "50ms"),
            (2_200_000, "2.2ms"),
            (10_000_000_000, "10s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (16_963_009_139, "16.963009139s"),
            (-90_500_000_000, "-1m30.5s"),
            (86_400_000_000_000, "24h0m0s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(format_ns(ns), text);
            assert_eq!(parse_ns(text), Ok(ns), "{text}");
        }
        assert_eq!(format(Duration::from_millis(250)), "250ms");
        assert_eq!(format(Duration::MAX), "2562047h47m16.854775807s");
    }

    #[test]
    fn parses_what_go_parses() {
        for (text, ns) in [
            ("0", 0),
            ("-0", 0),
            ("+0", 0),
            ("+5s", 5_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("1.s", 1_000_000_000),
            (".5s", 500_000_000),
            ("-2m3.4s", -123_400_000_000),
            ("1us1µs1μs", 3_000),
            ("39h9m14.425s", 140_954_425_000_000),
            ("0.3333333333333333333h", 1_199_999_999_999),
            ("0.9223372036854775807123s", 922_337_203),
            ("-9223372036854775808ns", i64::MIN),
            ("9223372036854775807ns", i64::MAX),
            ("1m1h", 3_660_000_000_000),
        ] {
            assert_eq!(parse_ns(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "",
            "5",
            "1d",
            "5 s",
            " 5s",
            "5s ",
            "-",
            "+",
            "s",
            ".s",
            "+.s",
            "1.2.3s",
            "--1s",
            "1e3s",
            "0x5s",
            "00",
            "1S",
            "1µ",
            "9223372036854775808ns",
            "-9223372036854775809ns",
            "9223372036854775.808us",
            "2562048h",
            "99999999999999999999s",
            "1h-1m",
            "é",
        ] {
            assert_eq!(parse_ns(text), Err(NotADuration), "{text:?}");
        }
    }

    /// xorshift64*: enough to spread cases over all magnitudes, and the same on every run.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    #[test]
    fn parsing_undoes_formatting_over_the_whole_range() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..50_000 {
            let shift = next(&mut state) % 64;
            let ns = (next(&mut state) as i64) >> shift;
            assert_eq!(parse_ns(&format_ns(ns)), Ok(ns), "{ns}");
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        let alphabet: Vec<char> = "0159.+-nuµμmsh x\u{10ffff}".chars().collect();
        let mut state = 1;
        for _ in 0..50_000 {
            let len = next(&mut state) % 24;
            let text: String =
                (0..len).map(|_| alphabet[(next(&mut state) % alphabet.len() as u64) as usize]).collect();
            if let Ok(ns) = parse_ns(&text) {
                assert_eq!(parse_ns(&format_ns(ns)), Ok(ns), "{text}");
            }
        }
    }
}
