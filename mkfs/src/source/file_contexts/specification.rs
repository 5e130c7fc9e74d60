//! A line of a file of contexts.

use super::{Label, LineRule};
use crate::data::hints;
use erofs_format::inode::FileType;
use regex::bytes::{Regex, RegexBuilder};

/// Components of a path by which expressions are found.
pub(super) const DEPTH: usize = 3;
/// Bytes that libselinux takes no field of.
const FIELD_LIMIT: usize = u16::MAX as usize;
/// Bytes that libselinux compiles no expression of.
const REGEX_LIMIT: usize = 4096;
/// Memory that a compiled expression may take, in bytes.
const COMPILED_LIMIT: usize = 1 << 20;
/// What stands for no label at all.
const NONE: &[u8] = b"<<none>>";

/// Which paths are meant, and what is said of them.
pub(super) struct Specification {
    pub(super) pattern: Pattern,
    pub(super) label: Label,
}

/// Which paths are meant.
pub(super) enum Pattern {
    /// This one.
    Literal(Vec<u8>),
    /// Those that match, all of them below a directory: up to [`DEPTH`] components, each with a slash in front.
    Regex { directory: Vec<u8>, regex: Regex },
}

impl Specification {
    /// Reads a line; `None` when nothing is said in it. Errors come with the column, from 1.
    pub(super) fn parse(line: &[u8]) -> Result<Option<Self>, (usize, LineRule)> {
        let [first, second, third] = fields(line)?;
        let Some((column, text)) = first.filter(|(_, text)| !text.starts_with(b"#")) else {
            return Ok(None);
        };
        let (file_type, context) = match (second, third) {
            (None, _) => return Err((column + text.len(), LineRule::NoContext)),
            (Some((_, context)), None) => (None, context),
            (Some((column, name)), Some((_, context))) => {
                let unknown = || LineRule::Type(String::from_utf8_lossy(name).into_owned());
                let file_type = file_type(name).ok_or_else(|| (column, unknown()))?;
                (Some(file_type), context)
            }
        };
        let pattern = match literal(text) {
            Some(path) => Pattern::Literal(path),
            None => Pattern::Regex {
                directory: directory(text),
                regex: compile(text).map_err(|rule| (column, rule))?,
            },
        };
        let label = Label {
            file_type,
            context: (context != NONE).then(|| context.into()),
        };
        Ok(Some(Self { pattern, label }))
    }
}

type Field<'l> = Option<(usize, &'l [u8])>;

/// The first three fields of a line, each with its column; none of a comment, whatever is in it.
fn fields(line: &[u8]) -> Result<[Field<'_>; 3], (usize, LineRule)> {
    let mut fields = [None; 3];
    let mut position = 0;
    for field in &mut fields {
        let rest = line.get(position..).unwrap_or_default();
        let Some(spaces) = rest.iter().position(|byte| !is_space(*byte)) else {
            break;
        };
        let rest = rest.get(spaces..).unwrap_or_default();
        let length = rest.iter().position(|byte| is_space(*byte));
        let text = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
        let start = position + spaces;
        if start == spaces && text.starts_with(b"#") {
            break;
        }
        if let Some(at) = text.iter().position(|byte| !matches!(byte, 1..=0x7F)) {
            let byte = text.get(at).copied().unwrap_or_default();
            return Err((start + at + 1, LineRule::Encoding(byte)));
        }
        let length = text.len();
        if length >= FIELD_LIMIT {
            let limit = FIELD_LIMIT;
            return Err((start + 1, LineRule::Length { length, limit }));
        }
        *field = Some((start + 1, text));
        position = start + length;
    }
    Ok(fields)
}

/// Whether a byte parts fields, as isspace(3) has it.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn file_type(name: &[u8]) -> Option<FileType> {
    Some(match name {
        b"--" => FileType::Regular,
        b"-d" => FileType::Directory,
        b"-l" => FileType::Symlink,
        b"-c" => FileType::CharDevice,
        b"-b" => FileType::BlockDevice,
        b"-p" => FileType::Fifo,
        b"-s" => FileType::Socket,
        _ => return None,
    })
}

/// What an expression without anything special in it stands for; libselinux knows the same characters and escapes.
fn literal(text: &[u8]) -> Option<Vec<u8>> {
    let mut literal = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'\\' => bytes
                .next()
                .filter(|escaped| is_special(**escaped) || matches!(escaped, b'-' | b'_' | b','))?,
            special if is_special(*special) => return None,
            plain => plain,
        };
        literal.push(*byte);
    }
    Some(literal)
}

const fn is_special(byte: u8) -> bool {
    matches!(
        byte,
        b'.' | b'^' | b'$' | b'?' | b'*' | b'+' | b'|' | b'[' | b'(' | b'{' | b']' | b')' | b'}'
    )
}

/// The directory that an expression begins with.
fn directory(text: &[u8]) -> Vec<u8> {
    let mut directory = Vec::new();
    let rest = text.get(1..).unwrap_or_default();
    let mut components: Vec<_> = rest.split(|byte| *byte == b'/').collect();
    // What is in the directory, and may be followed by anything.
    components.pop();
    let named = components.into_iter().filter(|part| !part.is_empty());
    for component in named.map_while(literal).take(DEPTH) {
        directory.push(b'/');
        directory.extend_from_slice(&component);
    }
    directory
}

/// As libselinux compiles it: for the whole path, if it has no `|` outside of parentheses; a dot stands for any byte.
fn compile(text: &[u8]) -> Result<Regex, LineRule> {
    if text.len() >= REGEX_LIMIT {
        return Err(LineRule::Length {
            length: text.len(),
            limit: REGEX_LIMIT,
        });
    }
    // Fields are ASCII.
    let text = String::from_utf8_lossy(text);
    RegexBuilder::new(&format!("^{text}$"))
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(COMPILED_LIMIT)
        .build()
        .map_err(|error| LineRule::Pattern(hints::reason(&error)))
}
