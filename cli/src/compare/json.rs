//! Differences for scripts.

use super::difference::{Changes, Difference, Kind, LinkChange, Lone, Problem, XattrChange};
use crate::listing::{text, type_name};
use erofs_format::inode::Timestamp;
use serde::Serialize;

/// Bytes that are mostly text: exact, unless the hexadecimal form stands beside it.
#[derive(Debug, Serialize)]
struct JsonBytes {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

impl JsonBytes {
    fn new(bytes: &[u8]) -> Self {
        let (text, hex) = text(bytes);
        Self { text, hex }
    }
}

/// A value on side A and on side B.
#[derive(Debug, Serialize)]
struct FromTo<T> {
    from: T,
    to: T,
}

fn from_to<A, T>(change: Option<(A, A)>, convert: impl Fn(A) -> T) -> Option<FromTo<T>> {
    change.map(|(from, to)| FromTo {
        from: convert(from),
        to: convert(to),
    })
}

/// A difference.
#[derive(Debug, Serialize)]
pub(crate) struct JsonDifference {
    status: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// Of renamed files.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<JsonBytes>,
    /// The name by which the same file was told before.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_as: Option<JsonBytes>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    file_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hard_link_of: Option<JsonBytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<JsonChanges>,
}

#[derive(Debug, Serialize)]
struct JsonChanges {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    file_type: Option<FromTo<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<FromTo<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<FromTo<JsonOwner>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<FromTo<JsonTime>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<FromTo<JsonDevice>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<FromTo<JsonBytes>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<JsonXattr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<JsonContent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_longer_linked_to: Option<JsonBytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    now_linked_to: Option<JsonBytes>,
}

#[derive(Debug, Serialize)]
struct JsonOwner {
    uid: u32,
    gid: u32,
}

#[derive(Debug, Serialize)]
struct JsonTime {
    seconds: i64,
    nanoseconds: u32,
}

#[derive(Debug, Serialize)]
struct JsonDevice {
    major: u32,
    minor: u32,
}

/// An attribute; a side without it has no value.
#[derive(Debug, Serialize)]
struct JsonXattr {
    name: JsonBytes,
    from_hex: Option<String>,
    to_hex: Option<String>,
}

#[derive(Debug, Serialize)]
struct JsonContent {
    from_size: u64,
    to_size: u64,
    /// Where the first byte differs, if the files have the same size and both were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_difference: Option<u64>,
}

/// An entry that could not be compared.
#[derive(Debug, Serialize)]
pub(crate) struct JsonProblem {
    side: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    error: String,
}

impl JsonProblem {
    pub(crate) fn new(problem: &Problem) -> Self {
        let (path, path_hex) = text(&problem.path);
        Self {
            side: if problem.side == 0 { "a" } else { "b" },
            path,
            path_hex,
            error: problem.error.to_string(),
        }
    }
}

impl JsonDifference {
    pub(crate) fn new(difference: &Difference) -> Self {
        let (path, path_hex) = text(&difference.path);
        let mut json = Self {
            status: "modified",
            path,
            path_hex,
            from: None,
            same_as: None,
            file_type: None,
            size: None,
            hard_link_of: None,
            changes: None,
        };
        match &difference.kind {
            Kind::Added(lone) => json.lone("added", lone),
            Kind::Removed(lone) => json.lone("removed", lone),
            Kind::Modified(changes) => json.changes = Some(JsonChanges::new(changes)),
            Kind::ModifiedAs { first } => json.same_as = Some(JsonBytes::new(first)),
            Kind::Renamed {
                from,
                size,
                changes,
            } => {
                json.status = "renamed";
                json.from = Some(JsonBytes::new(from));
                json.size = Some(*size);
                json.changes = Some(JsonChanges::new(changes));
            }
        }
        json
    }

    fn lone(&mut self, status: &'static str, lone: &Lone) {
        self.status = status;
        self.file_type = Some(type_name(lone.file_type));
        self.size = Some(lone.size);
        self.hard_link_of = lone.link_to.as_deref().map(JsonBytes::new);
    }
}

impl JsonChanges {
    fn new(changes: &Changes) -> Self {
        let time = |time: Timestamp| JsonTime {
            seconds: time.seconds,
            nanoseconds: time.nanoseconds,
        };
        let target = changes.target.as_ref();
        let mut json = Self {
            file_type: from_to(changes.file_type, type_name),
            mode: from_to(changes.mode, |mode| format!("{mode:04o}")),
            owner: from_to(changes.owner, |(uid, gid)| JsonOwner { uid, gid }),
            mtime: from_to(changes.mtime, time),
            device: from_to(changes.device, |number| JsonDevice {
                major: number.major,
                minor: number.minor,
            }),
            target: from_to(target.map(|(from, to)| (from, to)), |target| {
                JsonBytes::new(target)
            }),
            xattrs: changes.xattrs.iter().map(JsonXattr::new).collect(),
            content: changes.content.map(|content| JsonContent {
                from_size: content.sizes.0,
                to_size: content.sizes.1,
                first_difference: content.first,
            }),
            no_longer_linked_to: None,
            now_linked_to: None,
        };
        for link in &changes.links {
            match link {
                LinkChange::Parted(name) => json.no_longer_linked_to = Some(JsonBytes::new(name)),
                LinkChange::Joined(name) => json.now_linked_to = Some(JsonBytes::new(name)),
            }
        }
        json
    }
}

impl JsonXattr {
    fn new(change: &XattrChange) -> Self {
        let hex = |value: &Option<Vec<u8>>| {
            let bytes = value.as_ref()?.iter();
            Some(bytes.map(|byte| format!("{byte:02x}")).collect())
        };
        Self {
            name: JsonBytes::new(&change.name),
            from_hex: hex(&change.from),
            to_hex: hex(&change.to),
        }
    }
}
