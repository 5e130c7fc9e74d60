//! Which files are compressed how: the file of `--compress-hints`, in the form of mkfs.erofs.
//!
//! ```text
//! # pcluster size in bytes, perhaps the number of an algorithm (from 0), a regular expression
//! 4096     ^etc/
//! 1048576  1 \.so(\.|$)
//! 0        \.(png|jpg)$
//! ```
//! The first line counts whose expression is found in the path of a file (without a leading `/`). Size 0: the file is not
//! compressed.

use erofs_format::BlockBits;
use regex::bytes::{Regex, RegexBuilder};

/// Largest pcluster in bytes.
const MAX_PCLUSTER: usize = 1 << 20;
/// Smallest pcluster in bytes: what encoders fill at least.
const MIN_PCLUSTER: usize = 4096;

/// What is known about how single files are to be compressed.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    hints: Vec<Hint>,
}

#[derive(Debug, Clone)]
struct Hint {
    pattern: Regex,
    choice: Choice,
}

/// What a hint says about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Leave it as it is.
    Plain,
    /// Compress it.
    Compressed {
        /// Number of the algorithm among those of the image.
        algorithm: usize,
        /// Largest pcluster in bytes.
        max_pcluster: usize,
    },
}

/// A line of a file of hints that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {rule}")]
pub struct HintError {
    /// From 1.
    pub line: usize,
    /// Byte of the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub rule: HintRule,
}

/// What is wrong with a hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HintRule {
    /// Expressions are text.
    #[error("not UTF-8")]
    Encoding,
    /// A size comes first.
    #[error("{0:?} is not the size of a cluster in bytes")]
    Number(String),
    /// A size that pclusters cannot have.
    #[error(
        "a cluster of {size} bytes must be a multiple of the block size ({block}), from {MIN_PCLUSTER} bytes to 1 MiB"
    )]
    Size {
        /// As written.
        size: usize,
        /// Block size in bytes.
        block: usize,
    },
    /// The number of an algorithm that was not given.
    #[error("algorithm {number:?}: -z names {count}, counted from 0")]
    Algorithm {
        /// As written.
        number: String,
        /// How many there are.
        count: usize,
    },
    /// Nothing behind the size.
    #[error("a regular expression is missing")]
    NoPattern,
    /// The expression has no meaning.
    #[error("{0}")]
    Pattern(String),
}

impl Hints {
    /// Reads a file of hints for an image with `algorithms` algorithms.
    ///
    /// # Errors
    /// [`HintError`] for the first line that means nothing.
    pub fn parse(text: &[u8], algorithms: usize, block_bits: BlockBits) -> Result<Self, HintError> {
        let mut hints = Vec::new();
        for (line, bytes) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let error = |column, rule| HintError { line, column, rule };
            let text = std::str::from_utf8(bytes)
                .map_err(|utf8| error(utf8.valid_up_to() + 1, HintRule::Encoding))?;
            let text = text.strip_suffix('\r').unwrap_or(text);
            if text.trim().is_empty() || text.starts_with('#') {
                continue;
            }
            let hint = Hint::parse(text, algorithms, block_bits)
                .map_err(|(column, rule)| error(column, rule))?;
            hints.push(hint);
        }
        Ok(Self { hints })
    }

    /// What is said about a file; `None` when nothing is.
    pub fn of(&self, path: &[u8]) -> Option<Choice> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        self.hints
            .iter()
            .find(|hint| hint.pattern.is_match(path))
            .map(|hint| hint.choice)
    }

    /// Everything that is said about any file.
    pub fn choices(&self) -> impl Iterator<Item = Choice> {
        self.hints.iter().map(|hint| hint.choice)
    }
}

impl Hint {
    fn parse(
        text: &str,
        algorithms: usize,
        block_bits: BlockBits,
    ) -> Result<Self, (usize, HintRule)> {
        let (size_column, size, rest) = field(text, 0);
        let bytes: usize = size
            .parse()
            .map_err(|_| (size_column, HintRule::Number(size.to_owned())))?;
        let block = block_bits.len();
        if bytes != 0
            && !((block.max(MIN_PCLUSTER)..=MAX_PCLUSTER).contains(&bytes)
                && bytes.is_multiple_of(block))
        {
            return Err((size_column, HintRule::Size { size: bytes, block }));
        }
        let (second_column, second, rest) = field(text, rest);
        let (third_column, third, _) = field(text, rest);
        let (number, pattern_column) = if third.is_empty() {
            (None, second_column)
        } else {
            (Some(second), third_column)
        };
        let pattern = text.get(pattern_column - 1..).unwrap_or_default();
        if pattern.is_empty() {
            return Err((pattern_column, HintRule::NoPattern));
        }
        let algorithm = match number {
            None => 0,
            Some(number) => number
                .parse()
                .ok()
                .filter(|number| *number < algorithms)
                .ok_or_else(|| {
                    let rule = HintRule::Algorithm {
                        number: number.to_owned(),
                        count: algorithms,
                    };
                    (second_column, rule)
                })?,
        };
        let choice = match bytes {
            0 => Choice::Plain,
            max_pcluster => Choice::Compressed {
                algorithm,
                max_pcluster,
            },
        };
        // As POSIX has it: any byte is a character, and a dot stands for all of them.
        let pattern = RegexBuilder::new(pattern)
            .unicode(false)
            .dot_matches_new_line(true)
            .build()
            .map_err(|error| (pattern_column, HintRule::Pattern(reason(&error))))?;
        Ok(Self { pattern, choice })
    }
}

/// The field behind byte `start`: its column, its text and where it ends.
fn field(text: &str, start: usize) -> (usize, &str, usize) {
    let rest = text.get(start..).unwrap_or_default();
    let trimmed = rest.trim_start_matches([' ', '\t']);
    let begin = start + rest.len() - trimmed.len();
    let length = trimmed.find([' ', '\t']).unwrap_or(trimmed.len());
    (begin + 1, &trimmed[..length], begin + length)
}

/// The last line of what the library says: the others show the expression.
pub(crate) fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Hints, HintError> {
        Hints::parse(text.as_bytes(), 2, BlockBits::B4096)
    }

    #[test]
    fn the_first_hint_found_counts() {
        let hints = parse(
            "# sizes\n\n4096 ^etc/\r\n65536\t1\t\\.so(\\.|$)\n0 \\.(png|jpg)$\n1048576 0  with space\n",
        )
        .unwrap();
        let compressed = |algorithm, max_pcluster| {
            Some(Choice::Compressed {
                algorithm,
                max_pcluster,
            })
        };
        for (path, expected) in [
            (&b"/etc/a.so"[..], compressed(0, 4096)),
            (b"usr/etc/a.so.1", compressed(1, 65536)),
            (b"etc.png", Some(Choice::Plain)),
            (b"a with space", compressed(0, 1 << 20)),
            (b"\xff\xfe.so", compressed(1, 65536)),
            (b"other", None),
        ] {
            assert_eq!(hints.of(path), expected, "{path:?}");
        }
    }

    #[test]
    fn errors_name_line_and_column() {
        for (text, expected) in [
            ("4096 a\nx b", "line 2, column 1: \"x\" is not the size"),
            ("4096", "line 1, column 5: a regular expression is missing"),
            ("  5000 a", "line 1, column 3: a cluster of 5000 bytes"),
            ("2097152 a", "line 1, column 1: a cluster of 2097152 bytes"),
            ("4096 2 a", "line 1, column 6: algorithm \"2\": -z names 2"),
            ("4096 b a", "line 1, column 6: algorithm \"b\""),
            ("\n4096  1 a(", "line 2, column 9: unclosed group"),
            ("4096 -1 a", "line 1, column 6: algorithm \"-1\""),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        let error = Hints::parse(b"4096 a\n4096 \xff", 1, BlockBits::B4096).unwrap_err();
        assert_eq!((error.line, error.column), (2, 6));
    }
}
