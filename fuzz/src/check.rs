//! Checks an image against every rule, with all data.
//!
//! Invariants: it ends; a check with hardly any memory finds the same; an image that it calls clean is read without an error.

use crate::image::Input;
use crate::limit::Guarded;
use erofs_reader::check::{CheckOptions, Report, check};
use erofs_reader::{ByteSource, Image};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

const MAX_FILES: usize = 300;
const MAX_BYTES: u64 = 256 << 10;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some(input) = Input::split(input) else {
        return;
    };
    let Some(report) = check_with(&input, None) else {
        return;
    };
    let frugal = check_with(&input, Some(1)).expect("it was checked before");
    assert_eq!(frugal.findings, report.findings);
    assert_eq!(frugal.complete, report.complete);
    if report.complete && report.is_clean() {
        let image = input.open().expect("a clean image opens");
        // Data of devices that nobody gave is not looked at.
        if image.device_slots().is_empty() || !input.devices.is_empty() {
            read(&image);
        }
    }
}

fn check_with(input: &Input, max_memory: Option<usize>) -> Option<Report> {
    let guard = |bytes: &Vec<u8>| Arc::new(Guarded::new(bytes.clone())) as Arc<dyn ByteSource>;
    let devices: Vec<_> = input.devices.iter().map(guard).collect();
    let options = CheckOptions {
        data: true,
        workers: NonZeroUsize::MIN,
        max_memory,
        findings_per_rule: 5,
        ..CheckOptions::default()
    };
    check(&guard(&input.image), &devices, &options, &AtomicU64::new(0)).ok()
}

fn read(image: &Image) {
    let mut buffer = vec![0; 32 << 10];
    for entry in image.walk().expect("a clean root").take(MAX_FILES) {
        let inode = entry.expect("a clean image").inode;
        image.xattrs(&inode).expect("clean attributes");
        let mut position = 0;
        while position < inode.data_size().min(MAX_BYTES) {
            let count = image.read(&inode, position, &mut buffer);
            position += count.expect("clean data") as u64;
        }
    }
}
