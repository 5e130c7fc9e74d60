//! The malformed images: our reader says of each what is wrong, soon and with little memory.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use erofs_reader::{FileSource, Image, ImageOptions, Symlinks};
use erofs_tests::listing::{self, sha256};

/// For opening and reading all of one image.
const LONGEST: Duration = Duration::from_secs(20);
/// Most memory that this process may ever have had, in KiB.
const MEMORY: u64 = 512 << 10;

/// A line of the manifest.
#[derive(Debug)]
struct Shape {
    image: PathBuf,
    /// A path of the listing, or `mount`.
    place: String,
    /// Part of what is said there; `-` when it reads.
    error: String,
    digest: String,
}

fn shapes() -> Vec<Shape> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/malformed");
    let manifest = fs::read_to_string(folder.join("manifest.tsv")).expect("a manifest");
    let lines = manifest.lines().skip(1).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [image, place, error, _, _, digest] = columns[..] else {
            panic!("six columns: {line}");
        };
        Shape {
            image: folder.join(image),
            place: place.into(),
            error: error.into(),
            digest: digest.into(),
        }
    });
    lines.collect()
}

/// What our reader says about an image, line by line: path and the rest.
fn said(image: &Path) -> Vec<(String, String)> {
    let source = FileSource::open(image).expect("opens");
    match Image::open(source, ImageOptions::default()) {
        Err(error) => vec![("mount".into(), format!("!{error}"))],
        Ok(image) => listing::of_image(&image)
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(path, rest)| (path.into(), rest.into()))
            .collect(),
    }
}

#[test]
fn every_shape_is_told() {
    let mut failed = Vec::new();
    for shape in shapes() {
        let name = shape
            .image
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let began = Instant::now();
        let said = said(&shape.image);
        let there: Vec<&str> = said
            .iter()
            .filter(|(path, _)| *path == shape.place)
            .map(|(_, rest)| rest.as_str())
            .collect();
        let errors: Vec<&str> = there
            .iter()
            .copied()
            .filter(|rest| rest.contains('!'))
            .collect();
        let right = if shape.error == "-" {
            !there.is_empty() && errors.is_empty()
        } else {
            errors.iter().any(|rest| rest.contains(&shape.error))
        };
        if !right {
            failed.push(format!(
                "{name}: {}: {:?}, but {said:#?}",
                shape.place, shape.error
            ));
        }
        assert!(began.elapsed() < LONGEST, "{name}: {:?}", began.elapsed());
    }
    assert!(
        failed.is_empty(),
        "{}:\n{}",
        failed.len(),
        failed.join("\n")
    );
    let status = fs::read_to_string("/proc/self/status").expect("readable");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.expect("told") < MEMORY, "{peak:?} KiB");
}

/// Every fixture that the table of pitfalls names is there.
#[test]
fn pitfalls_have_their_fixtures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("images/malformed/README.md")).expect("readable");
    let (_, table) = readme
        .split_once("## Which pitfall is where")
        .expect("a table");
    let mut count = 0;
    for name in table
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| {
            let (_, fixtures) = line
                .trim_end_matches(" |")
                .rsplit_once(" | ")
                .expect("two columns");
            fixtures.split('`').skip(1).step_by(2)
        })
    {
        let file = match name.split_once('/') {
            Some(("tar", name)) => format!("fuzz/fixtures/tar/{name}"),
            Some(("golden", name)) => format!("images/golden/{name}.erofs"),
            // Files of code, and what is in them.
            Some(_) => name.into(),
            None if name == "deep_trees_end" => continue,
            None if name == "extent-of-280-mib" => format!("fuzz/fixtures/check/{name}.erofs"),
            None => format!("images/malformed/{name}.erofs"),
        };
        assert!(root.join(&file).exists(), "{file}");
        count += 1;
    }
    assert!(count > 50, "{count}");
}

#[test]
fn reading_anywhere_ends() {
    for shape in shapes() {
        let source = FileSource::open(&shape.image).expect("opens");
        let Ok(image) = Image::open(source, ImageOptions::default()) else {
            continue;
        };
        let began = Instant::now();
        for entry in image.walk().into_iter().flatten().flatten() {
            let mut part = [0; 100];
            for step in 0..64 {
                // What fails is told by the other test; here it must end.
                let at = entry.inode.data_size() / 64 * step + step * 97;
                let _ = image.read(&entry.inode, at, &mut part);
            }
        }
        let name = shape.image.display();
        assert!(began.elapsed() < LONGEST, "{name}: {:?}", began.elapsed());
    }
}

#[test]
fn lookups_find_what_the_kernel_finds() {
    // Two inodes of one name, and a name behind those that it sorts after: seen in a guest with Linux 7.2.
    for (shape, path, size) in [
        ("directory-duplicate", &b"dir/a"[..], 2),
        ("directory-unsorted", b"dir/z", 2),
    ] {
        let shapes = shapes();
        let shape = shapes
            .iter()
            .find(|other| other.image.ends_with(format!("{shape}.erofs")));
        let source = FileSource::open(&shape.expect("kept").image).expect("opens");
        let image = Image::open(source, ImageOptions::default()).expect("an image");
        let found = image.resolve(path, Symlinks::Keep).expect("found");
        assert_eq!(found.size, size, "{}", path.escape_ascii());
    }
}

#[test]
fn the_manifest_is_right() {
    for shape in shapes() {
        let bytes = fs::read(&shape.image).expect("kept");
        let found = sha256(&bytes);
        assert_eq!(found, shape.digest, "{}", shape.image.display());
    }
}
