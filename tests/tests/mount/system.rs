//! As the system calls it: the helper of mount(8), /etc/fstab, namespaces, users without rights.

use std::{fs, os::unix::fs::symlink, process::Command};

use erofs_tests::{kernel::Way, require, skip};

use super::workshop::{Workshop, text};

/// `mount.erofs` called as mount(8) would, through a link.
#[test]
fn the_helper_keeps_to_the_convention() {
    require!(skip::kernel_erofs());
    require!(skip::fuse());
    let workshop = require!(Workshop::new());
    let helper = workshop.at("mount.erofs");
    symlink(&workshop.erofs, &helper).expect("made");
    let run = |line: &str| {
        let words = line.split_whitespace();
        let output = Command::new(&helper)
            .args(words)
            .current_dir(workshop.folder.path())
            .output()
            .expect("starts");
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    for (line, kind) in [
        ("image target -o rw,nosuid", "erofs"),
        ("image target -n -o rw -t erofs.loop", "erofs"),
        ("-t erofs.fuse -s image target -o rw,surprise", "fuse.erofs"),
    ] {
        assert_eq!(run(line), (Some(0), String::new(), String::new()), "{line}");
        let (shown, options) = workshop.mounted().expect("mounted");
        assert_eq!(shown, kind, "{line}");
        assert_eq!(
            options.contains("nosuid"),
            line.contains("nosuid"),
            "{line}"
        );
        workshop.shows_the_source();
        workshop.fine(&["umount", "target"]);
    }
    let (code, told, _) = run("image target -fv");
    assert_eq!((code, workshop.mounted()), (Some(0), None), "{told}");
    for (line, expected, message) in [
        ("image", 1, "expected SOURCE and DIR"),
        ("image target -x", 1, "unknown flag"),
        ("image target -t ext4", 1, "filesystem type"),
        ("image target -o remount", 1, "the business of mount(8)"),
        ("image target -N /absent", 2, "mount namespace /absent"),
        ("source/file target", 32, "no EROFS magic"),
        ("image target -o surprise", 32, "surprise"),
    ] {
        let (code, _, error) = run(line);
        assert_eq!(code, Some(expected), "{line}: {error}");
        assert!(
            error.starts_with("mount.erofs: ") && error.contains(message),
            "{line}: {error}"
        );
    }
    workshop.nothing_is_left();
}

/// What docs/mount.md says about mount(8) and /etc/fstab.
#[test]
fn mount_8_and_fstab() {
    require!(skip::kernel_erofs());
    require!(skip::fuse());
    let workshop = require!(Workshop::new());
    let shown = workshop.with_helper(
        "show() { grep \" $PWD/target \" /proc/self/mounts | cut -d' ' -f1,3,4; cat target/folder/small; echo; }\n\
         mount -t erofs.auto -o nodev image target; show; umount target\n\
         mount -t erofs.loop image target; show; umount target\n\
         mount -t erofs.fuse image target; show; umount target\n\
         echo \"$PWD/image $PWD/target erofs.auto nosuid,nofail,x-systemd.automount 0 0\" > fstab\n\
         mount --fstab fstab target; show; umount target\n\
         mount --fstab fstab --all; show; mount --fstab fstab --all; umount target; ! mountpoint -q target\n\
         if mount -t erofs.auto source/file target 2> error; then exit 9; else echo \"$?\"; fi; cat error",
    );
    let by_file = require!(Way::all()).contains(&Way::File);
    let image = workshop.at("image").display().to_string();
    let mut lines = shown.lines();
    let mut next = || lines.next().unwrap_or_else(|| panic!("more in {shown}"));
    for (way, option) in [
        ("auto", "nodev"),
        ("loop", "ro"),
        ("fuse", "ro"),
        ("auto", "nosuid"),
        ("auto", "nosuid"),
    ] {
        let line = next();
        let [source, kind, options] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let direct = way == "fuse" || way == "auto" && by_file;
        assert_eq!(source == image, direct, "{line}");
        assert_eq!(kind, if way == "fuse" { "fuse.erofs" } else { "erofs" });
        assert!(options.split(',').any(|given| given == option), "{line}");
        assert_eq!(next(), "content");
    }
    assert_eq!(next(), "32");
    assert!(next().contains("no EROFS magic"), "{shown}");
    workshop.nothing_is_left();
}

/// `mount -N`: the helper itself goes into the namespace.
#[test]
fn mount_8_into_another_namespace() {
    require!(skip::kernel_erofs());
    let workshop = require!(Workshop::new());
    let shown = workshop.with_helper(
        "unshare --mount --propagation=private sleep 60 & other=$!\n\
         while [ \"$(readlink /proc/$other/ns/mnt)\" = \"$(readlink /proc/self/ns/mnt)\" ]; do sleep 0.02; done\n\
         mount -N $other -t erofs.auto \"$PWD/image\" \"$PWD/target\"\n\
         mountpoint -q target || echo not here\n\
         cat /proc/$other/root$PWD/target/folder/small; kill $other",
    );
    assert_eq!(shown, "not here\ncontent");
    workshop.nothing_is_left();
}

/// Without root the kernel is not asked. In a mount namespace where /dev/fuse is open to everybody, as udev makes it.
#[test]
fn without_root_it_falls_to_fuse() {
    require!(skip::fuse());
    require!(skip::program("fusermount3"));
    require!(skip::program("setpriv"));
    let workshop = require!(Workshop::new());
    let output = workshop.script(
        "mkdir open\nmount -t tmpfs -o mode=755 tmpfs open\nmknod -m 666 open/fuse c 10 229\n\
         mount --bind open/fuse /dev/fuse\ncp \"$erofs\" open/erofs\ncp image open/image\n\
         mkdir open/target\nchown 65534:65534 open/target\ncd open\n\
         user() { setpriv --reuid=65534 --regid=65534 --clear-groups -- \"$@\"; }\n\
         user ./erofs mount --explain image target\nuser cat target/folder/small\necho\n\
         user ./erofs mount --list | grep -c \" FUSE \"\n\
         user ./erofs umount target\n! mountpoint -q target\n\
         user ./erofs mount image target\nuser ./erofs umount target\n\
         ! user ./erofs mount --via=loop image target\n\
         chmod 600 fuse\n! user ./erofs mount image target\n",
    );
    let (told, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{told}{errors}");
    for part in [
        "  1. FUSE: ",
        "  not file-backed: mounting by the kernel needs CAP_SYS_ADMIN",
        "  not loop device: mounting by the kernel needs CAP_SYS_ADMIN",
        "  FUSE: mounted\ncontent\n1\n",
    ] {
        assert!(told.contains(part), "{part:?} in {told}{errors}");
    }
    let errors: Vec<_> = errors.lines().collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(
        errors[0].contains("mounted through FUSE: mounting by the kernel needs CAP_SYS_ADMIN"),
        "{errors:?}"
    );
    assert!(
        errors[1].contains("use --fuse, which needs no root"),
        "{errors:?}"
    );
    assert!(
        errors[2].contains("/dev/fuse cannot be opened"),
        "{errors:?}"
    );
    workshop.nothing_is_left();
}

/// The fenced blocks of docs/mount.md in this language.
fn documented(language: &str) -> Vec<&'static str> {
    let fence = format!("\n```{language}\n");
    let mut blocks = include_str!("../../../docs/mount.md").split(fence.as_str());
    blocks.next();
    blocks
        .filter_map(|block| block.split("```").next())
        .collect()
}

/// The lines of the documentation, but for the folder.
#[test]
fn the_documented_fstab_mounts() {
    require!(skip::kernel_erofs());
    require!(skip::fuse());
    let workshop = require!(Workshop::new());
    for folder in ["images", "models/mounted", "rootfs", "app"] {
        fs::create_dir_all(workshop.at("srv").join(folder)).expect("made");
    }
    for image in [
        "images/rootfs.erofs",
        "models/model.erofs",
        "images/app.erofs",
    ] {
        fs::copy(workshop.at("image"), workshop.at("srv").join(image)).expect("copied");
    }
    let [fstab] = documented("fstab")[..] else {
        panic!("one fstab");
    };
    let folder = workshop.at("srv/").display().to_string();
    fs::write(workshop.at("fstab"), fstab.replace("/srv/", &folder)).expect("written");
    let shown = workshop.with_helper(
        "show() { grep \" $PWD/srv/$1 \" /proc/self/mounts | cut -d' ' -f3; cat srv/$1/folder/small; echo; }\n\
         mount --fstab fstab --all\nshow rootfs\nshow app\n! mountpoint -q srv/models/mounted\n\
         mount --fstab fstab \"$PWD/srv/models/mounted\"\nshow models/mounted\n\
         umount srv/rootfs srv/app srv/models/mounted\n! mountpoint -q srv/app",
    );
    assert_eq!(
        shown,
        "erofs\ncontent\nfuse.erofs\ncontent\nerofs\ncontent\n"
    );
    workshop.nothing_is_left();
}

/// systemd finds nothing to complain about, and what it would call mounts.
#[test]
fn the_documented_units_mount() {
    require!(skip::kernel_erofs());
    let analyze = require!(skip::program("systemd-analyze"));
    let workshop = require!(Workshop::new());
    let mut verify = Command::new(analyze);
    verify.arg("verify").current_dir(workshop.folder.path());
    let units = documented("ini");
    for unit in &units {
        let name = unit.lines().next().and_then(|line| line.strip_prefix("# "));
        let name = name.expect("a comment with the name of the file");
        fs::write(workshop.at(name), unit).expect("written");
        verify.arg(format!("./{name}"));
    }
    let output = verify.output().expect("starts");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );

    let value = |key: &str| {
        let mut lines = units[0].lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {key}"))
    };
    assert_eq!(
        (value("What"), value("Where")),
        ("/srv/images/rootfs.erofs", "/srv/rootfs")
    );
    // systemd.mount(5): mount(8) with these.
    let shown = workshop.with_helper(&format!(
        "mount image target -t {} -o {}\ncat target/folder/small; umount target",
        value("Type"),
        value("Options")
    ));
    assert_eq!(shown, "content");
    workshop.nothing_is_left();
}
