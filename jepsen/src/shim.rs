//! The preloaded shims of the product's own tests: failing calls on files, and a wall clock that is wrong.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const IOFAULT: &str = include_str!("../../tests/fault/iofault.c");
const CLOCK: &str = include_str!("../../tests/fault/clock.c");

/// Environment of a process.
pub type Env = Vec<(String, OsString)>;

/// The shims, compiled into a directory; `None` without a C compiler.
pub struct Shims {
    iofault: PathBuf,
    clock: PathBuf,
    dir: PathBuf,
}

impl Shims {
    pub fn compile(dir: &Path) -> Option<Shims> {
        fs::create_dir_all(dir).ok()?;
        let iofault = compile(dir, "iofault", IOFAULT)?;
        let clock = compile(dir, "clock", CLOCK)?;
        Some(Shims { iofault, clock, dir: dir.to_owned() })
    }

    /// A wall clock that is wrong by so many seconds; the monotonic one stays right.
    pub fn wrong_clock(&self, seconds: i64) -> Env {
        vec![("LD_PRELOAD".into(), self.clock.clone().into()), ("CLOCK_SHIFT_S".into(), seconds.to_string().into())]
    }

    /// From [`Shims::arm`] on, the `at`th call of kind `call` (`write`, `sync`, `allocate`) on a path with `path` in it
    /// fails, and so do all that follow.
    pub fn failing_disk(&self, call: &str, path: &str, at: u64, errno: i32) -> Env {
        // Left from an earlier fault, or not there.
        let _ = fs::remove_file(self.arm_file());
        let pairs: [(&str, OsString); 8] = [
            ("LD_PRELOAD", self.iofault.clone().into()),
            ("IOFAULT_CALL", call.into()),
            ("IOFAULT_PATH", path.into()),
            ("IOFAULT_AT", at.to_string().into()),
            ("IOFAULT_ERRNO", errno.to_string().into()),
            ("IOFAULT_STICKY", "1".into()),
            ("IOFAULT_SHORT", "1".into()),
            ("IOFAULT_ARM", self.arm_file().into()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub fn arm(&self) {
        fs::write(self.arm_file(), b"").expect("the scratch directory is writable");
    }

    fn arm_file(&self) -> PathBuf {
        self.dir.join("arm")
    }
}

fn compile(dir: &Path, name: &str, source: &str) -> Option<PathBuf> {
    let (code, shim) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    fs::write(&code, source).ok()?;
    let output = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).args([&shim, &code]).arg("-ldl").output();
    output.ok()?.status.success().then_some(shim)
}
