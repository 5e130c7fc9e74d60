//! Values of the configuration that are written as text.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use tracing::level_filters::LevelFilter;

/// A number of bytes: `1073741824` or `"1GiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Size(pub u64);

/// How a size may be written.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a number of bytes, or text as \"10GiB\"")]
enum Written {
    Bytes(u64),
    Text(Units),
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Units(Size);

impl From<Written> for Size {
    fn from(written: Written) -> Self {
        match written {
            Written::Bytes(bytes) => Self(bytes),
            Written::Text(Units(size)) => size,
        }
    }
}

impl TryFrom<String> for Units {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
        let factor: u64 = match text.get(digits.len()..).unwrap_or_default().trim_start() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            unit => return Err(format!("{unit:?} is no unit: B, KiB, MiB, GiB, TiB")),
        };
        let number = digits.parse::<u64>().ok();
        number
            .and_then(|number| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no size"))
    }
}

/// Bytes of the filesystem to which a container writes, 0 where there is none: it then writes as much as there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Size")]
pub struct Quota(u64);

impl Quota {
    /// The bytes, if there is a limit.
    pub(crate) fn limit(self) -> Option<u64> {
        (self.0 > 0).then_some(self.0)
    }
}

impl TryFrom<Size> for Quota {
    type Error = String;

    fn try_from(Size(bytes): Size) -> Result<Self, String> {
        match bytes {
            // Less has hardly room for more than itself; ext4 with blocks of 4096 bytes keeps no larger file on the host.
            0 | 0x100_0000..=0xF00_0000_0000 => Ok(Self(bytes)),
            _ => Err(format!("{bytes} bytes: a filesystem has 16MiB to 15TiB")),
        }
    }
}

/// Of more than how many layers an image of all of them is made before they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Layers", into = "Layers")]
pub enum Merge {
    /// Of more than [`Merge::MANY`], where that is possible, and the kernel reads it from its files.
    #[default]
    Auto,
    /// Of more than so many; 0: never.
    Over(usize),
}

impl Merge {
    /// So many mounts make the start of a container slower than one image of all layers does.
    pub(crate) const MANY: usize = 64;
}

/// How it may be written.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "a number of layers, or \"auto\"")]
enum Layers {
    Number(usize),
    Word(Word),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Auto,
}

impl From<Layers> for Merge {
    fn from(written: Layers) -> Self {
        match written {
            Layers::Number(layers) => Self::Over(layers),
            Layers::Word(Word::Auto) => Self::Auto,
        }
    }
}

impl From<Merge> for Layers {
    fn from(merge: Merge) -> Self {
        match merge {
            Merge::Over(layers) => Self::Number(layers),
            Merge::Auto => Self::Word(Word::Auto),
        }
    }
}

/// Where HTTP is served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// Nowhere.
    #[default]
    None,
    /// At an address and port.
    Tcp(SocketAddr),
    /// At a Unix socket.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(Self::None),
            path if path.starts_with('/') => Ok(Self::Unix(path.into())),
            address => address
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("{text:?} is neither ADDRESS:PORT nor an absolute path")),
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Tcp(address) => address.fmt(out),
            Self::Unix(path) => path.display().fmt(out),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

/// How important something must be to be told: `error`, `warn`, `info`, `debug`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Level(pub(crate) LevelFilter);

impl Default for Level {
    fn default() -> Self {
        Self(LevelFilter::INFO)
    }
}

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "error" => Ok(Self(LevelFilter::ERROR)),
            "warn" => Ok(Self(LevelFilter::WARN)),
            "info" => Ok(Self(LevelFilter::INFO)),
            "debug" => Ok(Self(LevelFilter::DEBUG)),
            _ => Err(format!("{text:?} is no level: error, warn, info, debug")),
        }
    }
}

impl From<Level> for String {
    fn from(level: Level) -> Self {
        level.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use serde_json::{Value, from_value, json};

    #[test]
    fn sizes_have_units() {
        for (written, bytes) in [
            (json!(0), 0),
            (json!(4096), 4096),
            (json!("512"), 512),
            (json!("10GiB"), 10 << 30),
            (json!("3 MiB"), 3 << 20),
            (json!("16777215TiB"), 16_777_215 << 40),
        ] {
            assert_eq!(from_value::<Size>(written).unwrap(), Size(bytes));
        }
        for written in [
            json!(-1),
            json!("10GB"),
            json!("16777216TiB"),
            json!("GiB"),
            json!("1.5GiB"),
        ] {
            assert!(from_value::<Size>(written.clone()).is_err(), "{written}");
        }
    }

    #[test]
    fn quotas_have_room_for_a_filesystem() {
        let quota = |written| from_value::<Quota>(written).ok().map(Quota::limit);
        for (written, limit) in [
            (json!(0), Some(None)),
            (json!("16MiB"), Some(Some(16 << 20))),
            (json!("10GiB"), Some(Some(10 << 30))),
            (json!("15TiB"), Some(Some(15 << 40))),
            (json!("15MiB"), None),
            (json!("16TiB"), None),
            (json!("-1"), None),
        ] {
            assert_eq!(quota(written.clone()), limit, "{written}");
        }
    }

    #[test]
    fn addresses_are_tcp_or_unix() {
        let address = |text: &str| from_value::<Address>(Value::from(text));
        assert_eq!(address("").unwrap(), Address::None);
        assert_eq!(
            address("/run/m.sock").unwrap(),
            Address::Unix("/run/m.sock".into())
        );
        let tcp = address("[::1]:9463").unwrap();
        assert_eq!(String::from(tcp), "[::1]:9463");
        for text in ["localhost", ":9463", "run/m.sock"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn levels_are_named() {
        for text in ["error", "warn", "info", "debug"] {
            let level = from_value::<Level>(Value::from(text)).unwrap();
            assert_eq!(String::from(level), text);
        }
        assert!(from_value::<Level>(json!("loud")).is_err());
    }
}
