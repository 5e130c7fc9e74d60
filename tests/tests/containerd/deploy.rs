//! What is deployed is what systemd, containerd and Kubernetes take.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use erofs_tests::require;
use erofs_tests::skip;
use erofs_tests::workshop::succeed;

/// Units for systemd, lines for containerd, manifests.
fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

#[test]
fn systemd_takes_the_units() {
    let analyze = require!(skip::program("systemd-analyze"));
    let folder = tempfile::tempdir().expect("made");
    let mut verify = Command::new(analyze);
    verify.arg("verify");
    for name in ["erofs-snapshotter.service", "erofs-snapshotter.socket"] {
        let unit = fs::read_to_string(deploy().join("systemd").join(name)).expect("read");
        // The program has to be there.
        let unit = unit.replace("/usr/local/bin/erofs", "/bin/true");
        fs::write(folder.path().join(name), unit).expect("written");
        verify.arg(folder.path().join(name));
    }
    let output = succeed(&mut verify);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// UPDATE_DEPLOY=1 writes the file anew.
#[test]
fn containerd_is_told_what_we_print() {
    let mut printed = Command::new(require!(skip::erofs_binary()));
    printed.args(["snapshotter", "--print-containerd-config"]);
    printed.args(["--containerd-version", "2.1"]);
    let printed = succeed(&mut printed).stdout;
    let printed = String::from_utf8(printed).expect("text");
    let printed = printed.replace("linux/arm64", "linux/amd64");
    let file = deploy().join("containerd/erofs-toolkit.toml");
    if std::env::var_os("UPDATE_DEPLOY").is_some() {
        fs::write(&file, &printed).expect("written");
    }
    assert_eq!(fs::read_to_string(file).expect("read"), printed);
}

#[test]
fn manifests_are_whole() {
    let python = require!(skip::program("python3"));
    let folder = deploy().join("kubernetes");
    let script = "import sys, yaml\nfor path in sys.argv[1:]:\n    assert all(list(yaml.safe_load_all(open(path)))), path";
    let mut parse = Command::new(python);
    parse.args(["-c", script]);
    for entry in ["base", "k3s", "kind"] {
        for file in fs::read_dir(folder.join(entry)).expect("read") {
            let file = file.expect("read").path();
            if file
                .extension()
                .is_some_and(|extension| extension == "yaml")
            {
                parse.arg(file);
            }
        }
    }
    succeed(&mut parse);
    // Neither Debian nor CI has it.
    let kubectl = match skip::program("kubectl") {
        Ok(kubectl) => kubectl,
        Err(reason) => return skip::report_missing(&reason),
    };
    for overlay in ["base", "k3s", "kind"] {
        let made = succeed(
            Command::new(&kubectl)
                .arg("kustomize")
                .arg(folder.join(overlay)),
        );
        let made = String::from_utf8_lossy(&made.stdout).into_owned();
        assert!(
            made.contains("kind: DaemonSet") && made.contains("install.sh: |"),
            "{made}"
        );
    }
}

/// A node, and what the pod has, in a folder. Its `chroot` notes what is asked for, and fails where `fails` says.
struct Node(tempfile::TempDir);

impl Node {
    fn new() -> Self {
        let node = Self(tempfile::tempdir().expect("made"));
        for folder in ["bin", "host/run", "image/opt/erofs/systemd"] {
            fs::create_dir_all(node.path(folder)).expect("made");
        }
        for (name, content) in [
            ("image/usr/local/bin/erofs", "program"),
            ("image/etc/erofs/snapshotter.toml", ""),
            ("image/opt/erofs/systemd/erofs-snapshotter.service", ""),
            ("image/opt/erofs/systemd/erofs-snapshotter.socket", ""),
        ] {
            let path = node.path(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, content).expect("written");
        }
        node.program("sleep", "exit 0");
        node.program(
            "chroot",
            r#"shift
               echo "$*" >>"$LOG"
               case "$*" in *"$FAILS"*) echo "not today" >&2; exit 1;; esac
               case "$*" in *print-containerd-config*) printf 'version = 3\n[x]\n\n# Kubernetes.\n[y]\n';; esac"#,
        );
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
    }

    /// Whether the installation ends well where what has this in it fails, and what it started anew.
    fn install(&self, fails: &str, variables: &[(&str, &str)]) -> (bool, Vec<String>) {
        let log = self.path("log");
        fs::write(&log, "").expect("written");
        let path = std::env::var("PATH").expect("set");
        let done = Command::new("sh")
            .arg(deploy().join("kubernetes/base/install.sh"))
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOST", self.path("host"))
            .env("IMAGE", self.path("image"))
            .env("LOG", &log)
            .env("FAILS", fails)
            .envs(variables.iter().copied())
            .output()
            .expect("starts");
        let log = fs::read_to_string(log).expect("read");
        let restarted = log
            .lines()
            .filter_map(|line| line.strip_prefix("systemctl restart "));
        (
            done.status.success(),
            restarted.map(str::to_owned).collect(),
        )
    }
}

/// What failed is done by the next run, and what is there already is left alone.
#[test]
fn the_installation_ends_what_it_began() {
    let nothing: [&str; 0] = [];
    let node = Node::new();
    assert_eq!(node.install("enable", &[]), (false, vec![]));
    let config = node.path("host/etc/containerd/conf.d/erofs-toolkit.toml");
    let (done, restarted) = node.install("print-containerd-config", &[]);
    assert!(!done && !config.exists());
    assert_eq!(restarted, ["erofs-snapshotter.service"]);
    let (done, restarted) = node.install("restart containerd", &[]);
    assert!(!done);
    assert_eq!(restarted, ["containerd"]);
    let (done, restarted) = node.install("nothing", &[]);
    assert!(done);
    assert_eq!(restarted, ["containerd"]);
    let printed = fs::read_to_string(&config).expect("read");
    assert!(
        printed.contains("version = 3") && printed.contains("[y]"),
        "{printed}"
    );
    assert_eq!(node.install("nothing", &[]).1, nothing);
    fs::write(node.path("image/usr/local/bin/erofs"), "newer").expect("written");
    let (_, restarted) = node.install("nothing", &[]);
    assert_eq!(restarted, ["erofs-snapshotter.service"]);
}

/// Agents of k3s have another service than servers, and a template that ends where Kubernetes begins.
#[test]
fn the_service_that_runs_is_started_anew() {
    let node = Node::new();
    let template = "/agent/config-v3.toml.tmpl";
    let variables = [
        ("CONTAINERD_SERVICE", "k3s k3s-agent"),
        ("CONTAINERD_CONFIG", template),
        ("CONTAINERD_CONFIG_HEAD", "{{ template \"base\" . }}"),
        ("WITH_CRI", "no"),
    ];
    let (done, restarted) = node.install("is-active --quiet k3s-agent", &variables);
    assert!(done);
    assert_eq!(restarted, ["erofs-snapshotter.service", "k3s"]);
    let printed = fs::read_to_string(node.path("host").join(&template[1..])).expect("read");
    assert_eq!(printed, "{{ template \"base\" . }}\n[x]\n");
    let node = Node::new();
    let (done, restarted) = node.install("is-active", &variables);
    assert!(!done, "nothing runs containerd");
    assert_eq!(restarted, ["erofs-snapshotter.service"]);
}
