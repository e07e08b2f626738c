//! Deliberate mistakes, to show that the simulator would find them.
//!
//! `mutant!("name")` stands where a mistake can be switched on. Without the feature `mutants` it is the literal
//! `false` and leaves no trace in the program. With it, a thread chooses one mistake by name, or none.

#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:literal) => {
        false
    };
}

#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:literal) => {
        $crate::mutant::is_on($name)
    };
}

#[cfg(feature = "mutants")]
mod chosen {
    use std::cell::Cell;

    thread_local! {
        static CHOSEN: Cell<&'static str> = const { Cell::new("") };
    }

    /// Switches one mistake on for this thread; the empty name switches all off.
    pub(crate) fn choose(name: &'static str) {
        CHOSEN.set(name);
    }

    pub(crate) fn is_on(name: &str) -> bool {
        CHOSEN.get() == name
    }
}

#[cfg(feature = "mutants")]
pub(crate) use chosen::{choose, is_on};
