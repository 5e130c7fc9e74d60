//! The table, on the terminal and between the markers of a document.

use std::{
    fmt::{self, Display, Write},
    fs,
    path::Path,
};

use anyhow::{Context, Result};

use crate::{
    measure::Usage,
    record::{Measured, Run},
    rows::{Goal, Row},
    statistics::Series,
};

/// What most documents call their table.
pub(crate) const MEASURED: &str = "measured";
const MIB: f64 = 1_048_576.0;

/// A line for the terminal while it is measured: usage, and bytes of the image if one was written.
#[derive(Debug)]
pub(crate) struct Progress(pub(crate) Usage, pub(crate) Option<u64>);

impl Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(
            Usage {
                wall, cpu, peak, ..
            },
            bytes,
        ) = *self;
        let peak = peak as f64 / MIB;
        write!(f, "{wall:8.3} s  CPU {cpu:8.3} s  {peak:7.1} MiB memory")?;
        match bytes {
            Some(bytes) => write!(f, "  {:9.2} MiB image", bytes as f64 / MIB),
            None => Ok(()),
        }
    }
}

/// The tables in Markdown, with machine, versions and date of each run that rows are of.
///
/// # Errors
/// None but those of formatting.
pub(crate) fn text(rows: &[(&Row, &Measured)]) -> Result<String> {
    let mut runs: Vec<&Run> = Vec::new();
    for (_, measured) in rows {
        if !runs.contains(&&measured.run) {
            runs.push(&measured.run);
        }
    }
    runs.sort_by(|a, b| a.machine.date.cmp(&b.machine.date));
    let mut out = String::new();
    writeln!(
        out,
        "| work | goal | time ÷ peer | CPU ÷ | size ÷ | peak memory | | run |"
    )?;
    writeln!(out, "|---|---|--:|--:|--:|--:|---|--:|")?;
    for (row, measured) in rows {
        let number = runs.iter().take_while(|run| **run != &measured.run).count() + 1;
        writeln!(out, "{} {number} |", verdict(row, &measured.series))?;
    }
    writeln!(
        out,
        "\n| work | program | wall, s (from–to) | CPU, s | peak memory, MiB | image, MiB | rounds |"
    )?;
    writeln!(out, "|---|---|--:|--:|--:|--:|--:|")?;
    for (row, measured) in rows {
        for (index, one) in measured.series.iter().enumerate() {
            let title = if index == 0 { row.title } else { "" };
            writeln!(out, "| {title} | {}", figures(one))?;
        }
    }
    writeln!(out, "\nRuns:\n")?;
    for (index, run) in runs.iter().enumerate() {
        let Run { machine, versions } = run;
        let versions = versions.join("; ");
        writeln!(
            out,
            "{}. {machine}, load {} before; {versions}.",
            index + 1,
            machine.load
        )?;
    }
    Ok(out)
}

fn verdict(row: &Row, series: &[Series]) -> String {
    let Some((ours, others)) = series.split_first() else {
        return String::new();
    };
    let theirs = others.first();
    let time = theirs.map(|theirs| ours.ratio(theirs, |run| run.wall));
    let cpu = theirs.map(|theirs| ours.ratio(theirs, |run| run.cpu));
    let size = theirs.and_then(|theirs| Some(ours.bytes? as f64 / theirs.bytes? as f64));
    let peak = ours.median(|run| run.peak as f64) / MIB;
    let goal = row.goal;
    let met = [
        (goal.time, time),
        (goal.size, size),
        (goal.peak, Some(peak)),
        (goal.seconds, Some(ours.median(|run| run.wall))),
    ]
    .into_iter()
    .filter_map(|(limit, value)| Some(value? <= limit?))
    .reduce(|a, b| a && b);
    let cell =
        |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
    format!(
        "| {} | {goal} | {} | {} | {} | {peak:.0} MiB | {} |",
        row.title,
        cell(time),
        cell(cpu),
        size.map_or_else(|| "–".to_owned(), |size| format!("{size:.3}")),
        match met {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        },
    )
}

fn figures(series: &Series) -> String {
    let (from, to) = series.range(|run| run.wall);
    format!(
        "{} | {:.2} ({from:.2}–{to:.2}) | {:.2} | {:.0} | {} | {} |",
        series.tool.name(),
        series.median(|run| run.wall),
        series.median(|run| run.cpu),
        series.median(|run| run.peak as f64) / MIB,
        series.bytes.map_or_else(
            || "–".to_owned(),
            |bytes| format!("{:.2}", bytes as f64 / MIB)
        ),
        series.runs.len(),
    )
}

impl Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            size,
            peak,
            seconds,
        } = self;
        let parts = [
            time.map(|ratio| format!("time ≤ {ratio:.2}")),
            size.map(|ratio| format!("size ≤ {ratio:.2}")),
            peak.map(|mib| format!("memory ≤ {mib:.0} MiB")),
            seconds.map(|seconds| format!("≤ {seconds:.0} s")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// Puts `text` between the markers of the table with this name, in the document at `path`.
///
/// # Errors
/// The document cannot be read or written, or has no such markers.
pub(crate) fn insert(path: &Path, table: &str, text: &str) -> Result<()> {
    let document = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let new = replaced(&document, table, text)
        .with_context(|| format!("{} has no markers \"{table}\"", path.display()))?;
    Ok(fs::write(path, new)?)
}

fn replaced(document: &str, table: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- {table}: begin (written by erofs-benches --report) -->\n");
    let end = format!("<!-- {table}: end -->\n");
    let (head, rest) = document.split_once(&begin)?;
    let (_, tail) = rest.split_once(&end)?;
    Some(format!("{head}{begin}\n{text}\n{end}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_markers_is_replaced() {
        let table = |name: &str, text: &str| {
            format!(
                "<!-- {name}: begin (written by erofs-benches --report) -->\n{text}\n<!-- {name}: end -->\n"
            )
        };
        let other = table("others", "kept");
        let document = format!("head\n{other}{}tail\n", table(MEASURED, "old"));
        let new = replaced(&document, MEASURED, "new").expect("it has markers");
        let expected = format!("head\n{other}{}tail\n", table(MEASURED, "\nnew"));
        assert_eq!(new, expected);
        assert_eq!(replaced(&new, MEASURED, "new"), Some(new));
        assert_eq!(replaced(&other, MEASURED, "new"), None);
    }
}
