//! The tests of `erofs find`.

use crate::values;
use erofs_format::inode::FileType;
use globset::{GlobBuilder, GlobMatcher};
use std::cmp::Ordering;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::str::FromStr;

/// A glob in which `*` matches everything, slashes too.
pub(super) fn glob(text: &str) -> Result<GlobMatcher, String> {
    GlobBuilder::new(text)
        .literal_separator(false)
        .backslash_escape(true)
        .build()
        .map(|glob| glob.compile_matcher())
        .map_err(|error| error.to_string())
}

/// Whether any of the globs matches, or there is none.
pub(super) fn any_matches(globs: &[GlobMatcher], text: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(text));
    globs.is_empty() || globs.iter().any(|glob| glob.is_match(path))
}

/// A set of file types.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind(u8);

impl Kind {
    const fn bit(file_type: FileType) -> u8 {
        1 << match file_type {
            FileType::Regular => 0,
            FileType::Directory => 1,
            FileType::Symlink => 2,
            FileType::CharDevice => 3,
            FileType::BlockDevice => 4,
            FileType::Fifo => 5,
            FileType::Socket => 6,
        }
    }

    /// Whether it holds this type.
    pub(super) const fn holds(self, file_type: FileType) -> bool {
        self.0 & Self::bit(file_type) != 0
    }
}

/// File types by the letters of find(1), with or without commas.
pub(super) fn kinds(text: &str) -> Result<Kind, String> {
    let mut kinds = Kind(0);
    for letter in text.chars().filter(|letter| *letter != ',') {
        kinds.0 |= Kind::bit(match letter {
            'f' => FileType::Regular,
            'd' => FileType::Directory,
            'l' => FileType::Symlink,
            'c' => FileType::CharDevice,
            'b' => FileType::BlockDevice,
            'p' => FileType::Fifo,
            's' => FileType::Socket,
            _ => {
                return Err(format!(
                    "{letter:?} is no file type: expected f, d, l, c, b, p or s"
                ));
            }
        });
    }
    if kinds.0 == 0 {
        return Err("no file type".to_owned());
    }
    Ok(kinds)
}

/// A number that a value is compared with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Comparison {
    order: Ordering,
    number: u64,
}

impl Comparison {
    /// Whether `value` is as asked.
    pub(super) fn holds(self, value: u64) -> bool {
        value.cmp(&self.number) == self.order
    }
}

/// `N` for equal, `+N` for more, `-N` for less.
pub(super) fn comparison(text: &str) -> Result<Comparison, String> {
    let (order, digits) = match text.split_at_checked(1) {
        Some(("+", digits)) => (Ordering::Greater, digits),
        Some(("-", digits)) => (Ordering::Less, digits),
        _ => (Ordering::Equal, text),
    };
    let number = values::size(digits)?;
    Ok(Comparison { order, number })
}

/// Mode bits that are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Permissions {
    /// These and no others.
    Exactly(u16),
    /// All of these.
    All(u16),
    /// Any of these.
    Any(u16),
}

impl Permissions {
    /// Whether a mode is as asked.
    pub(super) const fn holds(self, mode: u16) -> bool {
        match self {
            Self::Exactly(bits) => mode & 0o7777 == bits,
            Self::All(bits) => mode & bits == bits,
            // As in find(1), nothing is asked for by no bits.
            Self::Any(bits) => bits == 0 || mode & bits != 0,
        }
    }
}

impl FromStr for Permissions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is not an octal mode: expected e.g. 644, -222 or /6000");
        let (make, digits): (fn(u16) -> Self, _) = match text.split_at_checked(1) {
            Some(("-", digits)) => (Self::All, digits),
            Some(("/", digits)) => (Self::Any, digits),
            _ => (Self::Exactly, text),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        let bits = u16::from_str_radix(digits, 8).map_err(|_| error())?;
        if bits > 0o7777 {
            return Err(error());
        }
        Ok(make(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_those_of_find() {
        for (text, holds, fails) in [("5", 5, 6), ("+5", 6, 5), ("-5", 4, 5), ("-1k", 1023, 1024)] {
            let test = comparison(text).unwrap();
            assert!(test.holds(holds) && !test.holds(fails), "{text}");
        }
        for text in ["", "+", "x", "--5", "5x"] {
            assert!(comparison(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn permissions_are_those_of_find() {
        for (text, mode, holds) in [
            ("644", 0o100_644, true),
            ("644", 0o100_645, false),
            ("-222", 0o100_666, true),
            ("-222", 0o100_644, false),
            ("/6000", 0o104_755, true),
            ("/6000", 0o100_755, false),
            ("/0", 0o100_000, true),
        ] {
            let test: Permissions = text.parse().unwrap();
            assert_eq!(test.holds(mode), holds, "{text} {mode:o}");
        }
        for text in ["", "-", "8", "u+x", "17777", "+7"] {
            assert!(text.parse::<Permissions>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn globs_match_bytes_of_any_kind() {
        let matches = |pattern: &str, text: &[u8]| any_matches(&[glob(pattern).unwrap()], text);
        assert!(matches("*.so*", b"libc.so.6"));
        assert!(matches("usr/*", b"usr/lib/x"));
        assert!(matches("a?c", b"abc") && !matches("a?c", b"ac"));
        assert!(matches("*", b"\xff\xfe"));
        assert!(matches("{a,b}", b"b"));
        assert!(any_matches(&[], b"anything"));
        assert!(glob("[").is_err());
    }

    #[test]
    fn kinds_are_letters() {
        let kinds_of = kinds("f,l").unwrap();
        assert!(kinds_of.holds(FileType::Regular) && kinds_of.holds(FileType::Symlink));
        assert!(!kinds_of.holds(FileType::Directory));
        assert!(kinds("").is_err() && kinds("x").is_err());
    }
}
