//! What is left when the plugin dies or fails at any step: nothing that does not belong there, and all that does.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use erofs_snapshotter::api::types::Mount;
use erofs_snapshotter::fault::STEPS;
use erofs_tests::require;
use erofs_tests::skip;
use erofs_tests::workshop::succeed;
use tonic::{Code, Status};

use crate::plugin::{Client, Layer, Plugin, needs, noise, packed, refused, tar};
use crate::quota::max_size;

/// Two layers.
fn layers(plugin: &Plugin) -> [Layer; 2] {
    let lower = tar(&[("a", &noise(1, 20_000)), ("b", b"b\n")]);
    let upper = tar(&[("c", &noise(2, 100_000))]);
    [
        plugin.layer(&packed("gzip", &lower), "+gzip", &lower),
        plugin.layer(&upper, "", &upper),
    ]
}

/// The upper directory that mounts show.
fn upper(mounts: &[Mount]) -> PathBuf {
    let options = &mounts.last().expect("a mount").options;
    let upper = options
        .iter()
        .find_map(|option| option.strip_prefix("upperdir="));
    upper.expect("an upper directory").into()
}

/// A plugin that merges layers wherever there are two, so that it takes each step.
fn plugin() -> Plugin {
    let plugin = Plugin::new(None);
    plugin.configure("[log]\nlevel = \"error\"\n[mounts]\nmerge = 1");
    plugin
}

/// All steps of the lives of snapshots: two layers are unpacked, merged, looked at, written over within a quota, committed and removed.
async fn live(client: &Client, layers: &[Layer; 2], round: &str) -> Result<(), Status> {
    let name = |name: &str| format!("{round} {name}");
    client.unpack(&layers[0], &name("lower"), "").await?;
    client
        .unpack(&layers[1], &name("upper"), &name("lower"))
        .await?;
    let container = name("container");
    let mounts = client
        .prepare(&container, &name("upper"), max_size("16MiB"))
        .await?;
    fs::write(upper(&mounts).join("written"), "by a container\n").expect("written");
    client.view(&name("view"), &name("upper")).await?;
    client.view(&name("empty"), "").await?;
    assert_eq!(client.mounts(&container).await?, mounts);
    client.commit(&container, &name("made"), "").await?;
    client.view(&name("of made"), &name("made")).await?;
    Plugin::remove_all(client).await
}

/// Which times a step is looked at. Of transactions: those of taking numbers, of preparing, of recording a layer, of committing it
/// and what a container wrote, and of removing.
fn times(step: &str) -> &'static [u32] {
    match step.starts_with("database.") {
        true => &[1, 2, 3, 4, 11, 13],
        false => &[1],
    }
}

#[test]
fn killed_at_any_step_the_plugin_loses_and_leaks_nothing() {
    require!(needs());
    require!(skip::program("mkfs.ext4").map(drop));
    let mut plugin = plugin();
    let (layers, root) = (layers(&plugin), plugin.root());
    let faults = STEPS.iter().flat_map(|step| {
        let fault = move |time| format!("{step}=kill:{time}");
        times(step).iter().map(fault)
    });
    for fault in faults {
        if fault.starts_with("start.") {
            // There must be something to clear.
            assert!(
                plugin.start(Some("layer.published=kill")),
                "{}",
                plugin.log()
            );
            let client = plugin.client();
            let lived = plugin.wait(live(&client, &layers, "before"));
            lived.expect_err("killed");
            assert!(plugin.has_died());
        }
        if plugin.start(Some(&fault)) {
            let client = plugin.client();
            let lived = plugin.wait(live(&client, &layers, "first"));
            assert!(plugin.has_died(), "{fault} is never reached: {lived:?}");
        }
        assert!(plugin.start(None), "{fault}: {}", plugin.log());
        plugin.assert_consistent(&root, &fault);
        assert!(plugin.start(None), "{fault}: {}", plugin.log());
        let client = plugin.client();
        plugin.wait(live(&client, &layers, "second")).expect(&fault);
        plugin.assert_empty(&root, &fault);
    }
    assert_eq!(plugin.log(), "");
}

#[test]
fn failing_at_any_step_the_plugin_goes_on() {
    require!(needs());
    require!(skip::program("mkfs.ext4").map(drop));
    let mut plugin = plugin();
    let (layers, root) = (layers(&plugin), plugin.root());
    for step in STEPS.iter().filter(|step| !step.starts_with("start.")) {
        for time in times(step) {
            let fault = format!("{step}=enospc:{time}");
            assert!(plugin.start(Some(&fault)), "{}", plugin.log());
            let client = plugin.client();
            let lived = plugin.wait(live(&client, &layers, "first"));
            // What is thrown away, synced or mounted while nobody waits is tried again.
            let is_later = ["cleanup.", "sync.", "mount."]
                .iter()
                .any(|later| step.starts_with(later));
            if !is_later || lived.is_err() {
                let said = refused(lived, Code::ResourceExhausted);
                assert!(said.contains(step), "{fault}: {said}");
            }
            plugin.wait(Plugin::remove_all(&client)).expect(&fault);
            plugin.wait(live(&client, &layers, "second")).expect(&fault);
            if *step == "database.committed" {
                // What was done and not known to be done is found at the next start.
                plugin.kill();
                assert!(plugin.start(None), "{}", plugin.log());
            }
            plugin.assert_empty(&root, &fault);
        }
    }
}

/// Snapshots are answered before they are synced, and are there all the same when the process dies.
#[test]
fn what_was_prepared_survives_the_process() {
    require!(needs());
    let mut plugin = Plugin::new(None);
    let root = plugin.root();
    let [layer, _] = layers(&plugin);
    for round in 0..3 {
        // It is tried again after a second.
        assert!(plugin.start(Some("sync.begun=eio")), "{}", plugin.log());
        let client = plugin.client();
        let name = |name: &str| format!("{round} {name}");
        let (lower, view) = (name("layer"), name("view"));
        let prepared = plugin.wait(async {
            client.unpack(&layer, &lower, "").await.expect("unpacked");
            let mut prepared = Vec::new();
            for number in 0..7 {
                let key = name(&number.to_string());
                let mounts = client.prepare(&key, &lower, HashMap::new()).await;
                let mounts = mounts.expect("prepared");
                fs::write(upper(&mounts).join("written"), &key).expect("written");
                prepared.push((key, mounts));
                if number == 4 {
                    client.remove(&name("0")).await.expect("removed");
                    // Else its folder may be there still when the process dies.
                    client.cleanup().await.expect("cleaned");
                }
            }
            let mounts = client.view(&view, &lower).await.expect("made");
            prepared.push((view.clone(), mounts));
            prepared
        });
        plugin.assert_consistent(&root, "killed");

        assert!(plugin.start(None), "{}", plugin.log());
        let client = plugin.client();
        for (key, mounts) in &prepared {
            let found = plugin.wait(client.mounts(key));
            if *key == name("0") {
                assert_eq!(found.expect_err("removed").code(), Code::NotFound);
                continue;
            }
            assert_eq!(found.as_ref().expect(key), mounts, "{key}");
            if *key != view {
                let written = fs::read_to_string(upper(mounts).join("written"));
                assert_eq!(written.expect(key), *key);
            }
        }
        plugin.assert_consistent(&root, "started anew");
    }
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    plugin.wait(Plugin::remove_all(&client)).expect("removed");
    plugin.assert_empty(&root, "in the end");
}

/// What cannot be thrown away when it starts is told, and goes when it starts again.
#[test]
fn failing_at_the_start_the_plugin_serves() {
    require!(needs());
    require!(skip::program("mkfs.ext4").map(drop));
    let mut plugin = plugin();
    plugin.configure("[log]\nlevel = \"warn\"\n[mounts]\nmerge = 1");
    let (layers, root) = (layers(&plugin), plugin.root());
    for step in STEPS.iter().filter(|step| step.starts_with("start.")) {
        assert!(
            plugin.start(Some("layer.published=kill")),
            "{}",
            plugin.log()
        );
        let client = plugin.client();
        plugin
            .wait(live(&client, &layers, "before"))
            .expect_err("killed");
        assert!(plugin.has_died());
        let fault = format!("{step}=eio");
        assert!(plugin.start(Some(&fault)), "{}", plugin.log());
        assert!(plugin.log().contains(step), "{fault} is never reached");
        let client = plugin.client();
        plugin.wait(live(&client, &layers, "first")).expect(&fault);
        plugin.kill();
        assert!(plugin.start(None), "{}", plugin.log());
        plugin.assert_empty(&root, &fault);
    }
}

/// What the kernel is asked for while a layer is unpacked: its image and the name of it are on disk before the database knows it.
#[test]
fn images_are_on_disk_before_they_are_recorded() {
    require!(needs());
    require!(skip::program("strace").map(drop));
    let mut plugin = Plugin::new(None);
    assert!(plugin.start(None), "{}", plugin.log());
    let client = plugin.client();
    let [layer, _] = layers(&plugin);
    let trace = plugin.root().join("../trace");
    let mut strace = Command::new("strace")
        .args([
            "-qfyye",
            "trace=fsync,fdatasync,rename,renameat,renameat2",
            "-o",
        ])
        .arg(&trace)
        .args(["-p", &plugin.process().to_string()])
        .spawn()
        .expect("starts");
    // It has begun once it sees what is synced.
    let mut rounds = 0;
    while fs::metadata(&trace).map_or(0, |trace| trace.len()) == 0 {
        rounds += 1;
        assert!(rounds < 1000, "strace sees nothing");
        let key = format!("seen {rounds}");
        plugin
            .wait(client.prepare(&key, "", HashMap::new()))
            .expect("prepared");
        // Which is synced when it is answered: nothing is left to be then.
        plugin.wait(client.remove(&key)).expect("removed");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    plugin
        .wait(client.unpack(&layer, "layer", ""))
        .expect("unpacked");
    succeed(Command::new("kill").args(["-INT", &strace.id().to_string()]));
    strace.wait().expect("ended");
    let trace = fs::read_to_string(trace).expect("read");
    let calls: Vec<&str> = trace.lines().collect();
    let named = calls
        .iter()
        .position(|call| call.contains("rename") && call.contains("/layers/sha256/"));
    let named = named.unwrap_or_else(|| panic!("an image gets its name: {trace}"));
    let is_sync = |call: &&str, of: &str| call.contains("sync(") && call.contains(of);
    let after = calls[named..].iter();
    let after: Vec<_> = after
        .take_while(|call| !is_sync(call, "metadata.redb"))
        .filter(|call| is_sync(call, "/layers/sha256/"))
        .collect();
    assert!(
        after.iter().any(|call| call.contains(".erofs>")),
        "its bytes are synced: {trace}"
    );
    assert!(
        after.iter().any(|call| !call.contains(".erofs>")),
        "its name is synced: {trace}"
    );
    let recorded = calls.iter().rev();
    let recorded: Vec<_> = recorded
        .take_while(|call| !is_sync(call, "/layers/sha256/"))
        .filter(|call| is_sync(call, "metadata.redb"))
        .collect();
    assert!(!recorded.is_empty(), "then it is recorded: {trace}");
}
