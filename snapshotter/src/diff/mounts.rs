//! Which folder holds what one snapshot has over another.

use crate::api::types::Mount;
use crate::error::Error;
use crate::store::Store;
use std::path::{Path, PathBuf};

/// Folders that lie over one another, as [`Snapshotter::mounts`](crate::snapshotter::Snapshotter::mounts) says it.
#[derive(Debug, PartialEq, Eq)]
struct Stack {
    /// What is written to.
    upper: Option<PathBuf>,
    /// Layers, the topmost first.
    lower: Vec<PathBuf>,
}

/// The folder with what `right` has over `left`: an upper directory or a layer.
///
/// # Errors
/// [`Error::NotOurs`] when they are not ours, or one is not built upon the other.
pub(super) fn changes(store: &Store, left: &[Mount], right: &[Mount]) -> Result<PathBuf, Error> {
    let refused = |reason: &str| Error::NotOurs(reason.to_owned());
    let foreign = || refused("the mounts are not those of snapshots here");
    let left = match left {
        [] => Vec::new(),
        [mount] => {
            Stack::of(store, mount)
                .filter(|left| left.upper.is_none())
                .ok_or_else(foreign)?
                .lower
        }
        _ => return Err(foreign()),
    };
    let [right] = right else {
        return Err(foreign());
    };
    let right = Stack::of(store, right).ok_or_else(foreign)?;
    let (changes, below) = match (right.upper, right.lower.split_first()) {
        (Some(upper), _) => (upper, right.lower.as_slice()),
        (None, Some((top, below))) => (top.clone(), below),
        (None, None) => return Err(refused("nothing can be read from the mounts")),
    };
    match below == left {
        true => Ok(changes),
        false => Err(refused("the snapshots are not built upon each other")),
    }
}

impl Stack {
    fn of(store: &Store, mount: &Mount) -> Option<Self> {
        let option = |key: &str| {
            let mut options = mount.options.iter();
            options.find_map(|option| option.strip_prefix(key))
        };
        let upper = |path: &str| {
            let path = PathBuf::from(path);
            store.snapshot_of_upper(&path).map(|_| path)
        };
        match mount.r#type.as_str() {
            "bind"
                if store
                    .image_of_mount_point(Path::new(&mount.source))
                    .is_some() =>
            {
                Some(Self {
                    upper: None,
                    lower: vec![PathBuf::from(&mount.source)],
                })
            }
            "bind" => {
                let folder = upper(&mount.source)?;
                let is_written = !mount.options.iter().any(|option| option == "ro");
                Some(Self {
                    // A view of nothing is empty.
                    upper: is_written.then_some(folder),
                    lower: Vec::new(),
                })
            }
            "overlay" => {
                let lower: Vec<PathBuf> =
                    option("lowerdir=")?.split(':').map(PathBuf::from).collect();
                let ours = |path: &PathBuf| store.image_of_mount_point(path).is_some();
                if !lower.iter().all(ours) {
                    return None;
                }
                let upper = match option("upperdir=") {
                    Some(path) => Some(upper(path)?),
                    None => None,
                };
                Some(Self { upper, lower })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        Mount {
            r#type: kind.to_owned(),
            source: source.to_owned(),
            target: String::new(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        }
    }

    #[test]
    fn changes_are_told_from_the_mounts() {
        let folder = tempfile::tempdir().expect("made");
        let root = folder.path();
        let store = Store::open(root).expect("made");
        let at = |name: &str| root.join(name).display().to_string();
        let lower = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| at(name)).collect();
            format!("lowerdir={}", names.join(":"))
        };
        let nothing = mount("bind", &at("snapshots/9/fs"), &["ro", "rbind"]);
        let first = mount("bind", &at("m/1"), &["ro", "rbind"]);
        let two = mount("overlay", "overlay", &[&lower(&["m/2", "m/1"])]);
        let upper = format!("upperdir={}", at("snapshots/5/fs"));
        let over = |names: &[&str]| mount("overlay", "overlay", &[&upper, &lower(names)]);
        let bare = mount("bind", &at("snapshots/5/fs"), &["rw", "rbind"]);
        let foreign = mount("overlay", "overlay", &[&upper, "lowerdir=/etc"]);
        let outside = mount("bind", "/etc", &["rw", "rbind"]);
        let found = |left: &[&Mount], right: &Mount| {
            let left: Vec<Mount> = left.iter().map(|mount| (*mount).clone()).collect();
            let changes = changes(&store, &left, std::slice::from_ref(right));
            changes
                .ok()
                .map(|path| path.strip_prefix(root).expect("below").to_path_buf())
        };
        for (left, right, expected) in [
            (&[&first][..], &over(&["m/1"]), Some("snapshots/5/fs")),
            (&[&two], &over(&["m/2", "m/1"]), Some("snapshots/5/fs")),
            (&[&nothing], &bare, Some("snapshots/5/fs")),
            (&[], &bare, Some("snapshots/5/fs")),
            (&[&first], &two, Some("m/2")),
            (&[&nothing], &first, Some("m/1")),
            (&[], &first, Some("m/1")),
            (&[&first], &over(&["m/2", "m/1"]), None),
            (&[&two], &over(&["m/1", "m/2"]), None),
            (&[&bare], &bare, None),
            (&[&nothing], &nothing, None),
            (&[], &outside, None),
            (&[&outside], &bare, None),
            (&[&first], &foreign, None),
            (&[&first, &first], &two, None),
        ] {
            let expected = expected.map(PathBuf::from);
            assert_eq!(found(left, right), expected, "{left:?} {right:?}");
        }
    }
}
