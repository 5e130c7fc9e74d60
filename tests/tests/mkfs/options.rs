//! The list of options: that of the C tool, each taken or refused with a reason.

use std::{collections::BTreeSet, process::Command};

use erofs_format::feature::FeatureIncompat;
use erofs_tests::{
    require,
    workshop::{Workshop, open},
};

use super::{link, manifest, needs, peer, run};

/// Values of options that take one.
const VALUES: [(&str, &str); 24] = [
    ("--async-queue-limit", "=100"),
    ("--chunksize", "=4096"),
    ("--exclude-path", "=none"),
    ("--exclude-regex", "=none"),
    ("--file-contexts", "=/dev/null"),
    ("--force-uid", "=1"),
    ("--force-gid", "=1"),
    ("--fsalignblks", "=2"),
    ("--uid-offset", "=1"),
    ("--gid-offset", "=1"),
    ("--mount-point", "=/x"),
    ("--offset", "=4096"),
    ("--root-xattr-isize", "=64"),
    ("--sort", "=none"),
    ("--workers", "=1"),
    ("--vmdk-desc", "=disk.vmdk"),
    ("--dsunit", "=1"),
    ("--xattr-prefix", "=user.x"),
    ("--zfeature-bits", "=3"),
    ("-b", "4096"),
    ("-x", "2"),
    ("-m", "4096:lz4"),
    ("-C", "4096"),
    ("-U", "clear"),
];

/// Options that the help of a program begins its lines with.
fn listed(command: Command, workshop: &Workshop) -> BTreeSet<String> {
    let output = run(command, workshop, None, &["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut options = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with(' ')) {
        for word in line.trim_start().split([' ', ',']) {
            let is_long = word.starts_with("--");
            if !word.starts_with('-') && !word.is_empty() {
                break;
            }
            let end = if is_long {
                word.find(|c: char| c != '-' && !c.is_ascii_alphanumeric())
            } else {
                Some(word.len().min(2))
            };
            let name = &word[..end.unwrap_or(word.len())];
            if name.len() > 1 && name != "--" {
                options.insert(name.to_owned());
            }
        }
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    for pair in words.windows(2).filter(|pair| pair[0] == "[alias:") {
        options.insert(pair[1].trim_end_matches(']').to_owned());
    }
    options
}

#[test]
fn every_option_of_the_c_tool_is_taken_or_refused_with_a_reason() {
    require!(needs());
    let workshop = Workshop::light();
    let wanted = listed(peer(), &workshop);
    assert!(wanted.len() > 50 && wanted.contains("--sort") && wanted.contains("-E"));
    let help = run(link(&workshop), &workshop, None, &["--help"]).stdout;
    let help = String::from_utf8(help).unwrap();
    // containerd looks for this.
    assert!(help.contains("--tar="));
    let (_, unsupported) = help.split_once("Not supported:").unwrap();
    let ours = listed(link(&workshop), &workshop);
    let missing: Vec<_> = wanted.difference(&ours).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for option in &wanted {
        let words = [
            ("--help", &["--help"][..]),
            (
                "--blobdev",
                &["--blobdev=b", "--chunksize=4096", "o.erofs", "source/names"],
            ),
            ("-h", &["-h"]),
            ("--version", &["--version"]),
            ("-V", &["-V"]),
            ("-d", &["-d3", "o.erofs", "source/names"]),
            ("-z", &["-zzstd", "o.erofs", "source/names"]),
            (
                "--compress-hints",
                &[
                    "-zzstd",
                    "--compress-hints=/dev/null",
                    "o.erofs",
                    "source/names",
                ],
            ),
            (
                "--max-extent-bytes",
                &[
                    "-zzstd",
                    "--max-extent-bytes=65536",
                    "o.erofs",
                    "source/names",
                ],
            ),
            ("-E", &["-Einline_data", "o.erofs", "source/names"]),
            ("-L", &["-Llabel", "o.erofs", "source/names"]),
            ("-T", &["-T0", "o.erofs", "source/names"]),
        ];
        let value = VALUES.iter().find(|(name, _)| name == option);
        let option_with_value = format!("{option}{}", value.map_or("", |(_, value)| value));
        let plain = [option_with_value.as_str(), "o.erofs", "source/names"];
        let arguments = words
            .iter()
            .find(|(name, _)| name == option)
            .map_or(&plain[..], |(_, words)| words);
        let output = run(link(&workshop), &workshop, None, arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        let refused = unsupported
            .lines()
            .any(|line| line.split_whitespace().next() == Some(option));
        if refused {
            assert_eq!(output.status.code(), Some(1), "{option}");
            assert!(error.contains("is not supported: "), "{option}: {error}");
        } else if !["--tar", "--ungzip", "--unxz", "--gzinfo"].contains(&option.as_str()) {
            assert_eq!(output.status.code(), Some(0), "{option}: {error}");
        }
    }
}

#[test]
fn every_extended_option_of_the_manual_is_known() {
    require!(needs());
    let workshop = Workshop::light();
    // The words of -E in the man page of erofs-utils 1.9.4.
    for word in [
        "48bit",
        "all-fragments",
        "dedupe",
        "dot-omitted",
        "force-inode-compact",
        "force-inode-extended",
        "force-inode-blockmap",
        "force-chunk-indexes",
        "^fragdedupe",
        "fragdedupe=full",
        "fragments",
        "^inline_data",
        "noinline_data",
        "legacy-compress",
        "nosbcrc",
        "plain-xattr-prefixes",
        "xattr-name-filter",
        "^xattr-name-filter",
        "ztailpacking",
        "^48bit",
        "^all-fragments",
        "^dedupe",
        "^dot-omitted",
        "^fragments",
        "^legacy-compress",
        "^ztailpacking",
    ] {
        let extended = format!("-E{word}");
        let arguments = [&extended, "--ignore-mtime", "e.erofs", "source/names"];
        let theirs = run(peer(), &workshop, None, &arguments);
        assert_eq!(theirs.status.code(), Some(0), "{word}");
        let ours = run(link(&workshop), &workshop, None, &arguments);
        let error = String::from_utf8(ours.stderr).unwrap();
        assert!(ours.status.success(), "{word}: {error}");
    }
}

/// The features of an image that words of -E say.
const SWITCHED: FeatureIncompat = FeatureIncompat::ZTAILPACKING
    .union(FeatureIncompat::FRAGMENTS_OR_DEDUPE)
    .union(FeatureIncompat::BIT48);

/// Bits are words of -E, of which the later ones count: what the image holds and which features it has are the C tool's.
#[test]
fn feature_bits_are_those_of_the_c_tool() {
    require!(needs());
    let workshop = Workshop::light();
    for row in [
        &["--zfeature-bits=2"][..],
        &["--zfeature-bits=0x6"],
        &["--zfeature-bits=014", "-Enoinline_data"],
        &["--zfeature-bits=52"],
        &["--zfeature-bits=128"],
        &["-Eztailpacking", "--zfeature-bits=4"],
        &["--zfeature-bits=12", "--zfeature-bits=0x10"],
    ] {
        let mut features = Vec::new();
        for (tool, image) in [(peer(), "theirs.erofs"), (link(&workshop), "ours.erofs")] {
            let mut arguments = vec!["--quiet", "-zzstd", "-C65536", "-T0"];
            arguments.extend(row);
            arguments.extend([image, "source"]);
            let output = run(tool, &workshop, None, &arguments);
            assert!(output.status.success(), "{row:?}: {output:?}");
            let incompat = open(&workshop.path(image), &[]).superblock().incompat;
            // Ours packs all tails where it packs any: none is left to stand behind an index.
            let packs = incompat.contains(FeatureIncompat::FRAGMENTS_OR_DEDUPE);
            let ignored = match packs {
                true => FeatureIncompat::ZTAILPACKING,
                false => FeatureIncompat::empty(),
            };
            features.push(incompat & SWITCHED & !ignored);
        }
        let (theirs, ours) = (
            manifest(&workshop, "theirs.erofs", &[]),
            manifest(&workshop, "ours.erofs", &[]),
        );
        assert!(theirs.differences(&ours, &[]).is_empty(), "{row:?}");
        assert_eq!(features[0], features[1], "{row:?}");
    }
    for bits in ["256", "-1", "x"] {
        let option = format!("--zfeature-bits={bits}");
        for tool in [peer(), link(&workshop)] {
            let output = run(tool, &workshop, None, &[&option, "o.erofs", "source/names"]);
            assert_eq!(output.status.code(), Some(1), "{bits}");
        }
    }
}
