//! Measures the LZ4 encoders beside liblz4's functions for a fixed output:
//! `cargo run --release --example lz4 -- [-l LEVEL]… [-p PCLUSTER]… [-n NTH] FILE|DIRECTORY…`
//! (level 0 is the fast encoder; of directories every NTH file is taken; sizes in bytes).
//!
//! Printed for each level and pcluster: blocks used against data, speed on one
//! thread (its CPU time), and how full those pclusters are that end before their data does.

use std::ffi::{c_char, c_int, c_void};
use std::path::PathBuf;
use std::time::Duration;

use erofs_codec::lz4::{Lz4Decoder, Lz4Encoder, Lz4HcEncoder, MAX_DISTANCE};
use erofs_codec::{BLOCK, Decoder, Encoder};
use lz4_sys as _;
use measure::{collect, cpu_time};

mod measure;

/// Independently encoded pieces of a file.
const SEGMENT: usize = 4 << 20;

unsafe extern "C" {
    fn LZ4_compress_destSize(
        source: *const c_char,
        target: *mut c_char,
        source_size: *mut c_int,
        target_size: c_int,
    ) -> c_int;
    fn LZ4_sizeofStateHC() -> c_int;
    fn LZ4_compress_HC_destSize(
        state: *mut c_void,
        source: *const c_char,
        target: *mut c_char,
        source_size: *mut c_int,
        target_size: c_int,
        level: c_int,
    ) -> c_int;
}

fn main() {
    let (mut levels, mut pclusters, mut nth, mut paths) = (vec![], vec![], 1, vec![]);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            args.next()
                .and_then(|n| n.parse::<usize>().ok())
                .expect("a number follows the option")
        };
        match arg.as_str() {
            "-l" => levels.push(number() as i32),
            "-p" => pclusters.push(number()),
            "-n" => nth = number(),
            _ => paths.push(PathBuf::from(arg)),
        }
    }
    if levels.is_empty() {
        levels = (0..=12).collect();
    }
    if pclusters.is_empty() {
        pclusters = vec![4 << 10, 64 << 10];
    }
    let mut files = Vec::new();
    for path in &paths {
        collect(path, &mut files);
    }
    let contents: Vec<Vec<u8>> = files
        .iter()
        .step_by(nth)
        .map(|file| std::fs::read(file).expect("readable file"))
        .collect();
    let total: usize = contents.iter().map(Vec::len).sum();
    println!("{} files, {total} bytes", contents.len());
    println!("level pcluster    size liblz4   ratio    MB/s liblz4  ratio   fill liblz4");
    for &pcluster in &pclusters {
        for &level in &levels {
            let mut ours = Ours::new(level);
            let mut theirs = Theirs::new(level);
            let mut tallies = [Tally::default(), Tally::default()];
            for (i, content) in contents.iter().enumerate() {
                let mut pair: [(&mut Tally, &mut dyn Fixed); 2] = {
                    let [a, b] = &mut tallies;
                    [(a, &mut ours), (b, &mut theirs)]
                };
                // The second of them finds the data in the CPU's caches.
                if i % 2 == 1 {
                    pair.reverse();
                }
                for (tally, encoder) in pair {
                    tally.file(encoder, content, pcluster);
                }
            }
            let size = tallies.map(|t| 100.0 * t.stored as f64 / total as f64);
            let speed = tallies.map(|t| total as f64 / 1e6 / t.time.as_secs_f64());
            let fill = tallies.map(|t| 100.0 * t.filled as f64 / t.room.max(1) as f64);
            println!(
                "{level:5} {pcluster:8} {:6.3}% {:6.3}% {:+6.2}% {:7.1} {:7.1} {:5.2}x {:6.2} {:6.2}",
                size[0],
                size[1],
                100.0 * (size[0] / size[1] - 1.0),
                speed[0],
                speed[1],
                speed[0] / speed[1],
                fill[0],
                fill[1]
            );
        }
    }
}

/// What became of all files.
#[derive(Clone, Copy, Default)]
struct Tally {
    stored: usize,
    time: Duration,
    /// Bytes in the pclusters that end before their data does, and their room.
    filled: usize,
    room: usize,
}

/// Bytes taken and bytes written; `None` if that saves no block.
trait Fixed {
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Option<(usize, usize)>;
    fn restart(&mut self);
}

impl Tally {
    fn file(&mut self, encoder: &mut dyn Fixed, content: &[u8], pcluster: usize) {
        let mut output = vec![0; pcluster];
        let mut decoded = Vec::new();
        for segment in content.chunks(SEGMENT) {
            let mut rest = segment;
            encoder.restart();
            while !rest.is_empty() {
                let start = cpu_time();
                let filled = encoder.fill(rest, &mut output);
                self.time += cpu_time() - start;
                let taken = match filled {
                    Some((consumed, encoded)) => {
                        decoded.resize(consumed, 0);
                        Lz4Decoder
                            .decode(&output[..encoded], &mut decoded)
                            .expect("decodes");
                        assert!(decoded == rest[..consumed], "round trip");
                        self.stored += encoded.next_multiple_of(BLOCK);
                        if consumed < rest.len() {
                            self.filled += encoded;
                            self.room += pcluster;
                        }
                        consumed
                    }
                    None => {
                        let taken = rest.len().min(pcluster);
                        self.stored += taken.next_multiple_of(BLOCK);
                        taken
                    }
                };
                rest = &rest[taken..];
            }
        }
    }
}

struct Ours(Box<dyn Encoder>);

impl Ours {
    fn new(level: i32) -> Self {
        Self(match level {
            0 => Box::new(Lz4Encoder::new(MAX_DISTANCE).expect("valid distance")),
            level => Box::new(Lz4HcEncoder::new(level, MAX_DISTANCE).expect("valid level")),
        })
    }
}

impl Fixed for Ours {
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Option<(usize, usize)> {
        let fill = self.0.fill(input, output).expect("encodes")?;
        Some((fill.consumed, fill.encoded))
    }

    fn restart(&mut self) {
        self.0.restart();
    }
}

struct Theirs {
    level: i32,
    /// u64 for its alignment.
    state: Vec<u64>,
}

impl Theirs {
    fn new(level: i32) -> Self {
        // SAFETY: has no arguments.
        let size = unsafe { LZ4_sizeofStateHC() };
        let state = vec![0; (size as usize).div_ceil(8)];
        Self { level, state }
    }
}

impl Fixed for Theirs {
    fn fill(&mut self, input: &[u8], output: &mut [u8]) -> Option<(usize, usize)> {
        // The encoders of this crate do not ask for data that cannot save a block.
        if input.len() <= BLOCK {
            return None;
        }
        let mut taken = input.len() as c_int;
        let (source, target) = (input.as_ptr().cast(), output.as_mut_ptr().cast());
        let room = output.len() as c_int;
        // SAFETY: the lengths are those of the buffers, which are valid for the call; the state has the size and
        // alignment asked for.
        let written = unsafe {
            if self.level == 0 {
                LZ4_compress_destSize(source, target, &mut taken, room)
            } else {
                let state = self.state.as_mut_ptr().cast();
                LZ4_compress_HC_destSize(state, source, target, &mut taken, room, self.level)
            }
        };
        let (taken, written) = (taken as usize, written as usize);
        (written > 0 && written.next_multiple_of(BLOCK) < taken).then_some((taken, written))
    }

    fn restart(&mut self) {}
}
