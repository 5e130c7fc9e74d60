//! Disks that are full, and disks that lose power.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use erofs_tests::require;
use erofs_tests::skip;
use erofs_tests::workshop::succeed;
use tonic::{Code, Status};

use crate::plugin::{
    Client, Layer, Plugin, needs, noise, packed, read, refused, tar, unmount_below,
};
use crate::random::{Random, seed, variable};

/// A filesystem of its own, small.
struct Small {
    folder: tempfile::TempDir,
}

impl Small {
    fn new(megabytes: u64) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("ct")
            .tempdir()
            .expect("made");
        let image = folder.path().join("disk");
        File::create(&image)
            .and_then(|file| file.set_len(megabytes << 20))
            .expect("made");
        succeed(Command::new("mkfs.ext4").args(["-q", "-m0"]).arg(&image));
        fs::create_dir(folder.path().join("mnt")).expect("made");
        let small = Self { folder };
        small.mount();
        small
    }

    fn mount(&self) {
        let mut command = Command::new("mount");
        command
            .args(["-o", "loop"])
            .arg(self.folder.path().join("disk"));
        succeed(command.arg(self.root()));
    }

    /// Power is lost: what was not written to the disk is gone, and everybody gets errors until it is mounted again.
    fn cut(&self) {
        // FS_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ioctl.c).
        let script = "import fcntl, os, struct, sys; \
            fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";
        succeed(
            Command::new("python3")
                .args(["-c", script])
                .arg(self.root()),
        );
    }

    /// Power is back. Whoever uses the filesystem must be dead.
    fn restart(&self) {
        unmount_below(self.folder.path());
        self.mount();
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount_below(self.folder.path());
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    require!(needs());
    require!(skip::program("mkfs.ext4").map(drop));
    let disk = Small::new(24);
    let root = disk.root().join("store");
    let mut plugin = Plugin::new(Some(&root));
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let small = tar(&[("small", &noise(7, 100_000))]);
    let small = plugin.layer(&small, "", &small);
    let large = tar(&[("large", &noise(8, 40 << 20))]);
    let large = plugin.layer(&large, "", &large);
    plugin.wait(async {
        client
            .unpack(&small, "small", "")
            .await
            .expect("there is room");
        let answer = client.unpack(&large, "large", "").await;
        let said = refused(answer, Code::ResourceExhausted);
        assert!(said.contains("No space left"), "{said}");
        client.remove("unpack large").await.expect("removed");
        client.view("view", "small").await.expect("seen");
    });
    // Nothing can be added now, and things can be removed.
    let mut filler = File::create(disk.root().join("filler")).expect("made");
    while filler.write_all(&[1; 4096]).is_ok() {}
    drop(filler);
    let other = tar(&[("other", &noise(9, 100_000))]);
    let other = plugin.layer(&other, "", &other);
    plugin.wait(async {
        refused(
            client.unpack(&other, "other", "").await,
            Code::ResourceExhausted,
        );
        client.remove("view").await.expect("removed");
        client.remove("small").await.expect("removed");
        Plugin::remove_all(&client).await.expect("removed");
    });
    fs::remove_file(disk.root().join("filler")).expect("removed");
    plugin.wait(async {
        client
            .unpack(&small, "small", "")
            .await
            .expect("there is room again");
        Plugin::remove_all(&client).await.expect("removed");
    });
    plugin.assert_empty(&root, "after a full disk");
}

/// A tar that is kept, unpacked, and for which there is no room: it is the file that cannot be written, and not the tar that cannot be read.
#[test]
fn a_full_disk_is_told_where_tars_are_kept() {
    require!(needs());
    require!(skip::program("mkfs.ext4").map(drop));
    let disk = Small::new(24);
    let root = disk.root().join("store");
    let mut plugin = Plugin::new(Some(&root));
    plugin.configure("[layers]\nmode = \"index\"");
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let large = tar(&[("large", &noise(8, 40 << 20))]);
    let large = plugin.layer(&packed("gzip", &large), "+gzip", &large);
    plugin.wait(async {
        let answer = client.unpack(&large, "large", "").await;
        let said = refused(answer, Code::ResourceExhausted);
        assert!(
            said.contains("writing") && said.contains("ingest"),
            "{said}"
        );
        Plugin::remove_all(&client).await.expect("removed");
    });
    plugin.assert_empty(&root, "after a full disk");
}

/// Unpacks images of two layers until the disk fails, and notes the names of what was committed.
async fn unpack_until_cut(
    client: &Client,
    layers: &[Layer],
    round: u64,
    committed: &Mutex<Vec<(String, usize)>>,
) -> Status {
    for image in 0.. {
        let mut parent = String::new();
        for which in [2 * image, 2 * image + 1] {
            let which = which % layers.len();
            let name = format!("{round} {image} {which}");
            if let Err(status) = client.unpack(&layers[which], &name, &parent).await {
                return status;
            }
            committed
                .lock()
                .expect("not poisoned")
                .push((name.clone(), which));
            parent = name;
        }
    }
    unreachable!("it goes on until it fails")
}

/// Whatever was answered when power was lost is there, with its bytes.
fn lose_power(rounds: u64, seed: u64) {
    let disk = Small::new(48);
    let root = disk.root().join("store");
    let mut plugin = Plugin::new(Some(&root));
    let contents: Vec<Vec<u8>> = (20..26).map(|seed| noise(seed, 200_000)).collect();
    let layers: Vec<Layer> = contents
        .iter()
        .map(|content| {
            let tar = tar(&[("file", content)]);
            plugin.layer(&packed("gzip", &tar), "+gzip", &tar)
        })
        .collect();
    let mut random = Random::new(seed);
    let mut survived = 0;
    for round in 0..rounds {
        let when = format!("cut {round} of seed {seed}");
        assert!(plugin.start(None), "{when}: {}", plugin.log());
        let committed = Arc::new(Mutex::new(Vec::new()));
        let client = plugin.client();
        let unpacking = {
            let (layers, committed) = (layers.clone(), Arc::clone(&committed));
            plugin.begin(async move { unpack_until_cut(&client, &layers, round, &committed).await })
        };
        std::thread::sleep(Duration::from_millis(random.below(200)));
        // What is answered from here on proves nothing: the kernel goes on, and ext4 tells nobody where it cannot convert the
        // extents of what it wrote any more (ext4_end_io_end).
        let answered = committed.lock().expect("not poisoned").clone();
        disk.cut();
        plugin.wait(unpacking).expect("runs");
        plugin.kill();
        disk.restart();

        assert!(plugin.start(None), "{when}: {}", plugin.log());
        plugin.assert_consistent(&root, &when);
        assert!(plugin.start(None), "{when}: {}", plugin.log());
        let client = plugin.client();
        for (name, which) in &answered {
            let mounts = plugin.wait(client.view("look", name)).expect(&when);
            let found = read(&mounts, &root.join("../seen"), &["file"]);
            assert!(found == [Some(contents[*which].clone())], "{when}: {name}");
            plugin.wait(client.remove("look")).expect(&when);
        }
        survived += answered.len();
        plugin.wait(Plugin::remove_all(&client)).expect(&when);
        plugin.assert_empty(&root, &when);
    }
    eprintln!("{rounds} cuts, {survived} snapshots were committed and all are there");
}

#[test]
fn what_was_committed_survives_a_loss_of_power() {
    require!(needs());
    require!(skip::program("mkfs.ext4").map(drop));
    lose_power(3, 1);
}

/// `EROFS_CUTS` times, 200 if nothing is said; `EROFS_SEED` for the same again.
#[test]
#[ignore = "it cuts power for minutes"]
fn hundreds_of_power_losses_lose_nothing() {
    require!(needs());
    let seed = seed();
    lose_power(variable("EROFS_CUTS").unwrap_or(200), seed);
}
