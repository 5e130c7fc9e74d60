//! What containerd's own configuration file has to say, for the version of containerd that reads it.
//!
//! | containerd | configuration | what it knows of proxy plugins |
//! |---|---|---|
//! | 1.6 | version 2 | snapshotters; a differ makes it panic at its start |
//! | 1.7 | version 2 | differs too |
//! | 2.0 and later | version 3 | what a snapshotter is capable of; pulls go through the transfer service, which unpacks for those alone that it was told of |

use crate::config::Config;
use std::fmt::Write as _;
use std::process::Command;
use std::str::FromStr;

/// What the snapshotter is called in containerd.
pub const NAME: &str = "erofs-toolkit";

/// A version of containerd, as far as its configuration depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
}

/// Why it is not known for which containerd to write.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// It is not a version.
    #[error("{0:?} is no version of containerd: say 1.7 or 2.1")]
    Unreadable(String),
    /// It has no proxy plugins, or not ours.
    #[error("containerd {major}.{minor} is too old: 1.6 is the first that is supported")]
    TooOld {
        /// Before the point.
        major: u32,
        /// Behind it.
        minor: u32,
    },
    /// It cannot be asked.
    #[error("asking `containerd --version`: {0}; name the version by --containerd-version")]
    Ask(#[source] std::io::Error),
}

impl FromStr for Version {
    type Err = VersionError;

    /// Reads `2.1`, `v2.1.9`, `1.7.24~ds1`; what follows the second number is of no importance.
    fn from_str(text: &str) -> Result<Self, VersionError> {
        let unreadable = || VersionError::Unreadable(text.to_owned());
        let mut numbers = text
            .strip_prefix('v')
            .unwrap_or(text)
            .splitn(3, |byte: char| !byte.is_ascii_digit())
            .map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < (1, 6) => {
                Err(VersionError::TooOld { major, minor })
            }
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(unreadable()),
        }
    }
}

impl Version {
    /// That of the containerd in `PATH`.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn installed() -> Result<Self, VersionError> {
        let output = Command::new("containerd")
            .arg("--version")
            .output()
            .map_err(VersionError::Ask)?;
        // `containerd github.com/containerd/containerd/v2 2.1.9 REVISION`
        let text = String::from_utf8_lossy(&output.stdout);
        text.split_whitespace()
            .nth(2)
            .ok_or_else(|| VersionError::Unreadable(text.trim().to_owned()))?
            .parse()
    }

    const fn at_least(self, major: u32, minor: u32) -> bool {
        self.major > major || (self.major == major && self.minor >= minor)
    }

    const fn has_differs(self) -> bool {
        self.at_least(1, 7)
    }
}

/// What is to stand in containerd's configuration file, or in one that it imports.
#[must_use]
pub fn containerd_config(version: Version, config: &Config) -> String {
    let mut text = String::new();
    write(&mut text, version, config).expect("a string takes everything");
    text
}

fn write(text: &mut String, version: Version, config: &Config) -> std::fmt::Result {
    let Version { major, minor } = version;
    let (socket, root) = (quoted(&config.socket), quoted(&config.root));
    let file_version = if version.at_least(2, 0) { 3 } else { 2 };
    writeln!(
        text,
        "# For containerd {major}.{minor}, by `erofs snapshotter --print-containerd-config`.\n\
         # A file may have each table once: in /etc/containerd/config.toml lines go into the tables that are there.\n\
         version = {file_version}\n\n\
         [proxy_plugins.{NAME}]\n  type = \"snapshot\"\n  address = {socket}"
    )?;
    if version.at_least(2, 0) {
        writeln!(
            text,
            "  # Layers are unpacked side by side, once max_concurrent_unpacks allows it (2.2); users of containers may be mapped.\n  capabilities = [\"rebase\", \"remap-ids\"]"
        )?;
    }
    writeln!(
        text,
        "  [proxy_plugins.{NAME}.exports]\n    # Whose free space the kubelet watches.\n    root = {root}"
    )?;
    if version.has_differs() {
        writeln!(
            text,
            "\n[proxy_plugins.{NAME}-diff]\n  type = \"diff\"\n  address = {socket}\n\n\
             [plugins.\"io.containerd.service.v1.diff-service\"]\n  \
             default = [\"{NAME}-diff\", \"walking\"]"
        )?;
    }
    if version.at_least(2, 0) {
        let platform = platform();
        writeln!(
            text,
            "\n# For whom pulled images are unpacked; containerd's own default must be named beside ours.\n\
             [[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n  \
             platform = \"{platform}\"\n  snapshotter = \"overlayfs\"\n  differ = \"walking\"\n\
             [[plugins.\"io.containerd.transfer.v1.local\".unpack_config]]\n  \
             platform = \"{platform}\"\n  snapshotter = \"{NAME}\"\n  differ = \"{NAME}-diff\""
        )?;
    }
    let cri = if version.at_least(2, 0) {
        "\"io.containerd.cri.v1.images\""
    } else {
        "\"io.containerd.grpc.v1.cri\".containerd"
    };
    writeln!(
        text,
        "\n# Kubernetes.\n[plugins.{cri}]\n  snapshotter = \"{NAME}\""
    )
}

/// A path as TOML writes strings.
fn quoted(path: &std::path::Path) -> String {
    let mut quoted = String::from('"');
    for letter in path.display().to_string().chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(letter)).expect("a string takes everything");
            }
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// This machine, as containerd names it.
fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use std::path::Path;

    #[test]
    fn versions_are_read_as_packages_write_them() {
        for (text, major, minor) in [
            ("1.6.20~ds1", 1, 6),
            ("1.7", 1, 7),
            ("v2.1.9", 2, 1),
            ("2.2+unknown", 2, 2),
            ("2.12.0-rc.1", 2, 12),
        ] {
            assert_eq!(text.parse::<Version>().unwrap(), Version { major, minor });
        }
        for text in ["", "2", "two.one", "2.x", ".1"] {
            let error = text.parse::<Version>().unwrap_err();
            assert!(matches!(error, VersionError::Unreadable(_)), "{text}");
        }
        let error = "1.5.9".parse::<Version>().unwrap_err();
        assert!(matches!(error, VersionError::TooOld { major: 1, minor: 5 }));
    }

    /// What each version must and must not be told; that it takes it is tested with real ones in tests/containerd.
    #[test]
    fn each_version_is_told_what_it_knows() {
        let config = |version: &str| {
            let text = containerd_config(version.parse().unwrap(), &Config::default());
            toml::from_str::<toml::Table>(&text).unwrap()
        };
        let plugin = |config: &toml::Table, name: &str| config["proxy_plugins"].get(name).cloned();
        for (version, file_version, differ, rebase, transfer) in [
            ("1.6", 2, false, false, false),
            ("1.7", 2, true, false, false),
            ("2.0", 3, true, true, true),
            ("2.1", 3, true, true, true),
            ("2.3", 3, true, true, true),
        ] {
            let config = config(version);
            assert_eq!(config["version"].as_integer(), Some(file_version));
            let diff = format!("{NAME}-diff");
            assert_eq!(plugin(&config, &diff).is_some(), differ, "{version}");
            let ours = plugin(&config, NAME).unwrap();
            assert_eq!(ours.get("capabilities").is_some(), rebase, "{version}");
            assert_eq!(
                ours["exports"]["root"].as_str(),
                Config::default().root.to_str()
            );
            let plugins = &config["plugins"];
            let unpack = plugins.get("io.containerd.transfer.v1.local");
            assert_eq!(unpack.is_some(), transfer, "{version}");
            let cri = match file_version {
                2 => &plugins["io.containerd.grpc.v1.cri"]["containerd"],
                _ => &plugins["io.containerd.cri.v1.images"],
            };
            assert_eq!(cri["snapshotter"].as_str(), Some(NAME));
        }
    }

    #[test]
    fn odd_paths_stay_what_they_are() {
        for path in ["/a b/\"c\"", "/back\\slash", "/new\nline"] {
            let text = format!("path = {}", quoted(Path::new(path)));
            let table: toml::Table = toml::from_str(&text).unwrap();
            assert_eq!(table["path"].as_str(), Some(path));
        }
    }
}
