//! What is deployed is what systemd, containerd and Kubernetes take.

use std::fs;
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
