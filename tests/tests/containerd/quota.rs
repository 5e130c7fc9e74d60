//! Containers that may write so much and no more.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use erofs_snapshotter::api::types::Mount;
use erofs_tests::containerd::{Containerd, NAME};
use erofs_tests::require;
use erofs_tests::skip;
use erofs_tests::workshop::{Workshop, succeed};
use tonic::Code;

use crate::plugin::{Plugin, mount, needs, read, refused, tar};
use crate::{IMAGE, image, import};

/// The label that limits a snapshot.
pub(crate) fn max_size(size: &str) -> HashMap<String, String> {
    [(
        "containerd.io/snapshot/max-size".to_owned(),
        size.to_owned(),
    )]
    .into()
}

/// The filesystem of a snapshot, and the folder on which it is mounted.
fn filesystem(root: &Path, mounts: &[Mount]) -> (PathBuf, PathBuf) {
    let mut options = mounts.iter().flat_map(|mount| &mount.options);
    let upper = options.find_map(|option| option.strip_prefix("upperdir="));
    let folder = Path::new(upper.expect("written to"))
        .parent()
        .expect("a folder");
    let name = folder
        .file_name()
        .expect("a number")
        .to_str()
        .expect("text");
    let image = root.join("writable").join(format!("{name}.ext4"));
    (image, folder.to_path_buf())
}

fn on_disk(file: &Path) -> u64 {
    file.metadata().expect("there").blocks() * 512
}

fn on_device(path: &Path) -> u64 {
    path.metadata().expect("there").dev()
}

fn unmount(folder: &Path) {
    succeed(Command::new("umount").arg(folder));
}

#[test]
fn what_is_written_is_limited_and_stays() {
    require!(needs());
    require!(skip::program("mkfs.ext4").map(drop));
    let mut plugin = Plugin::new(None);
    let root = plugin.root();
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let lower = tar(&[("lower", b"lower\n")]);
    let lower = plugin.layer(&lower, "", &lower);
    plugin
        .wait(client.unpack(&lower, "lower", ""))
        .expect("unpacked");
    for wrong in ["", "0", "-1", "1MiB", "20GB", "1000TiB"] {
        let answer = plugin.wait(client.prepare("wrong", "lower", max_size(wrong)));
        let said = refused(answer, Code::InvalidArgument);
        assert!(said.contains("max-size"), "{wrong}: {said}");
    }
    let prepare = |key: &str, size: &str| {
        let made = plugin.wait(client.prepare(key, "lower", max_size(size)));
        made.expect("prepared")
    };
    let limit = 48 << 20;
    let mounts = prepare("container", &limit.to_string());
    let broken = prepare("broken", "16MiB");
    let (image, folder) = filesystem(&root, &mounts);
    assert_eq!(image.metadata().expect("there").len(), limit);
    assert!(on_disk(&image) < 6 << 20, "{}", on_disk(&image));

    // It is full before the quota is used up, and never more.
    let shown = root.join("../shown");
    mount(&mounts, &shown);
    fs::write(shown.join("small"), "small\n").expect("written");
    let mut large = File::create(shown.join("large")).expect("made");
    let full = (0..48).find_map(|_| large.write_all(&[1; 1 << 20]).err());
    assert_eq!(full.expect("full").kind(), ErrorKind::StorageFull);
    large.sync_all().expect("what was written is");
    drop(large);
    let (bytes, inodes) = plugin.wait(client.usage("container")).expect("told");
    assert!(bytes > 30 << 20 && bytes <= limit, "{bytes}");
    assert_eq!(inodes, 3);
    // What is removed is given back, in a while.
    fs::remove_file(shown.join("large")).expect("removed");
    for rounds in 0.. {
        sync(&shown);
        if on_disk(&image) < 12 << 20 {
            break;
        }
        assert!(rounds < 500, "{}", on_disk(&image));
        sleep(Duration::from_millis(20));
    }

    // The next process finds it mounted, or not when the machine was started anew.
    unmount(&shown);
    for reboots in [false, true] {
        plugin.kill();
        let (broken, point) = filesystem(&root, &broken);
        if reboots {
            unmount(&folder);
            unmount(&point);
            fs::write(broken, vec![0; 16 << 20]).expect("written");
        }
        assert!(plugin.start(None), "{}", plugin.log());
        let client = plugin.client();
        let again = plugin.wait(client.mounts("container")).expect("told");
        assert_eq!(again, mounts);
        let found = read(&again, &shown, &["small", "lower"]);
        assert_eq!(
            found,
            [Some(b"small\n".to_vec()), Some(b"lower\n".to_vec())]
        );
        let answer = plugin.wait(client.mounts("broken"));
        if reboots {
            let said = refused(answer, Code::Internal);
            assert!(
                said.contains(".ext4: ") && said.contains("e2fsck"),
                "{said}"
            );
        } else {
            answer.expect("told");
        }
    }
    plugin.assert_consistent(&root, "with what is broken");

    // What was written becomes a layer; nothing is left of what it was written to.
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    plugin.wait(async {
        client
            .commit("container", "made", "")
            .await
            .expect("committed");
        client.remove("broken").await.expect("removed");
        client.cleanup().await.expect("cleaned up");
    });
    assert!(!image.exists() && !folder.exists());
    let view = plugin.wait(client.view("view", "made")).expect("made");
    let found = read(&view, &shown, &["small", "large"]);
    assert_eq!(found, [Some(b"small\n".to_vec()), None]);
    plugin.wait(Plugin::remove_all(&client)).expect("removed");
    plugin.assert_empty(&root, "in the end");

    // Whoever mounts the layers, this is mounted here.
    plugin.configure("[mounts]\nmode = \"delegate\"");
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    plugin
        .wait(client.unpack(&lower, "lower", ""))
        .expect("unpacked");
    let mounts = plugin.wait(client.prepare("container", "lower", max_size("16MiB")));
    let mounts = mounts.expect("prepared");
    assert_eq!(mounts.last().expect("mounts").r#type, "format/overlay");
    let (image, folder) = filesystem(&root, &mounts);
    assert_ne!(on_device(&folder), on_device(&image));
    plugin.wait(Plugin::remove_all(&client)).expect("removed");
    plugin.assert_empty(&root, "with layers that others mount");

    // Without the program there is no quota, and everything else.
    plugin.path = Some("/nonexistent".into());
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    plugin.wait(async {
        let answer = client.prepare("limited", "", max_size("16MiB")).await;
        let said = refused(answer, Code::FailedPrecondition);
        assert!(said.contains("e2fsprogs"), "{said}");
        client
            .prepare("free", "", HashMap::new())
            .await
            .expect("prepared");
        Plugin::remove_all(&client).await.expect("removed");
    });
    plugin.assert_empty(&root, "without the program");
}

/// Writes everything to the disk.
fn sync(folder: &Path) {
    succeed(Command::new("sync").arg("--file-system").arg(folder));
}

/// Each container has its own limit, that of the configuration or its own, and the disk is not theirs.
#[test]
fn containers_fill_their_quota() {
    let mut setup = require!(crate::needs("2.1"));
    require!(skip::program("mkfs.ext4").map(drop));
    setup.plugin = "[writable]\nquota = \"32MiB\"\n".to_owned();
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
    let containerd = Containerd::start(&setup);
    succeed(&mut containerd.ctr(&import("2.1", NAME, &tar)));
    let filesystems = || {
        let found = fs::read_dir(containerd.root().join("writable"));
        found.expect("read").count()
    };
    // Layers have none.
    assert_eq!(filesystems(), 0);
    let script = "busybox dd if=/dev/zero of=/big bs=1048576 count=60 2>&1 | busybox grep -o 'No space left'; \
        set -- $(busybox stat -c %s /big); echo $(($1 >> 20))";
    let label = [
        "--snapshotter-label",
        "containerd.io/snapshot/max-size=80MiB",
    ];
    for (name, labels, said) in [
        ("small", &[][..], "No space left\n"),
        ("large", &label[..], "60\n"),
    ] {
        let name = containerd.container(name);
        let run = [&["run", "--rm", "--snapshotter", NAME], labels].concat();
        let answer = containerd.says(&[&run[..], &[IMAGE, &name, "sh", "-c", script]].concat());
        assert!(answer.starts_with(said), "{answer}");
    }
    // What was removed goes while nobody waits.
    containerd.wait(|containerd| containerd.mounted() <= 3 && filesystems() == 0);
    let log = containerd.plugin_log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}
