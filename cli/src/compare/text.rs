//! Differences for people: one line each, with a letter, the path and what changed.

use super::difference::{Changes, Difference, Kind, LinkChange, Lone, Problem, XattrChange};
use crate::listing::{Utc, type_name};
use crate::names::Printable;
use crate::report;
use erofs_format::inode::FileType;
use std::fmt;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Shown(&self.path);
        match &self.kind {
            Kind::Added(lone) => write!(f, "A {path}{lone}"),
            Kind::Removed(lone) => write!(f, "D {path}{lone}"),
            Kind::Modified(changes) => {
                let letter = if changes.file_type.is_some() {
                    'T'
                } else {
                    'M'
                };
                write!(f, "{letter} {path}  {changes}")
            }
            Kind::ModifiedAs { first } => write!(f, "M {path}  as {}", Shown(first)),
            Kind::Renamed {
                from,
                size,
                changes,
            } => {
                write!(f, "R {} → {path}  ({})", Shown(from), report::bytes(*size))?;
                if changes.is_empty() {
                    return Ok(());
                }
                write!(f, ", {changes}")
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.side == 0 { 'A' } else { 'B' };
        write!(f, "{side}: {}: {}", Shown(&self.path), self.error)
    }
}

/// A path as it is shown; the root's is `/`.
struct Shown<'a>(&'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.0.is_empty() { b"/" } else { self.0 };
        Printable(path).fmt(f)
    }
}

impl fmt::Display for Lone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.link_to {
            return write!(f, "  hard link of {}", Shown(name));
        }
        match self.file_type {
            FileType::Regular => write!(f, "  ({})", report::bytes(self.size)),
            FileType::Directory => f.write_str("/"),
            other => write!(f, "  ({})", type_name(other)),
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some((from, to)) = self.file_type {
            parts.push(format!("{} → {}", type_name(from), type_name(to)));
        }
        if let Some((from, to)) = self.mode {
            parts.push(format!("mode {from:04o}→{to:04o}"));
        }
        if let Some(((from_user, from_group), (to_user, to_group))) = self.owner {
            parts.push(format!(
                "owner {from_user}:{from_group}→{to_user}:{to_group}"
            ));
        }
        if let Some((from, to)) = self.mtime {
            parts.push(format!("time {} → {}", Utc(from), Utc(to)));
        }
        if let Some((from, to)) = self.device {
            parts.push(format!(
                "device {}:{}→{}:{}",
                from.major, from.minor, to.major, to.minor
            ));
        }
        if let Some((from, to)) = &self.target {
            parts.push(format!("target {} → {}", Printable(from), Printable(to)));
        }
        if !self.xattrs.is_empty() {
            let names: Vec<_> = self.xattrs.iter().map(ToString::to_string).collect();
            parts.push(format!("xattr {}", names.join(" ")));
        }
        if let Some(content) = self.content {
            parts.push(match (content.sizes, content.first) {
                ((from, to), _) if from != to => {
                    format!("content ({} → {})", size(from, to), size(to, from))
                }
                ((size, _), Some(first)) => {
                    format!("content ({}, from byte {first})", report::bytes(size))
                }
                ((size, _), None) => format!("content ({})", report::bytes(size)),
            });
        }
        for link in &self.links {
            parts.push(match link {
                LinkChange::Parted(name) => format!("no longer a hard link of {}", Shown(name)),
                LinkChange::Joined(name) => format!("now a hard link of {}", Shown(name)),
            });
        }
        f.write_str(&parts.join(", "))
    }
}

/// A size that does not look like another one.
fn size(size: u64, other: u64) -> String {
    let text = report::bytes(size);
    if text == report::bytes(other) {
        format!("{size} bytes")
    } else {
        text
    }
}

impl fmt::Display for XattrChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match (&self.from, &self.to) {
            (None, _) => '+',
            (Some(_), None) => '-',
            (Some(_), Some(_)) => '~',
        };
        write!(f, "{sign}{}", Printable(&self.name))
    }
}
