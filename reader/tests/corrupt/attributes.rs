//! Extended attributes.

use crate::support::{Builder, META, body, flat, sample};
use crate::{BITS, changed, error_of, rule, rule_of};
use erofs_format::inode::{DataLayout, FileType};
use erofs_format::xattr::XattrError;
use erofs_reader::Rule;

#[test]
fn xattrs() {
    let sample = sample(BITS);
    let of = |offset, bytes: &[u8]| rule_of(&sample, "attributes", offset, bytes);
    assert_eq!(of(2, &[1, 0]), Rule::Xattr(XattrError::Empty));
    assert!(matches!(
        of(2, &[2, 0]),
        Rule::Xattr(XattrError::SharedCount { count: 2, size: 16 })
    ));
    assert!(matches!(
        of(64 + 20 + 2, &[0xFF]),
        Rule::Xattr(XattrError::EntryTooLong { .. })
    ));
    // Shared ids behind the end of the image.
    assert!(matches!(of(64 + 12, &[0xFF; 4]), Rule::BeyondDevice { .. }));
    let far = changed(&sample.image, 1024 + 44, &[0xFF; 4]);
    assert!(matches!(
        rule::<()>(Err(error_of(&far, "attributes"))),
        Rule::BeyondDevice { .. }
    ));
    // A body of the largest size is read, and no more.
    let mut builder = Builder::new(BITS);
    let root = builder.reserve(512);
    let record = flat(FileType::Regular, DataLayout::FlatPlain, 0, None);
    let file = builder.add(&record, &body(&[], &[]), 1, &[]);
    builder.superblock.root = root;
    builder.directory(root, root, &[(b"file", file)], &[]);
    let image = builder.finish();
    let at = META + file.0 as usize * 32;
    assert!(matches!(
        rule::<()>(Err(error_of(
            &changed(&image, at + 2, &[0xFF, 0xFF])[..META + 4096],
            "file"
        ))),
        Rule::BeyondDevice {
            length: 262_148,
            ..
        }
    ));
}
