//! Running the comparison, and sides of each kind.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use erofs_tests::{
    archive,
    tree::Tree,
    workshop::{build, erofs, succeed},
};

/// What `erofs diff` did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) lines: Vec<String>,
    pub(crate) error: String,
}

#[track_caller]
pub(crate) fn diff(sides: &[&Path; 2], options: &[&str]) -> Ran {
    let mut command = erofs().expect("asked for");
    command.arg("diff").args(options).args(sides);
    let output = command.stdin(Stdio::null()).output().expect("starts");
    Ran {
        code: output.status.code().expect("no signal"),
        lines: String::from_utf8(output.stdout)
            .expect("text")
            .lines()
            .map(str::to_owned)
            .collect(),
        error: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The lines without the totals; the exit code must be right for them.
#[track_caller]
pub(crate) fn lines(sides: &[&Path; 2], options: &[&str]) -> Vec<String> {
    let mut ran = diff(sides, options);
    let totals = ran.lines.pop().expect("totals");
    assert!(totals.contains(" compared in "), "{ran:?} {totals}");
    assert_eq!(ran.code, i32::from(!ran.lines.is_empty()), "{ran:?}");
    assert_eq!(ran.error, "");
    ran.lines
}

/// The object for scripts; the exit code must be right for it.
#[track_caller]
pub(crate) fn json_of(sides: &[&Path; 2], options: &[&str]) -> serde_json::Value {
    let ran = diff(sides, &[&["--json"], options].concat());
    let object: serde_json::Value = serde_json::from_str(&ran.lines.join("\n")).expect("JSON");
    let identical = object["totals"]["identical"].as_bool().expect("told");
    assert_eq!(ran.code, i32::from(!identical), "{ran:?}");
    object
}

pub(crate) fn write(tree: &Tree, directory: &Path) {
    fs::create_dir(directory).expect("made");
    tree.write(directory).expect("written");
}

/// The same tree in every form: a directory, images, tars, an index.
pub(crate) struct Forms {
    pub(crate) directory: PathBuf,
    pub(crate) image: PathBuf,
    pub(crate) compressed: PathBuf,
    pub(crate) tar: PathBuf,
    pub(crate) tar_gz: PathBuf,
    pub(crate) index: PathBuf,
}

impl Forms {
    /// Writes the tree, without sockets, which tars do not hold, below `folder`.
    pub(crate) fn write(tree: &Tree, folder: &Path) -> Self {
        fs::create_dir(folder).expect("made");
        let forms = Self {
            directory: folder.join("directory"),
            image: folder.join("image.erofs"),
            compressed: folder.join("compressed.erofs"),
            tar: folder.join("x.tar"),
            tar_gz: folder.join("x.tar.gz"),
            index: folder.join("x.toc.erofs"),
        };
        write(tree, &forms.directory);
        build(&forms.directory, &forms.image, &[]);
        build(&forms.directory, &forms.compressed, &["-zzstd"]);
        let options = ["--format=posix", "-S", "--xattrs", "--xattrs-include=*"];
        archive::create(&forms.directory, &forms.tar, &options);
        succeed(Command::new("gzip").args(["-1", "-k"]).arg(&forms.tar));
        succeed(
            erofs()
                .expect("asked for")
                .args(["index", "--quiet"])
                .args([&forms.tar, Path::new("-o"), &forms.index]),
        );
        forms
    }

    /// Name and path of each.
    pub(crate) fn all(&self) -> [(&'static str, &Path); 6] {
        [
            ("directory", &self.directory),
            ("image", &self.image),
            ("compressed image", &self.compressed),
            ("tar", &self.tar),
            ("compressed tar", &self.tar_gz),
            ("index", &self.index),
        ]
    }
}
