//! What containerd is told to mount: a pure function of what lies below a snapshot.

use crate::api::types::Mount;
use crate::config::MountMode;
use crate::error::Error;
use crate::metadata::{Labels, State};
use erofs_mount::mapped::{IdMapping, IdRange};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Labels with the numbers of users and groups in a container and outside, as `container:host:count`, by commas.
const MAPPINGS: [(&str, &str); 2] = [
    ("containerd.io/snapshot/uidmapping", "uidmap"),
    ("containerd.io/snapshot/gidmapping", "gidmap"),
];

/// An image below a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lower {
    /// The image.
    pub(crate) image: PathBuf,
    /// Its extra devices, by slot.
    pub(crate) devices: Vec<PathBuf>,
    /// Where it is mounted for the snapshot, unless containerd mounts it.
    pub(crate) point: PathBuf,
}

/// What a snapshot is mounted of.
#[derive(Debug)]
pub(crate) struct Parts<'s> {
    pub(crate) state: State,
    /// The topmost first.
    pub(crate) lower: &'s [Lower],
    pub(crate) upper: &'s Path,
    pub(crate) work: &'s Path,
    pub(crate) owners: &'s Owners,
}

/// How users and groups of a container are numbered outside, if not as inside.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Owners {
    /// Options of overlay mounts, as containerd knows them.
    options: Vec<String>,
    /// Ranges of users and of groups.
    ranges: [Vec<IdRange>; 2],
}

impl Owners {
    /// What labels say.
    ///
    /// # Errors
    /// [`Error::Argument`] when they do not say it well, or do not say who is root.
    pub(crate) fn of(labels: &Labels) -> Result<Self, Error> {
        let mut owners = Self::default();
        for ((label, option), ranges) in MAPPINGS.into_iter().zip(&mut owners.ranges) {
            let Some(value) = labels.get(label) else {
                continue;
            };
            let mapped = value.split(',').map(range).collect::<Option<Vec<_>>>();
            *ranges = mapped
                .filter(|ranges| of_root(ranges).is_some())
                .ok_or_else(|| {
                    Error::Argument(format!(
                        "label {label}: {value:?} is not container:host:count with a number for root"
                    ))
                })?;
            owners.options.push(format!("{option}={value}"));
        }
        Ok(owners)
    }

    /// The owner and group of an upper directory, where they are `user` and `group` in the container.
    pub(crate) fn outside(&self, user: u32, group: u32) -> (u32, u32) {
        let [users, groups] = &self.ranges;
        (
            of_root(users).unwrap_or(user),
            of_root(groups).unwrap_or(group),
        )
    }

    /// The user of the container who has this number outside, if there is one.
    pub(crate) fn user_inside(&self, outside: u32) -> Option<u32> {
        let [users, _] = &self.ranges;
        inside(users, outside)
    }

    /// The group of the container that has this number outside, if there is one.
    pub(crate) fn group_inside(&self, outside: u32) -> Option<u32> {
        let [_, groups] = &self.ranges;
        inside(groups, outside)
    }

    /// Whether they are others at all.
    pub(crate) const fn are_others(&self) -> bool {
        !self.options.is_empty()
    }

    /// The same for the kernel.
    ///
    /// # Errors
    /// Those of [`IdMapping::new`].
    pub(crate) fn mapping(&self) -> io::Result<IdMapping> {
        let [users, groups] = self
            .ranges
            .each_ref()
            .map(|ranges| match ranges.as_slice() {
                [] => &[IdRange {
                    inside: 0,
                    outside: 0,
                    count: u32::MAX,
                }],
                ranges => ranges,
            });
        IdMapping::new(users, groups)
    }
}

/// The number in a container of one outside; every number is itself where nothing is mapped.
fn inside(ranges: &[IdRange], outside: u32) -> Option<u32> {
    if ranges.is_empty() {
        return Some(outside);
    }
    ranges.iter().find_map(|range| {
        let offset = outside.checked_sub(range.outside)?;
        let is_in_range = offset < range.count;
        is_in_range.then(|| range.inside.checked_add(offset))?
    })
}

/// The number of root outside.
fn of_root(ranges: &[IdRange]) -> Option<u32> {
    let root = ranges
        .iter()
        .find(|range| range.inside == 0 && range.count > 0);
    root.map(|range| range.outside)
}

fn range(text: &str) -> Option<IdRange> {
    let mut numbers = text.split(':').map(|number| number.parse().ok());
    let range = IdRange {
        inside: numbers.next()??,
        outside: numbers.next()??,
        count: numbers.next()??,
    };
    numbers.next().is_none().then_some(range)
}

impl Parts<'_> {
    /// The mounts, which say the same whenever they are asked for.
    pub(crate) fn mounts(&self, mode: MountMode) -> Vec<Mount> {
        match mode {
            MountMode::Overlay => vec![self.overlay()],
            MountMode::Delegate => self.templates(),
        }
    }

    const fn is_active(&self) -> bool {
        matches!(self.state, State::Active)
    }

    fn bind(&self, source: impl fmt::Display) -> Mount {
        let access = if self.is_active() { "rw" } else { "ro" };
        mount("bind", source, [access, "rbind"].map(str::to_owned).into())
    }

    /// Options of an overlay over `lower`, a list by colons or what stands for it.
    fn options(&self, lower: &str) -> Vec<String> {
        let mut options = Vec::new();
        if self.is_active() {
            options.push(format!("workdir={}", self.work.display()));
            options.push(format!("upperdir={}", self.upper.display()));
        }
        options.push(format!("lowerdir={lower}"));
        options
    }

    /// One mount over layers that are mounted here.
    fn overlay(&self) -> Mount {
        match self.lower {
            [] => self.bind(self.upper.display()),
            [only] if !self.is_active() => self.bind(only.point.display()),
            lower => {
                let points: Vec<String> = lower
                    .iter()
                    .map(|lower| lower.point.display().to_string())
                    .collect();
                mount("overlay", "overlay", self.options(&points.join(":")))
            }
        }
    }

    /// Layers that containerd's mount manager (2.2 and newer) or a virtual machine mounts, and what is done with them.
    fn templates(&self) -> Vec<Mount> {
        let layers = self.lower.iter().map(|lower| {
            let own = ["ro", "loop"].map(str::to_owned);
            let devices = lower
                .devices
                .iter()
                .map(|device| format!("device={}", device.display()));
            mount(
                "erofs",
                lower.image.display(),
                own.into_iter().chain(devices).collect(),
            )
        });
        let mut mounts: Vec<Mount> = layers.collect();
        match mounts.len() {
            0 => mounts.push(self.bind(self.upper.display())),
            1 if !self.is_active() => {}
            count => {
                let lower = match count {
                    1 => "{{ mount 0 }}".to_owned(),
                    _ => format!("{{{{ overlay 0 {} }}}}", count - 1),
                };
                let mut options = self.owners.options.clone();
                options.extend(self.options(&lower));
                mounts.push(mount("format/overlay", "overlay", options));
            }
        }
        mounts
    }
}

fn mount(kind: &str, source: impl fmt::Display, options: Vec<String>) -> Mount {
    Mount {
        r#type: kind.to_owned(),
        source: source.to_string(),
        target: String::new(),
        options,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn lower(name: &str) -> Lower {
        Lower {
            image: format!("/l/{name}.erofs").into(),
            devices: Vec::new(),
            point: format!("/m/{name}").into(),
        }
    }

    fn told(state: State, lower: &[Lower], owners: &Owners, mode: MountMode) -> Vec<String> {
        let parts = Parts {
            state,
            lower,
            upper: Path::new("/s/fs"),
            work: Path::new("/s/work"),
            owners,
        };
        let line = |mount: Mount| {
            let Mount {
                r#type,
                source,
                options,
                ..
            } = mount;
            format!("{} {source} {}", r#type, options.join(","))
        };
        parts.mounts(mode).into_iter().map(line).collect()
    }

    #[test]
    fn layers_mounted_here_become_one_mount() {
        let layers = [lower("2"), lower("1")];
        let none = Owners::default();
        let told = |state, lower| told(state, lower, &none, MountMode::Overlay);
        assert_eq!(told(State::Active, &[]), ["bind /s/fs rw,rbind"]);
        assert_eq!(told(State::View, &[]), ["bind /s/fs ro,rbind"]);
        assert_eq!(told(State::View, &layers[..1]), ["bind /m/2 ro,rbind"]);
        assert_eq!(
            told(State::View, &layers),
            ["overlay overlay lowerdir=/m/2:/m/1"]
        );
        assert_eq!(
            told(State::Active, &layers[..1]),
            ["overlay overlay workdir=/s/work,upperdir=/s/fs,lowerdir=/m/2"]
        );
    }

    #[test]
    fn layers_mounted_by_containerd_come_as_templates() {
        let mut layers = [lower("2"), lower("1")];
        layers[0].devices.push("/l/blob".into());
        let none = Owners::default();
        let told = |state, lower| told(state, lower, &none, MountMode::Delegate);
        assert_eq!(told(State::Active, &[]), ["bind /s/fs rw,rbind"]);
        assert_eq!(
            told(State::View, &layers[1..]),
            ["erofs /l/1.erofs ro,loop"]
        );
        assert_eq!(
            told(State::View, &layers),
            [
                "erofs /l/2.erofs ro,loop,device=/l/blob",
                "erofs /l/1.erofs ro,loop",
                "format/overlay overlay lowerdir={{ overlay 0 1 }}"
            ]
        );
        assert_eq!(
            told(State::Active, &layers[1..]),
            [
                "erofs /l/1.erofs ro,loop",
                "format/overlay overlay workdir=/s/work,upperdir=/s/fs,lowerdir={{ mount 0 }}"
            ]
        );
    }

    #[test]
    fn users_of_a_container_are_mapped() {
        let labels = |users: &str| {
            Labels::from([
                (MAPPINGS[0].0.to_owned(), users.to_owned()),
                (MAPPINGS[1].0.to_owned(), "0:2000:10".to_owned()),
            ])
        };
        let owners = Owners::of(&labels("1:5:3,0:1000:1")).unwrap();
        assert_eq!(owners.outside(0, 0), (1000, 2000));
        let users = [0, 4, 5, 7, 8, 1000, 1001].map(|user| owners.user_inside(user));
        let expected = [None, None, Some(1), Some(3), None, Some(0), None];
        assert_eq!(users, expected);
        let groups = [1999, 2000, 2009, 2010].map(|group| owners.group_inside(group));
        assert_eq!(groups, [None, Some(0), Some(9), None]);
        assert_eq!(
            told(State::Active, &[lower("1")], &owners, MountMode::Delegate),
            [
                "erofs /l/1.erofs ro,loop",
                "format/overlay overlay uidmap=1:5:3,0:1000:1,gidmap=0:2000:10,workdir=/s/work,upperdir=/s/fs,lowerdir={{ mount 0 }}"
            ]
        );
        for wrong in ["", "0:1", "0:1:2:3", "0:-1:2", "1:5:3", "0:1:0"] {
            assert!(Owners::of(&labels(wrong)).is_err(), "{wrong}");
        }
        let none = Owners::of(&Labels::new()).unwrap();
        assert_eq!(none, Owners::default());
        assert_eq!(none.outside(3, 4), (3, 4));
        assert_eq!(none.user_inside(70_000), Some(70_000));
    }
}
