//! Measures how the encoders fill pclusters:
//! `cargo run --release --example fill -- [-c CODEC] [-l LEVELS] [-p PCLUSTERS] [-s SEGMENT] [-x] FILE…`
//!
//! `CODEC` is zstd (default), deflate, lzma, lz4 or lz4hc; `LEVELS` and `PCLUSTERS` (bytes) are lists with commas. Each file is
//! encoded on its own, in segments (bytes). Printed for each level and size, over all files: how often each byte went
//! through the encoder where it tells, the mean fill of the blocks used by pclusters that had more input than they took,
//! the largest padding of any, blocks against data, the share stored plain, and CPU speed of the encoder. With `-x` Zstd is
//! compared with a bisection to the longest prefix that fits.

use std::time::Duration;

use erofs_codec::deflate::{DeflateDecoder, DeflateEncoder, MAX_WINDOW_BITS};
use erofs_codec::lz4::{Lz4Decoder, Lz4Encoder, Lz4HcEncoder, MAX_DISTANCE};
use erofs_codec::lzma::{self, LzmaDecoder, LzmaEncoder};
use erofs_codec::zstd::{ZstdDecoder, ZstdEncoder};
use erofs_codec::{BLOCK, Decoder, EncodeError, Encoder, Fill};
use measure::cpu_time;
use zstd_safe::{CCtx, CParameter};

mod measure;

fn main() {
    let (mut codec, mut levels, mut sizes) = (String::from("zstd"), vec![3], vec![64 << 10]);
    let (mut segment, mut exact) = (4 << 20, false);
    let mut files = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().expect("a value follows the option");
        match arg.as_str() {
            "-c" => codec = value(),
            "-l" => levels = numbers(&value()),
            "-p" => sizes = numbers(&value()),
            "-s" => segment = numbers(&value())[0],
            "-x" => exact = true,
            _ => files.push(std::fs::read(&arg).expect("readable file")),
        }
    }
    // What fits a block is never encoded.
    files.retain(|file| file.len() > BLOCK);
    let total = files.iter().map(Vec::len).sum::<usize>() as f64;
    println!(
        "{codec}, {} files of {total} bytes, segments of {segment}",
        files.len()
    );
    for &pcluster in &sizes {
        for &level in &levels {
            let encoder = match AnyEncoder::new(&codec, level as i32, pcluster) {
                Ok(encoder) => encoder,
                Err(error) => {
                    println!("{error}");
                    continue;
                }
            };
            let sums = measure(encoder, &files, pcluster, segment);
            print!(
                "pcluster {pcluster} level {level}: {} encodes/byte, fill {:.2} %, padding up to {}, size {:.3} %, plain {:.1} %, {:.1} MB/s",
                sums.pushed
                    .map_or("?".into(), |n| format!("{:.3}", n as f64 / total)),
                100.0 * sums.encoded as f64 / sums.room as f64,
                sums.padding,
                100.0 * sums.size as f64 / total,
                100.0 * sums.plain as f64 / total,
                total / 1e6 / sums.time.as_secs_f64(),
            );
            if exact && codec == "zstd" {
                let (size, time, pushed) = bisect(&files, level as i32, pcluster, segment);
                print!(
                    "; bisection {:.3} % ({:+.2} %) {:.1} encodes/byte {:.0} MB/s",
                    100.0 * size as f64 / total,
                    100.0 * (sums.size as f64 / size as f64 - 1.0),
                    pushed as f64 / total,
                    total / 1e6 / time.as_secs_f64(),
                );
            }
            println!();
        }
    }
}

fn numbers(list: &str) -> Vec<usize> {
    list.split(',')
        .map(|n| n.parse().expect("numbers with commas"))
        .collect()
}

enum AnyEncoder {
    Zstd(ZstdEncoder, u32),
    Deflate(DeflateEncoder),
    Lz4(Box<dyn Encoder>),
    Lzma(Box<LzmaEncoder>, u32),
}

fn zstd_window_log(pcluster: usize) -> u32 {
    (8 * pcluster).min(1 << 20).ilog2()
}

impl AnyEncoder {
    fn new(codec: &str, level: i32, pcluster: usize) -> Result<Self, EncodeError> {
        Ok(match codec {
            "zstd" => {
                let window_log = zstd_window_log(pcluster);
                Self::Zstd(ZstdEncoder::new(level, window_log, pcluster)?, window_log)
            }
            "deflate" => Self::Deflate(DeflateEncoder::new(level, MAX_WINDOW_BITS, pcluster)?),
            "lz4" => Self::Lz4(Box::new(Lz4Encoder::new(MAX_DISTANCE)?)),
            "lz4hc" => Self::Lz4(Box::new(Lz4HcEncoder::new(level, MAX_DISTANCE)?)),
            "lzma" => {
                let dictionary = lzma::default_dictionary_size(pcluster);
                let properties = lzma::Properties::default();
                let encoder = LzmaEncoder::new(level, dictionary, properties, pcluster)?;
                Self::Lzma(Box::new(encoder), dictionary)
            }
            _ => panic!("unknown codec {codec}"),
        })
    }

    fn encoder(&mut self) -> &mut dyn Encoder {
        match self {
            Self::Zstd(encoder, _) => encoder,
            Self::Deflate(encoder) => encoder,
            Self::Lz4(encoder) => encoder.as_mut(),
            Self::Lzma(encoder, _) => encoder.as_mut(),
        }
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        match self {
            Self::Zstd(_, window_log) => Box::new(ZstdDecoder::new(*window_log)),
            Self::Deflate(_) => Box::new(DeflateDecoder::default()),
            Self::Lz4(_) => Box::new(Lz4Decoder),
            Self::Lzma(_, dictionary) => Box::new(LzmaDecoder::new(*dictionary)),
        }
    }

    /// Bytes that went through it.
    fn pushed(&self) -> Option<u64> {
        match self {
            Self::Zstd(encoder, _) => Some(encoder.bytes_pushed()),
            Self::Deflate(encoder) => Some(encoder.bytes_parsed()),
            Self::Lz4(_) | Self::Lzma(..) => None,
        }
    }
}

#[derive(Default)]
struct Sums {
    pushed: Option<u64>,
    /// Of pclusters that did not take all of the input.
    encoded: usize,
    room: usize,
    padding: usize,
    plain: usize,
    size: usize,
    time: Duration,
}

fn measure(mut encoder: AnyEncoder, files: &[Vec<u8>], pcluster: usize, segment: usize) -> Sums {
    let mut decoder = encoder.decoder();
    let mut output = vec![0; pcluster];
    let mut decoded = Vec::new();
    let mut sums = Sums::default();
    for segment in files.iter().flat_map(|file| file.chunks(segment)) {
        encoder.encoder().restart();
        let mut rest = segment;
        while !rest.is_empty() {
            let start = cpu_time();
            let fill = encoder.encoder().fill(rest, &mut output).expect("encodes");
            sums.time += cpu_time() - start;
            let taken = match fill {
                Some(Fill { consumed, encoded }) => {
                    decoded.resize(consumed, 0);
                    decoder
                        .decode(&output[..encoded], &mut decoded)
                        .expect("decodes");
                    assert!(decoded == rest[..consumed], "round trip");
                    let blocks = encoded.next_multiple_of(BLOCK);
                    if consumed < rest.len() {
                        sums.encoded += encoded;
                        sums.room += blocks;
                    }
                    sums.padding = sums.padding.max(blocks - encoded);
                    sums.size += blocks;
                    consumed
                }
                None => {
                    let taken = rest.len().min(pcluster);
                    sums.plain += taken;
                    sums.size += taken.next_multiple_of(BLOCK);
                    taken
                }
            };
            rest = &rest[taken..];
        }
    }
    sums.pushed = encoder.pushed();
    sums
}

/// Size, time and bytes pushed of a search by encoding.
fn bisect(
    files: &[Vec<u8>],
    level: i32,
    pcluster: usize,
    segment: usize,
) -> (usize, Duration, usize) {
    let mut context = CCtx::create();
    let window_log = zstd_window_log(pcluster);
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(window_log),
    ] {
        context.set_parameter(parameter).expect("valid");
    }
    let mut out = vec![0; zstd_safe::compress_bound(segment)];
    let (mut total, mut pushed) = (0, 0);
    let start = cpu_time();
    for segment in files.iter().flat_map(|file| file.chunks(segment)) {
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
    (total, cpu_time() - start, pushed)
}
