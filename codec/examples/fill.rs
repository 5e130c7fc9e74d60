//! Measures the Zstd encoder on files:
//! `cargo run --release --example fill -- [-l LEVEL] [-p PCLUSTER] [-s SEGMENT] [-x] FILE…` (sizes in bytes).
//!
//! Printed for each file: how often each byte went through the library, the mean
//! fill of the blocks used, blocks against data, speed on one thread beside the
//! speed of plain frames of 256 KiB at the same level, and with `-x` the size
//! beside that of a bisection to the longest prefix that fits.

use std::time::{Duration, Instant};

use erofs_codec::{
    BLOCK, Decoder, Encoder,
    zstd::{ZstdDecoder, ZstdEncoder},
};
use zstd_safe::{CCtx, CParameter};

fn main() {
    let (mut level, mut pcluster, mut segment, mut exact) = (3, 64 << 10, 4 << 20, false);
    let mut files = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            args.next()
                .and_then(|n| n.parse::<usize>().ok())
                .expect("a number follows the option")
        };
        match arg.as_str() {
            "-l" => level = number() as i32,
            "-p" => pcluster = number(),
            "-s" => segment = number(),
            "-x" => exact = true,
            _ => files.push(arg),
        }
    }
    let window_log = (8 * pcluster).min(1 << 20).ilog2();
    println!("level {level}, pcluster {pcluster}, window 2^{window_log}, segments of {segment}");
    for file in files {
        let data = std::fs::read(&file).expect("readable file");
        let ours = ours(&data, level, pcluster, window_log, segment);
        let plain = plain_frames(&data, level);
        let mb = |t: Duration| data.len() as f64 / 1e6 / t.as_secs_f64();
        print!(
            "{file}: {:.3} encodes/byte, fill {:.2} %, size {:.3} %, plain {:.1} %, {:.0} MB/s (zstd -{level} on 256 KiB: {:.0} MB/s, {:.3} %)",
            ours.pushed as f64 / data.len() as f64,
            100.0 * ours.encoded as f64 / (ours.blocks * BLOCK) as f64,
            100.0 * ours.total as f64 / data.len() as f64,
            100.0 * ours.stored as f64 / data.len() as f64,
            mb(ours.time),
            mb(plain.0),
            100.0 * plain.1 as f64 / data.len() as f64,
        );
        if exact {
            let (total, time, pushed) = bisected(&data, level, pcluster, window_log, segment);
            print!(
                ", bisection {:.3} % ({:+.2} %) {:.0} MB/s {:.1} encodes/byte",
                100.0 * total as f64 / data.len() as f64,
                100.0 * (ours.total as f64 / total as f64 - 1.0),
                mb(time),
                pushed as f64 / data.len() as f64
            );
        }
        println!();
    }
}

struct Ours {
    pushed: u64,
    encoded: usize,
    blocks: usize,
    stored: usize,
    total: usize,
    time: Duration,
}

fn ours(data: &[u8], level: i32, pcluster: usize, window_log: u32, segment: usize) -> Ours {
    let mut encoder = ZstdEncoder::new(level, window_log, pcluster).expect("valid parameters");
    let mut decoder = ZstdDecoder::new(window_log);
    let mut output = vec![0; pcluster];
    let mut decoded = Vec::new();
    let mut r = Ours {
        pushed: 0,
        encoded: 0,
        blocks: 0,
        stored: 0,
        total: 0,
        time: Duration::ZERO,
    };
    for segment in data.chunks(segment) {
        encoder.restart();
        let mut rest = segment;
        while !rest.is_empty() {
            let start = Instant::now();
            let fill = encoder.fill(rest, &mut output).expect("encodes");
            r.time += start.elapsed();
            let taken = match fill {
                Some(fill) => {
                    decoded.resize(fill.consumed, 0);
                    decoder
                        .decode(&output[..fill.encoded], &mut decoded)
                        .expect("decodes");
                    assert!(decoded == rest[..fill.consumed], "round trip");
                    r.encoded += fill.encoded;
                    r.blocks += fill.encoded.div_ceil(BLOCK);
                    r.total += fill.encoded.next_multiple_of(BLOCK);
                    fill.consumed
                }
                None => {
                    let n = rest.len().min(pcluster);
                    r.stored += n;
                    r.total += n.next_multiple_of(BLOCK);
                    n
                }
            };
            rest = &rest[taken..];
        }
    }
    r.pushed = encoder.bytes_pushed();
    r
}

fn context(level: i32, window_log: Option<u32>) -> CCtx<'static> {
    let mut context = CCtx::create();
    context
        .set_parameter(CParameter::CompressionLevel(level))
        .expect("level");
    if let Some(log) = window_log {
        context
            .set_parameter(CParameter::WindowLog(log))
            .expect("window");
    }
    context
}

fn plain_frames(data: &[u8], level: i32) -> (Duration, usize) {
    let mut context = context(level, None);
    let mut out = vec![0; zstd_safe::compress_bound(256 << 10)];
    let start = Instant::now();
    let size = data
        .chunks(256 << 10)
        .map(|chunk| context.compress2(&mut out[..], chunk).expect("encodes"))
        .sum();
    (start.elapsed(), size)
}

fn bisected(
    data: &[u8],
    level: i32,
    pcluster: usize,
    window_log: u32,
    segment: usize,
) -> (usize, Duration, usize) {
    let mut context = context(level, Some(window_log));
    let mut out = vec![0; zstd_safe::compress_bound(segment)];
    let (mut total, mut pushed) = (0, 0);
    let start = Instant::now();
    for segment in data.chunks(segment) {
        let mut rest = segment;
        let mut last = pcluster;
        while !rest.is_empty() {
            let mut size = |n: usize| {
                pushed += n;
                context
                    .compress2(&mut out[..], &rest[..n])
                    .expect("encodes")
            };
            let (mut low, mut low_size) = (0, 0);
            let mut high = (last * 5 / 4).min(rest.len());
            loop {
                let s = size(high);
                if s > pcluster {
                    break;
                }
                (low, low_size) = (high, s);
                if high == rest.len() {
                    break;
                }
                high = (high * 2).min(rest.len());
            }
            while low + 1 < high {
                let middle = low + (high - low) / 2;
                let s = size(middle);
                if s <= pcluster {
                    (low, low_size) = (middle, s);
                } else {
                    high = middle;
                }
            }
            let taken = if low == 0 || low_size.next_multiple_of(BLOCK) >= low {
                let n = rest.len().min(pcluster);
                total += n.next_multiple_of(BLOCK);
                n
            } else {
                total += low_size.next_multiple_of(BLOCK);
                low
            };
            last = taken;
            rest = &rest[taken..];
        }
    }
    (total, start.elapsed(), pushed)
}
