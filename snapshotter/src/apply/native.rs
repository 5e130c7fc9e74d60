//! Layers that are images already. They come from anywhere, so nothing of them reaches the kernel before it was checked.

use super::{Conversion, Converted};
use crate::content::{Blob, new_file, take};
use crate::digest::{Both, Hasher};
use crate::error::Error;
use crate::metadata::{Form, Layer};
use crate::store::Draft;
use erofs_mkfs::source::tar::Compression;
use erofs_mount::Requirements;
use erofs_reader::check::{CheckOptions, Report, Severity, check};
use erofs_reader::{ByteSource, FileSource};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Most bytes of memory for the lists of a check; what is more goes to a file.
const MEMORY: usize = 32 << 20;
/// Bytes that are copied at once.
const PIECE: usize = 256 << 10;

/// Takes an image as it is; with `is_compressed` it is in a zstd stream.
///
/// # Errors
/// [`Error`]; nothing is left then.
pub(super) fn convert(
    conversion: &Conversion<'_>,
    is_compressed: bool,
) -> Result<Converted, Error> {
    let draft = conversion.snapshotter.draft()?;
    let image = draft.image();
    let failed = |source| Error::file("writing", &image)(source);
    let (mut hasher, digested) = Hasher::new();
    let stream: Option<Box<dyn Read + Send>> = match (conversion.open)()? {
        blob if is_compressed => {
            let decoder = Compression::Zstd.decoder(Box::new(conversion.reader(blob)));
            Some(Box::new(decoder.map_err(failed)?))
        }
        Blob::Stream(stream) => Some(stream),
        Blob::File(file) => {
            take(&file, &image).map_err(failed)?;
            None
        }
    };
    let copied = if let Some(stream) = stream {
        let mut file = new_file(&image).map_err(failed)?;
        copy(stream, &mut Both(&mut file, &mut hasher)).map(drop)
    } else {
        File::open(&image).and_then(|file| copy(file, &mut hasher).map(drop))
    };
    copied.map_err(|error| match error.kind() {
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => conversion.refused(error.to_string()),
        _ => failed(error),
    })?;
    drop(hasher);
    let digested = digested.recv().unwrap_or_default();
    if !is_compressed && digested.digest != conversion.digest {
        return Err(conversion.refused(format!("the blob has digest {}", digested.digest)));
    }
    let inodes = inspect(conversion, &draft)?;
    let layer = Layer {
        digest: Some(digested.digest),
        tar_size: digested.size,
        inodes,
        form: Form::Native,
        ..Layer::default()
    };
    Ok(Converted { draft, layer })
}

/// Copies in large pieces.
fn copy(from: impl Read, to: &mut impl Write) -> io::Result<u64> {
    io::copy(&mut BufReader::with_capacity(PIECE, from), to)
}

/// Checks the metadata of an image, and whether this machine mounts it. Returns its number of inodes.
fn inspect(conversion: &Conversion<'_>, draft: &Draft) -> Result<u64, Error> {
    let image = draft.image();
    let failed = |source| Error::file("checking", &image)(source);
    let source: Arc<dyn ByteSource> = Arc::new(FileSource::open(&image).map_err(failed)?);
    let unsound = |reason| conversion.refused(format!("not a sound EROFS image: {reason}"));
    let mut requirements =
        Requirements::read(&image, 0).map_err(|error| unsound(error.to_string()))?;
    let holds = |bytes| bytes <= source.size();
    if requirements.extra_devices > 0 && !requirements.flat_bytes.is_some_and(holds) {
        return Err(conversion.refused(format!(
            "the image needs {} devices, and a layer has none",
            requirements.extra_devices
        )));
    }
    let options = CheckOptions {
        max_memory: Some(MEMORY),
        temporary_folder: image.parent().unwrap_or(Path::new("/")).to_path_buf(),
        findings_per_rule: 1,
        ..CheckOptions::default()
    };
    let report = check(&source, &[], &options, &AtomicU64::new(0))
        .map_err(|error| failed(io::Error::other(error)))?;
    if !report.is_clean() || !report.complete {
        return Err(unsound(fault(&report)));
    }
    requirements.add(report.unannounced.iter().copied());
    conversion
        .snapshotter
        .check_mountable(requirements, image)
        .map_err(|error| conversion.refused(error.to_string()))?;
    Ok(report.statistics.inodes)
}

/// The worst that was found.
fn fault(report: &Report) -> String {
    let severities = [Severity::Rejects, Severity::Misreads];
    let worst = severities.into_iter().find_map(|severity| {
        let mut findings = report.findings.iter();
        findings.find(|finding| finding.rule.severity() == severity)
    });
    worst.map_or_else(
        || "it could not be checked as a whole".to_owned(),
        |finding| format!("{finding} ({})", finding.rule.sentence()),
    )
}
