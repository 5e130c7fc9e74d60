//! `--zfeature-bits`: extended options as the bits of a number.

/// The words of `-E` that the bits stand for, from the lowest on.
const FEATURES: [&str; 8] = [
    "legacy-compress",
    "ztailpacking",
    "fragments",
    "all-fragments",
    "dedupe",
    "fragdedupe",
    "48bit",
    "dot-omitted",
];

/// A number whose bits are all of known features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FeatureBits(u8);

/// Parses the argument: a number that is decimal, hexadecimal behind `0x` or octal behind `0`, as strtol(3) has it.
pub(super) fn parse(text: &str) -> Result<FeatureBits, String> {
    let lower = text.to_ascii_lowercase();
    let number = match lower.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None if lower.starts_with('0') => u64::from_str_radix(&lower, 8),
        None => lower.parse(),
    };
    let number = number.map_err(|_| format!("{text:?} is not a number"))?;
    u8::try_from(number)
        .map(FeatureBits)
        .map_err(|_| "only bits 0 to 7 have a meaning".to_owned())
}

impl FeatureBits {
    /// The words of `-E` that mean the same. A bit that is not set switches its feature off when a higher one is set.
    pub(super) fn words(self) -> impl Iterator<Item = String> {
        FEATURES
            .iter()
            .enumerate()
            .map(move |(bit, feature)| (self.0 >> bit, feature))
            .take_while(|(rest, _)| *rest != 0)
            .map(|(rest, feature)| match rest & 1 {
                1 => (*feature).to_owned(),
                _ => format!("^{feature}"),
            })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn bits_are_words() {
        let words = |text: &str| parse(text).unwrap().words().collect::<Vec<_>>().join(",");
        assert_eq!(words("0"), "");
        assert_eq!(words("1"), "legacy-compress");
        assert_eq!(words("6"), "^legacy-compress,ztailpacking,fragments");
        assert_eq!(words("0x6"), words("6"));
        assert_eq!(words("010"), words("8"));
        assert!(words("128").ends_with("^48bit,dot-omitted"));
        for text in ["256", "-1", "0x", "", "09", "x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
