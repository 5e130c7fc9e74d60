//! The planner as a table: what the image needs × what the machine offers × what the user wants → which ways, and why not
//! the others.

use erofs_format::BlockBits;
use erofs_format::kernel::{KernelVersion, Requirement as R};
use erofs_mount::capabilities::{
    BackingFilesystem, Capabilities, Driver, Fuse, Privilege, SourceFile, SourceKind,
};
use erofs_mount::plan::Sources;
use erofs_mount::{Ability, DirectIo, PlanError, Proof, Requirements, Via, Way, Wish, plan};
use rustix::io::Errno;

/// One row's input. The default: root on ext4, a plain image, every device there, nothing probed.
struct Scene {
    image: Requirements,
    machine: Capabilities,
    sources: Sources,
    wish: Wish,
}

fn file(path: &str) -> SourceFile {
    SourceFile {
        path: path.into(),
        kind: SourceKind::Regular,
        filesystem: BackingFilesystem::Other,
        direct_io_alignment: Some(512),
        bytes: 1 << 30,
    }
}

fn scene(kernel: (u16, u16)) -> Scene {
    Scene {
        image: Requirements::plain(),
        machine: Capabilities {
            release: format!("{}.{}.0-test", kernel.0, kernel.1),
            kernel: KernelVersion::new(kernel.0, kernel.1),
            page: BlockBits::B4096,
            driver: Driver::Registered,
            sysfs_features: Vec::new(),
            privilege: Privilege::Full,
            mount_contexts: true,
            loop_control: true,
            fuse: Fuse {
                device: true,
                fusermount: true,
            },
            proofs: Vec::new(),
        },
        sources: Sources {
            image: file("/srv/a.erofs"),
            devices: Vec::new(),
        },
        wish: Wish {
            fuse_launcher: true,
            ..Wish::default()
        },
    }
}

fn needs(scene: &mut Scene, features: &[R]) {
    scene.image.features = features.to_vec();
    scene.image.compressed = features.contains(&R::ZeroPadding);
}

fn zstd(scene: &mut Scene) {
    needs(scene, &[R::ZeroPadding, R::BigPcluster, R::Zstd]);
}

fn index(scene: &mut Scene, devices: usize) {
    needs(scene, &[R::ChunkedFile, R::DeviceTable]);
    scene.image.extra_devices = 2;
    scene.image.flat_bytes = Some(1 << 20);
    scene.sources.devices = (0..devices)
        .map(|slot| file(&format!("/srv/{slot}.blob")))
        .collect();
}

fn block_device(scene: &mut Scene) {
    scene.sources.image = SourceFile {
        kind: SourceKind::BlockDevice,
        bytes: 0,
        ..file("/dev/vdb")
    };
}

fn blocks(scene: &mut Scene, bits: u8) {
    scene.image.block_bits = BlockBits::new(bits).expect("valid");
}

fn refused(scene: &mut Scene, ability: Ability) {
    let proof = Proof::Refused {
        errno: Errno::OPNOTSUPP,
        reason: "not built in".into(),
    };
    scene.machine.proofs.push((ability, proof));
}

fn no_root(scene: &mut Scene) {
    scene.machine.privilege = Privilege::None;
}

/// Name, kernel, what differs from the default, the ways in order (`+` = direct I/O), and for rejected ways a part of the
/// reason.
type Row = (
    &'static str,
    (u16, u16),
    fn(&mut Scene),
    &'static str,
    &'static [(Way, &'static str)],
);

const TOO_OLD_FOR_FILES: (Way, &str) = (Way::File, "file-backed mounts: since Linux 6.12");
const NO_PRIVILEGE: &str = "CAP_SYS_ADMIN";

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // Kernels, plain image
    ("plain on 5.4", (5, 4), |_| {}, "loop+ fuse", &[TOO_OLD_FOR_FILES]),
    ("plain on 5.10", (5, 10), |_| {}, "loop+ fuse", &[TOO_OLD_FOR_FILES]),
    ("plain on 6.1", (6, 1), |_| {}, "loop+ fuse", &[TOO_OLD_FOR_FILES]),
    ("plain on 6.11", (6, 11), |_| {}, "loop+ fuse", &[TOO_OLD_FOR_FILES]),
    ("plain on 6.12", (6, 12), |_| {}, "file+ loop+ fuse", &[]),
    ("plain on 6.18", (6, 18), |_| {}, "file+ loop+ fuse", &[]),
    ("plain on 7.2", (7, 2), |_| {}, "file+ loop+ fuse", &[]),
    ("plain on 5.3", (5, 3), |_| {}, "fuse", &[(Way::Loop, "4096-byte blocks: since Linux 5.4, this is 5.3")]),
    // Features
    ("holes on 5.10", (5, 10), |s| needs(s, &[R::ChunkedFile]), "fuse", &[(Way::Loop, "chunk-based files (holes): since Linux 5.15"), TOO_OLD_FOR_FILES]),
    ("holes on 5.15", (5, 15), |s| needs(s, &[R::ChunkedFile]), "loop+ fuse", &[]),
    ("lz4 on 5.4", (5, 4), |s| needs(s, &[R::ZeroPadding]), "loop+ fuse", &[]),
    ("zstd on 5.10", (5, 10), zstd, "fuse", &[(Way::Loop, "Zstd: since Linux 6.10")]),
    ("zstd on 6.6", (6, 6), zstd, "fuse", &[(Way::Loop, "Zstd: since Linux 6.10, this is 6.6")]),
    ("zstd on 6.10", (6, 10), zstd, "loop+ fuse", &[TOO_OLD_FOR_FILES]),
    ("zstd on 6.18", (6, 18), zstd, "file+ loop+ fuse", &[]),
    ("zstd not built in", (6, 18), |s| { zstd(s); refused(s, Ability::Read(R::Zstd)); }, "fuse", &[(Way::File, "a probe of Zstd failed: not built in"), (Way::Loop, "Zstd")]),
    ("zstd backported", (6, 6), |s| { zstd(s); s.machine.proofs.push((Ability::Read(R::Zstd), Proof::Works)); }, "loop+ fuse", &[TOO_OLD_FOR_FILES]),
    ("a probe that could not run decides nothing", (6, 18), |s| { zstd(s); s.machine.proofs.push((Ability::Read(R::Zstd), Proof::NotProbed { reason: "no loop".into() })); }, "file+ loop+ fuse", &[]),
    ("a probe read back wrong", (6, 18), |s| { zstd(s); s.machine.proofs.push((Ability::Read(R::Zstd), Proof::WrongContent)); }, "fuse", &[(Way::Loop, "read back wrong")]),
    ("lzma on 5.15", (5, 15), |s| needs(s, &[R::ZeroPadding, R::BigPcluster, R::MicroLzma]), "fuse", &[(Way::Loop, "MicroLZMA: since Linux 5.16")]),
    ("metabox on 6.16", (6, 16), |s| needs(s, &[R::Bit48, R::Metabox]), "fuse", &[(Way::File, "metabox: since Linux 6.17")]),
    ("48bit on 6.15", (6, 15), |s| needs(s, &[R::Bit48]), "file+ loop+ fuse", &[]),
    // Block sizes
    ("512-byte blocks on 6.1", (6, 1), |s| blocks(s, 9), "fuse", &[(Way::Loop, "512-byte blocks: since Linux 6.4")]),
    ("512-byte blocks on 6.4", (6, 4), |s| blocks(s, 9), "loop+ fuse", &[TOO_OLD_FOR_FILES]),
    ("compressed 512-byte blocks on 6.6", (6, 6), |s| { needs(s, &[R::ZeroPadding]); blocks(s, 9); }, "fuse", &[(Way::Loop, "compression with 512-byte blocks: since Linux 6.8")]),
    ("16 KiB blocks, 4 KiB pages", (7, 2), |s| blocks(s, 14), "fuse", &[(Way::File, "16384-byte blocks: larger than this machine's pages"), (Way::Loop, "larger")]),
    ("16 KiB blocks, 16 KiB pages", (6, 18), |s| { blocks(s, 14); s.machine.page = BlockBits::new(14).expect("valid"); }, "file+ loop+ fuse", &[]),
    ("4 KiB blocks, 64 KiB pages, 6.1", (6, 1), |s| s.machine.page = BlockBits::new(16).expect("valid"), "fuse", &[(Way::Loop, "4096-byte blocks: since Linux 6.4")]),
    // Privileges
    ("no root", (6, 18), no_root, "fuse", &[(Way::File, NO_PRIVILEGE), (Way::Loop, NO_PRIVILEGE)]),
    ("root of a user namespace", (6, 18), |s| s.machine.privilege = Privilege::UserNamespace, "fuse", &[(Way::File, "this is another user namespace")]),
    ("user namespace, no fusermount3", (6, 18), |s| { s.machine.privilege = Privilege::UserNamespace; s.machine.fuse.fusermount = false; }, "fuse", &[]),
    ("no root, no fusermount3", (6, 18), |s| { no_root(s); s.machine.fuse.fusermount = false; }, "", &[(Way::Fuse, "fusermount3"), (Way::File, NO_PRIVILEGE)]),
    ("no root, no /dev/fuse", (6, 18), |s| { no_root(s); s.machine.fuse.device = false; }, "", &[(Way::Fuse, "/dev/fuse"), (Way::Loop, NO_PRIVILEGE)]),
    // Machine
    ("no driver", (6, 18), |s| s.machine.driver = Driver::Absent, "fuse", &[(Way::File, "no EROFS driver"), (Way::Loop, "no EROFS driver")]),
    ("driver unknown in a container", (6, 18), |s| s.machine.driver = Driver::Unknown, "file+ loop+ fuse", &[]),
    ("driver is a module", (6, 1), |s| s.machine.driver = Driver::Module("/m/erofs.ko".into()), "loop+ fuse", &[]),
    ("no loop devices", (6, 1), |s| s.machine.loop_control = false, "fuse", &[(Way::Loop, "/dev/loop-control"), TOO_OLD_FOR_FILES]),
    ("no loop devices needed", (6, 18), |s| s.machine.loop_control = false, "file+ fuse", &[(Way::Loop, "/dev/loop-control")]),
    ("no FUSE server", (6, 18), |s| s.wish.fuse_launcher = false, "file+ loop+", &[(Way::Fuse, "no FUSE server is at hand")]),
    ("file-backed not configured", (6, 18), |s| refused(s, Ability::FileBacked), "loop+ fuse", &[(Way::File, "a probe of file-backed mounts failed")]),
    ("nothing works", (5, 10), |s| { zstd(s); s.machine.fuse.device = false; }, "", &[(Way::Loop, "Zstd"), (Way::Fuse, "/dev/fuse")]),
    // Where the image stands
    ("image on overlayfs", (6, 18), |s| s.sources.image.filesystem = BackingFilesystem::Overlayfs, "loop+ fuse", &[(Way::File, "overlayfs cannot carry")]),
    ("image on tmpfs", (6, 18), |s| s.sources.image.filesystem = BackingFilesystem::Tmpfs, "loop+ fuse", &[(Way::File, "tmpfs cannot carry")]),
    ("image on EROFS", (6, 18), |s| s.sources.image.filesystem = BackingFilesystem::Erofs, "file+ loop+ fuse", &[]),
    ("image on overlayfs, no root", (6, 18), |s| { no_root(s); s.sources.image.filesystem = BackingFilesystem::Overlayfs; }, "fuse", &[(Way::File, NO_PRIVILEGE), (Way::File, "overlayfs")]),
    ("image is a block device", (6, 1), block_device, "block fuse", &[]),
    ("block device, no root", (6, 18), |s| { block_device(s); no_root(s); }, "fuse", &[(Way::Block, NO_PRIVILEGE)]),
    ("block device via file", (6, 18), |s| { block_device(s); s.wish.via = Via::File; }, "", &[(Way::File, "/dev/vdb is not a regular file")]),
    ("block device, offset, old kernel", (6, 1), |s| { block_device(s); s.wish.offset = 8192; }, "loop+ fuse", &[(Way::Block, "fsoffset=): since Linux 6.16")]),
    ("block device, offset, new kernel", (6, 18), |s| { block_device(s); s.wish.offset = 8192; }, "block loop+ fuse", &[]),
    ("image is a FIFO", (6, 18), |s| s.sources.image.kind = SourceKind::Other, "", &[(Way::File, "is not a regular file"), (Way::Loop, "regular file or a block device"), (Way::Fuse, "regular file or a block device")]),
    // Direct I/O
    ("directio refused by a probe", (6, 18), |s| refused(s, Ability::DirectIo), "file loop+ fuse", &[]),
    ("filesystem without O_DIRECT", (6, 18), |s| s.sources.image.direct_io_alignment = None, "file loop+ fuse", &[]),
    ("sectors larger than blocks", (6, 18), |s| { blocks(s, 9); s.sources.image.direct_io_alignment = Some(4096); }, "file loop+ fuse", &[]),
    ("a blob without O_DIRECT", (6, 18), |s| { index(s, 2); s.sources.devices[1].direct_io_alignment = None; }, "file loop+ fuse", &[]),
    ("nodirectio", (6, 18), |s| s.wish.direct_io = DirectIo::Never, "file loop fuse", &[]),
    ("directio forced", (6, 18), |s| { s.wish.direct_io = DirectIo::Always; s.sources.image.direct_io_alignment = None; }, "file+ loop+ fuse", &[]),
    // Extra devices
    ("two devices on 5.15", (5, 15), |s| index(s, 2), "fuse", &[(Way::Loop, "extra devices: since Linux 5.16")]),
    ("two devices on 6.1", (6, 1), |s| index(s, 2), "loop+ fuse", &[TOO_OLD_FOR_FILES]),
    ("two devices on 6.18", (6, 18), |s| index(s, 2), "file+ loop+ fuse", &[]),
    ("a blob on tmpfs", (6, 18), |s| { index(s, 2); s.sources.devices[0].filesystem = BackingFilesystem::Tmpfs; }, "loop+ fuse", &[(Way::File, "/srv/0.blob: tmpfs")]),
    ("a blob on a block device", (6, 18), |s| { index(s, 2); s.sources.devices[0].kind = SourceKind::BlockDevice; }, "loop+ fuse", &[(Way::File, "/srv/0.blob is not a regular file")]),
    ("block device with blobs in files", (6, 18), |s| { index(s, 2); block_device(s); }, "block fuse", &[]),
    ("block device with blobs, no loop", (6, 18), |s| { index(s, 2); block_device(s); s.machine.loop_control = false; }, "fuse", &[(Way::Block, "/dev/loop-control")]),
    ("blobs behind the image", (6, 18), |s| index(s, 0), "file+ loop+ fuse", &[]),
    ("blobs behind the image on 6.1", (6, 1), |s| index(s, 0), "fuse", &[(Way::Loop, "extra devices behind the image in one file: since Linux 6.4")]),
    // Offsets and limits
    ("offset on 6.18", (6, 18), |s| s.wish.offset = 8192, "file+ loop+ fuse", &[]),
    ("offset on 6.12", (6, 12), |s| s.wish.offset = 8192, "loop+ fuse", &[(Way::File, "(fsoffset=): since Linux 6.16")]),
    ("odd offset", (6, 18), |s| s.wish.offset = 512, "loop+ fuse", &[(Way::File, "offset 512 is not a multiple of the image's blocks of 4096 bytes")]),
    ("size limit", (6, 18), |s| s.wish.size_limit = Some(4096), "loop+ fuse", &[(Way::File, "sizelimit= needs a loop device")]),
    // Wishes
    ("via file", (6, 18), |s| s.wish.via = Via::File, "file+", &[(Way::Loop, "not asked for (via=file)"), (Way::Fuse, "not asked for")]),
    ("via loop", (6, 18), |s| s.wish.via = Via::Loop, "loop+", &[(Way::File, "not asked for (via=loop)")]),
    ("via fuse", (6, 18), |s| s.wish.via = Via::Fuse, "fuse", &[(Way::File, "not asked for"), (Way::Loop, "not asked for")]),
    ("via file on 6.1", (6, 1), |s| s.wish.via = Via::File, "", &[TOO_OLD_FOR_FILES]),
    ("via file on overlayfs", (6, 18), |s| { s.wish.via = Via::File; s.sources.image.filesystem = BackingFilesystem::Overlayfs; }, "", &[(Way::File, "/srv/a.erofs: overlayfs")]),
    ("via loop without root", (6, 18), |s| { s.wish.via = Via::Loop; no_root(s); }, "", &[(Way::Loop, NO_PRIVILEGE)]),
    ("via fuse without a server", (6, 18), |s| { s.wish.via = Via::Fuse; s.wish.fuse_launcher = false; }, "", &[(Way::Fuse, "no FUSE server")]),
    ("via loop of a block device", (6, 1), |s| { s.wish.via = Via::Loop; block_device(s); }, "loop+", &[(Way::Block, "not asked for")]),
];

#[test]
fn every_row() {
    assert!(TABLE.len() >= 40);
    for (name, kernel, change, expected, reasons) in TABLE {
        let mut scene = scene(*kernel);
        change(&mut scene);
        let planned = plan(&scene.image, &scene.machine, &scene.sources, &scene.wish);
        let (ways, rejected, shown) = match planned {
            Ok(plan) => {
                let ways: Vec<_> = plan
                    .steps
                    .iter()
                    .map(|step| {
                        format!(
                            "{}{}",
                            short(step.way),
                            if step.direct_io { "+" } else { "" }
                        )
                    })
                    .collect();
                let shown = plan.to_string();
                (ways.join(" "), plan.rejected, shown)
            }
            Err(error) => {
                let shown = error.to_string();
                let PlanError::Impossible { rejected, .. } = error else {
                    panic!("{name}: {shown}")
                };
                (String::new(), rejected, shown)
            }
        };
        assert_eq!(ways, *expected, "{name}:\n{shown}");
        for (way, part) in *reasons {
            let (_, all) = rejected
                .iter()
                .find(|(rejected, _)| rejected == way)
                .unwrap_or_else(|| panic!("{name}: {way} is not rejected"));
            assert!(
                all.iter().any(|reason| reason.to_string().contains(part)),
                "{name}: {way}: {all:?}"
            );
            let other_way = part.contains("not asked for");
            assert!(
                shown.contains(part) || other_way && ways.is_empty(),
                "{name}: not shown:\n{shown}"
            );
        }
        assert!(
            rejected.iter().all(|(_, reasons)| !reasons.is_empty()),
            "{name}: rejected without a reason"
        );
    }
}

fn short(way: Way) -> &'static str {
    match way {
        Way::File => "file",
        Way::Block => "block",
        Way::Loop => "loop",
        Way::Fuse => "fuse",
    }
}

#[test]
fn devices_must_match() {
    for (given, bytes) in [(0, 1000), (1, 1 << 30), (3, 1 << 30)] {
        let mut scene = scene((6, 18));
        index(&mut scene, given);
        scene.sources.image.bytes = bytes;
        let refused = plan(&scene.image, &scene.machine, &scene.sources, &scene.wish);
        assert_eq!(
            refused,
            Err(PlanError::Devices { needed: 2, given }),
            "{given} devices"
        );
    }
    let mut scene = scene((6, 18));
    scene.sources.devices = vec![file("/srv/0.blob")];
    let refused = plan(&scene.image, &scene.machine, &scene.sources, &scene.wish);
    assert_eq!(
        refused,
        Err(PlanError::Devices {
            needed: 0,
            given: 1
        })
    );
}

/// Only what nobody proved may explain an EINVAL away.
#[test]
fn steps_name_what_is_unproven() {
    let mut scene = scene((6, 18));
    zstd(&mut scene);
    scene
        .machine
        .proofs
        .push((Ability::FileBacked, Proof::Works));
    scene
        .machine
        .proofs
        .push((Ability::Read(R::ZeroPadding), Proof::Works));
    let plan = plan(&scene.image, &scene.machine, &scene.sources, &scene.wish).expect("possible");
    let unproven = [
        Ability::Blocks(BlockBits::B4096),
        Ability::Read(R::BigPcluster),
        Ability::Read(R::Zstd),
    ];
    assert_eq!(plan.steps[0].unproven, unproven);
    assert!(
        plan.steps[2].unproven.is_empty(),
        "FUSE needs nothing of the driver"
    );
}
