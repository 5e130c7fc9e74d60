//! A guest under QEMU whose power is cut. All that its disk was told is written down, so that it can be cut at any moment, with
//! any part of what had not been flushed.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use erofs_tests::containerd::fetched;
use erofs_tests::require;
use erofs_tests::skip::{self, Reason};
use erofs_tests::workshop::{Workshop, build, succeed};
use rustix::fs::{AtFlags, CWD, OFlags, StatxAttributes, StatxFlags, statx};

use crate::plugin::{Plugin, needs, noise, read, tar, unmount_below};
use crate::random::{Random, seed, variable};

/// Set where the test runs inside of the guest.
const INSIDE: &str = "EROFS_INSIDE_GUEST";
const SECTOR: usize = 512;
/// The disk: first an ext4 of so many bytes, then what was answered, a sector each.
const FILESYSTEM: u64 = 96 << 20;
const DISK: u64 = FILESYSTEM + (1 << 20);
/// Snapshots that are kept before the guest removes the oldest.
const KEPT: usize = 8;

/// What the guest notes once it was answered, or before it asks for what takes something away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Note {
    /// The image of this number is committed, with both layers.
    Committed(u64),
    /// That image is about to be removed.
    Removing(u64),
}

impl Note {
    fn sector(self) -> String {
        let text = match self {
            Self::Committed(image) => format!("+{image} "),
            Self::Removing(image) => format!("-{image} "),
        };
        format!("{text:SECTOR$}")
    }

    fn parse(sector: &[u8]) -> Option<Self> {
        let text = str::from_utf8(sector).ok()?;
        let number = text.get(1..)?.trim_end().parse().ok()?;
        match sector.first()? {
            b'+' => Some(Self::Committed(number)),
            b'-' => Some(Self::Removing(number)),
            _ => None,
        }
    }
}

/// The files of an image's layers, by its number.
fn contents(image: u64) -> [Vec<u8>; 2] {
    [2 * image + 1000, 2 * image + 1001].map(|seed| noise(seed, 60_000))
}

fn name(image: u64, layer: usize) -> String {
    format!("image {image} layer {layer}")
}

/// What the guest does until it ends: images come, and the oldest go.
fn inside() {
    let mut plugin = Plugin::new(Some(Path::new("/disk/store")));
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    // Past the page cache, and without a flush: nothing that is noted makes anything else durable.
    let disk = File::options()
        .write(true)
        .custom_flags(OFlags::DIRECT.bits().cast_signed())
        .open("/dev/vdb")
        .expect("a disk");
    let mut at = FILESYSTEM;
    let mut note = |note: Note| {
        let mut buffer = vec![0_u8; 2 * SECTOR];
        let begin = buffer.as_ptr().align_offset(SECTOR);
        let sector = &mut buffer[begin..begin + SECTOR];
        sector.copy_from_slice(note.sector().as_bytes());
        disk.write_all_at(sector, at).expect("noted");
        at += SECTOR as u64;
    };
    for image in 0.. {
        let mut parent = String::new();
        for (which, content) in contents(image).iter().enumerate() {
            let tar = tar(&[(["lower", "upper"][which], content)]);
            let layer = plugin.layer(&tar, "", &tar);
            let name = name(image, which);
            let unpacked = client.unpack(&layer, &name, &parent);
            plugin.wait(unpacked).expect("unpacked");
            parent = name;
        }
        note(Note::Committed(image));
        eprintln!("committed {image}");
        if let Some(old) = image.checked_sub(KEPT as u64) {
            note(Note::Removing(old));
            for which in [1, 0] {
                plugin
                    .wait(client.remove(&name(old, which)))
                    .expect("removed");
            }
        }
    }
}

/// A folder, and the image of the guest's root directory in it: our binary, this one, their libraries and a shell.
///
/// # Errors
/// What a guest needs is missing.
fn system() -> Result<(Workshop, PathBuf), Reason> {
    needs()?;
    skip::program("mkfs.ext4")?;
    let busybox = fetched("2.1")?[0].join("busybox");
    let workshop = Workshop::light();
    let root = workshop.path("system");
    let programs = [
        (skip::erofs_binary().expect("asked for"), "t/erofs"),
        (env::current_exe().expect("known"), "t/deps/test"),
        (busybox, "bin/busybox"),
        (skip::program("mount").expect("installed"), "bin/mount"),
        (skip::program("umount").expect("installed"), "bin/umount"),
    ];
    for folder in ["bin", "t/deps", "dev", "proc", "sys", "run", "tmp", "disk"] {
        fs::create_dir_all(root.join(folder)).expect("made");
    }
    symlink("busybox", root.join("bin/sh")).expect("made");
    let mut libraries = BTreeSet::new();
    for (program, name) in &programs {
        fs::copy(program, root.join(name)).expect("copied");
        let said = Command::new("ldd").arg(program).output().expect("starts");
        let said = String::from_utf8(said.stdout).expect("text");
        let paths = said.split_whitespace().filter(|word| word.starts_with('/'));
        libraries.extend(paths.map(str::to_owned));
    }
    for library in libraries {
        let to = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a folder")).expect("made");
        fs::copy(&library, &to).expect("copied");
    }
    let image = workshop.path("system.erofs");
    build(&root, &image, &[]);
    fs::remove_dir_all(&root).expect("removed");
    Ok((workshop, image))
}

/// Makes the disk, with options of mkfs.ext4.
fn format(disk: &Path, options: &[&str]) {
    let file = File::create(disk).and_then(|file| file.set_len(DISK));
    file.expect("made");
    let mut command = Command::new("mkfs.ext4");
    command.args([
        "-q",
        "-m0",
        "-b4096",
        "-E",
        "lazy_itable_init=0,lazy_journal_init=0",
    ]);
    command.args(options).arg(disk);
    succeed(command.arg((FILESYSTEM / 4096).to_string()));
}

fn copy(from: &Path, to: &Path) {
    succeed(Command::new("cp").arg("--sparse=always").args([from, to]));
}

/// Runs a test of this module in a guest.
fn guest(kernel: &str, image: &Path, disk: &Path, test: &str) -> Command {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut command = Command::new(workspace.join("tests/kernels/guest.sh"));
    command
        .args(["--kernel", kernel, "--root"])
        .arg(image)
        .arg("--disk")
        .arg(disk);
    let inside = format!("{INSIDE}=1 /t/deps/test --ignored --exact --nocapture guest::{test}");
    command.arg(inside);
    command
}

/// One line of the log: a write, or a flush of all before it.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Byte in the disk.
    at: u64,
    /// Bytes of data; 0 of a flush.
    length: u64,
    /// Byte of the data in the log.
    data: u64,
    is_flush: bool,
    /// Durable once it is answered (FUA).
    is_forced: bool,
}

/// The log's entries, in order (format: drivers/md/dm-log-writes.c, block/blklogwrites.c of QEMU).
fn entries(log: &File) -> Vec<Entry> {
    let length = log.metadata().expect("there").len();
    let mut entries = Vec::new();
    let mut at = SECTOR as u64;
    while at + SECTOR as u64 <= length {
        let mut head = [0; 32];
        log.read_exact_at(&mut head, at).expect("read");
        let word = |index: usize| {
            u64::from_le_bytes(*head[8 * index..].first_chunk().expect("it has four"))
        };
        let (sector, sectors, flags) = (word(0), word(1), word(2));
        at += SECTOR as u64;
        let [flush, forced, discard] = [1, 2, 4].map(|bit| flags & bit != 0);
        let length = if discard { 0 } else { sectors * SECTOR as u64 };
        if head == [0; 32] {
            break;
        }
        entries.push(Entry {
            at: sector * SECTOR as u64,
            length,
            data: at,
            is_flush: flush,
            is_forced: forced,
        });
        at += length;
    }
    // The last one may have been cut off itself.
    entries.retain(|entry| entry.data + entry.length <= length);
    entries
}

/// The disk as it may be when power fails behind the first `count` entries; and what had been noted by then.
fn cut(log: &File, entries: &[Entry], base: &Path, disk: &Path, random: &mut Random) -> Vec<Note> {
    copy(base, disk);
    let disk = File::options().write(true).open(disk).expect("made");
    let flushed = entries.iter().rposition(|entry| entry.is_flush);
    let flushed = flushed.unwrap_or(0);
    let mut notes = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let mut data = vec![0; usize::try_from(entry.length).expect("small")];
        log.read_exact_at(&mut data, entry.data).expect("read");
        if entry.at >= FILESYSTEM {
            notes.extend(data.chunks(SECTOR).filter_map(Note::parse));
        } else if index < flushed || entry.is_forced || random.below(2) == 0 {
            disk.write_all_at(&data, entry.at).expect("written");
        }
    }
    notes
}

/// `EROFS_GUEST_CUTS` times, 100 if nothing is said; `EROFS_SEED` for the same places again, `EROFS_KERNEL` for another kernel.
#[test]
#[ignore = "it emulates a machine for minutes"]
fn a_guest_loses_nothing_wherever_its_power_is_cut() {
    if env::var_os(INSIDE).is_some() {
        return inside();
    }
    let (workshop, image) = require!(system());
    let [base, disk, log] = ["base", "disk", "log"].map(|name| workshop.path(name));
    format(&base, &[]);
    copy(&base, &disk);

    let kernel = env::var("EROFS_KERNEL").unwrap_or_else(|_| "6.12".to_owned());
    let seconds = variable("EROFS_GUEST_SECONDS").unwrap_or(90).to_string();
    let mut guest = guest(
        &kernel,
        &image,
        &disk,
        "a_guest_loses_nothing_wherever_its_power_is_cut",
    );
    guest.args(["--seconds", &seconds, "--log"]).arg(&log);
    let said = succeed(&mut guest).stdout;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("committed 3"), "Linux {kernel}: {said}");

    let log = File::open(&log).expect("written");
    let entries = entries(&log);
    let seed = seed();
    let mut random = Random::new(seed);
    let cuts = variable("EROFS_GUEST_CUTS").unwrap_or(100);
    let mut survived = 0;
    for _ in 0..cuts {
        let count = 1 + random.below(entries.len() as u64);
        let some = &entries[..usize::try_from(count).expect("small")];
        let notes = cut(&log, some, &base, &disk, &mut random);
        survived += look(
            &workshop,
            &disk,
            &notes,
            &format!("cut {count} of seed {seed}"),
        );
    }
    eprintln!(
        "Linux {kernel}: {cuts} cuts among {} writes, {survived} images were committed and all are there",
        entries.len()
    );
}

/// Everything that was answered is on that disk, with its bytes. How many images that were.
fn look(workshop: &Workshop, disk: &Path, notes: &[Note], when: &str) -> u64 {
    let point = workshop.path("mnt");
    fs::create_dir_all(&point).expect("made");
    succeed(
        Command::new("mount")
            .args(["-o", "loop"])
            .args([disk, &point]),
    );
    let root = point.join("store");
    let mut plugin = Plugin::new(Some(&root));
    assert!(plugin.start(None), "{when}: {}", plugin.log());
    plugin.assert_consistent(&root, when);
    assert!(plugin.start(None), "{when}: {}", plugin.log());
    let client = plugin.client();
    let mut images = BTreeSet::new();
    for note in notes {
        match note {
            Note::Committed(image) => images.insert(*image),
            Note::Removing(image) => images.remove(image),
        };
    }
    for image in &images {
        let mounts = plugin
            .wait(client.view("look", &name(*image, 1)))
            .expect(when);
        let found = read(&mounts, &point.join("seen"), &["lower", "upper"]);
        assert!(found == contents(*image).map(Some), "{when}: image {image}");
        plugin.wait(client.remove("look")).expect(when);
    }
    plugin.wait(Plugin::remove_all(&client)).expect(when);
    plugin.assert_empty(&root, when);
    drop(plugin);
    unmount_below(&point);
    images.len() as u64
}

/// What the guest does with fs-verity: a layer is sealed, read, read again by the next process, and removed.
fn seals() {
    let root = Path::new("/disk/store");
    let mut plugin = Plugin::new(Some(root));
    plugin.configure("[integrity]\nfs_verity = \"on\"\n");
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let content = noise(77, 300_000);
    let tar = tar(&[("file", &content)]);
    let layer = plugin.layer(&tar, "", &tar);
    plugin
        .wait(client.unpack(&layer, "sealed", ""))
        .expect("unpacked");
    let digest = layer.diff_id.trim_start_matches("sha256:");
    let file = root
        .join("layers/sha256")
        .join(&digest[..2])
        .join(format!("{digest}.erofs"));
    let is_sealed = || {
        let told = statx(CWD, &file, AtFlags::empty(), StatxFlags::BASIC_STATS);
        told.expect("there")
            .stx_attributes
            .contains(StatxAttributes::VERITY)
    };
    let began = Instant::now();
    while !is_sealed() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{}",
            plugin.log()
        );
        sleep(Duration::from_millis(20));
    }
    for _ in 0..2 {
        let client = plugin.client();
        let mounts = plugin.wait(client.view("look", "sealed")).expect("mounted");
        let found = read(&mounts, Path::new("/tmp/seen"), &["file"]);
        assert!(found == [Some(content.clone())]);
        plugin.wait(client.remove("look")).expect("removed");
        plugin.assert_consistent(root, "sealed");
        assert!(plugin.start(None), "{}", plugin.log());
    }
    plugin
        .wait(Plugin::remove_all(&plugin.client()))
        .expect("removed");
    plugin.assert_empty(root, "sealed");
}

/// Kernels of three ways to mount: a loop device, files, the newest.
#[test]
#[ignore = "it emulates three machines"]
fn a_guest_seals_layers() {
    if env::var_os(INSIDE).is_some() {
        return seals();
    }
    let (workshop, image) = require!(system());
    let disk = workshop.path("disk");
    for kernel in ["6.1", "6.12", "7.2"] {
        format(&disk, &["-O", "verity"]);
        succeed(&mut guest(kernel, &image, &disk, "a_guest_seals_layers"));
    }
}
