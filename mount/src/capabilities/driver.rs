//! The kernel's EROFS driver: registered, or a module that can be loaded.

use std::path::{Path, PathBuf};

/// Where the driver is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// In `/proc/filesystems`.
    Registered,
    /// A module of the running kernel; the kernel loads it at the first mount.
    Module(PathBuf),
    /// The folder of the kernel's modules is here and has none.
    Absent,
    /// Not registered, and the kernel's modules are not to be seen (a container): a mount may still load one.
    Unknown,
}

impl Driver {
    pub(super) fn detect(release: &str) -> Self {
        let registered = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        Self::find(
            &registered,
            &[
                Path::new("/lib/modules").join(release),
                Path::new("/usr/lib/modules").join(release),
            ],
        )
    }

    /// From the text of `/proc/filesystems` and the folders that may hold modules.
    fn find(registered: &str, folders: &[PathBuf]) -> Self {
        // "nodev\tNAME" or "\tNAME"
        if registered
            .lines()
            .any(|line| line.rsplit('\t').next() == Some("erofs"))
        {
            return Self::Registered;
        }
        let Some(folder) = folders
            .iter()
            .find(|folder| folder.join("modules.dep").is_file() || folder.join("kernel").is_dir())
        else {
            return Self::Unknown;
        };
        // "kernel/fs/erofs/erofs.ko.xz: …"
        let listed = std::fs::read_to_string(folder.join("modules.dep")).unwrap_or_default();
        let module = listed
            .lines()
            .filter_map(|line| line.split(':').next())
            .find(|path| {
                path.rsplit('/')
                    .next()
                    .is_some_and(|name| name == "erofs.ko" || name.starts_with("erofs.ko."))
            });
        if let Some(module) = module {
            return Self::Module(folder.join(module));
        }
        let usual = ["erofs.ko", "erofs.ko.xz", "erofs.ko.zst", "erofs.ko.gz"]
            .map(|name| folder.join("kernel/fs/erofs").join(name));
        usual
            .into_iter()
            .find(|path| path.is_file())
            .map_or(Self::Absent, Self::Module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_found_in_all_places() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("dep")).expect("made");
        std::fs::write(
            at("dep/modules.dep"),
            "kernel/fs/x.ko:\nkernel/fs/erofs/erofs.ko.xz: kernel/lib/y.ko\n",
        )
        .expect("written");
        std::fs::create_dir_all(at("plain/kernel/fs/erofs")).expect("made");
        std::fs::write(at("plain/kernel/fs/erofs/erofs.ko.zst"), "").expect("written");
        std::fs::create_dir_all(at("without/kernel/fs")).expect("made");
        std::fs::write(at("without/modules.dep"), "kernel/fs/noterofs.ko:\n").expect("written");
        for (registered, folders, expected) in [
            (
                "nodev\tsysfs\n\terofs\n",
                vec!["without"],
                Driver::Registered,
            ),
            ("nodev\terofs_x\n\text4", vec!["without"], Driver::Absent),
            (
                "\text4\n",
                vec!["nothing", "dep"],
                Driver::Module(at("dep/kernel/fs/erofs/erofs.ko.xz")),
            ),
            (
                "\text4\n",
                vec!["plain"],
                Driver::Module(at("plain/kernel/fs/erofs/erofs.ko.zst")),
            ),
            ("\text4\n", vec!["nothing"], Driver::Unknown),
            ("", vec![], Driver::Unknown),
        ] {
            let folders: Vec<_> = folders.into_iter().map(at).collect();
            assert_eq!(
                Driver::find(registered, &folders),
                expected,
                "{registered:?} {folders:?}"
            );
        }
    }
}
