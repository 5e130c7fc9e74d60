//! Real mounts on the running kernel: every way, every probe image, and what happens when the kernel refuses.

#[path = "../src/test_support.rs"]
mod test_support;

use erofs_format::BlockBits;
use erofs_format::kernel::KernelVersion;
use erofs_mount::attempt::{Consequence, WayError};
use erofs_mount::capabilities::{BackingFilesystem, Privilege, SourceFile};
use erofs_mount::table::{self, Carrier, MountedImage};
use erofs_mount::umount::UmountError;
use erofs_mount::{
    Ability, Capabilities, FuseRequest, MountError, MountOptions, MountRequest, Mounted, Proof,
    Rejection, Requirements, Verdict, Way, umount,
};
use rustix::io::Errno;
use std::error::Error;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../images/probe");

/// A folder with an image in it and a directory to mount on; unmounts whatever a failed test leaves.
struct Bench {
    folder: TempDir,
}

impl Bench {
    /// `None` (after saying why) where nothing can be mounted.
    fn new(test: &str) -> Option<Self> {
        match test_support::cannot_mount() {
            None => Some(Self::on(&std::env::temp_dir())),
            Some(reason) => {
                test_support::skip(test, &reason);
                None
            }
        }
    }

    fn on(parent: &Path) -> Self {
        let folder = tempfile::tempdir_in(parent).expect("temporary folder");
        std::fs::create_dir(folder.path().join("target")).expect("made");
        Self { folder }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("target")
    }

    /// Writes `bytes` as file `name`.
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        path
    }

    fn request(&self, image: &Path, options: &str) -> MountRequest {
        MountRequest {
            image: image.to_owned(),
            target: self.target(),
            options: MountOptions::parse(options).expect("valid options"),
        }
    }

    fn mount(&self, image: &Path, options: &str) -> Result<Mounted, MountError> {
        self.request(image, options).prepare(false)?.execute(None)
    }

    /// Mounts with what probes tell, also about features that a distribution has taken into an older kernel.
    fn mount_probed(&self, image: &Path, options: &str) -> Result<Mounted, MountError> {
        let request = self.request(image, options);
        let requirements = Requirements::read(image, request.options.offset)?;
        let mut capabilities = Capabilities::detect()?;
        capabilities.probe_needs(&requirements, self.folder.path());
        request
            .prepare_with(requirements, capabilities, false)?
            .execute(None)
    }

    fn probe_content(&self) -> Vec<u8> {
        std::fs::read(self.target().join("probe")).expect("read")
    }

    /// Unmounts and checks that nothing stays behind.
    fn unmount(&self) -> MountedImage {
        let began = Instant::now();
        let unmounted = loop {
            match umount(&self.target(), false) {
                // Another test is starting a program, which has all files open for a moment.
                Err(UmountError::Busy(_)) if began.elapsed() < Duration::from_secs(10) => {
                    sleep(Duration::from_millis(5));
                }
                unmounted => break unmounted.expect("unmounted"),
            }
        };
        assert_eq!(unmounted.left_over, None);
        assert!(self.listed().is_none());
        assert_eq!(self.loop_devices(), Vec::<PathBuf>::new());
        unmounted.image
    }

    fn listed(&self) -> Option<MountedImage> {
        let target = self.target().canonicalize().expect("there");
        table::list()
            .expect("mount table")
            .into_iter()
            .find(|image| image.mount_point == target)
    }

    /// Files of this bench that loop devices show. Devices free themselves shortly after the mount is gone.
    fn loop_devices(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().canonicalize().expect("there");
        let attached = || -> Vec<PathBuf> {
            std::fs::read_dir("/sys/block")
                .expect("sysfs")
                .flatten()
                .filter_map(|device| {
                    std::fs::read_to_string(device.path().join("loop/backing_file")).ok()
                })
                .map(|path| PathBuf::from(path.trim_end()))
                .filter(|path| path.starts_with(&folder))
                .collect()
        };
        for _ in 0..500 {
            if attached().is_empty() {
                break;
            }
            sleep(Duration::from_millis(4));
        }
        attached()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = umount(&self.target(), true);
    }
}

fn image(name: &str) -> Vec<u8> {
    std::fs::read(format!("{IMAGES}/{name}")).expect(name)
}

/// Names of the images, and the size of the file in each, from the manifest.
fn manifest() -> Vec<(String, usize)> {
    let text = std::fs::read_to_string(format!("{IMAGES}/manifest.tsv")).expect("manifest");
    let rows = text
        .lines()
        .skip(1)
        .map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter_map(|row| {
        Some((
            row[0].strip_suffix(".erofs")?.to_owned(),
            row[3].parse().expect("bytes"),
        ))
    })
    .collect()
}

/// What `probe` holds, as the recipe of the images writes it.
fn content(size: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut content = Vec::new();
    for number in 0.. {
        if content.len() >= size {
            break;
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        content.extend(format!("erofs probe line {number:04}: {:08x}\n", state >> 32).into_bytes());
    }
    content.truncate(size);
    content
}

fn forbidden(_: &FuseRequest<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
    panic!("FUSE must not be tried");
}

fn kernel_reads(image: &Path) -> bool {
    let requirements = Requirements::read(image, 0).expect("an image");
    let mut capabilities = Capabilities::detect().expect("a supported kernel");
    capabilities.probe_needs(&requirements, &std::env::temp_dir());
    requirements
        .abilities(capabilities.page)
        .iter()
        .all(|&ability| capabilities.verdict(ability).is_possible())
}

fn file_backed_works(folder: &Path) -> bool {
    let mut capabilities = Capabilities::detect().expect("a supported kernel");
    capabilities.probe(Ability::FileBacked, folder);
    capabilities.verdict(Ability::FileBacked) == Verdict::Proven
}

#[test]
fn every_image_by_file_and_by_loop() {
    let Some(bench) = Bench::new("every image") else {
        return;
    };
    let file_backed = file_backed_works(bench.folder.path());
    if !file_backed {
        test_support::skip(
            "file-backed mounts",
            "this kernel does not make them on the temporary folder",
        );
    }
    let blob = bench.file("devices.blob", &image("devices.blob"));
    for (name, size) in manifest() {
        let path = bench.file(&format!("{name}.erofs"), &image(&format!("{name}.erofs")));
        if !kernel_reads(&path) {
            let refused = bench.mount_probed(&path, "");
            assert!(
                matches!(refused, Err(MountError::Plan(_))),
                "{name}: {refused:?}"
            );
            continue;
        }
        let device = if name == "devices" {
            format!(",device={}", blob.display())
        } else {
            String::new()
        };
        for way in [Way::File, Way::Loop] {
            if way == Way::File && !file_backed {
                continue;
            }
            let via = if way == Way::File { "via=file" } else { "loop" };
            let mounted = bench.mount_probed(&path, &format!("{via},nosuid,noatime{device}"));
            let mounted = mounted.unwrap_or_else(|error| panic!("{name} {via}: {error}"));
            assert_eq!(mounted.way, way, "{name}");
            assert!(
                bench.probe_content() == content(size),
                "{name} {via}: other content"
            );
            let listed = bench.listed().expect("in the mount table");
            for option in ["ro", "nosuid", "noatime"] {
                assert!(
                    listed.options.split(',').any(|shown| shown == option),
                    "{listed:?}"
                );
            }
            let path = path.canonicalize().expect("there");
            match &listed.carrier {
                Carrier::File => assert_eq!((way, &listed.source), (Way::File, &path)),
                Carrier::Loop { backing } => {
                    assert_eq!((way, backing.as_ref()), (Way::Loop, Some(&path)))
                }
                other => panic!("{name}: {other:?}"),
            }
            assert_eq!(
                way == Way::File && mounted.direct_io,
                listed.options.split(',').any(|shown| shown == "directio")
            );
            bench.unmount();
        }
    }
}

#[test]
fn images_at_an_offset() {
    let Some(bench) = Bench::new("offsets") else {
        return;
    };
    let mut capabilities = Capabilities::detect().expect("a supported kernel");
    capabilities.probe(Ability::FsOffset, bench.folder.path());
    let fsoffset = capabilities.verdict(Ability::FsOffset) == Verdict::Proven;
    for (offset, options, way) in [
        (8192, "", if fsoffset { Way::File } else { Way::Loop }),
        (8192, "loop", Way::Loop),
        (512, "", Way::Loop),
        (8192, "sizelimit=16384", Way::Loop),
    ] {
        let bytes = [
            vec![0xEE; offset],
            image("block-4096.erofs"),
            vec![0xEE; 5000],
        ]
        .concat();
        let path = bench.file("shifted", &bytes);
        let mounted = bench
            .mount(&path, &format!("{options},offset={offset}"))
            .expect("mounted");
        assert_eq!(mounted.way, way, "{offset} {options}");
        assert!(bench.probe_content() == content(9000), "{offset} {options}");
        bench.unmount();
    }
}

#[test]
fn extra_devices_behind_the_image() {
    let Some(bench) = Bench::new("flat devices") else {
        return;
    };
    let path = bench.file(
        "flat",
        &[image("devices.erofs"), image("devices.blob")].concat(),
    );
    for options in ["", "loop"] {
        match bench.mount(&path, options) {
            Ok(_) => {
                assert!(bench.probe_content() == content(9000), "{options}");
                bench.unmount();
            }
            // Before Linux 6.4
            Err(error) => assert!(error.to_string().contains("since Linux 6.4"), "{error}"),
        }
    }
    let alone = bench.file("alone", &image("devices.erofs"));
    let refused = bench.mount(&alone, "").expect_err("its blob is missing");
    assert!(
        refused
            .to_string()
            .contains("1 extra devices, 0 were given"),
        "{refused}"
    );
}

#[test]
fn odd_paths() {
    let Some(bench) = Bench::new("odd paths") else {
        return;
    };
    let mut folder = bench.folder.path().join("a, \"b\" \\ c");
    // Longer than the 255 bytes of fsconfig(2).
    for _ in 0..3 {
        folder.push("long".repeat(30));
    }
    std::fs::create_dir_all(&folder).expect("made");
    if !kernel_reads(Path::new(IMAGES).join("devices.erofs").as_path()) {
        return test_support::skip("odd paths", "this kernel has no extra devices");
    }
    let (path, blob) = (folder.join("i m,a\nge"), folder.join("blob"));
    std::fs::write(&path, image("devices.erofs")).expect("written");
    std::fs::write(&blob, image("devices.blob")).expect("written");
    for options in ["", "loop"] {
        let mut request = bench.request(&path, options);
        request.options.devices.push(blob.clone());
        request
            .prepare(false)
            .expect("possible")
            .execute(None)
            .expect("mounted");
        assert!(bench.probe_content() == content(9000), "{options}");
        bench.unmount();
    }
}

#[test]
fn a_corrupt_image_is_told_at_once() {
    let Some(bench) = Bench::new("corrupt image") else {
        return;
    };
    let mut bytes = image("block-4096.erofs");
    // The volume name: nothing but the checksum notices.
    bytes[1024 + 64] ^= 1;
    let path = bench.file("corrupt", &bytes);
    for options in ["", "loop"] {
        let prepared = bench
            .request(&path, options)
            .prepare(true)
            .expect("possible");
        let error = prepared.execute(Some(&mut forbidden)).expect_err("corrupt");
        let MountError::Corrupt { attempts, .. } = &error else {
            panic!("{error}")
        };
        let (failure, consequence) = attempts
            .last()
            .and_then(|last| last.failure.as_ref())
            .expect("failed");
        assert_eq!(
            (failure.errno(), consequence),
            (Some(Errno::BADMSG), &Consequence::Corrupt),
            "{attempts:?}"
        );
        assert_eq!(attempts.len(), 1);
        assert!(error.to_string().contains("is corrupt"), "{error}");
    }
    assert!(bench.listed().is_none());
    assert_eq!(bench.loop_devices(), Vec::<PathBuf>::new());
}

#[test]
fn no_image_at_all() {
    let bench = Bench::on(&std::env::temp_dir());
    let path = bench.file("text", &[b'x'; 8192]);
    assert!(matches!(
        bench.mount(&path, ""),
        Err(MountError::Requirements(_))
    ));
    let good = bench.file("good", &image("block-4096.erofs"));
    let mut request = bench.request(&good, "");
    request.target = good.clone();
    assert!(
        matches!(request.prepare(false), Err(MountError::File { .. })),
        "a file is no mount point"
    );
}

/// An EROFS image in a file-backed EROFS: the planner cannot know, the kernel says ENOTBLK, the loop device works.
#[test]
fn a_refused_file_backed_mount_falls_to_a_loop_device() {
    let Some(bench) = Bench::new("ENOTBLK") else {
        return;
    };
    if !file_backed_works(bench.folder.path()) {
        return test_support::skip("ENOTBLK", "this kernel has no file-backed mounts");
    }
    // The inner image takes the place of the outer's file content, which has no checksum.
    let (mut outer, inner) = (image("block-4096.erofs"), image("lz4.erofs"));
    let content_at = outer
        .windows(64)
        .position(|window| window == &content(64)[..])
        .expect("stored plain");
    outer[content_at..content_at + inner.len()].copy_from_slice(&inner);
    let outer = bench.file("outer", &outer);
    bench.mount(&outer, "via=file").expect("mounted");

    let second = Bench::on(&std::env::temp_dir());
    let mounted = second
        .mount(&bench.target().join("probe"), "")
        .expect("mounted");
    let (failure, consequence) = mounted.attempts[0].failure.as_ref().expect("refused");
    assert_eq!(
        (failure.errno(), consequence),
        (Some(Errno::NOTBLK), &Consequence::NextWay)
    );
    assert_eq!((mounted.way, mounted.attempts.len()), (Way::Loop, 2));
    assert!(second.probe_content() == content(9000));
    second.unmount();
    bench.unmount();
}

#[test]
fn tmpfs_and_overlayfs_mean_loop_devices() {
    let Some(bench) = Bench::new("tmpfs and overlayfs") else {
        return;
    };
    let shared = Path::new("/dev/shm");
    if shared.is_dir() {
        let bench = Bench::on(shared);
        let path = bench.file("image", &image("lz4.erofs"));
        let prepared = bench.request(&path, "").prepare(false).expect("possible");
        assert_eq!(prepared.sources.image.filesystem, BackingFilesystem::Tmpfs);
        assert!(prepared.plan.rejected.iter().any(|(way, reasons)| {
            *way == Way::File
                && reasons
                    .iter()
                    .any(|reason| matches!(reason, Rejection::BackingFilesystem { .. }))
        }));
        assert_eq!(prepared.execute(None).expect("mounted").way, Way::Loop);
        assert!(bench.probe_content() == content(9000));
        bench.unmount();
    } else {
        test_support::skip("tmpfs", "there is no /dev/shm");
    }

    let folder = bench.folder.path();
    let (lower, empty, merged) = (
        folder.join("lower"),
        folder.join("empty"),
        folder.join("merged"),
    );
    for path in [&lower, &empty, &merged] {
        std::fs::create_dir(path).expect("made");
    }
    std::fs::write(lower.join("image"), image("lz4.erofs")).expect("written");
    let layers = format!("lowerdir={}:{}", lower.display(), empty.display());
    let layers = std::ffi::CString::new(layers).expect("no NUL");
    let flags = rustix::mount::MountFlags::RDONLY;
    if let Err(errno) =
        rustix::mount::mount("overlay", &merged, "overlay", flags, layers.as_c_str())
    {
        return test_support::skip("overlayfs", &format!("it cannot be mounted: {errno}"));
    }
    let mounted = bench.mount(&merged.join("image"), "");
    let filesystem = SourceFile::inspect(&merged.join("image")).map(|source| source.filesystem);
    let read = mounted.as_ref().is_ok().then(|| bench.probe_content());
    let image = read.is_some().then(|| bench.unmount());
    rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::empty()).expect("unmounted");
    assert_eq!(mounted.expect("mounted").way, Way::Loop);
    assert_eq!(filesystem.expect("inspected"), BackingFilesystem::Overlayfs);
    assert!(read == Some(content(9000)));
    assert!(matches!(
        image.expect("unmounted").carrier,
        Carrier::Loop { .. }
    ));
}

/// A mistake in the options is the kernel's EINVAL too, and must not be taken for a missing feature.
#[test]
fn a_bad_option_does_not_fall_back() {
    let Some(bench) = Bench::new("bad option") else {
        return;
    };
    let path = bench.file("image", &image("zstd.erofs"));
    if !kernel_reads(&path) {
        return test_support::skip("bad option", "this kernel has no Zstd");
    }
    let prepared = bench
        .request(&path, "surprise")
        .prepare(true)
        .expect("possible");
    let direct_io = prepared.plan.steps[0].direct_io && prepared.plan.steps[0].way == Way::File;
    let error = prepared.execute(Some(&mut forbidden)).expect_err("refused");
    assert!(matches!(error, MountError::Failed { .. }), "{error}");
    // The kernel might have meant directio, so it got another chance.
    let failures: Vec<_> = error
        .attempts()
        .iter()
        .filter_map(|attempt| attempt.failure.as_ref())
        .collect();
    assert_eq!(failures.len(), 1 + usize::from(direct_io));
    assert_eq!(failures[0].1 == Consequence::WithoutDirectIo, direct_io);
    // From the log of the mount context.
    assert!(error.to_string().contains("surprise'"), "{error}");
    let (failure, consequence) = error
        .attempts()
        .last()
        .and_then(|last| last.failure.as_ref())
        .expect("failed");
    assert_eq!(
        (failure.errno(), consequence),
        (Some(Errno::INVAL), &Consequence::GiveUp)
    );
}

/// EINVAL for a feature that a probe shows to be missing goes on to the next way, FUSE in the end.
#[test]
fn a_missing_feature_ends_at_fuse() {
    let Some(bench) = Bench::new("missing feature") else {
        return;
    };
    let path = bench.file("image", &image("block-16384.erofs"));
    let mut capabilities = Capabilities::detect().expect("a supported kernel");
    let blocks = BlockBits::new(14).expect("valid");
    if capabilities.kernel < KernelVersion::new(6, 1) {
        // It computes the checksum over a page and answers EBADMSG, which no plan of ours gets to see.
        return test_support::skip(
            "missing feature",
            "this kernel does not look at the block size first",
        );
    }
    if capabilities.page >= blocks {
        return test_support::skip(
            "missing feature",
            "the pages of this machine are large enough",
        );
    }
    // A planner that believes in larger pages.
    capabilities.page = blocks;
    capabilities.fuse.device = true;
    let mut served = None;
    let mut launcher = |request: &FuseRequest<'_>| -> Result<(), Box<dyn Error + Send + Sync>> {
        served = Some((request.image.to_owned(), request.target.to_owned()));
        Ok(())
    };
    let requirements = Requirements::read(&path, 0).expect("an image");
    let prepared = bench
        .request(&path, "")
        .prepare_with(requirements, capabilities, true)
        .expect("possible");
    let mounted = prepared.execute(Some(&mut launcher)).expect("served");
    let lacking = Consequence::Lacking(Ability::Blocks(blocks));
    assert!(mounted.attempts.iter().any(|attempt| {
        attempt
            .failure
            .as_ref()
            .is_some_and(|(error, then)| error.errno() == Some(Errno::INVAL) && *then == lacking)
    }));
    assert_eq!(mounted.way, Way::Fuse);
    let canonical = |path: PathBuf| path.canonicalize().expect("there");
    assert_eq!(served, Some((canonical(path), canonical(bench.target()))));
}

/// The kernel takes the privilege away between plan and mount: EPERM everywhere, FUSE last.
#[test]
fn without_privilege_fuse_is_left() {
    let Some(bench) = Bench::new("no privilege") else {
        return;
    };
    let path = bench.file("image", &image("block-4096.erofs"));
    let mut capabilities = Capabilities::detect().expect("a supported kernel");
    capabilities.fuse.device = true;
    let requirements = Requirements::read(&path, 0).expect("an image");
    let prepared = bench
        .request(&path, "")
        .prepare_with(requirements, capabilities, true)
        .expect("possible");
    // Capabilities belong to threads.
    let unprivileged = std::thread::spawn(move || {
        let mut sets = rustix::thread::capabilities(None).expect("readable");
        sets.effective
            .remove(rustix::thread::CapabilitySet::SYS_ADMIN);
        rustix::thread::set_capabilities(None, sets).expect("dropped");
        let detected = Capabilities::detect()
            .expect("a supported kernel")
            .privilege;
        let mut refusal = |_: &FuseRequest<'_>| -> Result<(), Box<dyn Error + Send + Sync>> {
            Err("no server".into())
        };
        (detected, prepared.execute(Some(&mut refusal)))
    });
    let (detected, outcome) = unprivileged.join().expect("no panic");
    assert_eq!(detected, Privilege::None);
    let error = outcome.expect_err("nothing was mounted");
    let (last, earlier) = error.attempts().split_last().expect("attempts");
    assert!(
        matches!(last.failure, Some((WayError::Fuse(_), Consequence::GiveUp))),
        "{last}"
    );
    assert!(!earlier.is_empty());
    for attempt in earlier {
        let (failure, consequence) = attempt.failure.as_ref().expect("refused");
        assert_eq!(
            (failure.errno(), consequence),
            (Some(Errno::PERM), &Consequence::NextWay),
            "{attempt}"
        );
    }
    assert_eq!(bench.loop_devices(), Vec::<PathBuf>::new());
}

/// A mount of our FUSE server is found and taken down, also when the server is gone and the directory only answers
/// with an error. The kernel shows the mount before any server speaks, so none is needed here.
#[test]
fn fuse_mounts_are_taken_down() {
    let Some(bench) = Bench::new("FUSE mounts") else {
        return;
    };
    for server_is_gone in [false, true] {
        let device = match std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
        {
            Ok(device) => device,
            Err(error) => return test_support::skip("FUSE mounts", &format!("/dev/fuse: {error}")),
        };
        let data = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let data = std::ffi::CString::new(data).expect("no NUL");
        let target = bench.target();
        let flags = rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount(
            "some.erofs",
            &target,
            table::FUSE_TYPE,
            flags,
            data.as_c_str(),
        )
        .expect("mounted");
        let listed = table::list().expect("mount table");
        assert!(
            listed
                .iter()
                .any(|image| image.carrier == Carrier::Fuse
                    && image.source == Path::new("some.erofs"))
        );
        let device = Some(device).filter(|_| !server_is_gone);
        if server_is_gone {
            let error = std::fs::read_dir(&target).expect_err("nobody serves it");
            // The latter since Linux 7, for a server that never spoke.
            let silent = [Errno::NOTCONN, Errno::CONNREFUSED].map(Errno::raw_os_error);
            assert!(
                error
                    .raw_os_error()
                    .is_some_and(|errno| silent.contains(&errno)),
                "{error}"
            );
        }
        let unmounted = umount(&target, false).expect("unmounted");
        assert_eq!(
            (unmounted.image.carrier, unmounted.left_over),
            (Carrier::Fuse, None)
        );
        drop(device);
    }
}

/// Without privilege the set-uid fusermount3 takes down what its caller mounted, and nothing else.
#[test]
fn fusermount_unmounts_for_its_user() {
    let Some(bench) = Bench::new("fusermount3") else {
        return;
    };
    let (nobody, folder) = (65534, bench.folder.path().to_owned());
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("opened");
    let set_uid = |path: &Path| {
        path.metadata()
            .is_ok_and(|found| found.uid() == 0 && found.mode() & 0o4001 == 0o4001)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| set_uid(&folder.join("fusermount3"))) {
        return test_support::skip("fusermount3", "it is not installed");
    }
    for (owner, allowed) in [(0, false), (nobody, true)] {
        let Ok(device) = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
        else {
            return test_support::skip("fusermount3", "there is no /dev/fuse");
        };
        let data = format!(
            "fd={},rootmode=40000,user_id={owner},group_id=0",
            device.as_raw_fd()
        );
        let data = std::ffi::CString::new(data).expect("no NUL");
        let flags = rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount(
            "some.erofs",
            bench.target(),
            table::FUSE_TYPE,
            flags,
            data.as_c_str(),
        )
        .expect("mounted");
        let target = bench.target();
        // User ids belong to threads, and to what they start.
        let unmounted = std::thread::spawn(move || {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(nobody))
                .expect("changed");
            umount(&target, false)
        });
        let unmounted = unmounted.join().expect("no panic");
        if allowed {
            assert_eq!(unmounted.expect("unmounted").image.carrier, Carrier::Fuse);
        } else {
            assert!(
                matches!(unmounted, Err(UmountError::Fusermount { .. })),
                "{unmounted:?}"
            );
            umount(&bench.target(), false).expect("unmounted");
        }
        drop(device);
    }
}

/// Loop devices are raced for.
#[test]
fn many_mounts_at_once() {
    let Some(_) = Bench::new("many mounts") else {
        return;
    };
    let bytes = image("block-4096.erofs");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let bench = Bench::on(&std::env::temp_dir());
                let path = bench.file("image", &bytes);
                for _ in 0..10 {
                    bench.mount(&path, "loop").expect("mounted");
                    assert!(bench.probe_content() == content(9000));
                    bench.unmount();
                }
            });
        }
    });
}

#[test]
fn a_busy_mount_is_detached_lazily_only() {
    let Some(bench) = Bench::new("busy mount") else {
        return;
    };
    let path = bench.file("image", &image("block-4096.erofs"));
    bench.mount(&path, "loop").expect("mounted");
    let reader = std::fs::File::open(bench.target().join("probe")).expect("open");
    assert!(matches!(
        umount(&bench.target(), false),
        Err(UmountError::Busy(_))
    ));
    let unmounted = umount(&bench.target(), true).expect("detached");
    assert!(
        unmounted.left_over.is_some(),
        "the reader still holds the device"
    );
    assert!(matches!(
        umount(&bench.target(), false),
        Err(UmountError::NotMounted(_))
    ));
    drop(reader);
    assert_eq!(bench.loop_devices(), Vec::<PathBuf>::new());
}

/// Probes find out what the other tests rely on, and leave nothing behind.
#[test]
fn probes_tell_the_truth() {
    let Some(bench) = Bench::new("probes") else {
        return;
    };
    let mut capabilities = Capabilities::detect().expect("a supported kernel");
    capabilities.probe_all(bench.folder.path());
    for (ability, proof) in &capabilities.proofs {
        eprintln!("{ability}: {proof:?}");
        assert!(
            !matches!(proof, Proof::NotProbed { .. } | Proof::WrongContent),
            "{ability}: {proof:?}"
        );
        // What needs no configuration works from its version on.
        let unconditional = matches!(ability, Ability::Blocks(_) | Ability::FsOffset);
        if let (true, Some(since)) = (unconditional, ability.since(capabilities.page)) {
            assert!(
                *proof == Proof::Works || capabilities.kernel < since,
                "{ability}: {proof:?}"
            );
        }
        if ability.since(capabilities.page).is_none() {
            assert!(
                matches!(
                    proof,
                    Proof::Refused {
                        errno: Errno::INVAL | Errno::BADMSG,
                        ..
                    }
                ),
                "{ability}: {proof:?}"
            );
        }
    }
    assert_eq!(capabilities.proofs.len(), Ability::all().len());
    assert!(bench.listed().is_none());

    // On tmpfs the kernel refuses file-backed mounts, which a probe there shows.
    let mut capabilities = Capabilities::detect().expect("a supported kernel");
    if Path::new("/dev/shm").is_dir() {
        capabilities.probe(Ability::FileBacked, Path::new("/dev/shm"));
        let proof = capabilities.proof(Ability::FileBacked);
        assert!(
            matches!(
                proof,
                Some(Proof::Refused {
                    errno: Errno::NOTBLK,
                    ..
                })
            ),
            "{proof:?}"
        );
    }
}
