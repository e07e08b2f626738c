//! The C library's transcendental functions, in Rust: SQLite calls these instead of the machine's `libm`.
//!
//! Pure; any thread. The last bit of `sin`, `exp` or `pow` differs between versions of the C library and between
//! processors, and what SQL computes with them may be stored, indexed or sorted by: replicas would part. The linker takes
//! a symbol from the program before it looks into shared libraries, so that defining them here is enough for all of
//! SQLite: the SQL functions as well as what FTS5 ranks with. What SQL does with NULL, text and numbers out of range stays
//! SQLite's own.
//!
//! Not here, because IEEE 754 leaves no choice in them: `sqrt`, `fmod`, `floor`, `ceil`, `trunc`. None of the functions of
//! the crate `libm` calls the C library, so that nothing here calls itself.

macro_rules! in_rust {
    ($($name:ident($($argument:ident),+);)+) => {$(
        // SAFETY: the name is the C library's, and so are type and meaning.
        #[unsafe(no_mangle)]
        extern "C" fn $name($($argument: f64),+) -> f64 {
            libm::$name($($argument),+)
        }
    )+};
}

in_rust! {
    acos(x);
    acosh(x);
    asin(x);
    asinh(x);
    atan(x);
    atan2(y, x);
    atanh(x);
    cos(x);
    cosh(x);
    exp(x);
    log(x);
    log10(x);
    log2(x);
    pow(x, y);
    sin(x);
    sinh(x);
    tan(x);
    tanh(x);
}

#[cfg(test)]
mod tests {
    use super::super::{Access, Connection, Step};
    use crate::command::ValueRef;
    use std::path::Path;

    fn connection() -> Connection {
        Connection::open(Path::new(":memory:"), Access::ReadWrite, None).unwrap()
    }

    fn evaluate(connection: &Connection, sql: &str, values: &[f64]) -> Option<f64> {
        let mut statement = connection.prepare(sql).unwrap().0.unwrap();
        for (at, value) in values.iter().enumerate() {
            statement.bind(at + 1, ValueRef::Real(*value)).unwrap();
        }
        assert_eq!(statement.step().unwrap(), Step::Row);
        match statement.column(0) {
            ValueRef::Real(value) => Some(value),
            ValueRef::Null => None,
            other => panic!("{sql}: {other:?}"),
        }
    }

    type One = fn(f64) -> f64;
    const ONE: [(&str, One); 16] = [
        ("acos", libm::acos),
        ("acosh", libm::acosh),
        ("asin", libm::asin),
        ("asinh", libm::asinh),
        ("atan", libm::atan),
        ("atanh", libm::atanh),
        ("cos", libm::cos),
        ("cosh", libm::cosh),
        ("exp", libm::exp),
        ("ln", libm::log),
        ("log10", libm::log10),
        ("log2", libm::log2),
        ("sin", libm::sin),
        ("sinh", libm::sinh),
        ("tan", libm::tan),
        ("tanh", libm::tanh),
    ];

    /// Numbers of all sizes around 0, from a linear congruential generator (Knuth, MMIX).
    fn numbers() -> impl Iterator<Item = f64> {
        let next =
            |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
        let number = |state: u64| {
            let mantissa = (state >> 11) as f64 / (1_u64 << 53) as f64 * 2.0 - 1.0;
            mantissa * [0.01, 1.0, 10.0, 1e5][(state >> 9) as usize & 3]
        };
        std::iter::successors(Some(1), next).take(2000).map(number)
    }

    #[test]
    fn sqlite_computes_the_same_bits_on_every_machine() {
        let connection = connection();
        for (name, function) in ONE {
            let sql = format!("SELECT {name}(?)");
            for x in numbers() {
                let is_out = name.starts_with('l') && x <= 0.0;
                let expected = Some(function(x)).filter(|y| !y.is_nan() && !is_out);
                let found = evaluate(&connection, &sql, &[x]);
                assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits), "{name}({x:e})");
            }
        }
        for (x, y) in numbers().zip(numbers().skip(7)) {
            let found = evaluate(&connection, "SELECT atan2(?, ?)", &[x, y]);
            assert_eq!(found, Some(libm::atan2(x, y)), "atan2({x:e}, {y:e})");
            let found = evaluate(&connection, "SELECT pow(?, ?)", &[x.abs(), y]);
            assert_eq!(found, Some(libm::pow(x.abs(), y)), "pow({x:e}, {y:e})");
        }
    }

    /// Other bits are another state machine: nodes with the one and the other must not share a log.
    #[test]
    fn a_new_version_of_the_crate_computes_the_same_bits() {
        let mut digest: u64 = 0xcbf2_9ce4_8422_2325;
        let mut add = |value: f64| digest = (digest ^ value.to_bits()).wrapping_mul(0x0000_0100_0000_01b3);
        let defined = |value: &f64| !value.is_nan();
        for (_, function) in ONE {
            numbers().map(function).filter(defined).for_each(&mut add);
        }
        for (x, y) in numbers().zip(numbers().skip(7)) {
            [libm::atan2(x, y), libm::pow(x, y)].into_iter().filter(defined).for_each(&mut add);
        }
        assert_eq!(digest, 15_081_113_386_211_331_907);
    }
}
