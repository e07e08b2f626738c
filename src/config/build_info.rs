//! What this binary is: the facts that `-version`, the start-up log, `/status` and the version header show. Constants
//! fixed at build time, so that equal sources give equal binaries.

/// What clients are told. Some of them read a semantic version and ask for at least 8, so it begins with the version
/// of the API that this server speaks; our own version stands behind the plus sign.
pub const VERSION: &str = concat!("v10.3.0+ferrolite.", env!("CARGO_PKG_VERSION"));

/// The version control commit, from `FERROLITE_COMMIT` at build time.
pub const COMMIT: &str = env!("FERROLITE_COMMIT");

/// The time of the build, from `SOURCE_DATE_EPOCH` at build time; a clock would make every build differ.
pub const BUILD_TIME: &str = env!("FERROLITE_BUILD_TIME");

/// The toolchain in one word, such as `rustc1.95.0`.
pub const TOOLCHAIN: &str = env!("FERROLITE_TOOLCHAIN");

/// The compiler's name.
pub const COMPILER: &str = "rustc";

/// The operating system in the words that clients know (`linux`, `darwin`, `windows`).
pub fn os() -> &'static str {
    match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    }
}

/// The processor in the words that clients know (`amd64`, `arm64`, `arm`).
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "mips64" => "mips64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// The line that `-version` prints.
pub fn version_line(program: &str, sqlite_version: &str) -> String {
    format!(
        "{program} {VERSION} {} {} {TOOLCHAIN} sqlite{sqlite_version} (commit {COMMIT}, compiler {COMPILER})",
        os(),
        arch()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_one_word_that_begins_like_a_semantic_version() {
        assert!(VERSION.starts_with("v10."));
        assert!(!VERSION.contains([' ', ',']));
        assert!(TOOLCHAIN.starts_with("rustc"));
        let line = version_line("rqlited", "3.53.2");
        assert!(line.starts_with("rqlited v10.3.0+ferrolite."), "{line}");
        assert!(line.contains(" sqlite3.53.2 (commit "), "{line}");
        assert!(line.ends_with(", compiler rustc)"), "{line}");
    }
}
