//! Which folder holds what one snapshot has over another.

use super::tree::Written;
use crate::api::types::Mount;
use crate::error::Error;
use crate::metadata::Number;
use crate::mounts::Owners;
use crate::snapshotter::Snapshotter;
use crate::store::Store;
use std::path::{Path, PathBuf};

/// Folders and images that lie over one another, as [`Snapshotter::mounts`] says it.
#[derive(Debug, PartialEq, Eq)]
struct Stack {
    /// What is written to: the upper directory of this snapshot.
    upper: Option<Number>,
    /// Layers, the topmost first.
    lower: Vec<Layer>,
}

/// A layer, or what was merged of layers, as mounts name it.
#[derive(Debug, PartialEq, Eq)]
enum Layer {
    /// It is mounted here under its number.
    Mounted(Number),
    /// It is that of this place from the top below a snapshot, to which it is shown with other owners.
    Shown(Number, usize),
    /// It is mounted by others, from this image.
    Image(PathBuf),
}

/// What `right` has over `left`: an upper directory or a layer.
///
/// # Errors
/// [`Error::NotOurs`] when they are not ours, or one is not built upon the other; [`Error`] of the database.
pub(super) fn written(
    snapshotter: &Snapshotter,
    left: &[Mount],
    right: &[Mount],
) -> Result<Written, Error> {
    let refused = |reason: &str| Error::NotOurs(reason.to_owned());
    let foreign = || refused("the mounts are not those of snapshots here");
    let stack = |mounts: &[Mount]| {
        let stack = Stack::of(&snapshotter.store, mounts).ok_or_else(foreign)?;
        stack.stored(snapshotter)
    };
    let left = stack(left)?;
    if left.upper.is_some() {
        return Err(foreign());
    }
    let right = stack(right)?;
    let is_built_upon = match (right.upper, right.lower.split_first()) {
        (Some(_), _) => right.lower == left.lower,
        (None, Some((_, below))) => below == left.lower,
        (None, None) => return Err(refused("nothing can be read from the mounts")),
    };
    if !is_built_upon {
        return Err(refused("the snapshots are not built upon each other"));
    }
    match (right.upper, right.lower.into_iter().next()) {
        (Some(number), _) => Ok(Written {
            folder: snapshotter.store.upper(number),
            owners: Owners::of(&snapshotter.metadata.numbered(number)?.labels)?,
        }),
        (None, Some(Layer::Mounted(number))) => snapshotter.mount_layer(number).map(layer),
        (None, Some(Layer::Image(image))) => snapshotter.mount_image(&image).map(layer),
        (None, Some(Layer::Shown(..)) | None) => Err(foreign()),
    }
}

/// Files of a layer have the owners that they are to have.
fn layer(folder: PathBuf) -> Written {
    Written {
        folder,
        owners: Owners::default(),
    }
}

impl Stack {
    /// What mounts say that [`Parts::mounts`](crate::mounts::Parts::mounts) may have made. `None`: it has not.
    fn of(store: &Store, mounts: &[Mount]) -> Option<Self> {
        match mounts {
            [] => Some(Self {
                upper: None,
                lower: Vec::new(),
            }),
            [mount] if mount.r#type == "bind" => Self::bound(store, mount),
            [mount] if mount.r#type == "overlay" => {
                let lower = option(mount, "lowerdir=")?.split(':');
                let lower = lower.map(|path| Layer::at(store, Path::new(path)));
                Self::over(store, mount, lower.collect::<Option<_>>()?)
            }
            [images @ .., overlay] if overlay.r#type == "format/overlay" => {
                let lower = images.iter().map(|image| Layer::image(store, image));
                Self::over(store, overlay, lower.collect::<Option<_>>()?)
            }
            [image] => Some(Self {
                upper: None,
                lower: vec![Layer::image(store, image)?],
            }),
            _ => None,
        }
    }

    /// Of a bind mount: a layer, or what is written to without one.
    fn bound(store: &Store, mount: &Mount) -> Option<Self> {
        let source = Path::new(&mount.source);
        if let Some(layer) = Layer::at(store, source) {
            return Some(Self {
                upper: None,
                lower: vec![layer],
            });
        }
        let number = store.snapshot_of_upper(source)?;
        let is_written = !mount.options.iter().any(|option| option == "ro");
        Some(Self {
            // A view of nothing is empty.
            upper: is_written.then_some(number),
            lower: Vec::new(),
        })
    }

    /// Of an overlay mount over `lower`.
    fn over(store: &Store, overlay: &Mount, lower: Vec<Layer>) -> Option<Self> {
        let upper = match option(overlay, "upperdir=") {
            Some(path) => Some(store.snapshot_of_upper(Path::new(path))?),
            None => None,
        };
        Some(Self { upper, lower })
    }

    /// The same with layers as they are stored, whomever they are shown to, and for what was merged all of its layers.
    fn stored(mut self, snapshotter: &Snapshotter) -> Result<Self, Error> {
        for layer in &mut self.lower {
            if let Layer::Shown(snapshot, place) = *layer {
                let below = snapshotter.below(&snapshotter.metadata.numbered(snapshot)?)?;
                if let Some((number, _)) = below.get(place) {
                    *layer = Layer::Mounted(*number);
                }
            }
        }
        if let [Layer::Mounted(number)] = *self.lower
            && let Some(layers) = snapshotter.merged_layers(number)?
        {
            self.lower = layers.into_iter().map(Layer::Mounted).collect();
        }
        Ok(self)
    }
}

impl Layer {
    /// That at a mount point here.
    fn at(store: &Store, path: &Path) -> Option<Self> {
        let mounted = store.image_of_mount_point(path).map(Self::Mounted);
        mounted.or_else(|| {
            let (snapshot, place) = store.place_of_mapped(path)?;
            Some(Self::Shown(snapshot, place))
        })
    }

    /// That of an image which others mount.
    fn image(store: &Store, mount: &Mount) -> Option<Self> {
        let image = PathBuf::from(&mount.source);
        let is_ours = mount.r#type == "erofs" && image.starts_with(store.root());
        is_ours.then_some(Self::Image(image))
    }
}

fn option<'m>(mount: &'m Mount, key: &str) -> Option<&'m str> {
    let mut options = mount.options.iter();
    options.find_map(|option| option.strip_prefix(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, MountMode};
    use crate::metadata::{Labels, State};
    use erofs_tests::{require, skip};
    use std::fs;

    /// The folder below `root` that holds what the snapshot `right` has over `left`, and whom a file in it belongs to that belongs
    /// to 100007 outside. `None` where that is left to others.
    fn told(
        snapshotter: &Snapshotter,
        left: &[Mount],
        right: &[Mount],
    ) -> Option<(PathBuf, Option<u32>)> {
        let written = match written(snapshotter, left, right) {
            Ok(written) => written,
            Err(Error::NotOurs(_)) => return None,
            Err(error) => panic!("{error}"),
        };
        let folder = written.folder.strip_prefix(snapshotter.store.root());
        let owner = written.owners.user_inside(100_007);
        Some((folder.expect("below").to_path_buf(), owner))
    }

    /// Snapshots of which one lies over two layers, for users who have other numbers outside or not, and views of what is below.
    #[test]
    fn what_was_written_is_told_from_the_mounts() {
        require!(skip::kernel_erofs());
        for mode in [MountMode::Overlay, MountMode::Delegate] {
            let folder = tempfile::tempdir().expect("made");
            let mut config = Config {
                root: folder.path().join("root"),
                ..Config::default()
            };
            config.mounts.mode = mode;
            let snapshotter =
                Snapshotter::open(&config, |_| Err("no FUSE".into())).expect("opened");
            let prepare = |key: &str, state, parent, mapped: bool| {
                let mapped = mapped.then(|| {
                    let label = "containerd.io/snapshot/uidmapping";
                    (label.to_owned(), "0:100000:65536".to_owned())
                });
                let labels = Labels::from_iter(mapped);
                let mounts = snapshotter.prepare(key, state, parent, labels);
                let number = snapshotter.metadata.get(key).expect("prepared").number;
                (mounts.expect("prepared"), number)
            };
            let upper = |number: Number| format!("snapshots/{}/fs", number.0);
            let (bare, number) = prepare("bare", State::Active, None, false);
            let bare_folder = upper(number);
            let mut parent = None;
            for name in ["lower", "upper"] {
                let (_, number) = prepare("active", State::Active, parent, false);
                let file = snapshotter.store.upper(number).join(name);
                fs::write(file, name).expect("written");
                let committed = snapshotter.commit("active", name, None, Labels::new());
                committed.expect("committed");
                parent = Some(name);
            }
            let (nothing, _) = prepare("nothing", State::View, None, false);
            let (one, _) = prepare("one", State::View, Some("lower"), false);
            let (two, _) = prepare("two", State::View, Some("upper"), false);
            let (shown, _) = prepare("shown", State::View, Some("upper"), true);
            let (own, number) = prepare("own", State::Active, Some("upper"), false);
            let own_folder = upper(number);
            let (others, number) = prepare("others", State::Active, Some("upper"), true);
            let others_folder = upper(number);
            let (only, number) = prepare("only", State::Active, None, true);
            let only_folder = upper(number);
            let layer = |name: &str| {
                let number = snapshotter.metadata.get(name).expect("there").layer;
                format!("m/{}", number.expect("committed").0)
            };
            let mut foreign = own.clone();
            for mount in &mut foreign {
                mount.source = mount.source.replace("root/layers", "elsewhere");
                for option in &mut mount.options {
                    *option = option.replace("/root/m/", "/elsewhere/");
                }
            }
            let mut outside = bare.clone();
            outside[0].source = "/etc".to_owned();
            let (same, mapped) = (Some(100_007), Some(7));
            for (left, right, expected) in [
                (&two, &own, Some((own_folder, same))),
                (&two, &others, Some((others_folder.clone(), mapped))),
                (&shown, &others, Some((others_folder, mapped))),
                (&nothing, &bare, Some((bare_folder.clone(), same))),
                (&Vec::new(), &bare, Some((bare_folder, same))),
                (&nothing, &only, Some((only_folder, mapped))),
                (&one, &two, Some((layer("upper"), same))),
                (&one, &shown, Some((layer("upper"), same))),
                (&nothing, &one, Some((layer("lower"), same))),
                (&Vec::new(), &one, Some((layer("lower"), same))),
                (&one, &own, None),
                (&one, &others, None),
                (&own, &own, None),
                (&two, &one, None),
                (&nothing, &nothing, None),
                (&Vec::new(), &outside, None),
                (&outside, &bare, None),
                (&two, &foreign, None),
                (&[one.clone(), one.clone()].concat(), &two, None),
            ] {
                let expected = expected.map(|(folder, owner)| (PathBuf::from(folder), owner));
                let told = told(&snapshotter, left, right);
                assert_eq!(told, expected, "{mode:?} {left:?} {right:?}");
            }
            for name in ["lower", "upper"] {
                let read = fs::read(snapshotter.store.root().join(layer(name)).join(name));
                assert_eq!(read.expect("mounted"), name.as_bytes());
            }
            for key in [
                "bare", "nothing", "one", "two", "shown", "own", "others", "only",
            ]
            .into_iter()
            .chain(["upper", "lower"])
            {
                snapshotter.remove(key).expect("removed");
            }
            snapshotter.cleanup().expect("thrown away");
        }
    }
}
