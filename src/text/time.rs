//! Points in time as text: RFC 3339 with up to nine digits, in UTC or in the server's own zone, and the form of
//! log lines. Any thread may call these functions. They read the zone of the machine, never the clock.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: i64 = 86_400;

/// The instant that Go prints for a time that was never set.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// How many digits of the second an RFC 3339 text carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Digits {
    /// Whole seconds.
    None,
    /// Up to nine digits, trailing zeros removed.
    Nanos,
}

/// A date and a time of day in some zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    hour: u32,
    minute: u32,
    second: u32,
    nanos: u32,
    /// Seconds east of Greenwich.
    offset_s: i64,
}

/// Writes `time` in UTC, such as `2026-07-24T09:30:00.25Z`.
pub fn rfc3339_utc(time: SystemTime, digits: Digits) -> String {
    let (seconds, nanos) = unix(time);
    rfc3339(civil(seconds, nanos, 0), digits)
}

/// Writes `time` in the zone of the machine, such as `2026-07-24T11:30:00.25+02:00`.
pub fn rfc3339_local(time: SystemTime, digits: Digits) -> String {
    let (seconds, nanos) = unix(time);
    rfc3339(civil(seconds, nanos, zone::offset_s(seconds)), digits)
}

/// Writes `time` in the zone of the machine as log lines show it: `2026/07/24 11:30:00`.
pub fn log_local(time: SystemTime) -> String {
    let (seconds, nanos) = unix(time);
    let c = civil(seconds, nanos, zone::offset_s(seconds));
    format!("{:04}/{:02}/{:02} {:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second)
}

fn rfc3339(c: Civil, digits: Digits) -> String {
    let mut out = format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second);
    if digits == Digits::Nanos && c.nanos != 0 {
        let fraction = format!(".{:09}", c.nanos);
        out.push_str(fraction.trim_end_matches('0'));
    }
    // The form has no seconds in its offset; a zone that has some (before 1900) loses them, as in Go.
    let offset_min = c.offset_s / 60;
    if c.offset_s == 0 {
        out.push('Z');
    } else {
        let sign = if offset_min < 0 { '-' } else { '+' };
        out.push_str(&format!("{sign}{:02}:{:02}", offset_min.abs() / 60, offset_min.abs() % 60));
    }
    out
}

/// Seconds since 1970 (rounded down, so that the nanoseconds count upwards also before it) and nanoseconds.
fn unix(time: SystemTime) -> (i64, u32) {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).unwrap_or(i64::MAX), after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => (seconds, 0),
                nanos => (seconds.saturating_sub(1), 1_000_000_000 - nanos),
            }
        }
    }
}

fn civil(unix_s: i64, nanos: u32, offset_s: i64) -> Civil {
    let local_s = unix_s.saturating_add(offset_s);
    let (year, month, day) = date(local_s.div_euclid(DAY_S));
    let of_day = local_s.rem_euclid(DAY_S) as u32;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    Civil { year, month, day, hour, minute, second, nanos, offset_s }
}

/// The date of a day counted from 1970-01-01 in the Gregorian calendar. Years are made to begin in March, so that
/// the leap day is the last of its year, and counted in eras of 400 years, which all have the same number of days.
fn date(day: i64) -> (i64, u32, u32) {
    const ERA_DAYS: i64 = 146_097;
    /// Days from the first of March of year 0 to 1970-01-01.
    const EPOCH_DAYS: i64 = 719_468;
    let day = day + EPOCH_DAYS;
    let era = day.div_euclid(ERA_DAYS);
    let of_era = day.rem_euclid(ERA_DAYS);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / (ERA_DAYS - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on, five months have 153 days (31, 30, 31, 30, 31), over and over.
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month as u32, day_of_month as u32)
}

/// The zone of the machine, through the C library, which knows `TZ` and the zone files.
mod zone {
    use std::mem::MaybeUninit;
    use std::sync::Once;

    unsafe extern "C" {
        fn tzset();
    }

    static ZONE_READ: Once = Once::new();

    /// Seconds east of Greenwich that hold at the given moment; 0 where the C library knows no answer.
    pub fn offset_s(unix_s: i64) -> i64 {
        // localtime_r need not read the zone by itself. Once is enough: this process never changes TZ.
        // SAFETY: tzset has no arguments; `Once` keeps two threads from running it at the same time.
        ZONE_READ.call_once(|| unsafe { tzset() });
        // A cast, not a conversion: on 32-bit targets with a short time_t there is no right answer after 2038 anyway.
        let seconds = unix_s as libc::time_t;
        let mut parts = MaybeUninit::<libc::tm>::uninit();
        // SAFETY: both pointers are valid for the call; `parts` is read only when the call says that it filled it.
        unsafe {
            if libc::localtime_r(&seconds, parts.as_mut_ptr()).is_null() { 0 } else { parts.assume_init().tm_gmtoff }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: i64, nanos: u32) -> SystemTime {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let base = if seconds < 0 { UNIX_EPOCH - whole } else { UNIX_EPOCH + whole };
        base + Duration::from_nanos(u64::from(nanos))
    }

    #[test]
    fn writes_utc() {
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_136_214_245, 0, "2006-01-02T15:04:05Z"),
            (1_136_214_245, 120_000_000, "2006-01-02T15:04:05.12Z"),
            (1_136_214_245, 1, "2006-01-02T15:04:05.000000001Z"),
            (951_782_400, 0, "2000-02-29T00:00:00Z"),
            (4_107_542_399, 0, "2100-02-28T23:59:59Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (-2_208_988_800, 0, "1900-01-01T00:00:00Z"),
            (-62_135_596_800, 0, ZERO),
        ] {
            assert_eq!(rfc3339_utc(at(seconds, nanos), Digits::Nanos), text);
        }
        assert_eq!(rfc3339_utc(at(1, 5), Digits::None), "1970-01-01T00:00:01Z");
    }

    #[test]
    fn writes_an_offset() {
        for (offset_s, text) in [
            (7_200, "1970-01-01T02:00:00+02:00"),
            (-12_600, "1969-12-31T20:30:00-03:30"),
            (20_700, "1970-01-01T05:45:00+05:45"),
            (0, "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(civil(0, 0, offset_s), Digits::Nanos), text);
        }
    }

    #[test]
    fn dates_follow_one_another() {
        let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let mut expected = (1600, 1, 1);
        let first = -135_140;
        for day in first..first + 300_000 {
            assert_eq!(date(day), expected);
            let (year, month, dom) = expected;
            let last = match month {
                2 => 28 + u32::from(leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (dom == last, month == 12) {
                (false, _) => (year, month, dom + 1),
                (true, false) => (year, month + 1, 1),
                (true, true) => (year + 1, 1, 1),
            };
        }
    }

    #[test]
    fn local_forms_have_the_right_shape() {
        let text = rfc3339_local(at(1_136_214_245, 0), Digits::Nanos);
        assert!(text.len() == 20 && text.ends_with('Z') || text.len() == 25, "{text}");
        assert_eq!(log_local(at(1_136_214_245, 0)).len(), "2006/01/02 15:04:05".len());
    }
}
