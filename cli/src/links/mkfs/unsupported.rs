//! What mkfs.erofs of erofs-utils 1.9 has and this one has not, each with its reason. A test compares the list with the
//! `--help` and the man page of the C tool, so that nothing is forgotten.

/// Options with what is missing.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("--oci", "registries are not this program's business"),
    ("--s3", "object stores are not this program's business"),
];

/// Why an option is refused; `None` for one that is not in the list. `option` may have a value behind it.
pub(super) fn reason(option: &str) -> Option<&'static str> {
    let name = option.split('=').next().unwrap_or(option);
    UNSUPPORTED
        .iter()
        .find(|(option, _)| *option == name)
        .map(|(_, reason)| *reason)
}

/// The list as `--help` shows it.
pub(super) fn help() -> String {
    let mut text = String::from("Not supported:\n");
    for (option, reason) in UNSUPPORTED {
        text.push_str(&format!("  {option:<24} {reason}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_with_their_values() {
        for option in ["--oci=f", "--s3"] {
            assert!(reason(option).is_some(), "{option}");
        }
        for option in ["-T0", "--s3X", "-E", "--quiet"] {
            assert!(reason(option).is_none(), "{option}");
        }
    }
}
