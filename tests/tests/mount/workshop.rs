//! Where images are made and mounted, and what must be gone afterwards.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use erofs_tests::{
    kernel::Way,
    manifest::Manifest,
    skip::{self, Reason},
};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;

/// A program that another thread starts has copies of all open files for a moment, and what they are on is in use.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A folder with a source, its image and a directory to mount on. Dropping it takes down what a failed test leaves.
pub(crate) struct Workshop {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) erofs: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Workshop {
    pub(crate) fn new() -> Result<Self, Reason> {
        skip::root()?;
        let workshop = Self {
            folder: tempfile::tempdir().expect("a temporary directory"),
            erofs: skip::erofs_binary()?,
            // A test that failed leaves nothing half done here.
            _alone: ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner),
        };
        let source = workshop.at("source");
        fs::create_dir_all(source.join("folder")).expect("made");
        fs::create_dir(workshop.at("target")).expect("made");
        let content: Vec<u8> = (0..100_003u32).flat_map(u32::to_le_bytes).collect();
        fs::write(source.join("file"), content).expect("written");
        fs::write(source.join("folder/small"), "content").expect("written");
        symlink("folder/small", source.join("link")).expect("made");
        workshop.fine(&["build", "--quiet", "source", "-o", "image"]);
        Ok(workshop)
    }

    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Runs `erofs` in the folder.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Output {
        Command::new(&self.erofs)
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("starts")
    }

    /// What `erofs` prints when all is well.
    pub(crate) fn fine<A: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[A]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        text(&output.stdout)
    }

    /// The one line that `erofs` prints when it could not do it.
    pub(crate) fn refused<A: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[A]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let error = text(&output.stderr);
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        error
    }

    pub(crate) fn json<A: AsRef<OsStr> + std::fmt::Debug>(&self, arguments: &[A]) -> Value {
        let output = self.fine(arguments);
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"))
    }

    /// Runs a shell script in the folder, in a mount namespace of its own. `$erofs` is the program.
    pub(crate) fn script(&self, script: &str) -> Output {
        Command::new("unshare")
            .args([
                "--mount",
                "--propagation=private",
                "--",
                "sh",
                "-euc",
                script,
            ])
            .current_dir(self.folder.path())
            .env("erofs", &self.erofs)
            .output()
            .expect("starts")
    }

    /// The same, in a namespace where mount(8) finds `mount.erofs`. /sbin itself is not touched.
    pub(crate) fn with_helper(&self, script: &str) -> String {
        const LINK: &str = "mkdir sbin\nln -s \"$erofs\" sbin/mount.erofs\n\
            mount -t overlay -o lowerdir=sbin:/usr/sbin overlay /usr/sbin\n";
        let output = self.script(&format!("{LINK}{script}"));
        assert!(output.status.success(), "{script}: {output:?}");
        fs::remove_dir_all(self.at("sbin")).expect("removed");
        text(&output.stdout)
    }

    pub(crate) fn shows_the_source(&self) {
        let expected = Manifest::of_directory(&self.at("source")).expect("readable");
        let shown = Manifest::of_directory(&self.at("target")).expect("readable");
        expected.assert_same(&shown, &[]);
    }

    /// Type and options of what is mounted on the target.
    pub(crate) fn mounted(&self) -> Option<(String, String)> {
        let target = self.at("target");
        let mounts = fs::read_to_string("/proc/self/mounts").expect("readable");
        let mut fields = mounts.lines().map(|line| line.split(' '));
        fields.find_map(|mut fields| {
            let place = fields.nth(1)?;
            (Path::new(place) == target)
                .then(|| Some((fields.next()?.to_owned(), fields.next()?.to_owned())))?
        })
    }

    /// Loop devices of files in the folder, and processes that were started with a path in it.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        let own = |text: &[u8]| {
            text.windows(self.name().len())
                .any(|part| part == self.name())
        };
        let files = |folder: &str, name: &str| {
            let entries = fs::read_dir(folder).expect("readable").flatten();
            let paths = entries.map(|entry| entry.path().join(name));
            let found = paths.filter(|path| fs::read(path).is_ok_and(|text| own(&text)));
            found
                .map(|path| path.display().to_string())
                .collect::<Vec<_>>()
        };
        [
            files("/sys/block", "loop/backing_file"),
            files("/proc", "cmdline"),
        ]
        .concat()
    }

    fn name(&self) -> &[u8] {
        self.folder.path().as_os_str().as_encoded_bytes()
    }

    /// No mount at once; loop device and daemon follow by themselves.
    pub(crate) fn nothing_is_left(&self) {
        assert_eq!(self.mounted(), None);
        let start = Instant::now();
        while !self.left_behind().is_empty() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{:?}",
                self.left_behind()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        while self.mounted().is_some() && unmount(self.at("target"), UnmountFlags::DETACH).is_ok() {
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The ways of this machine, as `--via` and JSON call them, with the filesystem type that they show.
pub(crate) fn ways() -> Result<Vec<(&'static str, &'static str)>, Reason> {
    skip::fuse()?;
    let mut ways = vec![("fuse", "fuse.erofs")];
    for way in Way::all()? {
        ways.push(match way {
            Way::File => ("file", "erofs"),
            Way::Loop => ("loop", "erofs"),
        });
    }
    Ok(ways)
}

/// The keys of an object, sorted.
pub(crate) fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}
