//! What can be chosen about a mount.

use rustix::mount::MountAttrFlags;
use std::ffi::OsStr;
use std::num::NonZeroUsize;

/// How to mount and serve an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServeOptions {
    /// What `mount` shows as the source: by convention the image's path.
    pub source: String,
    /// Attributes of the mount. It is read-only with or without `MOUNT_ATTR_RDONLY`.
    pub attributes: MountAttrFlags,
    /// Let others than the owner of the server in, as far as the modes allow. By default for root only, like a kernel mount;
    /// others need `user_allow_other` in /etc/fuse.conf.
    pub allow_other: bool,
    /// Show POSIX ACLs and let the kernel heed them.
    pub acl: bool,
    /// Show attributes of the namespace `user`.
    pub user_xattr: bool,
    /// Threads that serve, at least 2 by default so that a slow read does not hold up the rest.
    pub threads: NonZeroUsize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        const FEWEST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1);
        const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);
        Self {
            source: "erofs".to_owned(),
            attributes: MountAttrFlags::MOUNT_ATTR_RDONLY,
            allow_other: rustix::process::geteuid().is_root(),
            acl: true,
            user_xattr: true,
            threads: std::thread::available_parallelism()
                .unwrap_or(FEWEST)
                .clamp(FEWEST, MOST),
        }
    }
}

/// Why an option cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// Nobody knows it.
    #[error("mount option {0:?} is not known to the FUSE server")]
    Unknown(String),
    /// A value where none belongs, or the wrong one.
    #[error("mount option {key}={value}: expected {expected}")]
    Value {
        /// The option.
        key: String,
        /// The value; empty for none.
        value: String,
        /// What it takes.
        expected: &'static str,
    },
}

impl ServeOptions {
    /// Applies an option `key` or `key=value` that is neither an attribute of mounts nor about where the image is: those
    /// of libfuse, and of the kernel's EROFS driver as far as they mean something here.
    ///
    /// # Errors
    /// [`OptionError`].
    pub fn set(&mut self, key: &str, value: Option<&OsStr>) -> Result<(), OptionError> {
        let wrong = |expected| OptionError::Value {
            key: key.to_owned(),
            value: value.unwrap_or_default().to_string_lossy().into_owned(),
            expected,
        };
        match (key, value) {
            ("allow_other", None) => self.allow_other = true,
            ("acl" | "noacl", None) => self.acl = key == "acl",
            ("user_xattr" | "nouser_xattr", None) => self.user_xattr = key == "user_xattr",
            ("fsname", Some(name)) => {
                self.source = name.to_str().ok_or_else(|| wrong("text"))?.to_owned();
            }
            ("threads" | "max_threads", Some(count)) => {
                let count = count.to_str().and_then(|count| count.parse().ok());
                self.threads = count
                    .filter(|count: &NonZeroUsize| count.get() <= 1024)
                    .ok_or_else(|| wrong("a number from 1 to 1024"))?;
            }
            // What happens anyway, and what is about decompression in the kernel.
            ("default_permissions" | "kernel_cache" | "auto_cache" | "auto_unmount", None)
            | ("cache_strategy" | "subtype", Some(_))
            | ("dax", _) => {}
            (
                "allow_other"
                | "acl"
                | "noacl"
                | "user_xattr"
                | "nouser_xattr"
                | "default_permissions"
                | "kernel_cache"
                | "auto_cache"
                | "auto_unmount",
                Some(_),
            ) => return Err(wrong("no value")),
            ("fsname" | "threads" | "max_threads" | "cache_strategy" | "subtype", None) => {
                return Err(wrong("a value"));
            }
            _ => return Err(OptionError::Unknown(key.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_mean_what_they_say() {
        let mut options = ServeOptions {
            allow_other: false,
            ..ServeOptions::default()
        };
        for (key, value) in [
            ("allow_other", None),
            ("noacl", None),
            ("nouser_xattr", None),
            ("fsname", Some("a,b")),
            ("threads", Some("7")),
            ("default_permissions", None),
            ("cache_strategy", Some("readaround")),
        ] {
            options
                .set(key, value.map(OsStr::new))
                .unwrap_or_else(|error| panic!("{key}: {error}"));
        }
        assert!(options.allow_other && !options.acl && !options.user_xattr);
        assert_eq!((options.source.as_str(), options.threads.get()), ("a,b", 7));
    }

    #[test]
    fn nonsense_is_named() {
        let mut options = ServeOptions::default();
        let before = options.clone();
        for (key, value, message) in [
            (
                "surprise",
                None,
                "mount option \"surprise\" is not known to the FUSE server",
            ),
            ("acl", Some("1"), "mount option acl=1: expected no value"),
            ("fsname", None, "mount option fsname=: expected a value"),
            (
                "threads",
                Some("0"),
                "mount option threads=0: expected a number from 1 to 1024",
            ),
            (
                "threads",
                Some("2000"),
                "mount option threads=2000: expected a number from 1 to 1024",
            ),
        ] {
            let error = options.set(key, value.map(OsStr::new)).expect_err(key);
            assert_eq!(error.to_string(), message);
        }
        assert_eq!(options, before);
    }
}
