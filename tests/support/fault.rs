//! Faults of the machine: the preloaded shims of `tests/fault/` (failing calls on files, a wrong wall clock), each built
//! once per test process, and a small tmpfs that really fills up.

use super::node::Launch;
use super::tempdir::TempDir;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Which call of the process fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// `write`, `sync` or `allocate`, as the shim names them.
    pub call: &'static str,
    /// A piece of the file's path.
    pub path: &'static str,
    pub errno: i32,
    /// Whether the calls after it fail too.
    pub sticky: bool,
    /// Whether the first failing write stores half of its bytes.
    pub short: bool,
}

/// A fault with the files that control it.
pub struct Armed {
    arm: PathBuf,
    report: PathBuf,
}

impl Fault {
    /// Adds the shim to a launch: the `at`th matching call fails, counted from [`Armed::arm`] on, or from the start of the
    /// process when `at_once`.
    pub fn add_to(&self, launch: Launch, scratch: &Path, at: u64, at_once: bool) -> (Launch, Armed) {
        let armed = Armed { arm: scratch.join("arm"), report: scratch.join("report") };
        for file in [&armed.arm, &armed.report] {
            // Left from an earlier fault on the same scratch directory, or not there.
            let _ = std::fs::remove_file(file);
        }
        let launch = launch
            .env("LD_PRELOAD", shim().as_os_str())
            .env("IOFAULT_CALL", self.call)
            .env("IOFAULT_PATH", self.path)
            .env("IOFAULT_AT", at.to_string())
            .env("IOFAULT_ERRNO", self.errno.to_string())
            .env("IOFAULT_STICKY", if self.sticky { "1" } else { "0" })
            .env("IOFAULT_SHORT", if self.short { "1" } else { "0" })
            .env("IOFAULT_ARM", if at_once { "".into() } else { armed.arm.as_os_str().to_owned() })
            .env("IOFAULT_REPORT", armed.report.as_os_str());
        (launch, armed)
    }
}

impl Armed {
    /// Counting begins.
    pub fn arm(&self) {
        std::fs::write(&self.arm, b"").expect("the scratch directory is writable");
    }

    /// The path of the file that failed, once it has.
    pub fn fired(&self) -> Option<PathBuf> {
        let text = std::fs::read_to_string(&self.report).ok()?;
        text.split_once(' ').map(|(_, path)| PathBuf::from(path))
    }
}

/// Adds a wall clock that is wrong by so many seconds to a launch; the monotonic clock stays right.
pub fn shift_clock(launch: Launch, seconds: i64) -> Launch {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    let shim = SHIM.get_or_init(|| compiled("clock"));
    launch.env("LD_PRELOAD", shim.as_os_str()).env("CLOCK_SHIFT_S", seconds.to_string())
}

fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| compiled("iofault"))
}

/// The shared object of `tests/fault/<name>.c`, compiled with `cc`; once for each process of tests.
fn compiled(name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fault/{name}.c"));
    let shim = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.so", std::process::id()));
    let output = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-o"])
        .args([&shim, &source])
        .arg("-ldl")
        .output()
        .expect("a C compiler is there: the bundled SQLite needs it too");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    shim
}

/// A file system of a given size in memory. Unmounted when dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` when this user may not mount.
    pub fn mount(name: &str, bytes: u64) -> Option<SmallDisk> {
        let dir = TempDir::new(name);
        run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"], dir.path()).then(|| SmallDisk(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn resize(&self, bytes: u64) {
        let done = run("mount", &["-o", &format!("remount,size={bytes}")], self.path());
        assert!(done, "a tmpfs can be resized");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that still ends must not keep the mount for good.
        run("umount", &["-l"], self.0.path());
    }
}

fn run(program: &str, args: &[&str], last: &Path) -> bool {
    let output = Command::new(program).args(args).arg(last).output();
    output.is_ok_and(|o| o.status.success())
}
