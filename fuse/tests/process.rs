//! Daemons, their ends, and who cleans up.
//!
//! Without the usual harness, since this program is its own daemon and watcher: `erofs_fuse` starts programs again. Everything
//! is one process after the other anyway.

use erofs_fuse::{LaunchError, ServeOptions};
use erofs_mkfs::build::{BuildOptions, BuildSource, build};
use erofs_reader::{FileSource, Image, ImageOptions};
use erofs_tests::skip::Reason;
use erofs_tests::{require, skip};
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal};
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How soon a dead or ended server must be gone.
const SOON: Duration = Duration::from_secs(5);
/// Nobody.
const USER: u32 = 65534;

const TESTS: [(&str, fn()); 7] = [
    ("mounts_when_it_says_so", mounts_when_it_says_so),
    ("says_why_it_does_not_mount", says_why_it_does_not_mount),
    ("leaves_no_mount_when_killed", leaves_no_mount_when_killed),
    (
        "serves_open_files_to_their_end",
        serves_open_files_to_their_end,
    ),
    ("leaves_other_mounts_alone", leaves_other_mounts_alone),
    ("hides_what_is_for_root_only", hides_what_is_for_root_only),
    ("works_without_root", works_without_root),
];

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some((role, arguments)) = arguments
        .split_first()
        .and_then(|(role, rest)| Some((role.to_str()?.strip_prefix("role=")?, rest)))
    {
        return play(role, arguments);
    }
    let filter = arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .find(|argument| !argument.starts_with('-'));
    if arguments.iter().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, test) in TESTS {
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        // A thread for its name, which the skip report shows; a panic prints itself.
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(test);
        let passed = thread.expect("starts").join().is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u32::from(!passed);
    }
    ExitCode::from(u8::from(failed > 0))
}

/// Does what this program is started again for.
fn play(role: &str, arguments: &[OsString]) -> ExitCode {
    let [image, target, ..] = arguments else {
        return ExitCode::from(2);
    };
    let (image, target) = (Path::new(image), Path::new(target));
    let result: Result<(), Box<dyn Error>> = match role {
        "watcher" => erofs_fuse::watch(target).map_err(Into::into),
        "launcher" => erofs_fuse::launch(again("daemon", image, target)).map_err(Into::into),
        "daemon" => erofs_fuse::daemon(|ready| {
            let opened = Arc::new(open(image)?);
            let options = ServeOptions {
                source: image.display().to_string(),
                ..ServeOptions::default()
            };
            let watcher = again("watcher", image, target);
            erofs_fuse::serve(opened, target, &options, watcher, || ready.report())?;
            Ok(())
        }),
        "names" => names(target).map(|names| print!("{names}")),
        "unprivileged" => {
            unprivileged();
            Ok(())
        }
        _ => Err("no such role".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn again(role: &str, image: &Path, target: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(format!("role={role}")).args([image, target]);
    command
}

/// A checked-in image.
fn probe(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../images/probe")
        .join(name)
}

fn open(image: &Path) -> Result<Image, Box<dyn Error>> {
    Ok(Image::open(
        FileSource::open(image)?,
        ImageOptions::default(),
    )?)
}

/// A directory with a daemon on it.
struct Mount {
    directory: TempDir,
}

impl Mount {
    fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let image = probe("block-4096.erofs");
        erofs_fuse::launch(again("daemon", &image, directory.path())).expect("launches");
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.path(), UnmountFlags::DETACH);
    }
}

/// The line of the mount table for `path`: source, type and options.
fn mounted(path: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mounts").expect("readable");
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(1).map(Path::new) == Some(path));
    line.map(str::to_owned)
}

/// Processes of a role on `path`.
fn processes(role: &str, path: &Path) -> Vec<Pid> {
    let wanted: Vec<u8> = [b"role=", role.as_bytes(), b"\0"].concat();
    let tail: Vec<u8> = [b"\0", path.as_os_str().as_bytes(), b"\0"].concat();
    let entries = fs::read_dir("/proc").expect("readable").flatten();
    entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let found =
                line.windows(wanted.len()).any(|part| part == wanted) && line.ends_with(&tail);
            Pid::from_raw(number).filter(|_| found)
        })
        .collect()
}

fn only(role: &str, path: &Path) -> Pid {
    match processes(role, path).as_slice() {
        [one] => *one,
        others => panic!("{role}: {others:?}"),
    }
}

#[track_caller]
fn eventually(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "{what}: not within {SOON:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ended processes stay in the table until their parent asks for them; those of this test have no command line left.
fn all_gone(path: &Path) {
    eventually("processes", || {
        processes("daemon", path).is_empty() && processes("watcher", path).is_empty()
    });
}

fn mounts_when_it_says_so() {
    require!(skip::root());
    require!(skip::fuse());
    // Not closed when a program is started.
    let folder = TempDir::new().expect("a temporary directory");
    let left_open = folder.path().join("lock");
    let lock = File::create(&left_open).expect("made");
    rustix::io::fcntl_setfd(&lock, rustix::io::FdFlags::empty()).expect("set");
    for _ in 0..5 {
        let mount = Mount::new();
        let content = fs::read(mount.path().join("probe")).expect("reads");
        assert_eq!(content.len(), 9000);
        let line = mounted(mount.path()).expect("in the table");
        let fields: Vec<_> = line.split(' ').collect();
        let image = probe("block-4096.erofs").display().to_string();
        assert_eq!((fields[0], fields[2]), (image.as_str(), "fuse.erofs"));
        assert!(fields[3].starts_with("ro,"), "{line}");
        assert!(
            fields[3].contains("default_permissions,allow_other"),
            "{line}"
        );
        // Nothing keeps the caller's directory, terminal or files.
        let daemon = only("daemon", mount.path());
        for process in [daemon, only("watcher", mount.path())] {
            let own = PathBuf::from(format!("/proc/{process}"));
            let link = |name: &str| fs::read_link(own.join(name)).expect("readable");
            assert_eq!(link("cwd"), Path::new("/"));
            assert_eq!(rustix::process::getsid(Some(process)), Ok(process));
            let numbers = fs::read_dir(own.join("fd")).expect("readable").flatten();
            for number in numbers.map(|number| number.path()) {
                let file = fs::read_link(&number).expect("readable");
                assert_ne!(file, left_open, "{}", number.display());
            }
            assert_eq!(
                (link("fd/1"), link("fd/2")),
                ("/dev/null".into(), "/dev/null".into())
            );
        }
        rustix::mount::unmount(mount.path(), UnmountFlags::empty()).expect("unmounts");
        all_gone(mount.path());
    }
}

fn says_why_it_does_not_mount() {
    require!(skip::root());
    require!(skip::fuse());
    let folder = TempDir::new().expect("a temporary directory");
    let target = folder.path().join("target");
    fs::create_dir(&target).expect("made");
    let noise = folder.path().join("noise");
    fs::write(&noise, [7; 8192]).expect("written");
    let failure =
        |image: &Path, target: &Path| match erofs_fuse::launch(again("daemon", image, target))
            .expect_err("nothing to mount")
        {
            LaunchError::Failed(message) => message,
            other => panic!("{other:?}"),
        };
    assert!(failure(&noise, &target).contains("no EROFS magic"));
    assert!(failure(&folder.path().join("none"), &target).contains("No such file"));
    let image = probe("block-4096.erofs");
    assert!(failure(&image, &folder.path().join("nowhere")).contains("No such file"));
    assert!(failure(&image, &noise).contains("not a directory"));
    let died = erofs_fuse::launch(Command::new("/bin/false")).expect_err("no daemon");
    assert!(matches!(died, LaunchError::Died(status) if status.code() == Some(1)));
    assert_eq!(mounted(&target), None);
    all_gone(&target);
}

fn leaves_no_mount_when_killed() {
    require!(skip::root());
    require!(skip::fuse());
    for group in [false, true] {
        let mount = Mount::new();
        let daemon = only("daemon", mount.path());
        let file = File::open(mount.path().join("probe")).expect("opens");
        if group {
            rustix::process::kill_process_group(daemon, Signal::KILL).expect("killed");
        } else {
            rustix::process::kill_process(daemon, Signal::KILL).expect("killed");
        }
        eventually("unmounting", || mounted(mount.path()).is_none());
        drop(file);
        all_gone(mount.path());
        assert_eq!(
            fs::read_dir(mount.path())
                .expect("an ordinary directory")
                .count(),
            0
        );
    }
}

fn serves_open_files_to_their_end() {
    require!(skip::root());
    require!(skip::fuse());
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mount = Mount::new();
        let daemon = only("daemon", mount.path());
        let mut file = File::open(mount.path().join("probe")).expect("opens");
        rustix::process::kill_process(daemon, signal).expect("sent");
        eventually("unmounting", || mounted(mount.path()).is_none());
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(only("daemon", mount.path()), daemon);
        // Nothing of it was read before, so this is no cached answer.
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("is served");
        assert_eq!(content.len(), 9000);
        drop(file);
        all_gone(mount.path());
    }
    // Whoever insists is not kept waiting.
    let mount = Mount::new();
    let daemon = only("daemon", mount.path());
    let file = File::open(mount.path().join("probe")).expect("opens");
    for _ in 0..2 {
        rustix::process::kill_process(daemon, Signal::TERM).expect("sent");
        eventually("unmounting", || mounted(mount.path()).is_none());
    }
    all_gone(mount.path());
    let error = (&file).read(&mut [0; 10]).expect_err("nobody serves");
    assert_eq!(error.raw_os_error(), Some(Errno::NOTCONN.raw_os_error()));
}

/// What was mounted on the same directory in the meantime survives the end of the daemon, however it ends.
fn leaves_other_mounts_alone() {
    require!(skip::root());
    require!(skip::fuse());
    for signal in [Signal::TERM, Signal::KILL] {
        let mount = Mount::new();
        let daemon = only("daemon", mount.path());
        // An open file keeps the daemon alive after the mount is gone.
        let file = File::open(mount.path().join("probe")).expect("opens");
        rustix::mount::unmount(mount.path(), UnmountFlags::DETACH).expect("unmounts");
        let other = Arc::new(open(&probe("block-512.erofs")).expect("an image"));
        let server = erofs_fuse::Server::mount(other, mount.path(), &ServeOptions::default())
            .expect("mounts");
        rustix::process::kill_process(daemon, signal).expect("sent");
        std::thread::sleep(Duration::from_millis(300));
        drop(file);
        all_gone(mount.path());
        assert!(mounted(mount.path()).is_some());
        assert!(fs::read(mount.path().join("probe")).is_ok());
        server.unmount().expect("unmounts");
        server.join().expect("ends well");
    }
}

/// The names of the attributes of a file, a NUL behind each.
fn names(file: &Path) -> Result<String, Box<dyn Error>> {
    let mut list = vec![0; 1000];
    let length = rustix::fs::llistxattr(file, &mut list)?;
    list.truncate(length);
    Ok(String::from_utf8(list)?)
}

fn hides_what_is_for_root_only() {
    require!(skip::root());
    require!(skip::fuse());
    let setpriv = require!(skip::program("setpriv"));
    let folder = TempDir::new().expect("a temporary directory");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("opened");
    let program = folder.path().join("program");
    fs::copy("/proc/self/exe", &program).expect("copied");
    let (source, target) = (folder.path().join("source"), folder.path().join("target"));
    for directory in [&source, &target] {
        fs::create_dir(directory).expect("made");
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).expect("opened");
    }
    fs::write(source.join("file"), b"").expect("written");
    for name in [c"user.one", c"trusted.two"] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(source.join("file"), name, b"x", flags).expect("set");
    }
    let image = folder.path().join("image.erofs");
    let source = BuildSource::Directory(source);
    build(source, &image, &BuildOptions::default(), &Arc::default()).expect("builds");
    let image = Arc::new(open(&image).expect("an image"));
    let server = erofs_fuse::Server::mount(image, &target, &ServeOptions::default());
    let server = server.expect("mounts");
    let file = target.join("file");
    let own = names(&file).expect("listed");
    let user = Command::new(setpriv)
        .args([format!("--reuid={USER}"), format!("--regid={USER}")])
        .args(["--clear-groups", "--"])
        .arg(&program)
        .args([OsStr::new("role=names"), OsStr::new("-"), file.as_os_str()])
        .current_dir("/")
        .output()
        .expect("starts");
    server.unmount().expect("unmounts");
    server.join().expect("ends well");
    assert!(
        own.contains("user.one\0") && own.contains("trusted.two\0"),
        "{own:?}"
    );
    assert_eq!(
        String::from_utf8_lossy(&user.stdout),
        "user.one\0",
        "{user:?}"
    );
}

/// `fusermount3` as the set-uid program that it must be.
fn helper() -> Result<PathBuf, Reason> {
    let path = skip::program("fusermount3")?;
    let mode = fs::metadata(&path).map(|metadata| metadata.permissions().mode());
    match mode {
        Ok(mode) if mode & 0o4000 != 0 => Ok(path),
        _ => Err(Reason(format!("{} is not set-uid root", path.display()))),
    }
}

/// In a mount namespace of its own, where /dev/fuse is open to everybody: as it is wherever udev runs.
fn works_without_root() {
    require!(skip::root());
    require!(skip::fuse());
    require!(helper());
    require!(skip::program("setpriv"));
    let unshare = require!(skip::program("unshare"));
    let status = Command::new(unshare)
        .args(["--mount", "--propagation=private", "--"])
        .arg(std::env::current_exe().expect("known"))
        .args(["role=unprivileged", "-", "-"])
        .status();
    assert!(status.expect("starts").success());
}

fn open_device_to_everybody(folder: &Path) {
    let none = MountFlags::empty();
    rustix::mount::mount("tmpfs", folder, "tmpfs", none, c"mode=755").expect("mounts");
    let device = folder.join("fuse");
    let (mode, number) = (Mode::from_raw_mode(0o666), rustix::fs::makedev(10, 229));
    rustix::fs::mknodat(CWD, &device, FileType::CharacterDevice, mode, number).expect("made");
    fs::set_permissions(&device, fs::Permissions::from_mode(0o666)).expect("opened");
    rustix::mount::mount_bind(&device, "/dev/fuse").expect("bound");
}

fn unprivileged() {
    let helper = helper().expect("asked for");
    let setpriv = skip::program("setpriv").expect("asked for");
    let as_user = |program: &OsStr| {
        let mut command = Command::new(&setpriv);
        command
            .args([format!("--reuid={USER}"), format!("--regid={USER}")])
            .args(["--clear-groups", "--"])
            .arg(program)
            .current_dir("/");
        command
    };
    let folder = TempDir::new().expect("a temporary directory");
    open_device_to_everybody(folder.path());
    // This program may lie where only root can look.
    let program = folder.path().join("program");
    fs::copy("/proc/self/exe", &program).expect("copied");
    let image = folder.path().join("image, with a comma.erofs");
    fs::copy(probe("block-4096.erofs"), &image).expect("copied");
    let target = folder.path().join("target");
    fs::create_dir(&target).expect("made");
    std::os::unix::fs::chown(&target, Some(USER), Some(USER)).expect("given away");
    let launch = || {
        let output = as_user(program.as_os_str())
            .arg("role=launcher")
            .args([&image, &target])
            .output()
            .expect("starts");
        assert!(output.status.success(), "{output:?}");
    };
    let read = || {
        let output = as_user(OsStr::new("cat"))
            .arg(target.join("probe"))
            .output();
        output.expect("starts").stdout.len()
    };

    launch();
    assert_eq!(read(), 9000);
    let line = mounted(&target).expect("in the table");
    assert!(line.contains(" fuse.erofs ro,nosuid,nodev,"), "{line}");
    assert!(
        line.contains("image,\\040with\\040a\\040comma.erofs "),
        "{line}"
    );
    // Not even root, who was not invited.
    let error = fs::metadata(target.join("probe")).expect_err("others are kept out");
    assert_eq!(error.raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
    let status = as_user(helper.as_os_str()).arg("-u").arg(&target).status();
    assert!(status.expect("starts").success());
    all_gone(&target);

    launch();
    rustix::process::kill_process(only("daemon", &target), Signal::KILL).expect("killed");
    eventually("unmounting", || mounted(&target).is_none());
    all_gone(&target);

    launch();
    rustix::process::kill_process(only("daemon", &target), Signal::TERM).expect("sent");
    eventually("unmounting", || mounted(&target).is_none());
    all_gone(&target);

    // A directory that is not theirs.
    fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).expect("set");
    std::os::unix::fs::chown(&target, Some(0), Some(0)).expect("taken back");
    let output = as_user(program.as_os_str())
        .arg("role=launcher")
        .args([&image, &target])
        .output()
        .expect("starts");
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("fusermount3: "), "{message}");
    assert_eq!(mounted(&target), None);
}
