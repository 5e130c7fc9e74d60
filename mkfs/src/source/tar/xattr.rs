//! How archivers spell extended attributes in PAX keywords and values.

/// Undoes GNU tar's quoting of `=` and `%` in the name.
pub(super) fn gnu_name(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        let (byte, tail) = match tail.split_at_checked(2) {
            Some((b"3D", tail)) if *first == b'%' => (b'=', tail),
            Some((b"25", tail)) if *first == b'%' => (b'%', tail),
            _ => (*first, tail),
        };
        out.push(byte);
        rest = tail;
    }
    out
}

/// Undoes `%XX`; `None` for an incomplete or malformed one.
pub(super) fn url_decode(name: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        out.push(if *byte == b'%' {
            let mut digit = || char::from(*bytes.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            *byte
        });
    }
    Some(out)
}

/// Decodes base64 with or without padding; `None` for anything else.
pub(super) fn base64_decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text
        .strip_suffix(b"==")
        .or_else(|| text.strip_suffix(b"="))
        .unwrap_or(text);
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits: u32 = 0;
        for byte in group {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(digit);
        }
        let [_, bytes @ ..] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        out.extend_from_slice(bytes.get(..group.len().checked_sub(1).filter(|n| *n > 0)?)?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_are_undone() {
        assert_eq!(gnu_name(b"user.a%3Db%25%41%3"), b"user.a=b%%41%3");
        assert_eq!(
            url_decode(b"user.%41%3d%ff").as_deref(),
            Some(&b"user.A=\xFF"[..])
        );
        assert_eq!(url_decode(b"%4"), None);
        assert_eq!(url_decode(b"%zz"), None);
        for (text, expected) in [
            (&b""[..], Some(&b""[..])),
            (b"AA", Some(b"\0")),
            (b"AA==", Some(b"\0")),
            (b"+/8", Some(b"\xFB\xFF")),
            (b"+/8=", Some(b"\xFB\xFF")),
            (b"aGFsbG8", Some(b"hallo")),
            (b"aGFs", Some(b"hal")),
            (b"A", None),
            (b"aGFsbG8A\n", None),
            (b"A===", None),
        ] {
            assert_eq!(base64_decode(text).as_deref(), expected, "{text:?}");
        }
    }
}
