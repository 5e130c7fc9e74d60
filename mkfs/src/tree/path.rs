//! The one place that decides which names may enter an image.
//!
//! Paths are relative to the image's root: a leading `/` means that root, `.` and empty components mean nothing. `..`,
//! NUL bytes and over-long names are refused.

use erofs_format::directory::MAX_NAME_LENGTH;
use std::fmt;

/// Most components of a path; deeper trees exist only to hurt whoever walks them.
const MAX_DEPTH: usize = 2048;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A component `..`.
    #[error("contains \"..\"")]
    ParentComponent,
    /// A NUL byte.
    #[error("contains a NUL byte")]
    Nul,
    /// A component over 255 bytes.
    #[error("a name of {0} bytes is longer than 255")]
    TooLong(usize),
    /// A name that is empty, `.` or contains a slash, where a single name is needed.
    #[error("is not a single name")]
    NotAName,
    /// Too many components.
    #[error("is deeper than 2048 directories")]
    TooDeep,
}

/// Splits a path into its names; no name for the root.
///
/// # Errors
/// [`NameError`].
pub fn components(path: &[u8]) -> Result<Vec<&[u8]>, NameError> {
    let mut names = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        if part.is_empty() || part == b"." {
            continue;
        }
        check_name(part)?;
        if names.len() == MAX_DEPTH {
            return Err(NameError::TooDeep);
        }
        names.push(part);
    }
    Ok(names)
}

/// Accepts one name as a directory can hold it.
///
/// # Errors
/// [`NameError`].
pub(super) fn check_name(name: &[u8]) -> Result<(), NameError> {
    if name == b".." {
        return Err(NameError::ParentComponent);
    }
    if name.is_empty() || name == b"." || name.contains(&b'/') {
        return Err(NameError::NotAName);
    }
    if name.contains(&0) {
        return Err(NameError::Nul);
    }
    if name.len() > MAX_NAME_LENGTH {
        return Err(NameError::TooLong(name.len()));
    }
    Ok(())
}

/// Shows bytes of a path: printable text as it is, the rest escaped, at most 512 bytes.
pub fn display(path: &[u8]) -> impl fmt::Display + '_ {
    struct Shown<'a>(&'a [u8]);
    impl fmt::Display for Shown<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            const LIMIT: usize = 512;
            for chunk in self.0[..self.0.len().min(LIMIT)].utf8_chunks() {
                for c in chunk.valid().chars() {
                    if c.is_control() || c == '\\' {
                        write!(f, "{}", c.escape_default())?
                    } else {
                        write!(f, "{c}")?
                    }
                }
                for byte in chunk.invalid() {
                    write!(f, "\\x{byte:02x}")?;
                }
            }
            if self.0.len() > LIMIT {
                f.write_str("…")
            } else {
                Ok(())
            }
        }
    }
    Shown(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case<'a> = (&'a [u8], Result<&'a [&'a [u8]], NameError>);

    #[test]
    fn paths_split_or_are_refused() {
        let long = vec![b'x'; 256];
        let deep = b"a/".repeat(MAX_DEPTH + 1);
        let cases: [Case<'_>; 10] = [
            (b"", Ok(&[])),
            (b"./", Ok(&[])),
            (b"/a//b/.", Ok(&[b"a", b"b"])),
            (b"./...", Ok(&[b"..."])),
            (b"a/../b", Err(NameError::ParentComponent)),
            (b"..", Err(NameError::ParentComponent)),
            (b"a\0b", Err(NameError::Nul)),
            (&long, Err(NameError::TooLong(256))),
            (&long[1..], Ok(&[&long[1..]])),
            (&deep, Err(NameError::TooDeep)),
        ];
        for (path, expected) in cases {
            assert_eq!(
                components(path),
                expected.map(<[_]>::to_vec),
                "{}",
                display(path)
            );
        }
    }

    #[test]
    fn names_are_shown_without_control_bytes() {
        assert_eq!(
            display(b"a\n\xFF\xC3\xA9\x1b[31m").to_string(),
            "a\\n\\xff\u{e9}\\u{1b}[31m"
        );
        assert!(display(&[b'a'; 4000]).to_string().len() < 520);
    }
}
