//! What operators are told.

use std::fs;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use erofs_tests::containerd::{Containerd, NAME};
use erofs_tests::require;
use erofs_tests::workshop::{Workshop, succeed};
use serde_json::Value;

use crate::{IMAGE, image, import, needs, shows};

/// What an operator is told while an image comes, goes, comes again without being converted, and is damaged.
#[test]
fn operators_are_told_what_there_is() {
    let version = "2.1";
    let mut setup = require!(needs(version));
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
    setup.plugin = [
        "[cache]\nsize = \"1GiB\"",
        "[integrity]\nimmutable = true",
        "[log]\nformat = \"json\"\n",
    ]
    .join("\n");
    let mut containerd = Containerd::start(&setup);
    containerd.wait(|containerd| containerd.folder().join("m.sock").exists());
    assert!(containerd.get("/healthz").starts_with("HTTP/1.1 200 "));
    assert!(containerd.get("/readyz").starts_with("HTTP/1.1 200 "));
    succeed(&mut containerd.ctr(&import(version, NAME, &tar)));
    shows(&containerd, NAME, &workshop);
    let (code, status) = containerd.report("status");
    assert_eq!(code, Some(0));
    assert_eq!(status["serving"], true);
    assert_eq!(status["snapshots"]["committed"], 4);
    assert_eq!(status["used"]["count"], 3);
    assert_eq!(status["unused"]["count"], 0);
    assert_eq!(status["cache"]["misses"], 4);
    assert_eq!(containerd.mounted(), 3);
    let mounts = status["mounts"].as_array().expect("listed").iter();
    let mounts = mounts.map(|mounts| mounts["count"].as_u64().expect("a number"));
    assert_eq!(mounts.sum::<u64>(), 3);
    let metrics = containerd.get("/metrics");
    let number = |name: &str| {
        let mut lines = metrics.lines();
        let line = lines.find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
        line.trim().parse::<f64>().expect("a number")
    };
    let applied = r#"erofs_snapshotter_call_seconds_count{method="Apply",code="OK"}"#;
    assert_eq!(number(applied), 4.0);
    assert_eq!(number(r#"erofs_snapshotter_layers{use="used"}"#), 3.0);
    for stage in ["blob", "tar", "image"] {
        let name = format!("erofs_snapshotter_unpack_bytes_total{{stage=\"{stage}\"}}");
        assert!(number(&name) > 1e6, "{stage}");
    }
    for stage in ["read", "convert", "publish"] {
        let name = format!("erofs_snapshotter_unpack_seconds_total{{stage=\"{stage}\"}}");
        assert!(number(&name) > 0.0, "{stage}");
    }
    // One line for each layer, with what was asked for.
    let log = containerd.plugin_log();
    let lines = log.lines().map(serde_json::from_str);
    let lines: Vec<Value> = lines.collect::<Result<_, _>>().expect("JSON");
    let applied = lines.iter().filter(|line| line["method"] == "Apply");
    let keys: Vec<_> = applied.map(|line| line["key"].as_str()).collect();
    assert!(
        keys.len() == 4
            && keys
                .iter()
                .all(|key| key.is_some_and(|key| key.starts_with("sha256:"))),
        "{log}"
    );

    // Layers without images are kept, also by the next process, and need no conversion.
    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
    containerd.wait(|containerd| containerd.snapshots().is_ok_and(|left| left.is_empty()));
    containerd.wait(|containerd| containerd.report("status").1["unused"]["count"] == 3);
    containerd.kill_plugin();
    succeed(&mut containerd.ctr(&import(version, NAME, &tar)));
    let (_, status) = containerd.report("status");
    assert_eq!(status["cache"]["hits"], 4, "{status}");
    assert_eq!(status["cache"]["misses"], 0, "{status}");
    fs::remove_dir(workshop.path("shown")).ok();
    shows(&containerd, NAME, &workshop);

    // What was written is noted a little later.
    let scrubbed = |containerd: &Containerd| {
        let (code, report) = containerd.report("scrub");
        assert_eq!(report["layers"], 3, "{report}");
        (code, report)
    };
    containerd.wait(|containerd| {
        // One whose digest is noted just then is left out.
        let report = containerd.report("scrub").1;
        report["unrecorded"] == 0 && report["layers"] == 3
    });
    assert_eq!(scrubbed(&containerd).0, Some(0));
    let damaged = containerd.files().into_iter().find(|path| path.is_file());
    let damaged = damaged.expect("a layer");
    let write = || fs::File::options().write(true).open(&damaged);
    write().expect_err("it is immutable");
    succeed(Command::new("chattr").arg("-i").arg(&damaged));
    let last = damaged.metadata().expect("there").len() - 1;
    write()
        .expect("opened")
        .write_all_at(b"x", last)
        .expect("written");
    let (code, report) = scrubbed(&containerd);
    assert_eq!(code, Some(1));
    let layer = &report["damaged"][0];
    assert_eq!(layer["path"], damaged.to_str().expect("text"), "{report}");
    let users = layer["users"].as_array().expect("listed");
    assert!(!users.is_empty(), "{report}");
    let said = containerd.operator(&["scrub"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("its digest is sha256:"), "{said}");

    // Collected by the process, and then asked for while there is none.
    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
    containerd.wait(|containerd| containerd.report("status").1["unused"]["count"] == 3);
    // Who asks while there is none, and without its configuration, which has a cache, throws nothing away.
    containerd.stop_plugin();
    let mut asked = Command::new(&setup.erofs);
    asked.args(["snapshotter", "status", "--json", "--root"]);
    asked.arg(containerd.root()).arg("--socket");
    let status = succeed(asked.arg(containerd.folder().join("e.sock"))).stdout;
    let status: Value = serde_json::from_slice(&status).expect("JSON");
    assert_eq!(status["serving"], false);
    assert_eq!(status["unused"]["count"], 3, "{status}");
    containerd.restart_plugin(None);
    let socket = containerd.folder().join("e.sock");
    containerd.wait(|_| UnixStream::connect(&socket).is_ok());
    let (_, collected) = containerd.report("gc");
    assert_eq!(collected["layers"], 3, "{collected}");
    assert!(collected["bytes"].as_u64() > Some(1_000_000), "{collected}");
    assert_eq!(containerd.files(), Vec::<PathBuf>::new());
    containerd.stop_plugin();
    let (code, status) = containerd.report("status");
    assert_eq!((code, &status["serving"]), (Some(0), &Value::Bool(false)));
    assert_eq!(status["unused"]["count"], 0);
}

/// What was merged of layers is damaged under a container, which goes on; then nothing uses it, and the next container has it made anew.
#[test]
fn what_was_merged_is_scrubbed_and_made_anew() {
    let mut setup = require!(needs("2.1"));
    setup.plugin = "[mounts]\nmerge = 3\n[integrity]\nverify_at_mount = true\n".to_owned();
    let workshop = Workshop::light();
    let tar = image(&workshop, &setup, |_| ());
    let mut containerd = Containerd::start(&setup);
    succeed(&mut containerd.ctr(&import("2.1", NAME, &tar)));
    let name = containerd.container("stays");
    let run = ["run", "--detach", "--snapshotter", NAME, IMAGE, &name];
    containerd.says(&[&run[..], &["sleep", "1000"]].concat());
    containerd.wait(|containerd| containerd.report("scrub").1["unrecorded"] == 0);
    let (code, report) = containerd.report("scrub");
    assert_eq!(code, Some(0));
    assert_eq!(
        (&report["layers"], &report["merged"]),
        (&3.into(), &1.into())
    );
    let folder = containerd.root().join("merged");
    let merged = || {
        let found = fs::read_dir(&folder).expect("read");
        let found = found.map(|entry| entry.expect("read").path());
        found.collect::<Vec<_>>()
    };
    let damaged = merged().pop().expect("one");
    let write = fs::File::options().write(true).open(&damaged);
    write
        .expect("opened")
        .write_all_at(b"damaged", 2000)
        .expect("written");
    let (code, report) = containerd.report("scrub");
    assert_eq!(code, Some(1), "{report}");
    let found = &report["damaged"][0];
    assert_eq!(found["path"], damaged.to_str().expect("text"), "{report}");
    assert_eq!(found["merged"], true, "{report}");
    assert_eq!(found["thrown_away"], false, "{report}");
    let users = found["users"].to_string();
    assert!(users.contains(&name), "{report}");
    let exec = ["task", "exec", "--exec-id", "1", &name, "cat", "/old/new"];
    assert_eq!(containerd.says(&exec), "new\n");

    // Nobody else is let over it: what is mounted is not read again, so it is mounted anew.
    containerd.stop_plugin();
    let number = damaged.file_stem().expect("a number");
    let point = containerd.root().join("m").join(number);
    succeed(Command::new("umount").arg("--lazy").arg(point));
    containerd.restart_plugin(None);
    let other = containerd.container("other");
    let run = ["run", "--rm", "--snapshotter", NAME, IMAGE, &other];
    let run = [&run[..], &["cat", "/old/new"]].concat();
    let refused = containerd.ctr(&run).output().expect("starts");
    let said = String::from_utf8_lossy(&refused.stderr);
    let file = damaged.to_str().expect("text");
    assert!(said.contains(file) && said.contains("scrub"), "{said}");

    containerd.says(&["task", "rm", "--force", &name]);
    containerd.says(&["container", "rm", &name]);
    containerd.collect(NAME);
    let said = containerd.operator(&["scrub"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("thrown away"), "{said}");
    assert!(!damaged.exists());
    let (code, report) = containerd.report("scrub");
    assert_eq!((code, &report["merged"]), (Some(0), &0.into()), "{report}");
    assert_eq!(containerd.says(&run), "new\n");
    assert_eq!(merged().len(), 1);
    let (code, report) = containerd.report("scrub");
    assert_eq!((code, &report["merged"]), (Some(0), &1.into()), "{report}");
    succeed(&mut containerd.ctr(&["image", "rm", "--sync", IMAGE]));
    containerd.wait(|containerd| containerd.files().is_empty());
    assert_eq!(containerd.mounted(), 0);
}
