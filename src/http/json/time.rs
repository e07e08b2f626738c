//! Columns declared `date`, `datetime` or `timestamp`: integers and texts become RFC 3339.
//!
//! Integers are Unix seconds, or milliseconds from 1e12 on. Texts are SQLite's own forms, with or without an offset.
//! What is neither stays as it is stored: the functions then say `false` and write nothing. Any thread; never fails.

/// Integers with a greater magnitude are milliseconds.
const SECONDS_MAX: u64 = 1_000_000_000_000;
/// 0000-01-01T00:00:00Z.
const UNIX_SECONDS_MIN: i64 = -62_167_219_200;
/// 9999-12-31T23:59:59Z.
const UNIX_SECONDS_MAX: i64 = 253_402_300_799;
const SECONDS_PER_DAY: i64 = 86_400;
/// Digits of a fraction that are kept: nanoseconds.
const FRACTION_DIGITS_MAX: usize = 9;

/// Appends the quoted time of an integer; `false` when its year is outside 0...9999.
pub fn write_date_integer(out: &mut Vec<u8>, value: i64) -> bool {
    let is_ms = value.unsigned_abs() > SECONDS_MAX;
    let (seconds, ms) = if is_ms { (value.div_euclid(1000), value.rem_euclid(1000) as u16) } else { (value, 0) };
    if !(UNIX_SECONDS_MIN..=UNIX_SECONDS_MAX).contains(&seconds) {
        return false;
    }
    let second_of_day = seconds.rem_euclid(SECONDS_PER_DAY) as u32;
    let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
    let ms_digits = [b'0' + (ms / 100) as u8, b'0' + (ms / 10 % 10) as u8, b'0' + (ms % 10) as u8];
    let parsed = Parsed {
        year,
        month,
        day,
        hour: (second_of_day / 3600) as u8,
        minute: (second_of_day / 60 % 60) as u8,
        second: (second_of_day % 60) as u8,
        fraction: &ms_digits,
        offset: None,
    };
    parsed.write(out);
    true
}

/// Appends the quoted time of a text; `false` when it has none of the known forms.
pub fn write_date_text(out: &mut Vec<u8>, text: &[u8]) -> bool {
    let text = text.strip_suffix(b"Z").unwrap_or(text);
    match parse(text) {
        Some(parsed) => {
            parsed.write(out);
            true
        }
        None => false,
    }
}

/// A time in the offset in which it was given.
struct Parsed<'a> {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    /// Digits after the point.
    fraction: &'a [u8],
    /// `+hh:mm`; `None` is UTC.
    offset: Option<&'a [u8]>,
}

impl Parsed<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let two = |n: u8| [b'0' + n / 10, b'0' + n % 10];
        let [c1, c2] = two((self.year / 100) as u8);
        let [y1, y2] = two((self.year % 100) as u8);
        let ([m1, m2], [d1, d2]) = (two(self.month), two(self.day));
        let ([h1, h2], [i1, i2], [s1, s2]) = (two(self.hour), two(self.minute), two(self.second));
        out.extend_from_slice(&[
            b'"', c1, c2, y1, y2, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', i1, i2, b':', s1, s2,
        ]);
        let kept = &self.fraction[..self.fraction.len().min(FRACTION_DIGITS_MAX)];
        if let Some(last) = kept.iter().rposition(|digit| *digit != b'0') {
            out.push(b'.');
            out.extend_from_slice(&kept[..=last]);
        }
        out.extend_from_slice(self.offset.unwrap_or(b"Z"));
        out.push(b'"');
    }
}

/// `YYYY-MM-DD`, then nothing, or `[ T]H[H]:MM[:SS[.fraction][±hh:mm]]`.
fn parse(text: &[u8]) -> Option<Parsed<'_>> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, rest @ ..] = text else { return None };
    let year = u16::from(two_digits(*y1, *y2)?) * 100 + u16::from(two_digits(*y3, *y4)?);
    let (month, day) = (two_digits(*m1, *m2)?, two_digits(*d1, *d2)?);
    if !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let mut parsed = Parsed { year, month, day, hour: 0, minute: 0, second: 0, fraction: &[], offset: None };
    let (hour, rest) = match rest {
        [] => return Some(parsed),
        [b' ' | b'T', h1, h2, b':', rest @ ..] => (two_digits(*h1, *h2)?, rest),
        [b' ' | b'T', h, b':', rest @ ..] => (two_digits(b'0', *h)?, rest),
        _ => return None,
    };
    let [i1, i2, rest @ ..] = rest else { return None };
    (parsed.hour, parsed.minute) = (hour, two_digits(*i1, *i2)?);
    let rest = match rest {
        [] => rest,
        [b':', s1, s2, rest @ ..] => {
            parsed.second = two_digits(*s1, *s2)?;
            let (fraction, rest) = split_fraction(rest);
            parsed.fraction = fraction;
            rest
        }
        _ => return None,
    };
    parsed.offset = parse_offset(rest)?;
    (parsed.hour < 24 && parsed.minute < 60 && parsed.second < 60).then_some(parsed)
}

/// Digits behind a `.` or `,` and what follows; a point without digits is left where it is (and fails later).
fn split_fraction(text: &[u8]) -> (&[u8], &[u8]) {
    let [b'.' | b',', rest @ ..] = text else { return (&[], text) };
    let len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if len == 0 { (&[], text) } else { rest.split_at(len) }
}

/// `None`: not an offset. `Some(None)`: UTC.
fn parse_offset(text: &[u8]) -> Option<Option<&[u8]>> {
    let [b'+' | b'-', h1, h2, b':', m1, m2] = text else { return text.is_empty().then_some(None) };
    let (hours, minutes) = (two_digits(*h1, *h2)?, two_digits(*m1, *m2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    Some((hours != 0 || minutes != 0).then_some(text))
}

fn two_digits(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

fn days_in_month(year: u16, month: u8) -> u8 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day of a day counted from 1970-01-01. Counts in eras of 400 years (146,097 days) that start on a
/// 1st of March, so that the leap day is the last day of its year. The caller keeps years in 0...9999.
fn civil_from_days(days: i64) -> (u16, u8, u8) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March have 31 30 31 30 31 | 31 30 31 30 31 | 31 ... days: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year as u16, month as u8, day as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<String> {
        let mut out = Vec::new();
        let is_date = write_date_text(&mut out, value.as_bytes());
        assert!(is_date || out.is_empty());
        is_date.then(|| String::from_utf8(out).expect("ASCII"))
    }

    fn integer(value: i64) -> Option<String> {
        let mut out = Vec::new();
        let is_date = write_date_integer(&mut out, value);
        assert!(is_date || out.is_empty());
        is_date.then(|| String::from_utf8(out).expect("ASCII"))
    }

    #[test]
    fn every_known_form_of_text() {
        for (stored, shown) in [
            ("2004-02-14", "2004-02-14T00:00:00Z"),
            ("2004-02-14Z", "2004-02-14T00:00:00Z"),
            ("2004-02-14 07:15", "2004-02-14T07:15:00Z"),
            ("2004-02-14T07:15", "2004-02-14T07:15:00Z"),
            ("2004-02-14 07:15:00", "2004-02-14T07:15:00Z"),
            ("2004-02-14T07:15:00Z", "2004-02-14T07:15:00Z"),
            ("2021-10-22 19:39:32.016087", "2021-10-22T19:39:32.016087Z"),
            ("2004-02-14 07:15:00.100", "2004-02-14T07:15:00.1Z"),
            ("2004-02-14 07:15:00.000", "2004-02-14T07:15:00Z"),
            ("2004-02-14 07:15:00.123456789987", "2004-02-14T07:15:00.123456789Z"),
            ("2004-02-14 07:15:00,5", "2004-02-14T07:15:00.5Z"),
            ("2004-02-14 7:15:00", "2004-02-14T07:15:00Z"),
            ("2004-02-14 07:15:00+02:00", "2004-02-14T07:15:00+02:00"),
            ("2004-02-14T07:15:00.25-05:30", "2004-02-14T07:15:00.25-05:30"),
            ("2004-02-14T07:15:00+00:00", "2004-02-14T07:15:00Z"),
            ("2004-02-14T07:15:00-00:00", "2004-02-14T07:15:00Z"),
            ("0000-01-01", "0000-01-01T00:00:00Z"),
            ("2000-02-29", "2000-02-29T00:00:00Z"),
        ] {
            let shown = format!("\"{shown}\"");
            assert_eq!(text(stored), Some(shown), "{stored}");
        }
    }

    #[test]
    fn other_text_is_not_a_date() {
        for stored in [
            "",
            "Z",
            "12:00",
            " 2004-02-14",
            "2004-02-14 ",
            "2004-2-14",
            "2004-02-30",
            "1900-02-29",
            "2004-13-01",
            "2004-00-01",
            "2004-01-00",
            "2004-02-14 24:00:00",
            "2004-02-14 07:60",
            "2004-02-14 07:15:60",
            "2004-02-14 07:15:00.",
            "2004-02-14 07:15:00+0200",
            "2004-02-14 07:15+02:00",
            "2004-02-14 07:15:00ZZ",
            "2004-02-14 07",
            "2004-02-14 07:",
            "2004-02-14 07:5:00",
            "2004-02-14T",
            "20040214",
            "today",
            "2004-02-14 07:15:00+25:00",
            "2004-02-14x07:15",
            "2004-02-14 07:15:0",
            "٢٠٠٤-02-14",
        ] {
            assert_eq!(text(stored), None, "{stored:?}");
        }
    }

    #[test]
    fn integers_are_seconds_or_milliseconds() {
        for (stored, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (1700000000, "2023-11-14T22:13:20Z"),
            (1700000000123, "2023-11-14T22:13:20.123Z"),
            (1700000000100, "2023-11-14T22:13:20.1Z"),
            (-1000000000001, "1938-04-24T22:13:19.999Z"),
            (253402300799, "9999-12-31T23:59:59Z"),
            (253402300799999, "9999-12-31T23:59:59.999Z"),
            (UNIX_SECONDS_MIN, "0000-01-01T00:00:00Z"),
            (951782400, "2000-02-29T00:00:00Z"),
        ] {
            assert_eq!(integer(stored), Some(format!("\"{shown}\"")), "{stored}");
        }
    }

    #[test]
    fn integers_beyond_four_digit_years_are_not_dates() {
        let beyond = [253402300800, 1_000_000_000_000, -1_000_000_000_000, UNIX_SECONDS_MIN - 1, 253402300800000];
        for stored in beyond.into_iter().chain([i64::MAX, i64::MIN]) {
            assert_eq!(integer(stored), None, "{stored}");
        }
    }

    #[test]
    fn every_day_of_ten_thousand_years_follows_the_one_before() {
        let mut seconds = UNIX_SECONDS_MIN;
        let (mut year, mut month, mut day) = (0u16, 1u8, 1u8);
        while seconds <= UNIX_SECONDS_MAX {
            assert_eq!(civil_from_days(seconds.div_euclid(SECONDS_PER_DAY)), (year, month, day));
            seconds += SECONDS_PER_DAY;
            day += 1;
            if day > days_in_month(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
        assert_eq!(year, 10_000);
    }
}
