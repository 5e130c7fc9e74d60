//! erofs-rs, a reader that shares no line with ours nor with erofs-utils, reads our images.
//!
//! What it cannot do: it yields no root when it walks, so the root is looked at apart; it has no way to tell holes from
//! zeros; it opens an image with extra devices only when all of them are given, so not an index in one file with its blobs.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

use anyhow::{Context, Result, bail};
use erofs_rs::{EroFS, backend::SliceImage, sync::file::File, types::Inode};
use erofs_tests::{
    awkward::bytes,
    manifest::{Manifest, Node, Type, digest},
    require, skip,
    tree::{Content, Device, Time, Tree},
    workshop::{FORMS, Workshop, erofs, succeed},
};
use rustix::fs::FileType;

type Filesystem<'a> = EroFS<SliceImage<'a>>;

fn manifest(filesystem: &Filesystem<'_>) -> Result<Manifest> {
    let mut manifest = Manifest::default();
    let mut inodes: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let root = filesystem.get_inode(filesystem.super_block().root_inode_id())?;
    manifest.nodes.insert(Vec::new(), node(filesystem, root)?);
    for entry in filesystem.walk_dir("/")? {
        let entry = entry?;
        let path = entry.dir_entry.path();
        let path = path.as_bytes().strip_prefix(b"/").context("absolute")?;
        let node = node(filesystem, entry.inode)
            .with_context(|| format!("reading {}", path.escape_ascii()))?;
        let names = inodes.entry(entry.inode.id()).or_default();
        names.push(path.to_vec());
        if manifest.nodes.insert(path.to_vec(), node).is_some() {
            bail!("{} is listed twice", path.escape_ascii());
        }
    }
    manifest.note_shared(inodes.into_values());
    Ok(manifest)
}

fn node(filesystem: &Filesystem<'_>, inode: Inode) -> Result<Node> {
    let (mut target, mut sum, mut size) = (None, None, 0);
    let kind = kind(&inode)?;
    match kind {
        Type::File => {
            let file = filesystem.open_inode_file(inode)?;
            size = file.size();
            let (digest, length) = digest(&mut Reader { file, position: 0 })?;
            if length != size {
                bail!("{length} bytes of content, but a size of {size}");
            }
            sum = Some(digest);
        }
        Type::Symlink => {
            let to = filesystem.read_link_inode(inode)?.into_vec();
            size = to.len() as u64;
            target = Some(to);
        }
        _ => {}
    }
    let (seconds, nanoseconds) = inode.modified_unix();
    let device = inode.device();
    Ok(Node {
        kind,
        mode: u32::from(inode.permissions()),
        uid: inode.uid(),
        gid: inode.gid(),
        links: inode.nlink().into(),
        size,
        mtime: Time {
            seconds,
            nanoseconds,
        },
        device: device.map(|(major, minor)| Device { major, minor }),
        target,
        digest: sum,
        xattrs: filesystem.xattrs_inode(inode)?,
        shared_with: None,
    })
}

fn kind(inode: &Inode) -> Result<Type> {
    Ok(match inode.file_type() {
        FileType::RegularFile => Type::File,
        FileType::Directory => Type::Directory,
        FileType::Symlink => Type::Symlink,
        FileType::CharacterDevice => Type::CharacterDevice,
        FileType::BlockDevice => Type::BlockDevice,
        FileType::Fifo => Type::Fifo,
        FileType::Socket => Type::Socket,
        FileType::Unknown => bail!("unknown type"),
    })
}

struct Reader<'a> {
    file: File<'a, SliceImage<'a>>,
    position: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position);
        let count = count.map_err(io::Error::other)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[test]
fn it_reads_every_form() {
    require!(skip::root());
    require!(erofs());
    let workshop = Workshop::light();
    let more: [&[&str]; 2] = [&["-b512"], &["-b1024", "-zzstd", "-C16k"]];
    for form in FORMS.into_iter().chain(more) {
        println!("{form:?}");
        if form.iter().any(|option| option.starts_with("-zlzma")) {
            println!("left out: its LZMA decoder comes only with its memory maps");
            continue;
        }
        let image = fs::read(workshop.build("ours.erofs", form)).expect("readable");
        let filesystem = EroFS::new(SliceImage::new(&image)).expect("opens");
        let seen = manifest(&filesystem).expect("readable");
        workshop.expected.assert_same(&seen, &[]);
    }
}

/// It follows the unified addresses of the flat inodes in an index, as the kernel does.
#[test]
fn it_reads_indexes() {
    require!(erofs());
    let mut tree = Tree::new();
    for size in [700, 4096, 9000, 12_288 + 4090] {
        let content = Content::dense(bytes::random(size, size as usize));
        tree.file(format!("size-{size}"), content);
    }
    let workshop = Workshop::new(&tree);
    let expected = workshop.expected.clone().files();
    let path = |name: &[u8]| workshop.source.join(String::from_utf8_lossy(name).as_ref());
    let toc = workshop.path("model.erofs");
    succeed(
        erofs()
            .expect("asked for")
            .args(["index", "--quiet", "-o"])
            .arg(&toc)
            .args(expected.nodes.keys().map(|name| path(name))),
    );
    let read = |path: &Path| fs::read(path).expect("readable");
    let image = read(&toc);
    // The smallest lies in the index whole.
    let mut blobs: Vec<_> = expected
        .nodes
        .iter()
        .filter(|(_, node)| node.size >= 4096)
        .map(|(name, _)| read(&path(name)))
        .collect();
    // It wants the blocks of a device whole.
    for blob in &mut blobs {
        blob.resize(blob.len().next_multiple_of(4096), 0);
    }
    let devices = blobs.iter().map(|blob| SliceImage::new(blob)).collect();
    let filesystem =
        EroFS::new_with_devices(SliceImage::new(&image), devices).expect("opens with its devices");
    assert_eq!(filesystem.devices().len(), 3);
    let seen = manifest(&filesystem).expect("readable");
    expected.assert_same(&seen.files(), &[]);
}
