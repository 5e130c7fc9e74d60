//! `erofs bench`: builds, mounts and reads images of the user's own data, in several forms, and recommends one.

mod measure;
mod recommend;

use super::build::{BuildArguments, source};
use crate::companion::Companion;
use crate::error::Outcome;
use crate::report;
use crate::scratch::Scratch;
use anyhow::{Context, bail};
use clap::{Args, Parser};
use erofs_charts::{Axes, Point, scatter};
use measure::{Measured, WayResult};
use serde::Serialize;
use std::path::PathBuf;

/// Measure forms of images on your own data, and recommend one.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Bench {
    /// A directory, a tar, or files
    #[arg(default_value = ".", value_name = "SOURCE")]
    sources: Vec<PathBuf>,

    /// A form to measure: options of `erofs build` as one word; may be repeated. By default a choice of algorithms, levels
    /// and cluster sizes
    #[arg(
        short,
        long = "form",
        value_name = "OPTIONS",
        allow_hyphen_values = true
    )]
    forms: Vec<String>,

    /// How often each form is measured; figures are medians
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,

    /// Where images are built: needs room for the largest
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Draw sizes and speeds as SVG into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Each image is read whole and at random places, by this program and through each way to mount that this machine has.
What is read comes out of memory, not from the disk: the figures are about decoding.

Examples:
  erofs bench rootfs/
  erofs bench layer.tar.gz --form '-z zstd,9 -C 64k' --form '-z lzma' --runs 3
  erofs bench models/ --svg models.svg --json";

/// What is measured when nobody says otherwise.
const FORMS: [&str; 10] = [
    "",
    "-z lz4 -C 4k",
    "-z lz4 -C 64k",
    "-z lz4hc,9 -C 64k",
    "-z zstd,3 -C 64k",
    "-z zstd,9 -C 64k",
    "-z zstd,15 -C 64k",
    "-z zstd,3 -C 1m",
    "-z deflate,6 -C 64k",
    "-z lzma,6 -C 64k",
];

/// Options of `erofs build`, by themselves.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct FormArguments {
    #[command(flatten)]
    build: BuildArguments,
}

/// One form with its figures.
#[derive(Debug, Serialize)]
struct JsonForm<'m> {
    options: &'m str,
    image_bytes: u64,
    ratio: f64,
    build_seconds: f64,
    build_cpu_seconds: f64,
    oldest_kernel: String,
    read_bytes_per_second: f64,
    ways: &'m [WayResult],
}

impl<'m> JsonForm<'m> {
    fn new(form: &'m Measured) -> Self {
        Self {
            options: &form.form,
            image_bytes: form.summary.image_size,
            ratio: form.summary.ratio(),
            build_seconds: form.build_seconds,
            build_cpu_seconds: form.build_cpu_seconds,
            oldest_kernel: form.summary.oldest_kernel().to_string(),
            read_bytes_per_second: form.read_speed,
            ways: &form.ways,
        }
    }
}

#[derive(Debug, Serialize)]
struct JsonResult<'m> {
    bytes_in: u64,
    entries: u64,
    forms: Vec<JsonForm<'m>>,
    recommended: recommend::Choice<'m>,
}

impl Bench {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if self.sources.iter().any(|path| path.as_os_str() == "-") {
            bail!(
                "standard input can be read only once, and bench reads its source often: use a file"
            );
        }
        let work = Scratch::new("erofs-bench-", self.folder.as_deref())?;
        let svg = self.svg.as_deref().map(Companion::create).transpose()?;
        if let Some(svg) = &svg {
            svg.check(self.sources.iter().map(PathBuf::as_path))?;
        }
        let forms = match &*self.forms {
            [] => FORMS.map(str::to_owned).to_vec(),
            forms => forms.to_vec(),
        };
        let mut measured = Vec::new();
        // Wrong options are told before anything is built.
        let options = forms
            .iter()
            .map(|form| options(form))
            .collect::<anyhow::Result<Vec<_>>>()?;
        for (form, options) in forms.iter().zip(&options) {
            let mut runs = Vec::new();
            for _ in 0..self.runs {
                if !self.json {
                    complain!("{}", name(form));
                }
                runs.push(measure::form(
                    form,
                    source(&self.sources, false)?,
                    options,
                    &work,
                )?);
            }
            let median = Measured::median(runs);
            if median.summary.bytes_in == 0 {
                bail!("the source has no data in its files: there is nothing to measure");
            }
            measured.push(median);
        }
        let choice = recommend::choose(&measured);
        if let Some(svg) = svg {
            svg.publish_text(&chart(&measured)?)?;
        }
        if self.json {
            print_json(&measured, choice)?;
        } else {
            print(&measured, &choice)?;
        }
        Ok(Outcome::Fine)
    }
}

fn print_json(measured: &[Measured], recommended: recommend::Choice<'_>) -> anyhow::Result<()> {
    let first = measured.first().map(|form| &form.summary);
    report::print_json(&JsonResult {
        bytes_in: first.map_or(0, |summary| summary.bytes_in),
        entries: first.map_or(0, |summary| summary.entries),
        forms: measured.iter().map(JsonForm::new).collect(),
        recommended,
    })
}

/// The settings that a form means.
fn options(form: &str) -> anyhow::Result<erofs_mkfs::build::BuildOptions> {
    let arguments = FormArguments::try_parse_from(form.split_whitespace());
    let arguments = arguments.map_err(|error| {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        anyhow::anyhow!(
            "--form {form:?}: {}",
            first.strip_prefix("error: ").unwrap_or(first)
        )
    })?;
    let options = arguments.build.options();
    let options = options.with_context(|| format!("--form {form:?}"))?;
    if options.blob.is_some() || options.image.offset > 0 {
        bail!(
            "--form {form:?}: an image is measured that is a file by itself: --blobdev and --offset make no such"
        );
    }
    Ok(options)
}

/// How a form is called in tables.
fn name(form: &str) -> &str {
    if form.is_empty() {
        "uncompressed"
    } else {
        form
    }
}

fn print(measured: &[Measured], choice: &recommend::Choice<'_>) -> anyhow::Result<()> {
    let mut rows = vec![
        [
            "form",
            "size",
            "of source",
            "build",
            "CPU",
            "Linux",
            "read/s",
            "way",
            "read/s",
            "4 KiB reads/s",
        ]
        .map(str::to_owned),
    ];
    for form in measured {
        let summary = &form.summary;
        let mut head = [
            name(&form.form).to_owned(),
            report::bytes(summary.image_size),
            format!(
                "{:.1} %",
                summary.image_size as f64 * 100.0 / summary.bytes_in as f64
            ),
            format!("{:.2} s", form.build_seconds),
            format!("{:.2} s", form.build_cpu_seconds),
            summary.oldest_kernel().to_string(),
            report::bytes(form.read_speed as u64),
        ];
        for way in &form.ways {
            let [sequential, random] = match (&way.skipped, &way.speed) {
                (None, Some(speed)) => [
                    report::bytes(speed.sequential as u64),
                    format!("{:.0}", speed.random),
                ],
                (reason, _) => [
                    format!("skipped, because {}", reason.as_deref().unwrap_or_default()),
                    String::new(),
                ],
            };
            let [a, b, c, d, e, f, g] = std::mem::replace(&mut head, [const { String::new() }; 7]);
            rows.push([a, b, c, d, e, f, g, way.way.to_string(), sequential, random]);
        }
    }
    report::print_table(rows)?;
    say!("");
    for (what, form, reason) in choice.lines() {
        say!("{what:<12}{}  ({reason})", name(form));
    }
    Ok(())
}

/// Size against speed.
fn chart(measured: &[Measured]) -> anyhow::Result<String> {
    const MIB: f64 = 1048576.0;
    let points: Vec<_> = measured
        .iter()
        .map(|form| Point {
            name: name(&form.form).to_owned(),
            x: form.summary.image_size as f64 / MIB,
            y: form.best_speed() / MIB,
        })
        .collect();
    let axes = Axes {
        title: "Images of the same data",
        x: "size of the image, MiB",
        y: "reading all files, MiB/s",
    };
    Ok(scatter(axes, &points)?)
}
