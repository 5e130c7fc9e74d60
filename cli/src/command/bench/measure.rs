//! One form: built, read by this program, mounted and read through the mount.

use crate::mounting::MountGuard;
use crate::progress::Progress;
use crate::scratch::Scratch;
use anyhow::Context;
use erofs_mkfs::build::{BuildOptions, BuildSource, build};
use erofs_mkfs::summary::Summary;
use erofs_mount::Via;
use erofs_reader::{FileSource, Image, ImageOptions};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Ways to mount, each asked for by itself.
const WAYS: [Via; 3] = [Via::File, Via::Loop, Via::Fuse];
/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// Random reads end after this time or number.
const RANDOM_TIME: Duration = Duration::from_millis(500);
const RANDOM_READS: u64 = 5000;

/// Figures of one form.
#[derive(Debug)]
pub(super) struct Measured {
    /// Its options.
    pub(super) form: String,
    /// What the build said.
    pub(super) summary: Summary,
    /// Wall time of the build.
    pub(super) build_seconds: f64,
    /// Processor time of the build, all threads together.
    pub(super) build_cpu_seconds: f64,
    /// Bytes of files in a second, read by this program with one thread.
    pub(super) read_speed: f64,
    /// Through mounts.
    pub(super) ways: Vec<WayResult>,
}

/// Figures of a mounted image, or why there are none.
#[derive(Debug, Serialize)]
pub(super) struct WayResult {
    /// How it was mounted.
    pub(super) way: Via,
    /// What was measured.
    #[serde(flatten)]
    pub(super) speed: Option<Speed>,
    /// Why nothing was.
    pub(super) skipped: Option<String>,
}

/// Speed of reading through a mount.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Speed {
    /// Bytes of all files, one after the other, in a second.
    #[serde(rename = "sequential_bytes_per_second")]
    pub(super) sequential: f64,
    /// Reads of 4 KiB at random places in a second.
    #[serde(rename = "random_reads_per_second")]
    pub(super) random: f64,
}

impl Measured {
    /// The fastest way to read all files.
    pub(super) fn best_speed(&self) -> f64 {
        let mounted = self.ways.iter().filter_map(|way| way.speed);
        mounted
            .map(|speed| speed.sequential)
            .fold(self.read_speed, f64::max)
    }

    /// The median of each figure. There is at least one run.
    pub(super) fn median(mut runs: Vec<Self>) -> Self {
        let of = |figure: &dyn Fn(&Self) -> f64| {
            let mut all: Vec<_> = runs.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let build_seconds = of(&|run| run.build_seconds);
        let build_cpu_seconds = of(&|run| run.build_cpu_seconds);
        let read_speed = of(&|run| run.read_speed);
        let speeds: Vec<_> = (0..WAYS.len())
            .map(|way| {
                let all_measured = runs.iter().all(|run| run.ways[way].speed.is_some());
                let of = |figure: fn(&Speed) -> f64| {
                    of(&|run| run.ways[way].speed.as_ref().map_or(0.0, figure))
                };
                all_measured.then(|| Speed {
                    sequential: of(|speed| speed.sequential),
                    random: of(|speed| speed.random),
                })
            })
            .collect();
        let last = runs.remove(0);
        let ways = last.ways.into_iter().zip(speeds);
        Self {
            build_seconds,
            build_cpu_seconds,
            read_speed,
            ways: ways
                .map(|(way, speed)| WayResult { speed, ..way })
                .collect(),
            ..last
        }
    }
}

/// Builds, reads and mounts one form of the source. The image is removed.
pub(super) fn form(
    form: &str,
    source: BuildSource,
    options: &BuildOptions,
    work: &Scratch,
) -> anyhow::Result<Measured> {
    let image = work.image();
    let progress = Progress::start("building", false);
    let (started, cpu) = (Instant::now(), cpu_seconds());
    let summary = build(source, image, options, progress.counter())?;
    let build_seconds = started.elapsed().as_secs_f64();
    let build_cpu_seconds = cpu_seconds() - cpu;
    drop(progress);
    let read_speed = read_speed(image)?;
    let ways = WAYS
        .into_iter()
        .map(|way| match mounted(image, work.target(), way) {
            Ok(speed) => WayResult {
                way,
                speed: Some(speed),
                skipped: None,
            },
            Err(error) => WayResult {
                way,
                speed: None,
                skipped: Some(crate::error::one_line(&error)),
            },
        })
        .collect();
    fs::remove_file(image)?;
    Ok(Measured {
        form: form.to_owned(),
        summary,
        build_seconds,
        build_cpu_seconds,
        read_speed,
        ways,
    })
}

/// Processor time that this process has used.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Reads all files with the reader, one thread, in the order of their data.
fn read_speed(path: &Path) -> anyhow::Result<f64> {
    let image = Image::open(FileSource::open(path)?, ImageOptions::default())?;
    let mut buffer = vec![0; PIECE];
    let mut bytes = 0;
    let started = Instant::now();
    let mut broken = None;
    for inode in image.files_in_disk_order(|error| broken = Some(error))? {
        let inode = inode?;
        let mut offset = 0;
        while offset < inode.size {
            offset += image.read(&inode, offset, &mut buffer)? as u64;
        }
        bytes += inode.size;
    }
    match broken {
        Some(error) => Err(error).context("the image that was just built"),
        None => Ok(bytes as f64 / started.elapsed().as_secs_f64().max(1e-9)),
    }
}

/// Mounts and reads the image twice, so that the second time finds nothing in memory of what the first one read.
fn mounted(image: &Path, target: &Path, way: Via) -> anyhow::Result<Speed> {
    let guard = MountGuard::mount(image, target, way)?;
    let started = Instant::now();
    let mut files = Vec::new();
    let bytes = read_tree(target, &mut files)?;
    let sequential = bytes as f64 / started.elapsed().as_secs_f64().max(1e-9);
    guard.unmount()?;

    let guard = MountGuard::mount(image, target, way)?;
    let random = random_reads(&files, bytes)?;
    guard.unmount()?;
    Ok(Speed { sequential, random })
}

/// Reads everything below a folder. Returns the bytes of all files, and gathers these with their sizes.
fn read_tree(root: &Path, files: &mut Vec<(PathBuf, u64)>) -> anyhow::Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut total = 0;
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let failed = || folder.display().to_string();
        for entry in fs::read_dir(&folder).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let kind = entry.file_type().with_context(failed)?;
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                let named = || path.display().to_string();
                let mut file = File::open(&path).with_context(named)?;
                let mut size = 0;
                loop {
                    match file.read(&mut buffer).with_context(named)? {
                        0 => break,
                        count => size += count as u64,
                    }
                }
                total += size;
                if size > 0 {
                    files.push((path, size));
                }
            }
        }
    }
    Ok(total)
}

/// Reads 4 KiB at places that are the same in every run. Returns how many in a second.
fn random_reads(files: &[(PathBuf, u64)], bytes: u64) -> anyhow::Result<f64> {
    const LENGTH: u64 = 4096;
    if bytes == 0 {
        return Ok(0.0);
    }
    // Where each file begins when all stand behind each other.
    let mut starts = Vec::with_capacity(files.len());
    let mut next = 0;
    for (_, size) in files {
        starts.push(next);
        next += size;
    }
    let mut buffer = [0; LENGTH as usize];
    let mut state: u64 = 1;
    let mut reads = 0;
    let mut spent = Duration::ZERO;
    while reads < RANDOM_READS && spent < RANDOM_TIME {
        // A linear congruence of full period; its high bits are good enough for places.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let place = ((u128::from(state) * u128::from(bytes)) >> 64) as u64;
        let index = starts.partition_point(|start| *start <= place) - 1;
        let (path, _) = &files[index];
        let offset = (place - starts[index]) / LENGTH * LENGTH;
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let started = Instant::now();
        file.read_at(&mut buffer, offset)?;
        spent += started.elapsed();
        reads += 1;
    }
    Ok(reads as f64 / spent.as_secs_f64().max(1e-9))
}
