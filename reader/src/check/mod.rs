//! Checks an image against every rule of the format, also those that reading it does not need.
//!
//! ```text
//! superblock, devices → names, directory by directory → inodes, in stored order ─┬→ ranges, sorted → overlaps, rest of data
//!                                                                                └→ data, decoded by threads meanwhile
//! ```
//!
//! | module | question that it answers |
//! |---|---|
//! | `rule` | which rules are there? |
//! | `finding` | which of them are broken, and where? |
//! | `opening` | how can a broken image be opened? |
//! | `whole` | are devices, prefixes and counts right? |
//! | `tree` | are the directories right, and which inodes do they lead to? |
//! | `inode`, `xattr`, `map`, `index` | is an inode right, with its attributes and its map? |
//! | `range`, `sorter`, `sweep` | what lies on top of what? |
//! | `data` | can everything be decoded? |
//! | `early` | what can be decoded before all ranges are known? |
//! | `paths` | what is an inode called? |
//! | `work` | when is it enough? |
//!
//! The image is hostile: each inode, directory, shared attribute and pcluster is looked at once however often it is
//! referred to, and entangled metadata runs into a limit. Memory holds 48 bytes for each extent and each piece of
//! metadata, 8 for each name and about 16 for each directory; [`CheckOptions::max_memory`] moves most of it to a file.

mod broken;
mod data;
mod early;
mod finding;
mod index;
mod inode;
mod map;
mod opening;
mod paths;
mod range;
mod rule;
mod sorter;
mod sweep;
mod tree;
mod whole;
mod work;
mod xattr;

pub use finding::{At, Counts, Finding};
pub use rule::{Rule, Severity};

use crate::error::Error;
use crate::image::Image;
use crate::inode::Inode;
use crate::metadata::Window;
use crate::path::Symlinks;
use crate::processors::processors;
use crate::source::ByteSource;
use data::{Data, Jobs, Outcome};
use erofs_format::feature::FeatureIncompat;
use erofs_format::kernel::Requirement;
use erofs_format::{ByteOffset, Nid};
use finding::Findings;
use range::Range;
use sorter::{Room, Sorter};
use std::collections::HashMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tree::Visitor;
use work::Work;

/// What to check, and at what cost.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    /// Read and decode all data too.
    pub data: bool,
    /// Where to begin; what is not below is not looked at, and counts for the whole image are not compared.
    pub start: Start,
    /// Compare the superblock's checksum.
    pub checksum: bool,
    /// Threads that decode data; each has a buffer of up to 13 MiB.
    pub workers: NonZeroUsize,
    /// Most bytes of memory for the lists of names and ranges; what is more goes to a temporary file.
    pub max_memory: Option<usize>,
    /// Folder of that file.
    pub temporary_folder: PathBuf,
    /// Most findings of each rule that are kept; all are counted.
    pub findings_per_rule: u64,
}

impl Default for CheckOptions {
    /// Everything but data, with a thread for each processor, at most 8.
    fn default() -> Self {
        let processors = processors();
        Self {
            data: false,
            start: Start::Root,
            checksum: true,
            workers: NonZeroUsize::new(8).map_or(processors, |most| processors.min(most)),
            max_memory: None,
            temporary_folder: std::env::temp_dir(),
            findings_per_rule: 100,
        }
    }
}

/// Where a check begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Start {
    /// At the root: the whole image.
    #[default]
    Root,
    /// At an inode.
    Inode(Nid),
    /// At a path from the root on.
    Path(Vec<u8>),
}

/// How much there was to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Inodes, with the packed inode and the metabox.
    pub inodes: u64,
    /// Names, without `.` and `..`; the root is one.
    pub names: u64,
    /// Extents of files.
    pub extents: u64,
    /// Sizes of regular files in bytes.
    pub file_bytes: u64,
    /// Stored bytes of data, shared ones once, overlapping ones as often as they are used.
    pub stored_bytes: u64,
    /// Bytes that were decoded.
    pub decoded_bytes: u64,
    /// Bytes of uncompressed data that were read.
    pub read_bytes: u64,
    /// Bytes of lists that went to a temporary file.
    pub spilled_bytes: u64,
}

/// The result of a check.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was found, up to a number of each rule: the superblock first, then names in the order of the tree, then inodes
    /// and data in stored order.
    pub findings: Vec<Finding>,
    /// How often each rule is broken.
    pub counts: Counts,
    /// Whether everything was looked at; the findings say what kept the check from it.
    pub complete: bool,
    /// What there was.
    pub statistics: Statistics,
    /// What a kernel must know to read all that was looked at, beyond what the superblock announces.
    pub unannounced: Vec<Requirement>,
}

impl Report {
    /// Whether the kernel reads the image as it is meant: there are no findings, or only unusual ones.
    pub fn is_clean(&self) -> bool {
        self.counts.of_severity(Severity::Rejects) == 0
            && self.counts.of_severity(Severity::Misreads) == 0
    }
}

/// Why an image could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Some devices were given, but not one for each slot.
    #[error("{given} devices given for an image with {slots} device slots")]
    DeviceCount {
        /// Devices given.
        given: usize,
        /// Slots of the image.
        slots: u16,
    },
    /// Where to begin was not found.
    #[error(transparent)]
    Start(Error),
    /// The temporary file failed.
    #[error("temporary file: {0}")]
    Temporary(#[from] io::Error),
}

/// Checks the image in `primary`. `devices` holds its extra devices by slot, or nothing: then they are expected behind the
/// image, and if they are not there their data is not looked at. `progress` counts bytes of data.
///
/// # Errors
/// [`CheckError`]; whatever is wrong with the image is in the report.
pub fn check(
    primary: &Arc<dyn ByteSource>,
    devices: &[Arc<dyn ByteSource>],
    options: &CheckOptions,
    progress: &AtomicU64,
) -> Result<Report, CheckError> {
    let mut findings = Findings::new(options.findings_per_rule);
    let mut statistics = Statistics::default();
    let opened = opening::open(primary, devices, options.checksum, &mut findings)?;
    let Some(opened) = opened else {
        let (findings, counts) = findings.finish();
        return Ok(Report {
            findings,
            counts,
            complete: false,
            statistics,
            unannounced: Vec::new(),
        });
    };
    let image = &opened.image;
    let start = match &options.start {
        Start::Root => image.root(),
        Start::Inode(nid) => image.inode(*nid),
        Start::Path(path) => image.resolve(path, Symlinks::Keep),
    };
    let start = start.map_err(CheckError::Start)?;
    let work = Work::for_image(image, primary.size());
    let look = |jobs| Checker::new(&opened, options, work, findings, jobs).look(&start, options);
    let (looked, outcome) = if options.data {
        let data = Data {
            image,
            workers: options.workers.get(),
            limit: options.findings_per_rule,
            progress,
        };
        data.run(|jobs| look(Some(jobs)))
    } else {
        (look(None), Outcome::default())
    };
    let Looked {
        complete,
        mut findings,
        statistics: counted,
        missing,
    } = looked?;
    statistics = Statistics {
        decoded_bytes: counted.decoded_bytes + outcome.decoded_bytes,
        read_bytes: outcome.read_bytes,
        ..counted
    };
    findings.absorb(outcome);
    let (mut findings, counts) = findings.finish();
    let root = image.root().map_err(CheckError::Start)?;
    let work = Work::for_image(image, primary.size());
    paths::name(image, &root, work, &mut findings)?;
    Ok(Report {
        findings,
        complete,
        statistics,
        unannounced: unannounced(missing, &counts),
        counts,
    })
}

/// What features that are missing in the superblock ask for, and breaches of rules that newer kernels gave up.
fn unannounced(missing: FeatureIncompat, counts: &Counts) -> Vec<Requirement> {
    let mut all = Requirement::from_features(missing);
    for (rule, requirement) in [
        (Rule::FlatHole, Requirement::Bit48),
        (Rule::InodeTime, Requirement::Bit48),
        (Rule::IndexHole, Requirement::IndexHoles),
    ] {
        if counts.of(rule) > 0 {
            all.push(requirement);
        }
    }
    all.sort();
    all.dedup();
    all
}

/// What came of looking.
struct Looked {
    /// Everything was looked at.
    complete: bool,
    findings: Findings,
    statistics: Statistics,
    missing: FeatureIncompat,
}

/// What is known while the metadata is looked at.
struct Checker<'a> {
    image: &'a Image,
    opened: &'a opening::Opened,
    findings: Findings,
    ranges: Sorter<Range>,
    /// Where data is decoded, if it is looked at.
    jobs: Option<Jobs>,
    work: Work<'a>,
    statistics: Statistics,
    /// Shared attributes that were looked at, by id.
    shared: HashMap<u32, xattr::Shared>,
    /// Algorithms that some file uses, as in the superblock.
    algorithms: u16,
    /// Features that some file uses and the superblock does not announce.
    missing: FeatureIncompat,
    /// Rules that were told of the current inode.
    told: Vec<Rule>,
    /// Inodes are looked at in stored order.
    window: Window,
    /// For pieces of tables.
    piece: Vec<u8>,
}

impl<'a> Checker<'a> {
    fn new(
        opened: &'a opening::Opened,
        options: &CheckOptions,
        work: Work<'a>,
        findings: Findings,
        jobs: Option<Jobs>,
    ) -> Self {
        Self {
            image: &opened.image,
            opened,
            findings,
            jobs,
            ranges: Sorter::new(&options.room()),
            work,
            statistics: Statistics::default(),
            shared: HashMap::new(),
            algorithms: 0,
            missing: FeatureIncompat::empty(),
            told: Vec::new(),
            window: Window::default(),
            piece: vec![0; map::PIECE],
        }
    }

    /// Looks at all metadata, then at what lies where, and has data decoded.
    fn look(mut self, start: &Inode, options: &CheckOptions) -> io::Result<Looked> {
        let complete = self.metadata(start, options)?;
        self.statistics.spilled_bytes += self.ranges.spilled();
        let ranges = self.ranges.sorted()?;
        let (findings, without_devices) = (&mut self.findings, self.opened.without_devices);
        if let Some(mut jobs) = self.jobs {
            jobs.settle();
            self.statistics.stored_bytes =
                sweep::sweep(ranges, findings, Some(&mut jobs), without_devices)?;
            self.statistics.decoded_bytes = jobs.finish();
        } else {
            self.statistics.stored_bytes = sweep::sweep(ranges, findings, None, without_devices)?;
        }
        Ok(Looked {
            complete,
            findings: self.findings,
            statistics: self.statistics,
            missing: self.missing,
        })
    }

    /// Looks at all metadata. Tells whether that was possible within the budget.
    fn metadata(&mut self, start: &Inode, options: &CheckOptions) -> io::Result<bool> {
        self.whole_image(self.opened)?;
        let mut names = Names {
            findings: &mut self.findings,
            nids: Sorter::new(&options.room()),
            names: 0,
            without_algorithms: self.opened.without_algorithms,
        };
        let walked = tree::walk(self.image, start, &mut self.work, &mut names)?;
        let (nids, count) = (names.nids, names.names);
        self.statistics.names = count;
        self.statistics.spilled_bytes = nids.spilled();
        let whole = options.start == Start::Root;
        let mut complete = self.inodes(nids, whole)?;
        if !walked || !complete {
            let value = format!("{} inodes were looked at", self.statistics.inodes);
            self.findings.image(Rule::Limit, 0, value);
            complete = false;
        }
        let unreadable = [
            Rule::InodeOutside,
            Rule::InodeFormat,
            Rule::InodeLayout,
            Rule::InodeMode,
            Rule::InodeSize,
            Rule::InodeAlgorithm,
            Rule::ChunkFormat,
            Rule::DirectoryBlock,
            Rule::DirectoryName,
            Rule::DirectoryNameByte,
            Rule::DirectoryDepth,
            Rule::PackedInode,
            Rule::MetaboxInode,
            Rule::AlgorithmConfig,
        ];
        let all =
            complete && whole && !unreadable.into_iter().any(|rule| self.findings.found(rule));
        self.whole_tree(all);
        Ok(complete)
    }

    /// Looks at each inode once; `whole` if all names are known. Tells whether that was possible within the budget.
    fn inodes(&mut self, nids: Sorter<u64>, whole: bool) -> io::Result<bool> {
        let special = [self.image.metabox().copied(), self.image.packed().copied()];
        let [metabox, packed] = special.map(|inode| inode.filter(|_| whole));
        for (inode, rule) in [(metabox, Rule::MetaboxInode), (packed, Rule::PackedInode)] {
            let Some(inode) = inode else {
                continue;
            };
            if inode.file_type != erofs_format::inode::FileType::Regular {
                let (area, offset) = inode.position();
                let value = format!("mode {:#o}", inode.mode);
                self.findings
                    .inode(rule, inode.nid(), At::area(area, offset), value);
            }
            if !self.inode(&inode, None)? {
                return Ok(false);
            }
        }
        let mut nids = nids.sorted()?.peekable();
        while let Some(nid) = nids.next() {
            let nid = nid?;
            let mut names = 1;
            while nids
                .next_if(|next| next.as_ref().is_ok_and(|next| *next == nid))
                .is_some()
            {
                names += 1;
            }
            let nid = Nid(nid);
            // Anything but an I/O error was met when the name was.
            let inode = match self.image.inode_through(&mut self.window, nid) {
                Ok(inode) => inode,
                Err(error) => {
                    let finding = broken::finding(&error, nid);
                    self.findings.add(finding.rule, || finding);
                    continue;
                }
            };
            if whole && special.contains(&Some(inode)) {
                continue;
            }
            if inode.file_type == erofs_format::inode::FileType::Regular {
                let sum = self.statistics.file_bytes.saturating_add(inode.size);
                self.statistics.file_bytes = sum;
            }
            // Directories count their subdirectories, which was compared when they were listed.
            let names = (whole && !inode.is_directory()).then_some(names);
            if !self.inode(&inode, names)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills `buffer` from byte `offset` of the area that the inode is in.
    fn read(&mut self, inode: &Inode, offset: ByteOffset, buffer: &mut [u8]) -> Result<(), Error> {
        let (nid, area) = (Some(inode.nid()), inode.position().0);
        self.image
            .read_through(&mut self.window, nid, area, offset, buffer)
    }

    /// Notes a broken rule, once for each inode.
    fn found(&mut self, inode: &Inode, rule: Rule, at: At, value: impl FnOnce() -> String) {
        if !self.told.contains(&rule) {
            self.told.push(rule);
            self.findings.inode(rule, inode.nid(), at, value());
        }
    }

    /// Notes an error of the reader.
    fn broken(&mut self, inode: &Inode, error: &Error) {
        let finding = broken::finding(error, inode.nid());
        if !self.told.contains(&finding.rule) {
            self.told.push(finding.rule);
            self.findings.add(finding.rule, || finding);
        }
    }
}

impl CheckOptions {
    fn room(&self) -> Room {
        Room {
            bytes: self.max_memory,
            folder: self.temporary_folder.clone(),
        }
    }
}

/// Collects what names lead to.
struct Names<'a> {
    findings: &'a mut Findings,
    nids: Sorter<u64>,
    names: u64,
    /// Compressed directories cannot be read, which was told.
    without_algorithms: bool,
}

impl Visitor for Names<'_> {
    fn name(&mut self, _: &[u8], inode: &Inode) -> io::Result<()> {
        self.names += 1;
        self.nids.push(inode.nid().0)
    }

    fn found(&mut self, rule: Rule, finding: &dyn Fn() -> Finding) {
        let compression = [Rule::MapHeader, Rule::AlgorithmListed, Rule::DataEncoded];
        if !(self.without_algorithms && compression.contains(&rule)) {
            self.findings.add(rule, finding);
        }
    }
}
