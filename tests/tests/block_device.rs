//! Images on block devices: our reader needs no kernel mount for them, and no image at their beginning.

use std::{fs, path::Path};

use erofs_format::ByteOffset;
use erofs_reader::{FileSource, Image, ImageOptions};
use erofs_tests::{
    kernel::LoopDevice,
    manifest::Manifest,
    require,
    skip::{self, Reason},
    workshop::{Workshop, erofs, succeed},
};

/// Where images begin: in the middle of a block.
const OFFSET: u64 = 3 * 4096 + 512;

fn needs() -> Result<(), Reason> {
    skip::root()?;
    skip::program("losetup")?;
    if !Path::new("/dev/loop-control").exists() {
        return Err(Reason("there are no loop devices".into()));
    }
    erofs().map(drop)
}

#[test]
fn an_image_at_an_offset_of_a_block_device_reads_back() {
    require!(needs());
    let workshop = Workshop::light();
    for (form, options) in [("plain", &[][..]), ("zstd", &["-zzstd", "-C64k"])] {
        let image = workshop.build("image.erofs", options);
        let disk = workshop.path(form);
        let mut bytes = vec![0xE0; OFFSET as usize];
        bytes.extend(fs::read(&image).expect("built"));
        // Something follows, to a whole sector: a device has no others.
        bytes.resize(bytes.len().next_multiple_of(512) + 4096, 0xF5);
        fs::write(&disk, &bytes).expect("written");
        let device = LoopDevice::new(&disk).expect("set up");
        let source = FileSource::open(device.path()).expect("opens");
        let options = ImageOptions {
            offset: ByteOffset(OFFSET),
            ..ImageOptions::default()
        };
        let opened = Image::open(source, options).expect("an image");
        let read = Manifest::of_image(&opened).expect("readable");
        workshop.expected.assert_same(&read, &[]);
        let mut check = erofs().expect("asked for");
        let offset = OFFSET.to_string();
        succeed(
            check
                .args(["check", "--data", "--offset", &offset])
                .arg(device.path()),
        );
    }
}
