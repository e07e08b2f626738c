//! Sizes for people: `83 MB`, `1.2 kB`. Pure functions for any thread.

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// Writes a number of bytes with an SI unit (steps of 1000): one decimal below ten of the unit, none above, and
/// plain bytes below ten.
pub fn friendly(bytes: u64) -> String {
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    let mut unit_bytes: u64 = 1;
    while bytes / unit_bytes >= 1000 {
        unit += 1;
        unit_bytes *= 1000;
    }
    // Tenths of the unit, rounded to the nearest, in integers: floating point would round 1.05 down.
    let tenths = (u128::from(bytes) * 10 + u128::from(unit_bytes / 2)) / u128::from(unit_bytes);
    if tenths < 100 {
        return format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]);
    }
    let whole = (u128::from(bytes) + u128::from(unit_bytes / 2)) / u128::from(unit_bytes);
    format!("{whole} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::friendly;

    #[test]
    fn formats_the_known_examples() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (1_200_000, "1.2 MB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (82_854_982, "83 MB"),
            (4_096, "4.1 kB"),
            (999_999, "1000 kB"),
            (1_000_000_000_000, "1.0 TB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(friendly(bytes), text);
        }
    }
}
