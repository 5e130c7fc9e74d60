//! Agreement with Linux about bad images: golden images with one field changed, and the malformed ones, are shown to a
//! kernel in a guest and to our reader. No bad image ever meets the kernel of this machine.
//!
//! `EROFS_MUTATIONS`: how many changed images (default: 100, or 3000 for the long form); `EROFS_SEED`: which; `EROFS_KEEP`: a
//! folder that keeps images and results; `EROFS_JUDGE=1`: judge the results that are there, without guests.

mod fields;
mod mutation;
mod verdict;

use std::{
    env, fs, iter,
    os::unix::{
        fs::{MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use erofs_tests::{
    require,
    skip::{self, Reason},
    workshop::succeed,
};
use verdict::Shown;

const SHORT: usize = 100;
const LONG: usize = 3000;
/// Seconds of silence after which a guest hangs.
const PATIENCE: &str = "20";
/// Malformed images on which kernels hang: shown in the long form only.
const DEADLY: [&str; 1] = ["packed-in-packed"];
/// Seconds after which the walk over one image ends.
const BUDGET: u32 = 20;

/// An image to be shown to both.
struct Case {
    name: String,
    what: String,
    image: PathBuf,
    devices: Vec<PathBuf>,
}

fn needs() -> Result<(), Reason> {
    if env::consts::ARCH != "x86_64" {
        return Err(Reason("the guests are for x86-64".into()));
    }
    skip::program("python3")?;
    skip::program("mke2fs").map(drop)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn cases(folder: &Path, count: usize, seed: u64) -> Vec<Case> {
    let mut cases = Vec::new();
    for mutation in mutation::all(count, seed) {
        let image = folder.join(format!("{}.erofs", mutation.name));
        fs::write(&image, &mutation.bytes).expect("written");
        cases.push(Case {
            name: mutation.name,
            what: mutation.what,
            image,
            devices: mutation.golden.devices,
        });
    }
    let malformed = fs::read_dir(root().join("images/malformed")).expect("a folder");
    let mut malformed: Vec<PathBuf> = malformed
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|end| end == "erofs"))
        .collect();
    malformed.sort();
    cases.extend(malformed.into_iter().map(|image| {
        let name = image
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        Case {
            what: format!("malformed/{name}"),
            name,
            image,
            devices: Vec::new(),
        }
    }));
    cases
}

/// Shows the cases to a kernel; its results lie in `folder` then.
fn show(cases: &[Case], kernels: &str, folder: &Path) {
    let list: String = cases
        .iter()
        .map(|case| {
            let devices: Vec<_> = case
                .devices
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let devices = if devices.is_empty() {
                String::new()
            } else {
                format!(" devices={}", devices.join(","))
            };
            let image = case.image.display();
            format!(
                "{} {image} modes=loop expect=any flags=deep,budget:{BUDGET}{devices}\n",
                case.name
            )
        })
        .collect();
    let file = folder.join("images.list");
    fs::write(&file, list).expect("written");
    // It builds the agent: by the cargo of this test, and as who built this test, for sudo has neither in mind.
    let cargo = Path::new(env!("CARGO")).parent().expect("a folder");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(iter::once(cargo.to_owned()).chain(env::split_paths(&path)));
    let built = fs::metadata(env::current_exe().expect("a test")).expect("readable");
    let mut command = Command::new(root().join("tests/kernels/run.sh"));
    command.env("PATH", path.expect("no colons"));
    if built.uid() != rustix::process::geteuid().as_raw() {
        chown(folder, Some(built.uid()), Some(built.gid())).expect("root");
        command.uid(built.uid()).gid(built.gid());
    }
    command.args(["-t", PATIENCE, "-k", kernels, "-o"]);
    succeed(command.args([folder, &file]));
}

fn agree(count: usize, kernels: &[&str], deadly: bool) {
    require!(needs());
    let number = |name| env::var(name).ok().and_then(|value| value.parse().ok());
    let count = number("EROFS_MUTATIONS").map_or(count, |count: u64| count as usize);
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let folder = env::var_os("EROFS_KEEP").map_or(temporary.path().to_owned(), PathBuf::from);
    fs::create_dir_all(&folder).expect("made");
    let mut cases = cases(&folder, count, number("EROFS_SEED").unwrap_or(1));
    if !deadly {
        println!("not shown, because kernels hang: {DEADLY:?}");
        cases.retain(|case| !DEADLY.contains(&case.name.as_str()));
    }
    if env::var_os("EROFS_JUDGE").is_none() {
        show(&cases, &kernels.join(","), &folder);
    }
    let text = fs::read_to_string(folder.join("results.json")).expect("results");
    let results: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let (mut wrong, mut known) = (Vec::new(), 0);
    let newest = kernels.last().expect("a kernel");
    for kernel in kernels {
        let (mut refused, mut died, mut whole, mut partly) = (0, 0, 0, 0);
        for case in &cases {
            let result = &results[kernel][format!("{}/loop", case.name)];
            let outcome = result["outcome"].as_str().unwrap_or("none");
            if outcome.starts_with("refused") {
                refused += 1;
                continue;
            }
            if !outcome.starts_with("read") {
                died += 1;
                println!("{kernel}: {outcome}: {}", case.what);
                continue;
            }
            let manifest = folder
                .join(kernel)
                .join(format!("{}.loop.manifest", case.name));
            let manifest = fs::read_to_string(manifest).expect("kept");
            let shown = Shown::new(&manifest);
            *(if shown.errors() > 0 {
                &mut partly
            } else {
                &mut whole
            }) += 1;
            let found = shown.disagreements(&case.image, &case.devices);
            known += usize::from(!found.known.is_empty());
            for line in &found.known {
                println!("{kernel}: known: {} ({}): {line}", case.what, case.name);
            }
            if found.wrong.is_empty() {
                continue;
            }
            let first: Vec<&str> = found.wrong.iter().take(4).map(String::as_str).collect();
            let first = first.join("\n    ");
            let told = format!("{kernel}: {} ({}): {first}", case.what, case.name);
            // Linux checked less in older versions, and our reader follows the newest.
            if kernel == newest {
                wrong.push(told);
            } else {
                println!("not held against our reader: {told}");
                known += 1;
            }
        }
        println!(
            "Linux {kernel}: of {} images {whole} read, {partly} read in part, {refused} refused, {died} crashed or hung it",
            cases.len()
        );
    }
    println!(
        "{known} images differ for a known reason: {:?}",
        verdict::reasons()
    );
    assert!(
        wrong.is_empty(),
        "{} disagreements:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn our_reader_and_linux_see_the_same_in_changed_images() {
    agree(SHORT, &["7.2"], false);
}

#[test]
#[ignore = "shows thousands of changed images to three kernels"]
fn our_reader_and_three_kernels_see_the_same_in_many_changed_images() {
    agree(LONG, &["6.12", "6.18", "7.2"], true);
}
