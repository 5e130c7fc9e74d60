#![no_main]

use erofs_format::inode::DataLayout;

libfuzzer_sys::fuzz_target!(|data: &[u8]| erofs_fuzz::map::run(
    DataLayout::CompressedCompact,
    data
));
