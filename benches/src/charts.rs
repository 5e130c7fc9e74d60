//! Ratios to the peer as pictures.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use erofs_charts::{Axes, Bar, bars};

use crate::{measure::Usage, record::Measured, rows::Row, statistics::Series};

/// Draws what takes time and what takes space beside the document at `path`: `NAME-time.svg` and `NAME-size.svg`.
///
/// # Errors
/// A chart cannot be drawn or written.
pub(crate) fn draw(path: &Path, rows: &[(&Row, &Measured)]) -> Result<()> {
    let time = |ours: &Series, theirs: &Series| Some(ours.ratio(theirs, |run: &Usage| run.wall));
    let size = |ours: &Series, theirs: &Series| Some(ours.bytes? as f64 / theirs.bytes? as f64);
    let charts: [(&str, Axes<'_>, Ratio<'_>); 2] = [
        (
            "time",
            axes("Time of erofs ÷ time of its peer", "less is faster"),
            &time,
        ),
        (
            "size",
            axes("Size of the image ÷ that of the peer", "less is smaller"),
            &size,
        ),
    ];
    for (what, axes, ratio) in charts {
        let bars_of_rows: Vec<_> = rows.iter().filter_map(|row| bar(row, ratio)).collect();
        if bars_of_rows.is_empty() {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let file = path.with_file_name(format!("{name}-{what}.svg"));
        let svg = bars(axes, &bars_of_rows)?;
        fs::write(&file, svg).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

type Ratio<'a> = &'a dyn Fn(&Series, &Series) -> Option<f64>;

const fn axes<'a>(title: &'a str, x: &'a str) -> Axes<'a> {
    Axes { title, x, y: "" }
}

fn bar((row, measured): &(&Row, &Measured), ratio: Ratio<'_>) -> Option<Bar> {
    let [ours, theirs, ..] = measured.series.as_slice() else {
        return None;
    };
    Some(Bar {
        name: row.name.to_owned(),
        value: ratio(ours, theirs).filter(|ratio| ratio.is_finite())?,
    })
}
