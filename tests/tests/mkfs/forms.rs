//! Forms of metadata: the reader, this kernel, fsck.erofs and `erofs check` show the source.

use std::os::unix::fs::symlink;
use std::process::Command;

use erofs_format::inode::FileType;
use erofs_reader::Place;
use erofs_tests::{
    kernel::{Mounted, Way},
    manifest::{Field, Manifest},
    peers, require, skip,
    workshop::{self, Workshop, erofs, open, succeed},
};
use rustix::fs::{XattrFlags, setxattr};

use super::{manifest, needs};

#[test]
fn show_the_source() {
    require!(needs());
    let ways = require!(Way::all());
    let workshop = Workshop::light();
    for options in [
        &["-E48bit"][..],
        &["-Edot-omitted,force-inode-extended", "-b512"],
        &["--xattr-prefix=auto", "-b512", "-x0"],
        &["--xattr-prefix=trusted.overlay.", "--root-xattr-isize=4000"],
        &["--dsunit=16", "-zzstd", "--fsalignblks=256"],
        &["-zzstd", "-E48bit,dedupe,fragments", "-C16k", "--zD"],
        &["-zlz4", "-m4096:zstd", "--zD", "-x0"],
    ] {
        println!("{options:?}");
        let image = workshop.build("image.erofs", options);
        let ours = manifest(&workshop, "image.erofs", &[]);
        let ignored = [Field::DirectoryLinks];
        workshop.expected.assert_same(&ours, &ignored);
        workshop::fsck_accepts(&image);
        let mut check: Command = erofs().unwrap();
        succeed(check.args(["check", "--data", "--quiet"]).arg(&image));
        let mounted = Mounted::new(&image, ways[0], "").unwrap();
        let seen = Manifest::of_directory(mounted.path()).unwrap();
        workshop.expected.assert_same(&seen, &ignored);
    }
}

/// Ours and the C tool's fsck.erofs hold the content against the digests that we write.
#[test]
fn digests_are_those_of_the_content() {
    require!(needs());
    let workshop = Workshop::light();
    for options in [
        &["--xattr-inode-digest"][..],
        &["--xattr-inode-digest=user.digest", "-zzstd", "-Efragments"],
        &["--xattr-inode-digest", "-zlz4", "-m4096", "-E48bit"],
    ] {
        let image = workshop.build("digests.erofs", options);
        workshop::fsck_accepts(&image);
        let link = workshop.path("fsck.erofs");
        let _ = symlink(skip::erofs_binary().unwrap(), &link);
        let mut programs = vec![Command::new(link)];
        // fsck.erofs 1.9.4 takes tails that are inlined in a metabox from another place.
        if !options.contains(&"-m4096") {
            programs.push(peers::erofs_utils("fsck.erofs").unwrap());
        }
        for mut fsck in programs {
            succeed(fsck.arg("--xattr-inode-digest").arg(&image));
        }
    }
}

#[test]
fn data_begins_where_it_is_asked_to() {
    require!(needs());
    let workshop = Workshop::light();
    let options = ["--dsunit=64", "-Enoinline_data", "--no-sparse"];
    let image = open(&workshop.build("image.erofs", &options), &[]);
    let mut files = 0;
    for entry in image.walk().unwrap() {
        let inode = entry.unwrap().inode;
        if inode.file_type != FileType::Regular || inode.size == 0 {
            continue;
        }
        let first = image.extents(&inode).next().unwrap().unwrap();
        if let Place::Data { offset, .. } = first.place {
            assert_eq!(offset.0 % (64 * 4096), 0);
            files += 1;
        }
    }
    assert!(files > 50, "{files}");
}

#[test]
fn long_prefixes_and_omitted_dots_make_images_smaller() {
    require!(needs());
    let workshop = Workshop::light();
    for number in 0..400 {
        let directory = workshop.source.join(format!("attributed-{number}"));
        std::fs::create_dir(&directory).unwrap();
        let name = "user.company.department.team.number";
        let value = number.to_string();
        setxattr(&directory, name, value.as_bytes(), XattrFlags::empty()).unwrap();
    }
    let size = |options: &[&str]| {
        let image = workshop.build("image.erofs", options);
        std::fs::metadata(image).unwrap().len()
    };
    let plain = size(&[]);
    let prefixed = size(&["--xattr-prefix=auto"]);
    assert!(prefixed + 8000 < plain, "{prefixed} {plain}");
    let dotless = size(&["-Edot-omitted"]);
    assert!(dotless + 4000 < plain, "{dotless} {plain}");
}
