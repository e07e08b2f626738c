//! Tells the compiler what the binary shall say of itself. Reads the environment only; no clock and no repository,
//! so that equal sources give equal binaries.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=FERROLITE_COMMIT");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo:rerun-if-env-changed=CFLAGS");
    let flags = std::env::var("CFLAGS").unwrap_or_default();
    assert!(
        flags.split_whitespace().any(|flag| flag == "-ffp-contract=off"),
        "SQLite must be compiled with -ffp-contract=off in CFLAGS (see .cargo/config.toml): replicas on different processors \
         would compute different numbers"
    );
    let commit = std::env::var("FERROLITE_COMMIT").unwrap_or_default();
    let commit = if commit.is_empty() { "unknown" } else { commit.as_str() };
    println!("cargo:rustc-env=FERROLITE_COMMIT={commit}");
    let time = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_default();
    let time = if time.is_empty() { "unknown" } else { time.as_str() };
    println!("cargo:rustc-env=FERROLITE_BUILD_TIME={time}");
    println!("cargo:rustc-env=FERROLITE_TOOLCHAIN=rustc{}", rustc_version().as_deref().unwrap_or("-unknown"));
}

/// The second word of `rustc --version`: `1.95.0` or `1.97.0-nightly`.
fn rustc_version() -> Option<String> {
    let rustc = std::env::var_os("RUSTC")?;
    let output = Command::new(rustc).arg("--version").output().ok()?;
    String::from_utf8(output.stdout).ok()?.split_whitespace().nth(1).map(str::to_string)
}
