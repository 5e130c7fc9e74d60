//! Compares the guess of `looks_incompressible` with what Zstd level 3 really saves:
//! `cargo run --release --example compressibility -- [-c CHUNK] FILE…` (chunk in bytes).

use std::time::{Duration, Instant};

use erofs_codec::compressibility::looks_incompressible;
use zstd_safe::{CCtx, CParameter};

fn main() {
    let mut chunk = 128 << 10;
    let mut files = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "-c" => {
                chunk = args
                    .next()
                    .and_then(|n| n.parse().ok())
                    .expect("a number follows the option")
            }
            _ => files.push(arg),
        }
    }
    let mut context = CCtx::create();
    context
        .set_parameter(CParameter::CompressionLevel(3))
        .expect("level 3 exists");
    let mut encoded = vec![0; zstd_safe::compress_bound(chunk)];
    for file in files {
        let data = std::fs::read(&file).expect("readable file");
        // Chunks by real saving (below 1 %, 1 to 3 %, 3 to 6 %, above) and by guess (worth encoding, not).
        let mut table = [[0usize; 2]; 4];
        let mut worst = 0.0f64;
        let mut time = Duration::ZERO;
        for chunk in data.chunks(chunk) {
            let start = Instant::now();
            let flagged = looks_incompressible(chunk);
            time += start.elapsed();
            let size = context.compress2(&mut encoded[..], chunk).expect("encodes");
            let saved = 100.0 * (1.0 - size as f64 / chunk.len() as f64);
            let row = [1.0, 3.0, 6.0]
                .iter()
                .filter(|&&limit| saved >= limit)
                .count();
            table[row][usize::from(flagged)] += 1;
            if flagged {
                worst = worst.max(saved);
            }
        }
        println!(
            "{file}: {:.0} MB/s; most saved in a chunk called incompressible: {worst:.1} %",
            data.len() as f64 / 1e6 / time.as_secs_f64()
        );
        for (name, [tried, flagged]) in ["< 1 %", "1–3 %", "3–6 %", "> 6 %"].iter().zip(table) {
            println!("  saves {name}: {tried} to be tried, {flagged} called incompressible");
        }
    }
}
