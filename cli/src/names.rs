//! Names of any bytes, shown so that they cannot do anything to a terminal or look like another name.

use std::fmt::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Shows a name on one line: backslashes, control characters and those that change the direction of text or are
/// invisible are escaped, as is what is not UTF-8. Different names look different.
pub(crate) struct Printable<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nearly every name is plain, and long listings consist of names.
        let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'\\';
        if self.0.iter().all(plain)
            && let Ok(text) = std::str::from_utf8(self.0)
        {
            return f.write_str(text);
        }
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '\\' => f.write_str("\\\\")?,
                    '\n' => f.write_str("\\n")?,
                    '\r' => f.write_str("\\r")?,
                    '\t' => f.write_str("\\t")?,
                    c if c.is_control() || is_deceptive(c) => write!(f, "{}", c.escape_unicode())?,
                    c => f.write_char(c)?,
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// A path of this machine, shown likewise.
pub(crate) fn shown(path: &Path) -> Printable<'_> {
    Printable(path.as_os_str().as_bytes())
}

/// Prints an error of a path of an image on standard error, and the path once.
pub(crate) fn complain_of(path: &[u8], error: &impl fmt::Display) {
    complain!("erofs: {}", about(path, error));
}

/// An error of a path, with the path once.
pub(crate) fn about(path: &[u8], error: &impl fmt::Display) -> String {
    let (path, error) = (Printable(path).to_string(), error.to_string());
    match error.strip_prefix(&path) {
        Some(rest) if rest.starts_with(": ") => error,
        _ => format!("{path}: {error}"),
    }
}

/// Characters that are not seen, or reorder what is.
fn is_deceptive(character: char) -> bool {
    matches!(character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn paths_are_named_once() {
        assert_eq!(about(b"a\n", &"a\\n: not found"), "a\\n: not found");
        assert_eq!(about(b"a/b", &"a: not found"), "a/b: a: not found");
    }

    #[test]
    fn names_are_harmless() {
        for (name, shown) in [
            (&b"plain name"[..], "plain name"),
            ("größe \u{1f600}".as_bytes(), "größe \u{1f600}"),
            (b"a\nb\tc\\", "a\\nb\\tc\\\\"),
            (b"\x1b[2J", "\\u{1b}[2J"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            ("\u{9b}x\u{202e}txt".as_bytes(), "\\u{9b}x\\u{202e}txt"),
        ] {
            assert_eq!(Printable(name).to_string(), shown);
        }
    }

    #[test]
    fn short_names_look_different() {
        let alphabet = b"\\nx0\n\xff";
        let mut seen = HashMap::new();
        for length in 1..=5u32 {
            for mut number in 0..alphabet.len().pow(length) {
                let name: Vec<u8> = (0..length)
                    .map(|_| {
                        let byte = alphabet[number % alphabet.len()];
                        number /= alphabet.len();
                        byte
                    })
                    .collect();
                let shown = Printable(&name).to_string();
                if let Some(other) = seen.insert(shown, name.clone()) {
                    panic!("{other:?} looks like {name:?}");
                }
            }
        }
    }

    #[test]
    fn no_character_does_anything() {
        for character in '\0'..=char::MAX {
            let shown = Printable(character.to_string().as_bytes()).to_string();
            assert!(!shown.contains(|c: char| c.is_control() || is_deceptive(c)));
        }
    }
}
