//! Names that no directory can hold, and what becomes of them.

use super::error::ExtractError;
use std::borrow::Cow;

/// What becomes of an entry whose name contains `/` or NUL. The kernel refuses to list its directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostileNames {
    /// It is a problem, and left out with all below.
    #[default]
    Refuse,
    /// It is extracted under its [escaped name](escaped).
    Rename,
}

/// What escaped names begin with.
const MARK: &[u8] = b"%erofs%";

/// A name for `name` that a directory can hold: `%erofs%` followed by the name with `/`, NUL and `%` as `%2F`, `%00` and
/// `%25`. Names that could be taken for an escaped one are escaped too, all others are left as they are, so different
/// names have different results and [`original`] leads back.
pub fn escaped(name: &[u8]) -> Cow<'_, [u8]> {
    let is_plain = |byte: &u8| !matches!(byte, b'/' | 0);
    if name.iter().all(is_plain) && !name.starts_with(MARK) {
        return Cow::Borrowed(name);
    }
    let mut escaped = MARK.to_vec();
    for byte in name {
        match byte {
            b'/' => escaped.extend_from_slice(b"%2F"),
            0 => escaped.extend_from_slice(b"%00"),
            b'%' => escaped.extend_from_slice(b"%25"),
            other => escaped.push(*other),
        }
    }
    Cow::Owned(escaped)
}

/// The name that [`escaped`] was given, or `None` for what it never returns.
pub fn original(name: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(mut rest) = name.strip_prefix(MARK) else {
        return Some(Cow::Borrowed(name));
    };
    let mut original = Vec::with_capacity(rest.len());
    while let Some((first, tail)) = rest.split_first() {
        let (byte, tail) = match (first, tail.split_at_checked(2)) {
            (b'%', Some((b"2F", tail))) => (b'/', tail),
            (b'%', Some((b"00", tail))) => (0, tail),
            (b'%', Some((b"25", tail))) => (b'%', tail),
            (b'%', _) => return None,
            (other, _) => (*other, tail),
        };
        original.push(byte);
        rest = tail;
    }
    // Only what had to be escaped is.
    (*escaped(&original) == *name).then_some(Cow::Owned(original))
}

/// `name`, if it is one component of a path that leads down.
///
/// # Errors
/// [`ExtractError::Name`].
pub(super) fn component(name: &[u8]) -> Result<&[u8], ExtractError> {
    let leads_elsewhere =
        matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, b'/' | 0));
    if leads_elsewhere {
        return Err(ExtractError::Name(name.to_vec()));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_names_that_lead_down_are_taken() {
        for bad in [&b""[..], b".", b"..", b"/", b"a/b", b"../a", b"a\0"] {
            assert!(component(bad).is_err(), "{bad:?}");
        }
        for good in [&b"..."[..], b"..a", b"a", b"\xff", b"\n"] {
            assert_eq!(component(good).unwrap(), good);
        }
    }

    #[test]
    fn hostile_names_have_a_harmless_form() {
        for (name, expected) in [
            (&b"plain"[..], &b"plain"[..]),
            (b"100%25", b"100%25"),
            (b"../evil", b"%erofs%..%2Fevil"),
            (b"a\0%", b"%erofs%a%00%25"),
            (b"%erofs%x", b"%erofs%%25erofs%25x"),
        ] {
            assert_eq!(*escaped(name), *expected);
        }
        for never in [&b"%erofs%x"[..], b"%erofs%a%2f", b"%erofs%a%2", b"%erofs%"] {
            assert_eq!(original(never), None);
        }
    }

    proptest! {
        #[test]
        fn escaping_is_undone(bytes in prop::collection::vec(prop::sample::select(&b"%erofs/\x0025F."[..]), 1..20)) {
            for name in [bytes.clone(), [MARK, &bytes].concat()] {
                let escaped = escaped(&name);
                prop_assert!(matches!(&*escaped, b"." | b"..") || component(&escaped).is_ok());
                prop_assert_eq!(&*original(&escaped).unwrap(), &*name);
            }
        }
    }
}
