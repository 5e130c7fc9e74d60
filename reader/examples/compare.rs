//! Compares an image, read by this crate, with a directory, for example the same image mounted by the kernel.
//!
//! `cargo run -p erofs-reader --example compare -- IMAGE DIRECTORY [DEVICE…]`
//!
//! Compared are names, types, modes, owners, sizes, times, links, inode and device numbers, link targets, attributes and
//! content, the latter from the front in large pieces and from the back in small ones. Exit code 1 when something differs.

use erofs_reader::{ByteSource, FileSource, Image, ImageOptions, Symlinks, WalkEntry};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<ExitCode, Failure> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [image, directory, devices @ ..] = arguments.as_slice() else {
        return Err("usage: compare IMAGE DIRECTORY [DEVICE…]".into());
    };
    let mut options = ImageOptions::default();
    for device in devices {
        options
            .devices
            .push(Box::new(FileSource::open(device)?) as Box<dyn ByteSource>);
    }
    let image = Image::open(FileSource::open(image)?, options)?;
    let (mut files, mut bytes, mut differences) = (0u64, 0u64, 0u64);
    for entry in image.walk()? {
        let entry = entry?;
        let path = directory.join(OsStr::from_bytes(&entry.path));
        match compare(&image, &entry, &path) {
            Ok(found) => {
                for difference in found {
                    differences += 1;
                    println!("{}: {difference}", path.display());
                }
            }
            Err(error) => {
                differences += 1;
                println!("{}: {error}", path.display());
            }
        }
        files += 1;
        bytes += entry.inode.data_size();
    }
    println!("{files} files, {bytes} bytes, {differences} differences");
    Ok(ExitCode::from(u8::from(differences > 0)))
}

fn compare(image: &Image, entry: &WalkEntry, path: &Path) -> Result<Vec<String>, Failure> {
    let mut differences = Vec::new();
    let mut check = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            differences.push(format!(
                "{what}: {ours} in the image, {theirs} in the directory"
            ));
        }
    };
    let inode = &entry.inode;
    let status = fs::symlink_metadata(path)?;
    let resolved = image.resolve(&entry.path, Symlinks::Keep)?;
    check(
        "lookup",
        resolved.nid().to_string(),
        inode.nid().to_string(),
    );
    check(
        "mode",
        format!("{:o}", inode.mode),
        format!("{:o}", status.mode()),
    );
    check("uid", inode.uid.to_string(), status.uid().to_string());
    check("gid", inode.gid.to_string(), status.gid().to_string());
    check("size", inode.size.to_string(), status.size().to_string());
    check("nlink", inode.nlink.to_string(), status.nlink().to_string());
    let ino = erofs_format::inode::Inode::ino(inode.nid(), image.superblock());
    check("ino", ino.to_string(), status.ino().to_string());
    check(
        "mtime",
        format!("{:?}", (inode.mtime.seconds, inode.mtime.nanoseconds)),
        format!("{:?}", (status.mtime(), status.mtime_nsec())),
    );
    if let erofs_format::inode::InodePayload::Device(number) = inode.payload {
        let theirs = (
            rustix::fs::major(status.rdev()),
            rustix::fs::minor(status.rdev()),
        );
        check(
            "rdev",
            format!("{:?}", (number.major, number.minor)),
            format!("{theirs:?}"),
        );
    }

    let mut ours: Vec<(OsString, Vec<u8>)> = image
        .xattrs(inode)?
        .into_iter()
        .map(|xattr| (OsString::from_vec(xattr.name), xattr.value))
        .collect();
    for (name, value) in &ours {
        let found = image.xattr(inode, name.as_bytes())?;
        check(
            "xattr by name",
            format!("{found:?}"),
            format!("{:?}", Some(value)),
        );
    }
    let mut theirs = kernel_xattrs(path)?;
    ours.sort();
    theirs.sort();
    check("xattrs", format!("{ours:?}"), format!("{theirs:?}"));

    let file_type = status.file_type();
    if file_type.is_dir() {
        let ours: BTreeSet<Vec<u8>> = image
            .read_directory(inode)?
            .map(|entry| entry.map(|entry| entry.name))
            .collect::<Result<_, _>>()?;
        let mut theirs: BTreeSet<Vec<u8>> = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name().into_vec()))
            .collect::<Result<_, _>>()?;
        theirs.extend([b".".to_vec(), b"..".to_vec()]);
        check("names", format!("{ours:?}"), format!("{theirs:?}"));
    } else if file_type.is_symlink() {
        let ours = OsString::from_vec(image.read_link(inode)?);
        let theirs = fs::read_link(path)?;
        check(
            "target",
            format!("{ours:?}"),
            format!("{:?}", theirs.as_os_str()),
        );
    } else if file_type.is_file() {
        differences.extend(compare_content(image, entry, path)?);
    } else if !(file_type.is_char_device()
        || file_type.is_block_device()
        || file_type.is_fifo()
        || file_type.is_socket())
    {
        differences.push("unknown file type".into());
    }
    Ok(differences)
}

fn kernel_xattrs(path: &Path) -> Result<Vec<(OsString, Vec<u8>)>, Failure> {
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice())?;
    names.truncate(length);
    let mut result = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
        value.truncate(length);
        result.push((OsString::from_vec(name.to_vec()), value));
    }
    Ok(result)
}

fn compare_content(
    image: &Image,
    entry: &WalkEntry,
    path: &Path,
) -> Result<Option<String>, Failure> {
    const LARGE: usize = 1 << 20;
    const SMALL: u64 = 4096;
    let mut file = fs::File::open(path)?;
    let size = entry.inode.size;
    let (mut ours, mut theirs) = (vec![0; LARGE], vec![0; LARGE]);
    let mut position = 0;
    loop {
        let count = image.read(&entry.inode, position, &mut ours)?;
        let part = theirs.get_mut(..count).unwrap_or_default();
        file.read_exact(part)?;
        if ours.get(..count) != Some(&*part) {
            return Ok(Some(format!(
                "content differs within 1 MiB from byte {position}"
            )));
        }
        if count < LARGE {
            break;
        }
        position += count as u64;
    }
    // Some small reads that begin anywhere, from the back, so that nothing was just decoded.
    let step = (size / 64).max(SMALL - 17);
    let mut position = size.saturating_sub(1);
    while position > step {
        position -= step;
        let ours = ours.get_mut(..SMALL as usize).unwrap_or_default();
        let count = image.read(&entry.inode, position, ours)?;
        let part = theirs.get_mut(..count).unwrap_or_default();
        file.read_exact_at(part, position)?;
        if ours.get(..count) != Some(&*part) {
            return Ok(Some(format!(
                "content differs within 4 KiB from byte {position}"
            )));
        }
    }
    Ok(None)
}
