//! Decoding all data once, by several threads, in the order in which it is stored.

use super::broken;
use super::early::{Failures, Key, Proof, Taken};
use super::finding::{At, Finding};
use super::range::{Kind, Range, Space};
use super::rule::Rule;
use crate::decode::{EncodedExtent, Lease, Pcluster};
use crate::error::Error;
use crate::image::Image;
use crate::map::Stored;
use crate::metadata::Area;
use erofs_codec::Ending;
use erofs_format::compression::Algorithm;
use erofs_format::feature::FeatureIncompat;
use erofs_format::{ByteOffset, DeviceId, Nid};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes to decode or read that make a batch.
const BATCH_BYTES: u64 = 1 << 20;
/// Bytes between two pclusters that are read rather than left out.
const READ_OVER: u64 = 16 << 10;
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
    /// A reference as long as the longest was given early.
    early: bool,
}

impl Job {
    /// First byte that is read.
    const fn start(&self) -> u64 {
        match self {
            Self::Decode(decode) => decode.range.start,
            Self::Read { start, .. } => *start,
            Self::Tail(tail) => tail.start,
        }
    }
}

/// Where the run of pclusters ends that each job begins or goes on with, so near to each other that they are read at once.
fn ends_of_runs(jobs: &[Job]) -> Vec<u64> {
    let mut ends = vec![0; jobs.len()];
    let mut next = (0, 0);
    for (job, end) in jobs.iter().zip(&mut ends).rev() {
        if let Job::Decode(Decode { range, .. }) = job {
            let gap = u64::checked_sub(next.0, range.end());
            let joins = gap.is_some_and(|gap| gap <= READ_OVER);
            *end = if joins { next.1 } else { range.end() };
            next = (range.start, *end);
        }
    }
    ends
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
            early: false,
        };
        group.add(range);
        group
    }

    /// Adds a reference to the same pcluster.
    pub(super) fn add(&mut self, range: &Range) {
        if self.range.more < range.more {
            self.range = *range;
            self.early = false;
        }
        self.early |= range.early && self.range.more == range.more;
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

/// Where jobs are given to the threads: early ones while ranges are collected, all others in stored order.
#[derive(Debug)]
pub(super) struct Jobs {
    sender: SyncSender<Batch>,
    batch: Batch,
    bytes: u64,
    taken: Taken,
    /// What the threads tell of early batches.
    told: Receiver<Vec<Key>>,
    proof: Proof,
    /// Bytes that need not be decoded again.
    proved: u64,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    early: bool,
    jobs: Vec<Job>,
}

impl Jobs {
    /// Has a range decoded before it is known what else refers to it. Tells whether it is among those for which that is
    /// done.
    pub(super) fn give_early(&mut self, range: &Range) -> bool {
        let whole = matches!(
            range.kind,
            Kind::Encoded {
                partial: false,
                inline: false,
                ..
            }
        );
        let early = whole
            && range.space == Space::Device(DeviceId::PRIMARY)
            && self.taken.take(range.start, range.end());
        if early {
            self.give(Job::Decode(Decode::new(range)));
        }
        early
    }

    /// Ends what is early, when that is done.
    pub(super) fn settle(&mut self) {
        self.send();
        self.batch.early = false;
        self.proof.hear(&self.told, Some(self.batch.number));
    }

    /// Has a pcluster decoded, if that was not done.
    pub(super) fn decode(&mut self, group: Decode) {
        // Decoding says the same again, unless a shorter reference says that it is whole.
        let whole = group
            .exact
            .is_none_or(|exact| exact.more == group.range.more);
        if group.early && whole && self.proof.holds(&group.range) {
            self.proved += u64::from(group.range.more);
        } else {
            self.give(Job::Decode(group));
        }
    }

    /// Ends all jobs. Returns the number of bytes that were decoded early and not again.
    pub(super) fn finish(mut self) -> u64 {
        self.send();
        self.proved
    }

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
            early: self.batch.early,
            jobs: Vec::new(),
        };
        // The threads end when the sender does, never before.
        let _ = self.sender.send(std::mem::replace(&mut self.batch, next));
        self.bytes = 0;
        if self.batch.early {
            self.proof.hear(&self.told, None);
        }
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
    pub(super) fn run<R>(&self, produce: impl FnOnce(Jobs) -> R) -> (R, Outcome) {
        let (sender, receiver) = sync_channel(self.workers * 2);
        let receiver = Mutex::new(receiver);
        let (teller, told) = channel();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..self.workers)
                .map(|_| (teller.clone(), &receiver))
                .map(|(teller, receiver)| {
                    scope.spawn(move || Worker::new(self).run(receiver, &teller))
                })
                .collect();
            drop(teller);
            let result = produce(Jobs {
                sender,
                batch: Batch {
                    number: 0,
                    early: true,
                    jobs: Vec::new(),
                },
                bytes: 0,
                taken: Taken::default(),
                told,
                proof: Proof::default(),
                proved: 0,
            });
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

    fn run(mut self, receiver: &Mutex<Receiver<Batch>>, teller: &Sender<Vec<Key>>) -> Outcome {
        loop {
            // A receiver is right in any state.
            let received = receiver
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(mut batch) = received else {
                return self.outcome;
            };
            self.batch = batch.number;
            if batch.early {
                // They come by inode, and what is told of them has no order.
                batch.jobs.sort_unstable_by_key(Job::start);
            }
            let ends = ends_of_runs(&batch.jobs);
            let mut failures = batch.early.then(|| Failures::new(teller.clone()));
            for (job, end) in batch.jobs.iter().zip(ends) {
                match (job, &mut failures) {
                    (Job::Decode(decode), Some(failures)) => {
                        self.try_early(decode, end, failures);
                    }
                    (Job::Decode(decode), None) => self.decode(decode, end),
                    (
                        Job::Read {
                            device,
                            start,
                            length,
                        },
                        _,
                    ) => self.read(*device, *start, *length),
                    (Job::Tail(tail), _) => self.tail(tail),
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

    /// Decodes for a proof; `end` is up to where it pays to read.
    fn try_early(&mut self, job: &Decode, end: u64, failures: &mut Failures) {
        let range = &job.range;
        let Kind::Encoded { algorithm, .. } = range.kind else {
            return;
        };
        match self.decode_range(range, algorithm, false, end) {
            Ok(ending) if self.broken_ending(algorithm, ending).is_none() => {
                self.advance(range.more.into());
            }
            _ => failures.add(range),
        }
    }

    /// Decodes the longest reference to a pcluster; `end` as above.
    fn decode_range(
        &mut self,
        range: &Range,
        algorithm: Algorithm,
        inline: bool,
        end: u64,
    ) -> Result<Ending, Error> {
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
        image.verify(&mut self.lease, range.nid, &extent, ahead)
    }

    /// Decodes and tells; `end` as above.
    fn decode(&mut self, job: &Decode, end: u64) {
        let range = job.range;
        let Kind::Encoded {
            algorithm, inline, ..
        } = range.kind
        else {
            return;
        };
        let result = self.decode_range(&range, algorithm, inline, end);
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

    /// Which rule it breaks that the data of a whole extent ends so, see `Image::read`.
    fn broken_ending(&self, algorithm: Algorithm, ending: Ending) -> Option<Rule> {
        let incompat = self.data.image.superblock().incompat;
        match (algorithm, ending) {
            (_, Ending::Exact) => None,
            // Without padding in front, LZ4 has it behind.
            (Algorithm::Lz4, _) if !incompat.contains(FeatureIncompat::ZERO_PADDING) => None,
            (Algorithm::Deflate, Ending::Trailing { .. }) | (Algorithm::Zstd, _) => {
                Some(Rule::DataLonger)
            }
            _ => Some(Rule::DataLength),
        }
    }

    /// Holds a whole extent to what the kernel asks of the end of its data.
    fn ending(&mut self, algorithm: Algorithm, range: &Range, exact: &Range, ending: Ending) {
        let ending = if exact.more < range.more {
            Ending::Open
        } else {
            ending
        };
        let Some(rule) = self.broken_ending(algorithm, ending) else {
            return;
        };
        let value = match ending {
            Ending::Trailing { bytes } => format!("{bytes} bytes follow the encoded data"),
            _ => format!("more than the {} bytes of the extent", exact.more),
        };
        self.found(rule, Some(exact.nid), At::File(exact.logical), value);
    }
}
