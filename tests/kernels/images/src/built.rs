//! The images that this project writes.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use erofs_format::{
    BlockBits,
    kernel::{KernelVersion, Requirement},
};
use erofs_mount::Ability;
use erofs_tests::workshop::open;
use rustix::{
    fs::{SeekFrom as Place, seek},
    io::Errno,
};

use crate::{
    list::{Entry, List},
    sources::{Source, Sources},
};

/// Options of `erofs build` for the tree with everything.
const FORMS_OF_ALL: [(&str, &[&str]); 8] = [
    ("holes", &[]),
    ("dense", &["--no-sparse"]),
    ("block-512", &["-b512"]),
    ("xattrs-shared", &["-x0"]),
    ("xattr-prefixes", &["--xattr-prefix=auto"]),
    ("dot-omitted", &["-Edot-omitted"]),
    ("metabox-all", &["-m4096:lz4", "--compress-directories"]),
    (
        "directories-lz4",
        &["-zlz4", "-C4k", "--no-sparse", "--compress-directories"],
    ),
];

/// Those of which the brief form of the matrix shows nothing more than others do.
const FORMS_OF_ALL_AT_LENGTH: [(&str, &[&str]); 1] = [(
    "directories-packed",
    &[
        "-zlz4",
        "-C16k",
        "--no-sparse",
        "-Eall-fragments",
        "--compress-directories",
    ],
)];

/// Those that change how content is stored.
const FORMS_OF_CONTENT: [(&str, &[&str]); 46] = [
    ("xattrs-inline", &["-x1000000"]),
    ("no-inline", &["-Enoinline_data"]),
    ("no-dedupe", &["--no-dedupe"]),
    ("chunks-4k", &["--chunksize=4096"]),
    ("chunks-64k", &["--chunksize=65536"]),
    ("aligned", &["--dsunit=16", "-E48bit"]),
    (
        "chunk-indexes",
        &["--chunksize=4096", "-Eforce-chunk-indexes"],
    ),
    ("lz4-4k", &["-zlz4", "-C4k"]),
    ("lz4-1m", &["-zlz4", "-C1m"]),
    ("lz4hc", &["-zlz4hc,12"]),
    (
        "lz4hc-full-extents",
        &[
            "-zlz4hc",
            "-C16k",
            "-Elegacy-compress",
            "--max-extent-bytes=10000",
        ],
    ),
    ("block-1k-lz4", &["-b1024", "-zlz4", "-C4k"]),
    ("lz4-4k-tails", &["-zlz4", "-C4k", "-Eztailpacking"]),
    (
        "lz4hc-full-tails",
        &["-zlz4hc", "-Elegacy-compress,ztailpacking"],
    ),
    ("deflate-tails", &["-zdeflate", "-Eztailpacking"]),
    ("zstd-tails", &["-zzstd", "-Eztailpacking"]),
    ("lzma", &["-zlzma,9"]),
    (
        "lzma-4k-tails",
        &["-zlzma,lc=2,lp=1", "-C4k", "-Eztailpacking"],
    ),
    ("deflate", &["-zdeflate,9"]),
    ("deflate-4k", &["-zlibdeflate,12", "-C4k"]),
    ("zstd", &["-zzstd"]),
    ("zstd-no-inline", &["-zzstd", "-Enoinline_data"]),
    ("zstd-4k", &["-zzstd", "-C4k"]),
    ("zstd-1m", &["-zzstd,9", "-C1m"]),
    ("zstd-full-4k", &["-zzstd", "-C4k", "-Elegacy-compress"]),
    ("zstd-full-16k", &["-zzstd", "-C16k", "-Elegacy-compress"]),
    ("zstd-dedupe", &["-zzstd", "-C4k", "-Ededupe"]),
    ("zstd-fragments", &["-zzstd", "-C16k", "-Efragments"]),
    (
        "zstd-fragments-full",
        &["-zzstd", "-C4k", "-Efragments=65536", "-Elegacy-compress"],
    ),
    ("zstd-all-fragments", &["-zzstd", "-Eall-fragments"]),
    (
        "block-1k-zstd-fragments",
        &["-b1024", "-zzstd", "-C4k", "-Efragments"],
    ),
    ("block-1k", &["-b1024"]),
    ("block-2k", &["-b2048"]),
    ("block-512-chunks", &["-b512", "--chunksize=4096"]),
    ("block-512-zstd", &["-b512", "-zzstd"]),
    (
        "block-1k-zstd",
        &["-b1024", "-zzstd", "-C16k", "-Elegacy-compress"],
    ),
    ("block-2k-zstd", &["-b2048", "-zzstd", "-C4k"]),
    ("extents", &["-zzstd", "-E48bit"]),
    (
        "extents-4-bytes",
        &["-zlz4hc", "-E48bit", "--max-extent-bytes=8192"],
    ),
    ("extents-dedupe", &["-zzstd", "-C4k", "-E48bit,dedupe"]),
    (
        "extents-fragments",
        &["-zdeflate", "-C16k", "-E48bit,fragments"],
    ),
    ("extents-1k", &["-b1024", "-zzstd", "-C16k", "-E48bit"]),
    ("metabox", &["-zzstd", "-m16384", "--compress-directories"]),
    (
        "metabox-fragments",
        &["-zzstd", "-m64k:lz4hc", "-Eall-fragments,dedupe"],
    ),
    (
        "metabox-512",
        &["-b512", "-zzstd", "-m4096", "--compress-directories"],
    ),
    ("label-16", &["-L", "sixteen bytes..."]),
];

/// Options of images, and of those that go on from them.
const FORMS_OF_INCREMENTS: [(&str, &[&str], &[&str]); 4] = [
    (
        "append-lz4",
        &["-zlz4", "-C4k", "--no-sparse"],
        &["-zlz4", "-C4k", "--no-sparse"],
    ),
    ("append-small", &["--preset=small"], &["--preset=small"]),
    (
        "append-fragments",
        &["-zlz4", "-C16k", "-Efragments"],
        &["-zlz4hc", "-C4k", "-Eall-fragments"],
    ),
    (
        "append-extents",
        &["-zzstd", "-Eall-fragments,48bit"],
        &["-zzstd", "-Eall-fragments,48bit"],
    ),
];

/// How metadata is read does not depend on the way to the image: for many names one way is enough.
const METADATA_ONCE: &str = " modes=loop";

/// Full images of directories.
pub(crate) fn directories(list: &mut List, sources: &Sources) -> Result<()> {
    for (name, options) in FORMS_OF_ALL {
        let mut entry = list.make("build", name, &sources.tree, options)?;
        if name != "dense" {
            entry.more += METADATA_ONCE;
        }
        list.add(&entry);
    }
    for (name, options) in FORMS_OF_ALL_AT_LENGTH {
        let mut entry = list.make("build", name, &sources.tree, options)?;
        entry.more += METADATA_ONCE;
        entry.more += " brief=no";
        list.add(&entry);
    }
    for (name, options) in FORMS_OF_CONTENT {
        list.add(&list.make("build", name, &sources.content, options)?);
    }
    Ok(())
}

/// Images that go on from others: half of the files are in either.
pub(crate) fn increments(list: &mut List, sources: &Sources) -> Result<()> {
    let blob = sources.content.manifest.with_file_name("append.blob");
    let blob = format!("--blobdev={}", blob.display());
    // Its data is on a device, that of what goes on from it is not.
    let on_device: (_, &[&str], &[&str]) = ("append-device", &["--chunksize=4096", &blob], &[]);
    for (name, first, second) in FORMS_OF_INCREMENTS.into_iter().chain([on_device]) {
        let base = format!("{name}-base");
        let first = [first, &["--exclude-regex=^sizes/text"]].concat();
        let base = list.make("build", &base, &sources.content, &first)?;
        let onto = format!("--append-to={}", base.file.display());
        let others = "--exclude-regex=^(sizes/[^t]|holes|duplicates|types|xattrs)";
        let options = [&[onto.as_str(), others], second].concat();
        let mut entry = list.make("build", name, &sources.content, &options)?;
        entry.label = [&["build --append-to BASE"], second].concat().join(" ");
        entry.devices = devices_beside(&entry.file);
        list.add(&entry);
    }
    Ok(())
}

/// Full images of tars, and indexes over them.
pub(crate) fn tars(list: &mut List, sources: &Sources) -> Result<()> {
    let mut built = list.make("build", "tar", &sources.tar, &[])?;
    built.label = "build (of a tar)".into();
    built.more = METADATA_ONCE.into();
    list.add(&built);
    indexed(list, "tar-index", "tar", &sources.tar, &[])?;
    indexed(
        list,
        "tar-index-metabox",
        "tar, compressed metadata",
        &sources.tar,
        &["-m64k:zstd", "--compress-directories"],
    )?;
    let mut embedded = list.make("index", "tar-embedded", &sources.tar, &["--embed"])?;
    embedded.more = "ignore=root".into();
    list.add(&embedded);
    indexed(
        list,
        "huge-tar-index",
        "tar of 1.5 TiB",
        &sources.huge_tar,
        &[],
    )
}

/// Indexes over raw files, with devices and in one file.
pub(crate) fn raw_files(list: &mut List, sources: &Sources) -> Result<()> {
    indexed(list, "raw-index", "raw files", &sources.raw, &[])?;
    indexed(
        list,
        "raw-index-metabox",
        "raw files, compressed metadata",
        &sources.raw,
        &["-m4096:lz4"],
    )?;
    indexed(
        list,
        "huge-raw-index",
        "raw files of 13 TiB",
        &sources.huge_raw,
        &[],
    )
}

fn indexed(
    list: &mut List,
    name: &str,
    what: &str,
    source: &Source,
    options: &[&str],
) -> Result<()> {
    let mut entry = list.make("index", name, source, options)?;
    entry.label = format!("index ({what})");
    entry.devices = devices_beside(&entry.file);
    // The root of raw files is the command's own.
    entry.more = "ignore=root".into();
    list.add(&entry);
    let whole = concatenated(&entry.file, &entry.devices)?;
    let flat = Entry {
        name: format!("{name}-flat"),
        file: whole,
        devices: Vec::new(),
        label: format!("{}, everything in one file", entry.label),
        since: later(&entry.since, Ability::Read(Requirement::FlatDevices))?,
        more: "ignore=root".into(),
        ..entry
    };
    list.add(&flat);
    Ok(())
}

/// The devices of an index, by the tags of its slots: a file that is in the index whole is none.
fn devices_beside(index: &Path) -> Vec<PathBuf> {
    let image = open(index, &[]);
    let slots = image.device_slots().iter();
    slots
        .map(|slot| index.with_file_name(OsStr::from_bytes(slot.tag_bytes())))
        .collect()
}

/// The index and its devices in one file, each at the block that its slot says.
fn concatenated(index: &Path, devices: &[PathBuf]) -> Result<PathBuf> {
    let image = open(index, &[]);
    let path = index.with_extension("flat");
    let mut whole = File::create(&path)?;
    io::copy(&mut File::open(index)?, &mut whole)?;
    let bits = image.superblock().block_bits;
    for (slot, device) in image.device_slots().iter().zip(devices) {
        let start = slot.unified_start.0 << bits.bits();
        copy_sparse(device, &mut whole, start)?;
        whole.set_len(start + slot.blocks * bits.bytes())?;
    }
    Ok(path)
}

/// Copies what is not a hole.
fn copy_sparse(from: &Path, to: &mut File, start: u64) -> Result<()> {
    let mut from = File::open(from)?;
    let mut end = 0;
    loop {
        let data = match seek(&from, Place::Data(end)) {
            Err(Errno::NXIO) => return Ok(()),
            other => other?,
        };
        end = seek(&from, Place::Hole(data))?;
        from.seek(SeekFrom::Start(data))?;
        to.seek(SeekFrom::Start(start + data))?;
        io::copy(&mut (&from).take(end - data), to)?;
    }
}

/// File-backed mounts of these kernels succeed with other bytes where a read of the file fails in its middle.
const SHORT_READS: &str = "misread=6.16,6.17,6.18";

/// One plain image in every way that a kernel offers.
pub(crate) fn ways(list: &mut List, sources: &Sources) -> Result<()> {
    let mut plain = list.make("build", "ways", &sources.content, &["--no-sparse"])?;
    plain.group = "ways";
    plain.more = format!(
        "modes=blk,loop,loop-direct,file,fs-verity,fs-verity-flip,dm-verity,dm-verity-flip {SHORT_READS}"
    );
    list.add(&plain);

    let direct = Entry {
        name: "ways-direct".into(),
        since: later(&plain.since, Ability::DirectIo)?,
        label: "directio".into(),
        more: "modes=file options=directio".into(),
        ..plain.clone()
    };
    list.add(&direct);

    let file = plain.file.with_extension("offset");
    let mut shifted = File::create(&file)?;
    shifted.seek(SeekFrom::Start(8192))?;
    io::copy(&mut File::open(&plain.file)?, &mut shifted)?;
    let offset = Entry {
        name: "ways-offset".into(),
        file,
        since: later(&plain.since, Ability::FsOffset)?,
        label: "fsoffset".into(),
        more: "options=fsoffset=8192".into(),
        ..plain
    };
    list.add(&offset);
    Ok(())
}

/// The later of what a summary says and what this project says of an ability.
fn later(since: &str, ability: Ability) -> Result<String> {
    let since: KernelVersion = since.parse()?;
    let own = ability.since(BlockBits::B4096).context("a kernel has it")?;
    Ok(since.max(own).to_string())
}
