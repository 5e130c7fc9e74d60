//! Reads extended attributes.
//!
//! Input: parameters of [`crate::synthetic::Parameters`], then the xattr body of the file and what follows it; the shared
//! area and the long prefixes lie in the same bytes.
//!
//! Invariants: names begin with a known prefix, sizes are what the format allows; without name filter every listed name is
//! found, with the value that comes first; with it, found or hidden.

use crate::synthetic::{Content, FILE, Parameters};
use erofs_format::xattr::{MAX_VALUE_SIZE, Prefix};
use erofs_reader::{Image, Inode};

/// Most attributes that are looked up.
const MAX_LOOKUPS: usize = 20;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((parameters, data)) = Parameters::split(input) else {
        return;
    };
    let Some(image) = parameters.open(Content::Xattrs(data)) else {
        return;
    };
    if let Ok(inode) = image.inode(FILE) {
        check(&image, &inode);
    }
}

/// Lists the attributes of an inode and looks them up.
pub fn check(image: &Image, inode: &Inode) {
    let _ = image.xattr(inode, b"user.absent");
    let Ok(xattrs) = image.xattrs(inode) else {
        return;
    };
    let step = xattrs.len() / MAX_LOOKUPS + 1;
    for (index, xattr) in xattrs.iter().enumerate().step_by(step) {
        assert!(xattr.value.len() <= MAX_VALUE_SIZE);
        // Base prefix, then infix and suffix.
        assert!(xattr.name.len() <= 32 + 255 + 255);
        let name = xattr.name.escape_ascii().to_string();
        if Prefix::split(&xattr.name).is_none() {
            // A prefix without a name, an ACL with one: the kernel lists these too, and never finds them.
            continue;
        }
        let first = xattrs
            .iter()
            .position(|other| other.name == xattr.name)
            .unwrap_or(index);
        let found = image
            .xattr(inode, &xattr.name)
            .expect("all entries were read");
        match found {
            Some(value) => assert_eq!(value, xattrs[first].value),
            None => assert!(
                image.superblock().xattr_filter,
                "{name} is listed but not found"
            ),
        }
    }
}
