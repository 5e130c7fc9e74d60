//! Whether this process may mount EROFS: that takes CAP_SYS_ADMIN in the initial user namespace, since the driver is not
//! allowed in others (no `FS_USERNS_MOUNT`).

use rustix::thread::{CapabilitySet, capabilities};

/// Inode number of the initial user namespace (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// What this process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privilege {
    /// CAP_SYS_ADMIN in the initial user namespace.
    Full,
    /// CAP_SYS_ADMIN in another user namespace: FUSE, but no EROFS of the kernel.
    UserNamespace,
    /// No CAP_SYS_ADMIN.
    None,
}

impl Privilege {
    pub(super) fn detect() -> Self {
        let admin =
            capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN));
        let namespace = std::fs::read_link("/proc/self/ns/user").ok();
        // Without user namespaces in the kernel there is only the initial one.
        let initial = namespace.is_none_or(|name| name.as_os_str() == INITIAL_USER_NAMESPACE);
        match (admin, initial) {
            (true, true) => Self::Full,
            (true, false) => Self::UserNamespace,
            (false, _) => Self::None,
        }
    }
}
