//! `erofs snapshotter`: serves containerd, and tells what there is.

use super::fuse;
use crate::error::{Outcome, printed};
use crate::output::Output;
use crate::progress::Progress;
use crate::report::{self, bytes, count};
use clap::{Args, Subcommand};
use erofs_snapshotter::containerd_config::Version;
use erofs_snapshotter::operate::{Layers, Operator, ScrubbedLayer, StatusResponse};
use erofs_snapshotter::{Config, config, containerd_config, serve};
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

/// Serve containerd as snapshotter and differ: layers become EROFS images when they are pulled.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Snapshotter {
    /// Configuration file (TOML); without one everything has its default
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Folder of layers and snapshots, in place of `root` in the configuration
    #[arg(long, value_name = "DIRECTORY", global = true)]
    root: Option<PathBuf>,

    /// Socket on which containerd calls, in place of `socket` in the configuration
    #[arg(long, value_name = "SOCKET", global = true)]
    socket: Option<PathBuf>,

    /// Print a configuration file in which every key has its default and is explained
    #[arg(long, exclusive = true)]
    print_config: bool,

    /// Print what containerd's configuration file has to say of this snapshotter
    #[arg(long)]
    print_containerd_config: bool,

    /// Version of containerd for which that is, as `1.7` or `2.1`; by default the one in PATH
    #[arg(long, value_name = "VERSION", requires = "print_containerd_config")]
    containerd_version: Option<Version>,

    #[command(subcommand)]
    question: Option<Question>,
}

/// What an operator asks.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Question {
    /// Print what there is: snapshots, layers, mounts, cache
    Status {
        /// Print a report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Throw away what no snapshot needs: layers in the cache, files of which nothing is known
    Gc {
        /// Print a report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read all layers from the disk and compare them with what was written
    ///
    /// The same with what was merged of them, which is thrown away when it is damaged and no container lies over it. Exit code 1
    /// when something is damaged.
    Scrub {
        /// Print a report as JSON
        #[arg(long)]
        json: bool,
    },
}

const EXAMPLES: &str = "\
Examples:
  erofs snapshotter --print-config >/etc/erofs/snapshotter.toml
  erofs snapshotter --print-containerd-config >/etc/containerd/erofs-toolkit.toml
  erofs snapshotter --config /etc/erofs/snapshotter.toml
  erofs snapshotter --root /var/lib/erofs-snapshotter --socket /run/erofs-snapshotter.sock
  erofs snapshotter status --config /etc/erofs/snapshotter.toml

status, gc and scrub ask the process that serves, at its socket; when there is none they open its files.";

impl Snapshotter {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        if self.print_config {
            return print(config::DEFAULT);
        }
        let mut config = match &self.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        let is_named = self.root.is_some();
        config.root = self.root.unwrap_or(config.root);
        config.socket = self.socket.unwrap_or(config.socket);
        if self.print_containerd_config {
            let version = match self.containerd_version {
                Some(version) => version,
                None => Version::installed()?,
            };
            return print(&containerd_config(version, &config));
        }
        // A process that serves has its own root, whatever the configuration says here.
        let find = || {
            let operator = Operator::find(&config, fuse::launch)?;
            match is_named {
                true => operator.of_root(&config.root, &config.socket),
                false => Ok(operator),
            }
        };
        match self.question {
            None => serve(&config, fuse::launch)?,
            Some(Question::Status { json }) => {
                let status = find()?.status()?;
                printed(match json {
                    true => report::print_json(&status),
                    false => print_status(&status),
                })?;
            }
            Some(Question::Gc { json }) => {
                let collected = find()?.collect()?;
                if json {
                    printed(report::print_json(&collected))?;
                } else {
                    say!(
                        "thrown away: {}, {}, {}",
                        count(collected.layers, "unused layer", "unused layers"),
                        count(collected.strays, "stray file", "stray files"),
                        bytes(collected.bytes)
                    );
                }
            }
            Some(Question::Scrub { json }) => return scrub(find()?, json),
        }
        Ok(Outcome::Fine)
    }
}

fn print(text: &str) -> anyhow::Result<Outcome> {
    let mut out = Output::new();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(Outcome::Fine)
}

fn print_status(status: &StatusResponse) -> anyhow::Result<()> {
    let layers = |layers: Option<Layers>| {
        let layers = layers.unwrap_or_default();
        let number = count(layers.count, "layer", "layers");
        format!("{number}, {}", bytes(layers.bytes))
    };
    let snapshots = status.snapshots.unwrap_or_default();
    let cache = status.cache.unwrap_or_default();
    let mut mounts = Vec::new();
    for mounted in &status.mounts {
        mounts.push(format!("{} by {}", mounted.count, mounted.carrier));
    }
    if mounts.is_empty() {
        mounts.push("none".to_owned());
    }
    let serving = match status.serving {
        true => "served",
        false => "nobody serves",
    };
    let rows = [
        ("root", format!("{} ({serving})", status.root)),
        ("version", status.version.clone()),
        (
            "snapshots",
            format!(
                "{} committed, {} active, {}; {} removed and not thrown away yet",
                snapshots.committed,
                snapshots.active,
                count(snapshots.views, "view", "views"),
                status.leavings
            ),
        ),
        ("in use", layers(status.used)),
        ("unused", layers(status.unused)),
        ("mounted", mounts.join(", ")),
        (
            "cache",
            format!(
                "up to {}; since the start {}, {} from other folders, {}",
                bytes(cache.size),
                count(cache.hits, "hit", "hits"),
                cache.sourced,
                count(cache.misses, "miss", "misses")
            ),
        ),
    ];
    report::print_table(rows.map(|(name, value)| [name.to_owned(), value]))
}

/// What a scrub found.
#[derive(Debug, Default, Serialize)]
struct Scrubbed {
    /// Layers that were read.
    layers: u64,
    /// Images that were merged of layers, and were read.
    merged: u64,
    /// Bytes of all of them.
    bytes: u64,
    /// Those of which nobody noted what was written; their structure was checked.
    unrecorded: u64,
    /// Those that are not what was written.
    damaged: Vec<ScrubbedLayer>,
}

fn scrub(mut operator: Operator, json: bool) -> anyhow::Result<Outcome> {
    let mut scrubbed = Scrubbed::default();
    let progress = Progress::start("scrubbing", json);
    operator.scrub(|next| {
        progress.counter().store(next.done, Ordering::Relaxed);
        if let Some(layer) = next.layer {
            match layer.merged {
                true => scrubbed.merged += 1,
                false => scrubbed.layers += 1,
            }
            scrubbed.bytes += layer.bytes;
            scrubbed.unrecorded += u64::from(!layer.recorded);
            if layer.damaged {
                scrubbed.damaged.push(layer);
            }
        }
    })?;
    drop(progress);
    if json {
        printed(report::print_json(&scrubbed))?;
    } else {
        for layer in &scrubbed.damaged {
            say!("damaged: {}: {}", layer.path, layer.reason);
            if layer.thrown_away {
                say!("  thrown away: it is made anew of its layers for the next container");
            }
            for user in &layer.users {
                say!("  used by {user}");
            }
        }
        say!(
            "{} and {} of {} read: {} damaged, {} without a noted digest",
            count(scrubbed.layers, "layer", "layers"),
            count(scrubbed.merged, "merged image", "merged images"),
            bytes(scrubbed.bytes),
            scrubbed.damaged.len(),
            scrubbed.unrecorded
        );
    }
    Ok(match scrubbed.damaged.is_empty() {
        true => Outcome::Fine,
        false => Outcome::Problems,
    })
}
