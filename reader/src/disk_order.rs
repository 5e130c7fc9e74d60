//! All files in the order in which their data is stored, for scans that read everything once.

use crate::error::Error;
use crate::image::Image;
use crate::inode::Inode;
use crate::map::{Place, Stored};
use erofs_format::inode::FileType;
use erofs_format::{ByteOffset, DeviceId, Nid};

/// Where a file's data begins, in the order in which a scan reads best: what lies among the metadata first, then what lies
/// on devices, then what lies in the packed inode, which is read through that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskPosition {
    /// Behind its inode, or nowhere: byte of the image or of the metabox where the inode is.
    Metadata(ByteOffset),
    /// On a device.
    Device(DeviceId, ByteOffset),
    /// In the packed inode: byte of its data.
    Packed(u64),
}

impl DiskPosition {
    /// The position of `inode`'s first data, looking behind one hole at most. What cannot be mapped counts as lying nowhere.
    pub fn of(image: &Image, inode: &Inode) -> Self {
        let first = image
            .extents(inode)
            .map_while(Result::ok)
            .take(2)
            .find(|extent| extent.place != Place::Hole);
        match first.map(|extent| extent.place) {
            Some(
                Place::Data { device, offset }
                | Place::Encoded {
                    stored: Stored::Device { device, offset },
                    ..
                },
            ) => Self::Device(device, offset),
            Some(Place::Packed { offset }) => Self::Packed(offset),
            _ => Self::Metadata(inode.position().1),
        }
    }
}

/// Iterator over the regular files of an image, each once whatever its number of names, by [`DiskPosition`].
#[derive(Debug)]
pub struct FilesInDiskOrder<'a> {
    image: &'a Image,
    files: std::vec::IntoIter<(DiskPosition, Nid)>,
}

/// Files that were found so far, some of them by several names.
#[derive(Debug, Default)]
struct Collected {
    files: Vec<(DiskPosition, Nid)>,
    /// How many had one name each when names of the same file were last dropped.
    distinct: usize,
}

impl Collected {
    /// Names from which on those of the same file are dropped.
    const LEAST: usize = 4096;

    fn add(&mut self, position: DiskPosition, nid: Nid) {
        if self.files.len() >= (2 * self.distinct).max(Self::LEAST) {
            self.drop_names();
        }
        self.files.push((position, nid));
    }

    fn drop_names(&mut self) {
        self.files.sort_unstable();
        self.files.dedup();
        self.distinct = self.files.len();
    }

    fn in_order(mut self) -> Vec<(DiskPosition, Nid)> {
        self.drop_names();
        self.files
    }
}

impl Image {
    /// The regular files of the image in the order of their data. Needs at most 96 bytes of memory for each of these files,
    /// whatever the number of their names, and 192 KiB.
    ///
    /// `failed` is told what the walk over the tree could not read; such files are left out.
    ///
    /// # Errors
    /// As [`Image::root`].
    pub fn files_in_disk_order(
        &self,
        mut failed: impl FnMut(Error),
    ) -> Result<FilesInDiskOrder<'_>, Error> {
        let mut files = Collected::default();
        for entry in self.walk()? {
            match entry {
                Ok(entry) if entry.inode.file_type == FileType::Regular => {
                    files.add(DiskPosition::of(self, &entry.inode), entry.inode.nid());
                }
                Ok(_) => {}
                Err(error) => failed(error),
            }
        }
        Ok(FilesInDiskOrder {
            image: self,
            files: files.in_order().into_iter(),
        })
    }
}

impl Iterator for FilesInDiskOrder<'_> {
    type Item = Result<Inode, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (_, nid) = self.files.next()?;
        Some(self.image.inode(nid))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.files.size_hint()
    }
}

const _: () = assert!(size_of::<(DiskPosition, Nid)>() == 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_same_file_take_no_memory() {
        let mut collected = Collected::default();
        for name in 0..1_000_000 {
            let nid = (name * 7) % 5000;
            collected.add(DiskPosition::Packed(nid / 2), Nid(nid));
        }
        assert!(collected.files.capacity() <= 4 * 5000);
        let expected: Vec<_> = (0..5000)
            .map(|nid| (DiskPosition::Packed(nid / 2), Nid(nid)))
            .collect();
        assert_eq!(collected.in_order(), expected);
    }
}
