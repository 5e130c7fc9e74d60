//! What to do where a machine cannot run a test.
//!
//! A test asks for what it needs with [`require!`](crate::require). Where that is missing the test ends and
//! says "skipped, because …"; with `CI=true` it fails, since CI must have everything.

use std::{
    env, fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::thread::CapabilitySet;

/// Why a test cannot run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(pub String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a `Result<_, Reason>`, or the end of the test with the reason reported.
#[macro_export]
macro_rules! require {
    ($need:expr) => {
        match $need {
            Ok(value) => value,
            Err(reason) => return $crate::skip::report(&reason),
        }
    };
}

/// Reports a skipped test.
///
/// # Panics
/// With `CI=true`: there a skip is a failure.
pub fn report(reason: &Reason) {
    assert!(
        env::var_os("CI").is_none_or(|value| value != "true"),
        "skipped, because {reason}; CI must run this"
    );
    report_missing(reason);
}

/// Reports a skipped test of what CI does not have either, such as a program that is in no Debian.
pub fn report_missing(reason: &Reason) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Written directly, as the test harness hides what the print macros write in a test that passes.
    let _ = writeln!(io::stderr(), "{test}: skipped, because {reason}");
}

/// Rights of root, as far as mounting, device nodes, owners and trusted attributes need them.
///
/// # Errors
/// The capability that is missing.
pub fn root() -> Result<(), Reason> {
    let needed = CapabilitySet::SYS_ADMIN
        | CapabilitySet::MKNOD
        | CapabilitySet::CHOWN
        | CapabilitySet::SETFCAP
        | CapabilitySet::DAC_OVERRIDE;
    let own = rustix::thread::capabilities(None)
        .map_err(|error| Reason(format!("the capabilities are unreadable: {error}")))?;
    let missing = needed.difference(own.effective);
    if missing.is_empty() {
        return Ok(());
    }
    Err(Reason(format!("it needs root (missing {missing:?})")))
}

/// A kernel that mounts EROFS, its module loaded if it is one.
///
/// # Errors
/// No root, or a kernel without EROFS.
pub fn kernel_erofs() -> Result<(), Reason> {
    root()?;
    let listed =
        || fs::read_to_string("/proc/filesystems").is_ok_and(|all| all.contains("\terofs\n"));
    if !listed() {
        // Its failure shows in the list.
        let _ = Command::new("modprobe").arg("-q").arg("erofs").status();
    }
    if listed() {
        return Ok(());
    }
    Err(Reason("this kernel has no erofs".into()))
}

/// FUSE for this user.
///
/// # Errors
/// `/dev/fuse` cannot be opened.
pub fn fuse() -> Result<(), Reason> {
    fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map(drop)
        .map_err(|error| Reason(format!("/dev/fuse: {error}")))
}

/// A program of this machine.
///
/// # Errors
/// It is not in PATH.
pub fn program(name: &str) -> Result<PathBuf, Reason> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Reason(format!("there is no {name} in PATH")))
}

/// The binary `erofs` of this workspace, built in the profile of the running test.
///
/// # Errors
/// It has not been built: `cargo test` for this package alone does not build it.
pub fn erofs_binary() -> Result<PathBuf, Reason> {
    let binary = env::current_exe()
        .ok()
        .and_then(|test| Some(test.parent().and_then(Path::parent)?.join("erofs")))
        .filter(|path| path.is_file());
    binary.ok_or_else(|| Reason("the erofs binary is not built: cargo build -p erofs".into()))
}
