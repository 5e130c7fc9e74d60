//! Plugin and containerd are killed while images come and go and a container runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use erofs_snapshotter::contradictions;
use erofs_snapshotter::fault::STEPS;
use erofs_tests::containerd::{Containerd, Layout, NAME, Packing, Setup};
use erofs_tests::require;
use erofs_tests::skip;
use erofs_tests::workshop::{Workshop, succeed};

use crate::plugin::noise;
use crate::random::{Random, seed, variable};
use crate::{IMAGE, image, import, needs};

/// The image that comes and goes while a container of the other runs.
const GUEST: &str = "registry.example/guest:1";

/// A container that runs all the time, and an image that comes and goes.
struct Scene {
    containerd: Containerd,
    _workshop: Workshop,
    guest: PathBuf,
    /// Of the container.
    name: String,
    process: u32,
}

impl Scene {
    fn new(setup: &Setup) -> Self {
        let mut setup = setup.clone();
        setup.plugin = "[mounts]\nmerge = 1\n[writable]\nquota = \"32MiB\"\n".to_owned();
        let setup = &setup;
        let workshop = Workshop::light();
        let host = image(&workshop, setup, |_| ());
        let guest = guest(&workshop, setup);
        let containerd = Containerd::start(setup);
        succeed(&mut containerd.ctr(&import("2.1", NAME, &host)));
        let name = containerd.container("stays");
        let run = ["run", "--snapshotter", NAME, "--detach", IMAGE, &name];
        succeed(&mut containerd.ctr(&[&run[..], &["sleep", "100000"]].concat()));
        let process = containerd.process("default", &name);
        Self {
            containerd,
            _workshop: workshop,
            guest,
            name,
            process,
        }
    }

    /// Starts a call of `ctr` whose end nobody waits for yet.
    fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.containerd.ctr(arguments);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("starts")
    }

    fn import(&self) -> Command {
        self.containerd.ctr(&import("2.1", NAME, &self.guest))
    }

    fn remove(&self) -> Command {
        self.containerd.ctr(&["image", "rm", "--sync", GUEST])
    }

    /// The container still reads its files, from all layers.
    #[track_caller]
    fn assert_reads(&self, when: &str) {
        let root = PathBuf::from(format!("/proc/{}/root", self.process));
        let new = fs::read_to_string(root.join("old/new"));
        assert_eq!(new.expect(when), "new\n", "{when}");
        let shell = fs::read(root.join("bin/busybox")).expect(when);
        assert_eq!(shell.get(1..4), Some(&b"ELF"[..]), "{when}");
        assert!(!root.join("gone").exists(), "{when}");
    }

    /// The image comes, a container of it runs, and it goes.
    #[track_caller]
    fn assert_works(&self, with_container: bool) {
        succeed(&mut self.import());
        if with_container {
            let name = self.containerd.container("once");
            let run = ["run", "--rm", "--snapshotter", NAME, GUEST, &name];
            let said = self
                .containerd
                .says(&[&run[..], &["cat", "/guest"]].concat());
            assert_eq!(said, "guest\n");
        }
        succeed(&mut self.remove());
    }

    /// Database, files and mounts agree; the plugin is started anew for that.
    #[track_caller]
    fn assert_consistent(&mut self, when: &str) {
        // What was removed is thrown away in a while.
        self.containerd.restart_plugin(None);
        self.containerd.stop_plugin();
        let found = contradictions(&self.containerd.root()).expect("readable");
        assert!(
            found.is_empty(),
            "{when}: {found:#?}\n{}",
            self.containerd.plugin_log()
        );
        self.containerd.restart_plugin(None);
    }

    /// A call that died holds what it made for a day.
    fn remove_leases(&self) {
        for lease in self.containerd.says(&["leases", "list", "--quiet"]).lines() {
            succeed(&mut self.containerd.ctr(&["leases", "rm", "--sync", lease]));
        }
    }

    /// Ends the container, removes everything, and nothing is left.
    fn end(mut self) {
        self.assert_reads("in the end");
        let containerd = &self.containerd;
        succeed(&mut containerd.ctr(&["task", "kill", "--signal", "9", &self.name]));
        containerd.wait(|containerd| {
            let removed = containerd.ctr(&["task", "rm", &self.name]).output();
            removed.expect("starts").status.success()
        });
        for container in containerd.says(&["container", "list", "--quiet"]).lines() {
            let _ = containerd
                .ctr(&["task", "rm", "--force", container])
                .output();
            succeed(&mut containerd.ctr(&["container", "rm", container]));
        }
        self.remove_leases();
        // Also a snapshot of which a killed containerd knows and no container does.
        for name in containerd.snapshots().expect("listed") {
            let _ = containerd
                .ctr(&["snapshots", "--snapshotter", NAME, "rm", &name])
                .output();
        }
        succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE, GUEST]));
        containerd.wait(|containerd| containerd.files().is_empty());
        assert_eq!(
            containerd.snapshots().expect("listed"),
            Vec::<String>::new()
        );
        assert_eq!(containerd.mounted(), 0);
        self.assert_consistent("in the end");
    }
}

/// A small image: a shell, and something that is not in the other.
fn guest(workshop: &Workshop, setup: &Setup) -> PathBuf {
    let shell = workshop.path("guest-shell");
    for folder in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(shell.join(folder)).expect("made");
    }
    fs::copy(setup.program("busybox"), shell.join("bin/cat")).expect("copied");
    let upper = workshop.path("guest-upper");
    fs::create_dir(&upper).expect("made");
    fs::write(upper.join("guest"), "guest\n").expect("written");
    fs::write(upper.join("noise"), noise(11, 200_000)).expect("written");
    let mut layout = Layout::new(&workshop.path("guest-layout"));
    layout.layer(&shell, Packing::Gzip, |_| ());
    layout.layer(&upper, Packing::Zstd, |_| ());
    let tar = workshop.path("guest.tar");
    layout.finish(GUEST, &tar);
    tar
}

/// Whether a step is one of containers, rather than of layers that are unpacked.
fn is_of_containers(step: &str) -> bool {
    let of_containers = ["journal.", "sync.", "mount.", "merged.", "writable"];
    of_containers.iter().any(|part| step.contains(part))
}

/// One kill of the plugin at a step of an image's way in or out, or of a container's.
fn kill_at(scene: &mut Scene, step: &str) {
    scene
        .containerd
        .restart_plugin(Some(&format!("{step}=kill")));
    // It fails, if the step is on the way in.
    let _ = scene.import().output().expect("starts");
    let name = scene.containerd.container(&step.replace('.', "-"));
    if is_of_containers(step) {
        let run = ["run", "--rm", "--snapshotter", NAME, GUEST, &name];
        let run = [&run[..], &["cat", "/guest"]].concat();
        let _ = scene.containerd.ctr(&run).output().expect("starts");
    }
    let _ = scene.remove().output().expect("starts");
    assert!(scene.containerd.plugin_died(), "{step} is never reached");
    scene.assert_reads(step);
    // It clears what the kill left, and the next image comes whole again, with all steps on its way.
    scene.containerd.restart_plugin(None);
    let _ = scene.containerd.ctr(&["container", "rm", &name]).output();
    scene.remove_leases();
    succeed(&mut scene.remove());
    scene.containerd.collect(NAME);
}

#[test]
fn images_come_and_go_while_the_plugin_is_killed() {
    let setup = require!(needs("2.1"));
    let mut scene = Scene::new(&setup);
    // All steps are killed at without containerd.
    for step in [
        "prepare.recorded",
        "layer.built",
        "layer.recorded",
        "commit.recorded",
        "remove.recorded",
        "cleanup.image",
        "writable.mounted",
    ] {
        kill_at(&mut scene, step);
    }
    scene.containerd.restart_plugin(None);
    scene.assert_works(true);
    scene.assert_consistent("after all kills");
    scene.containerd.kill_daemon();
    scene.end();
}

/// Kills containerd amid the removal of an image, when the first of `folders`, which are of its snapshots, is to go: it knows nothing
/// of them any more then.
fn kill_while_collecting(containerd: &mut Containerd, image: &str, folders: &[PathBuf]) {
    let process = containerd.daemon().to_string();
    let folders = folders.iter().flat_map(|folder| [Path::new("-P"), folder]);
    let mut strace = Command::new("strace")
        .args(["-fqqe", "trace=unlinkat"])
        .args(["-e", "inject=unlinkat:signal=KILL", "-p", &process])
        .args(folders)
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    // It is seen in each of its threads.
    let is_traced = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        !status.contains("TracerPid:\t0\n")
    };
    containerd.wait(|_| {
        let threads = fs::read_dir(format!("/proc/{process}/task")).expect("read");
        threads.flatten().all(is_traced)
    });
    let removed = containerd.ctr(&["image", "rm", "--sync", image]).output();
    assert!(!removed.expect("starts").status.success(), "it dies");
    strace.wait().expect("ended");
    containerd.kill_daemon();
}

/// Whoever keeps the snapshots: what containerd has forgotten and could not throw away, since the plugin was gone or since it died
/// itself, lies there until a snapshot of the same snapshotter goes.
#[test]
fn what_could_not_be_collected_goes_with_another_snapshot() {
    let setup = require!(needs("2.1"));
    require!(skip::program("strace").map(drop));
    let workshop = Workshop::light();
    let (host, guest) = (image(&workshop, &setup, |_| ()), guest(&workshop, &setup));
    let mut containerd = Containerd::start(&setup);
    let overlayfs = containerd
        .folder()
        .join("root/io.containerd.snapshotter.v1.overlayfs/snapshots");
    let folders = || {
        let found = fs::read_dir(&overlayfs).expect("read");
        let found = found.map(|entry| entry.expect("read").path());
        found.collect::<Vec<_>>()
    };
    for (snapshotter, kept) in [(NAME, 3), ("overlayfs", 4)] {
        let left = |containerd: &Containerd| match snapshotter {
            NAME => containerd
                .files()
                .iter()
                .filter(|path| path.is_file())
                .count(),
            _ => folders().len(),
        };
        succeed(&mut containerd.ctr(&import("2.1", snapshotter, &host)));
        if snapshotter == NAME {
            containerd.stop_plugin();
            succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
            containerd.restart_plugin(None);
        } else {
            kill_while_collecting(&mut containerd, IMAGE, &folders());
        }
        let known = ["snapshots", "--snapshotter", snapshotter, "list"];
        assert_eq!(containerd.says(&known).lines().count(), 1, "{snapshotter}");
        assert_eq!(containerd.says(&["image", "list", "--quiet"]), "");
        // An image goes that was not unpacked.
        let only_stored = ["image", "import", "--local", "--no-unpack"];
        let archive = guest.to_str().expect("text");
        containerd.says(&[&only_stored[..], &[archive]].concat());
        succeed(&mut containerd.ctr(&["image", "rm", "--sync", GUEST]));
        assert_eq!(left(&containerd), kept, "{snapshotter}");
        containerd.collect(snapshotter);
        containerd.wait(|containerd| left(containerd) == 0);
    }
    assert_eq!(containerd.mounted(), 0);
}

/// `EROFS_KILLS` kills, 250 if nothing is said, at every step and at random moments; `EROFS_SEED` for the same again.
#[test]
#[ignore = "it kills for a quarter of an hour"]
fn hundreds_of_kills_lose_and_leak_nothing() {
    let setup = require!(needs("2.1"));
    let seed = seed();
    let kills = variable("EROFS_KILLS").unwrap_or(250);
    let mut random = Random::new(seed);
    let mut scene = Scene::new(&setup);
    let mut counts = [0; 3];
    let steps = STEPS.iter().filter(|step| !step.starts_with("start."));
    let steps: Vec<&str> = steps.copied().collect();
    let mut waited = Duration::ZERO;
    for kill in 0..kills {
        let when = format!("kill {kill} of seed {seed}");
        if let Some(step) = steps.get(usize::try_from(kill).expect("small")) {
            kill_at(&mut scene, step);
            counts[0] += 1;
        } else {
            let once = scene.containerd.container(&format!("once-{kill}"));
            let run = [
                "run",
                "--rm",
                "--snapshotter",
                NAME,
                GUEST,
                &once,
                "cat",
                "/guest",
            ];
            let import = import("2.1", NAME, &scene.guest);
            let mut begun = match random.below(3) {
                0 => scene.begin(&import),
                1 => {
                    succeed(&mut scene.import());
                    scene.begin(&run)
                }
                _ => {
                    succeed(&mut scene.import());
                    scene.begin(&["image", "rm", "--sync", GUEST])
                }
            };
            let began = Instant::now();
            sleep(Duration::from_millis(random.below(400)));
            if random.below(3) == 0 {
                scene.containerd.kill_daemon();
                counts[1] += 1;
            } else {
                scene.containerd.restart_plugin(None);
                counts[2] += 1;
            }
            let _ = begun.wait();
            waited += began.elapsed();
            let _ = scene
                .containerd
                .ctr(&["task", "rm", "--force", &once])
                .output();
            let _ = scene.containerd.ctr(&["container", "rm", &once]).output();
            scene.assert_reads(&when);
        }
        if kill % 10 == 9 {
            scene.containerd.restart_plugin(None);
            scene.assert_works(kill % 50 == 49);
            scene.assert_consistent(&when);
        }
    }
    let [steps, daemon, plugin] = counts;
    eprintln!(
        "{steps} kills at steps, {plugin} of the plugin and {daemon} of containerd at random, {} s",
        waited.as_secs()
    );
    scene.containerd.restart_plugin(None);
    scene.end();
}
