//! Sources: what the user names, open, and read into tree and pipeline.

use super::base::Base;
use super::options::BuildOptions;
use super::sink::Sink;
use crate::data::made::NoReader;
use crate::data::output::FileIdentity;
use crate::data::pipeline::{ContentReader, FileContent, Pipeline, PipelineError};
use crate::options::BuildError;
use crate::source::directory::{self, DirectoryReader, ScanOptions};
use crate::source::layers::{self, Layer, LayerReader, LayerRules, Merged};
use crate::source::raw::{self, RawFile, RawReader};
use crate::source::tar;
use crate::tree::{Body, FrozenTree, InodeId, Location, Tree};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where an image comes from.
#[derive(Debug)]
pub enum BuildSource {
    /// A directory.
    Directory(PathBuf),
    /// A tar.
    Tar(tar::Archive),
    /// Single files.
    RawFiles(Vec<RawFile>),
    /// Layers, the lowest first.
    Layers {
        /// Images and tars.
        layers: Vec<Layer>,
        /// Whether whiteouts and overlayfs' attributes are left out.
        strip: bool,
    },
    /// An image that stays as it is, and what comes over it.
    Over(Base, Box<Self>),
}

impl BuildSource {
    /// Whether its files can do without their data for now.
    pub(super) const fn can_be_reserved(&self) -> bool {
        matches!(self, Self::Tar(_) | Self::Layers { .. })
    }

    /// The image that is continued, if any is, and the source of what is new.
    pub(super) fn split(self) -> (Option<Base>, Self) {
        match self {
            Self::Over(base, source) => (Some(base), *source),
            source => (None, source),
        }
    }
}

/// Refuses to put an image in the place of the tar or file that it is made of.
pub(super) fn refuse_own_files(
    source: &BuildSource,
    own_files: &[FileIdentity],
) -> Result<(), BuildError> {
    match source {
        BuildSource::Directory(_) => Ok(()),
        BuildSource::Tar(archive) => match archive.file() {
            Some(file) => refuse_own_file(Path::new("the tar"), file.metadata(), own_files),
            None => Ok(()),
        },
        BuildSource::RawFiles(files) => files
            .iter()
            .try_for_each(|file| refuse_own_file(&file.path, file.path.metadata(), own_files)),
        BuildSource::Layers { layers, .. } => layers
            .iter()
            .flat_map(Layer::files)
            .try_for_each(|path| refuse_own_file(path, path.metadata(), own_files)),
        // The base may: what continues it takes its place when it is whole.
        BuildSource::Over(_, source) => refuse_own_files(source, own_files),
    }
}

/// Refuses a source that is one of the output's own files. What cannot be looked at is for others to complain about.
pub(crate) fn refuse_own_file(
    path: &Path,
    metadata: io::Result<std::fs::Metadata>,
    own_files: &[FileIdentity],
) -> Result<(), BuildError> {
    match metadata {
        Ok(metadata) if own_files.contains(&FileIdentity::of(&metadata)) => {
            Err(BuildError::OwnSource(path.to_path_buf()))
        }
        _ => Ok(()),
    }
}

/// A source that is open, with whoever reads its files for the pipeline.
pub(super) enum OpenSource {
    Directory(Arc<DirectoryReader>),
    Tar(tar::Archive),
    RawFiles(Box<Tree>, Arc<RawReader>),
    Layers(Box<FrozenTree>, Arc<LayerReader>),
}

/// What came of reading a source, when all its data has been read too.
pub(super) struct Fed {
    /// The tree.
    pub(super) tree: FrozenTree,
    /// Entries that are left out because they vanished on the way.
    pub(super) vanished: Vec<Vec<u8>>,
}

/// A source whose tree is known and whose data is on its way.
pub(super) enum Feeding {
    /// A directory, of which files may still vanish.
    Directory {
        tree: Box<Tree>,
        vanished: Vec<Vec<u8>>,
        reader: Arc<DirectoryReader>,
    },
    /// Anything else.
    Done(Box<FrozenTree>),
}

impl From<FrozenTree> for Feeding {
    fn from(tree: FrozenTree) -> Self {
        Self::Done(Box::new(tree))
    }
}

impl Feeding {
    /// Leaves out what vanished, now that all data has been read.
    pub(super) fn finish(self, options: &BuildOptions) -> Result<Fed, BuildError> {
        match self {
            Self::Done(tree) => Ok(Fed {
                tree: *tree,
                vanished: Vec::new(),
            }),
            Self::Directory {
                mut tree,
                mut vanished,
                reader,
            } => {
                for path in reader.take_vanished() {
                    if let Some(inode) = tree.lookup(&path) {
                        tree.remove_inode(inode);
                    }
                    vanished.push(path);
                }
                let tree = options.image.finish(*tree)?;
                Ok(Fed { tree, vanished })
            }
        }
    }
}

impl OpenSource {
    /// Opens what is to be read.
    pub(super) fn open(
        source: BuildSource,
        folder: &Path,
        options: &BuildOptions,
    ) -> Result<Self, BuildError> {
        match source {
            BuildSource::Directory(path) => Ok(Self::Directory(Arc::new(DirectoryReader::new(
                directory::open(&path)?,
                options.ignore_changed,
            )))),
            BuildSource::RawFiles(files) => {
                let mut tree = options.image.empty_tree()?;
                let files = raw::scan(&files, &options.image.rules, &mut tree)?;
                Ok(Self::RawFiles(
                    Box::new(tree),
                    Arc::new(RawReader { files }),
                ))
            }
            BuildSource::Tar(archive) => Ok(Self::Tar(archive)),
            // The base was split off.
            BuildSource::Over(_, source) => Self::open(*source, folder, options),
            BuildSource::Layers { layers, strip } => {
                let rules = LayerRules {
                    rules: &options.image.rules,
                    strip,
                };
                let root = options.image.empty_tree()?;
                let Merged { tree, content } = layers::merge(layers, root, &rules, folder)?;
                Ok(Self::Layers(
                    Box::new(options.image.settle(tree)?),
                    Arc::new(LayerReader { content }),
                ))
            }
        }
    }

    /// Who reads files that did not come through the sink.
    pub(super) fn reader(&self) -> Arc<dyn ContentReader> {
        match self {
            Self::Directory(reader) => Arc::clone(reader) as _,
            Self::RawFiles(_, reader) => Arc::clone(reader) as _,
            Self::Layers(_, reader) => Arc::clone(reader) as _,
            // All data comes through the sink.
            Self::Tar(_) => Arc::new(NoReader),
        }
    }

    /// Reads the tree and sends the data of all files into the pipeline on the way.
    pub(super) fn feed(
        self,
        options: &BuildOptions,
        own_files: &[FileIdentity],
        pipeline: &mut Pipeline<'_>,
    ) -> Result<Feeding, BuildError> {
        let rules = &options.image.rules;
        let mut sink = Sink::new(pipeline, options);
        match self {
            Self::Directory(reader) => {
                let root = reader.root.as_fd();
                let mut tree = options.image.tree(directory::root_metadata(root, rules)?)?;
                let scan = ScanOptions {
                    rules,
                    find_holes: options.sparse,
                    one_file_system: options.one_file_system,
                    ignore_vanished: options.ignore_changed,
                    left_out: own_files,
                };
                let vanished = directory::scan(root, scan, &mut tree, &mut sink)?;
                Ok(Feeding::Directory {
                    tree: Box::new(tree),
                    vanished,
                    reader,
                })
            }
            Self::Tar(archive) => {
                let mut tree = options.image.empty_tree()?;
                let whiteouts = options.image.whiteouts;
                let data = match options.reserve {
                    Some(_) => tar::Data::Elsewhere,
                    None => tar::Data::Through(&mut sink),
                };
                tar::scan(archive, rules, whiteouts, &mut tree, data)?;
                Ok(options.image.finish(tree)?.into())
            }
            Self::RawFiles(tree, _) => {
                let mut tree = options.image.finish(*tree)?;
                let files: Vec<InodeId> = tree.depth_first().collect();
                for id in files {
                    let Body::Regular {
                        size,
                        location: Location::RawFile(number),
                    } = tree.inode(id).body
                    else {
                        continue;
                    };
                    let content = FileContent {
                        path: tree.path(id).into(),
                        position: number.into(),
                        size,
                        ranges: None,
                        changed: None,
                    };
                    let location = sink.send(content, &[]).map_err(PipelineError::from)?;
                    tree.set_location(id, size, location);
                }
                Ok(tree.into())
            }
            Self::Layers(tree, _) if options.reserve.is_some() => Ok((*tree).into()),
            Self::Layers(mut tree, reader) => {
                let files: Vec<InodeId> = tree.depth_first().collect();
                for id in files {
                    let inode = *tree.inode(id);
                    let Body::Regular {
                        size,
                        location: Location::Layer(number),
                    } = inode.body
                    else {
                        continue;
                    };
                    let ranges = reader.ranges(number, || tree.path(id))?;
                    let content = FileContent {
                        path: tree.path(id).into(),
                        position: number.into(),
                        size,
                        ranges: ranges.map(Arc::from),
                        changed: None,
                    };
                    let xattrs = tree.xattrs.get(inode.xattrs);
                    let location = sink.send(content, xattrs).map_err(PipelineError::from)?;
                    tree.set_location(id, size, location);
                }
                Ok((*tree).into())
            }
        }
    }
}
