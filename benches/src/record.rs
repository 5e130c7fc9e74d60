//! What was measured, row by row, in a file beside the document: a run of some rows leaves those of the others as they are.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{machine::Machine, statistics::Series, tools::Tools};

/// When, where and with what a run of this program measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// As it was before the first row.
    pub(crate) machine: Machine,
    /// A line for each program: name and version.
    pub(crate) versions: Vec<String>,
}

impl Run {
    /// One that begins now.
    ///
    /// # Errors
    /// Linux does not tell what machine this is.
    pub(crate) fn begins(tools: &Tools) -> Result<Self> {
        Ok(Self {
            machine: Machine::now()?,
            versions: tools.versions.clone(),
        })
    }
}

/// What a row took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Name of the row.
    pub(crate) row: String,
    /// The run that it is of.
    pub(crate) run: Run,
    /// Ours first, then the peers.
    pub(crate) series: Vec<Series>,
}

/// All that was measured last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    path: Option<PathBuf>,
    rows: Vec<Measured>,
}

impl Record {
    /// Of this document, `NAME.json` beside it: a line for each row. Without a document it is of this run alone.
    ///
    /// # Errors
    /// It cannot be read, or a line of it is none of ours.
    pub(crate) fn of(document: Option<&Path>) -> Result<Self> {
        let Some(document) = document else {
            return Ok(Self::default());
        };
        let path = document.with_extension("json");
        let lines = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            lines => lines.with_context(|| path.display().to_string())?,
        };
        let rows = lines.lines().enumerate().map(|(index, line)| {
            serde_json::from_str(line).with_context(|| format!("{}:{}", path.display(), index + 1))
        });
        Ok(Self {
            rows: rows.collect::<Result<_>>()?,
            path: Some(path),
        })
    }

    /// Puts a row in the place of what was measured of it before, and writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn put(&mut self, measured: Measured) -> Result<()> {
        self.rows.retain(|row| row.row != measured.row);
        self.rows.push(measured);
        let Some(path) = &self.path else {
            return Ok(());
        };
        let lines = self.rows.iter().map(serde_json::to_string);
        let text = lines.collect::<Result<Vec<_>, _>>()?.join("\n") + "\n";
        fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// What was measured of this row, if anything was.
    pub(crate) fn get(&self, row: &str) -> Option<&Measured> {
        self.rows.iter().find(|measured| measured.row == row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{measure::Usage, tools::Tool};

    #[test]
    fn a_row_takes_the_place_of_what_it_was_and_leaves_the_others() {
        let folder = tempfile::tempdir().expect("made");
        let document = folder.path().join("performance.md");
        let run = Run::begins(&Tools::default()).expect("told");
        let measured = |row: &str, wall| Measured {
            row: row.to_owned(),
            run: run.clone(),
            series: vec![Series {
                runs: vec![Usage {
                    wall,
                    cpu: 1.0,
                    peak: 1,
                    sum: None,
                }],
                ..Series::new(Tool::Erofs)
            }],
        };
        let mut record = Record::of(Some(&document)).expect("none yet");
        for (row, wall) in [("one", 1.0), ("two", 2.0), ("one", 3.0)] {
            record.put(measured(row, wall)).expect("written");
        }
        let again = Record::of(Some(&document)).expect("read");
        let wall = |row| Some(again.get(row)?.series.first()?.runs.first()?.wall);
        assert_eq!(
            (wall("one"), wall("two"), wall("three")),
            (Some(3.0), Some(2.0), None)
        );
        assert_eq!(again.get("one").map(|measured| &measured.run), Some(&run));

        fs::write(document.with_extension("json"), "{}\n").expect("written");
        let error = Record::of(Some(&document)).expect_err("no row");
        assert!(error.to_string().ends_with("performance.json:1"), "{error}");
    }
}
