//! Skipping honestly: a test that needs root says so, and fails where CI promised it.

use erofs_mount::capabilities::{Capabilities, Privilege};

/// Why this process cannot mount, if it cannot.
pub(crate) fn cannot_mount() -> Option<String> {
    let capabilities = Capabilities::detect().expect("a supported kernel");
    if capabilities.privilege != Privilege::Full {
        return Some("it needs CAP_SYS_ADMIN in the initial user namespace".to_owned());
    }
    (!capabilities.loop_control).then(|| "there are no loop devices".to_owned())
}

/// Reports a test that cannot run.
pub(crate) fn skip(test: &str, reason: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test}: must run in CI, but {reason}"
    );
    eprintln!("{test}: skipped, because {reason}");
}
