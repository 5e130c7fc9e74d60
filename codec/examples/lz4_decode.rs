//! Measures the LZ4 decoder beside liblz4's, and verifying, on pclusters as erofs-utils fills them:
//! `cargo run --release --example lz4_decode -- [-p PCLUSTER] [-n NTH] [-r ROUNDS] FILE|DIRECTORY…`
//! (of directories every NTH file is taken; PCLUSTER in bytes).
//!
//! Printed for each: the least CPU time of a round over everything, in nanoseconds for each KiB decoded.

use std::ffi::{c_char, c_int};
use std::path::PathBuf;
use std::time::Duration;

use erofs_codec::Decoder;
use erofs_codec::lz4::Lz4Decoder;
use lz4_sys as _;
use measure::{collect, cpu_time};

mod measure;

unsafe extern "C" {
    fn LZ4_compress_destSize(
        source: *const c_char,
        target: *mut c_char,
        source_size: *mut c_int,
        target_size: c_int,
    ) -> c_int;
    fn LZ4_decompress_safe(
        source: *const c_char,
        target: *mut c_char,
        source_size: c_int,
        target_size: c_int,
    ) -> c_int;
}

/// A pcluster and the length of what it holds.
type Unit = (Vec<u8>, usize);

fn main() {
    let (mut pcluster, mut nth, mut rounds, mut paths) = (4096, 1, 20, vec![]);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            args.next()
                .and_then(|n| n.parse::<usize>().ok())
                .expect("a number follows the option")
        };
        match arg.as_str() {
            "-p" => pcluster = number(),
            "-n" => nth = number(),
            "-r" => rounds = number(),
            _ => paths.push(PathBuf::from(arg)),
        }
    }
    let mut files = Vec::new();
    for path in &paths {
        collect(path, &mut files);
    }
    let mut units = Vec::new();
    for file in files.iter().step_by(nth) {
        encode(
            &std::fs::read(file).expect("readable file"),
            pcluster,
            &mut units,
        );
    }
    let decoded: usize = units.iter().map(|unit| unit.1).sum();
    let longest = units.iter().map(|unit| unit.1).max().unwrap_or(0);
    println!("{} pclusters, {decoded} bytes decoded", units.len());
    let mut outputs = [vec![0; longest], vec![0; longest]];
    for (unit, length) in &units {
        let [a, b] = &mut outputs;
        ours(unit, &mut a[..*length]);
        theirs(unit, &mut b[..*length]);
        assert!(a[..*length] == b[..*length], "both decode the same");
    }
    let mut least = [Duration::MAX; 3];
    for _ in 0..rounds {
        for (least, decode) in least.iter_mut().zip([ours, theirs, verified]) {
            let [output, _] = &mut outputs;
            let start = cpu_time();
            for (unit, length) in &units {
                decode(unit, &mut output[..*length]);
            }
            *least = (*least).min(cpu_time() - start);
        }
    }
    let [ours, theirs, verified] =
        least.map(|time| time.as_nanos() as f64 / (decoded as f64 / 1024.0));
    println!(
        "ours {ours:.1}, liblz4 {theirs:.1}, ratio {:.3}; without the bytes {verified:.1}",
        ours / theirs
    );
}

/// Appends the pclusters of a file; what saves nothing would be stored plain.
fn encode(content: &[u8], pcluster: usize, units: &mut Vec<Unit>) {
    let mut output = vec![0; pcluster];
    let mut rest = content;
    while !rest.is_empty() {
        let mut taken = rest.len().min(8 << 20) as c_int;
        // SAFETY: the lengths are those of the buffers, which are valid for the call.
        let written = unsafe {
            LZ4_compress_destSize(
                rest.as_ptr().cast(),
                output.as_mut_ptr().cast(),
                &mut taken,
                pcluster as c_int,
            )
        };
        let (written, mut taken) = (written as usize, taken as usize);
        if taken > pcluster {
            units.push((output[..written].to_vec(), taken));
        } else {
            taken = rest.len().min(pcluster);
        }
        rest = &rest[taken..];
    }
}

fn ours(unit: &[u8], output: &mut [u8]) {
    Lz4Decoder.decode(unit, output).expect("decodes");
}

fn verified(unit: &[u8], output: &mut [u8]) {
    let verified = Lz4Decoder.verify(unit, output.len(), &mut Vec::new());
    verified.expect("decodes");
}

fn theirs(unit: &[u8], output: &mut [u8]) {
    // SAFETY: the lengths are those of the buffers, which are valid for the call.
    let written = unsafe {
        LZ4_decompress_safe(
            unit.as_ptr().cast(),
            output.as_mut_ptr().cast(),
            unit.len() as c_int,
            output.len() as c_int,
        )
    };
    assert_eq!(written as usize, output.len());
}
