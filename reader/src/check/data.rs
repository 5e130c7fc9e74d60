//! Decoding all data once, by several threads, in the order in which it is stored.

use super::broken;
use super::finding::{At, Finding};
use super::range::{Kind, Range, Space};
use super::rule::Rule;
use crate::decode::{EncodedExtent, Lease, Pcluster};
use crate::image::Image;
use crate::map::Stored;
use crate::metadata::Area;
use erofs_codec::Ending;
use erofs_format::compression::Algorithm;
use erofs_format::feature::FeatureIncompat;
use erofs_format::{ByteOffset, DeviceId, Nid};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes to decode or read that make a batch.
const BATCH_BYTES: u64 = 1 << 20;
/// Most jobs of a batch.
const BATCH_JOBS: usize = 256;

/// Something to do with data.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    Decode(Decode),
    /// Uncompressed data.
    Read {
        device: DeviceId,
        start: u64,
        length: u64,
    },
    Tail(Tail),
}

/// A pcluster with all references to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decode {
    /// The longest reference.
    pub(super) range: Range,
    /// The shortest reference that is not marked as partial.
    exact: Option<Range>,
}

/// Bytes behind the end of a file in its last block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tail {
    pub(super) device: DeviceId,
    pub(super) start: u64,
    pub(super) length: u32,
    pub(super) nid: Nid,
}

impl Decode {
    pub(super) fn new(range: &Range) -> Self {
        let mut group = Self {
            range: *range,
            exact: None,
        };
        group.add(range);
        group
    }

    /// Adds a reference to the same pcluster.
    pub(super) fn add(&mut self, range: &Range) {
        if self.range.more < range.more {
            self.range = *range;
        }
        let partial = matches!(range.kind, Kind::Encoded { partial: true, .. });
        if !partial && self.exact.is_none_or(|exact| exact.more > range.more) {
            self.exact = Some(*range);
        }
    }
}

/// What was found in data, in stored order, and how much data there was.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Findings with the number of their batch.
    findings: Vec<(u64, Finding)>,
    counts: Vec<u64>,
    pub(super) decoded_bytes: u64,
    pub(super) read_bytes: u64,
}

impl Outcome {
    fn found(&mut self, batch: u64, limit: u64, rule: Rule, finding: impl FnOnce() -> Finding) {
        if self.counts.is_empty() {
            self.counts = vec![0; Rule::ALL.len()];
        }
        if let Some(count) = self.counts.get_mut(rule as usize) {
            if *count < limit {
                self.findings.push((batch, finding()));
            }
            *count += 1;
        }
    }

    fn absorb(&mut self, other: Self) {
        self.findings.extend(other.findings);
        if self.counts.is_empty() {
            self.counts = other.counts;
        } else {
            for (sum, count) in self.counts.iter_mut().zip(other.counts) {
                *sum += count;
            }
        }
        self.decoded_bytes += other.decoded_bytes;
        self.read_bytes += other.read_bytes;
    }

    /// Findings in stored order, and how many there were of each rule. Every thread got its batches in that order and kept
    /// its first ones, so the first ones of all are among them.
    pub(super) fn into_findings(mut self) -> (Vec<Finding>, Vec<u64>) {
        self.findings.sort_by_key(|(batch, _)| *batch);
        let findings = self.findings.into_iter().map(|(_, finding)| finding);
        (findings.collect(), self.counts)
    }
}

/// Where jobs are given to the threads.
#[derive(Debug)]
pub(super) struct Jobs<'a> {
    sender: &'a SyncSender<Batch>,
    batch: Batch,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Batch {
    number: u64,
    jobs: Vec<Job>,
}

impl Jobs<'_> {
    pub(super) fn give(&mut self, job: Job) {
        self.bytes += match &job {
            Job::Decode(decode) => u64::from(decode.range.more),
            Job::Read { length, .. } => *length,
            Job::Tail(tail) => tail.length.into(),
        };
        self.batch.jobs.push(job);
        if self.bytes >= BATCH_BYTES || self.batch.jobs.len() >= BATCH_JOBS {
            self.send();
        }
    }

    fn send(&mut self) {
        let number = self.batch.number + 1;
        let next = Batch {
            number,
            jobs: Vec::new(),
        };
        // The threads end when the sender does, never before.
        let _ = self.sender.send(std::mem::replace(&mut self.batch, next));
        self.bytes = 0;
    }
}

/// What the threads share.
pub(super) struct Data<'a> {
    pub(super) image: &'a Image,
    pub(super) workers: usize,
    /// Most findings of a rule that are kept.
    pub(super) limit: u64,
    /// Counts bytes decoded and read.
    pub(super) progress: &'a AtomicU64,
}

impl Data<'_> {
    /// Runs the threads while `produce` gives them jobs.
    pub(super) fn run<R>(&self, produce: impl FnOnce(&mut Jobs<'_>) -> R) -> (R, Outcome) {
        let (sender, receiver) = sync_channel(self.workers * 2);
        let receiver = Mutex::new(receiver);
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.workers)
                .map(|_| scope.spawn(|| Worker::new(self).run(&receiver)))
                .collect();
            let mut jobs = Jobs {
                sender: &sender,
                batch: Batch::default(),
                bytes: 0,
            };
            let result = produce(&mut jobs);
            jobs.send();
            drop(sender);
            let mut outcome = Outcome::default();
            for thread in threads {
                match thread.join() {
                    Ok(part) => outcome.absorb(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            (result, outcome)
        })
    }
}

struct Worker<'a> {
    data: &'a Data<'a>,
    outcome: Outcome,
    batch: u64,
    buffer: Vec<u8>,
    lease: Lease<'a>,
}

impl<'a> Worker<'a> {
    fn new(data: &'a Data<'a>) -> Self {
        Self {
            data,
            outcome: Outcome::default(),
            batch: 0,
            buffer: Vec::new(),
            lease: data.image.decoders().lease(),
        }
    }

    fn run(mut self, receiver: &Mutex<Receiver<Batch>>) -> Outcome {
        loop {
            // A receiver is right in any state.
            let received = receiver
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(batch) = received else {
                return self.outcome;
            };
            self.batch = batch.number;
            let end = batch.jobs.iter().rev().find_map(|job| match job {
                Job::Decode(decode) => Some(decode.range.end()),
                _ => None,
            });
            for job in &batch.jobs {
                match job {
                    Job::Decode(decode) => self.decode(decode, end.unwrap_or(0)),
                    Job::Read {
                        device,
                        start,
                        length,
                    } => self.read(*device, *start, *length),
                    Job::Tail(tail) => self.tail(tail),
                }
            }
        }
    }

    fn found(&mut self, rule: Rule, nid: Option<Nid>, at: At, value: impl Into<String>) {
        let value = value.into();
        self.outcome
            .found(self.batch, self.data.limit, rule, || Finding {
                rule,
                nid,
                path: None,
                at,
                value,
            });
    }

    fn advance(&self, bytes: u64) {
        self.data.progress.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Fills the front of the buffer; a finding when that fails.
    fn fill(&mut self, device: DeviceId, start: u64, length: u64, nid: Option<Nid>) -> bool {
        let length = usize::try_from(length).unwrap_or(0);
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let buffer = self.buffer.get_mut(..length).unwrap_or_default();
        let result = self
            .data
            .image
            .devices()
            .read_exact(nid, device, ByteOffset(start), buffer);
        if let Err(error) = &result {
            self.found(Rule::Io, nid, At::device(device, start), error.to_string());
        }
        result.is_ok()
    }

    fn read(&mut self, device: DeviceId, start: u64, length: u64) {
        if self.fill(device, start, length, None) {
            self.outcome.read_bytes += length;
        }
        self.advance(length);
    }

    fn tail(&mut self, tail: &Tail) {
        let nid = Some(tail.nid);
        if !self.fill(tail.device, tail.start, tail.length.into(), nid) {
            return;
        }
        let length = usize::try_from(tail.length).unwrap_or(0);
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let stray = (tail.start..).zip(bytes).find(|(_, byte)| **byte != 0);
        if let Some((at, byte)) = stray.map(|(at, byte)| (at, *byte)) {
            let value = format!("{byte:#04x}");
            self.found(Rule::DataTail, nid, At::device(tail.device, at), value);
        }
    }

    /// `end` is where the last pcluster of the batch ends.
    fn decode(&mut self, job: &Decode, end: u64) {
        let range = job.range;
        let Kind::Encoded {
            algorithm, inline, ..
        } = range.kind
        else {
            return;
        };
        let offset = ByteOffset(range.start);
        let stored = match (range.space, inline) {
            (Space::Device(device), false) => Stored::Device { device, offset },
            (Space::Device(_), true) => Stored::Inline {
                area: Area::Primary,
                offset,
            },
            (Space::Metabox, _) => Stored::Inline {
                area: Area::Metabox,
                offset,
            },
        };
        let length = usize::try_from(range.more).unwrap_or(0);
        if self.buffer.len() < length {
            self.buffer.resize(length, 0);
        }
        let output = self.buffer.get_mut(..length).unwrap_or_default();
        let extent = EncodedExtent {
            pcluster: Pcluster {
                stored,
                length: range.length,
                algorithm,
            },
            logical: range.logical,
            length: range.more.into(),
            partial: false,
        };
        let ahead = usize::try_from(end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let image = self.data.image;
        let result = image.decode(&mut self.lease, range.nid, &extent, ahead, output);
        self.advance(range.more.into());
        match result {
            Ok(ending) => {
                self.outcome.decoded_bytes += u64::from(range.more);
                if let Some(exact) = job.exact {
                    self.ending(algorithm, &range, &exact, ending);
                }
            }
            Err(error) => {
                let mut finding = broken::finding(&error, range.nid);
                if finding.rule == Rule::DataOutside {
                    finding.rule = Rule::Io;
                }
                finding.value.push_str(&format!(
                    " ({}, {} bytes at {})",
                    algorithm.name(),
                    range.length,
                    range.start
                ));
                let (batch, limit) = (self.batch, self.data.limit);
                self.outcome.found(batch, limit, finding.rule, || finding);
            }
        }
    }

    /// Holds a whole extent to what the kernel asks of the end of its data, see `Image::read`.
    fn ending(&mut self, algorithm: Algorithm, range: &Range, exact: &Range, ending: Ending) {
        let ending = if exact.more < range.more {
            Ending::Open
        } else {
            ending
        };
        let incompat = self.data.image.superblock().incompat;
        let rule = match (algorithm, ending) {
            (_, Ending::Exact) => return,
            // Without padding in front, LZ4 has it behind.
            (Algorithm::Lz4, _) if !incompat.contains(FeatureIncompat::ZERO_PADDING) => return,
            (Algorithm::Deflate, Ending::Trailing { .. }) | (Algorithm::Zstd, _) => {
                Rule::DataLonger
            }
            _ => Rule::DataLength,
        };
        let value = match ending {
            Ending::Trailing { bytes } => format!("{bytes} bytes follow the encoded data"),
            _ => format!("more than the {} bytes of the extent", exact.more),
        };
        self.found(rule, Some(exact.nid), At::File(exact.logical), value);
    }
}
