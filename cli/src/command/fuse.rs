//! `erofs fuse`: an image is served in user space, with or without root. Also the last resort of `erofs mount`.

use crate::error::{Outcome, one_line};
use crate::image::requirements;
use crate::values;
use anyhow::{Context, anyhow, bail};
use clap::{Args, ValueEnum};
use erofs_format::ByteOffset;
use erofs_fuse::ServeOptions;
use erofs_mount::capabilities::SourceFile;
use erofs_mount::{FuseRequest, MountOptions, Sources};
use erofs_reader::{ByteSource, FileSource, Image, ImageOptions};
use std::error::Error;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// Serve an image through FUSE, as root or not. The mount answers when the command returns.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Fuse {
    /// Image file or block device
    #[arg(value_name = "IMAGE")]
    image: PathBuf,

    /// Directory to mount on
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Mount options by commas, for example allow_other,nosuid,nodev,offset=4096,device=PATH; may be repeated
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<OsString>,

    /// An extra device of the image, in the order of its device table; may be repeated. An index finds the files beside
    /// itself
    #[arg(long = "device", value_name = "PATH")]
    devices: Vec<PathBuf>,

    /// Where the image begins in its file, in bytes
    #[arg(long, value_name = "BYTES", value_parser = values::size)]
    offset: Option<u64>,

    /// Stay in the foreground
    #[arg(short, long)]
    foreground: bool,

    /// What this process is for the one that started it
    #[arg(long, hide = true, value_enum)]
    role: Option<Role>,
}

const EXAMPLES: &str = "\
Examples:
  erofs fuse rootfs.erofs ~/rootfs
  erofs fuse -o offset=1M,allow_other bundle.bin /mnt
  fusermount3 -u ~/rootfs          ends it (as root: umount)";

/// The processes behind a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Serves, and tells its parent when the mount answers.
    Daemon,
    /// Unmounts when the server is killed.
    Watcher,
}

impl Role {
    /// This program once more, as this.
    fn command(self) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("erofs")
            .args(["fuse", "--role"])
            .arg(match self {
                Self::Daemon => "daemon",
                Self::Watcher => "watcher",
            });
        command
    }
}

impl Fuse {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        match self.role {
            Some(Role::Watcher) => erofs_fuse::watch(&self.directory)?,
            Some(Role::Daemon) => {
                erofs_fuse::daemon(|ready| {
                    let served = self.service()?.serve(|| ready.report());
                    // The launcher gets the whole text.
                    served.map_err(|error| anyhow!(one_line(&error)))
                })?;
            }
            None if self.foreground => self.service()?.serve(|| Ok(()))?,
            None => self.service()?.launch()?,
        }
        Ok(Outcome::Fine)
    }

    fn service(self) -> anyhow::Result<Service> {
        let mut options = MountOptions::default();
        for list in &self.options {
            options.add(list)?;
        }
        if options.size_limit.is_some() {
            bail!("option sizelimit needs a loop device: erofs mount --via=loop");
        }
        options.offset = self.offset.unwrap_or(options.offset);
        options.devices.extend(self.devices);
        let image =
            std::path::absolute(&self.image).with_context(|| self.image.display().to_string())?;
        let requirements = requirements(&image, options.offset)?;
        let sources = Sources::find(&image, &options, &requirements)?;
        let target = self
            .directory
            .canonicalize()
            .with_context(|| self.directory.display().to_string())?;
        Ok(Service::new(&image, &sources.devices, &target, &options))
    }
}

/// Starts a FUSE server for `erofs mount` and returns when the mount answers.
pub(crate) fn launch(request: &FuseRequest<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let service = Service::new(
        request.image,
        request.devices,
        request.target,
        request.options,
    );
    Ok(service.launch()?)
}

/// What is served where; all paths are absolute, since daemons leave the working directory.
#[derive(Debug)]
struct Service {
    image: PathBuf,
    devices: Vec<PathBuf>,
    target: PathBuf,
    options: MountOptions,
}

impl Service {
    fn new(image: &Path, devices: &[SourceFile], target: &Path, options: &MountOptions) -> Self {
        Self {
            image: image.to_owned(),
            devices: devices.iter().map(|device| device.path.clone()).collect(),
            target: target.to_owned(),
            options: options.clone(),
        }
    }

    /// Starts a daemon.
    fn launch(&self) -> anyhow::Result<()> {
        // A wrong option is found before anything is started.
        self.serve_options()?;
        let mut daemon = Role::Daemon.command();
        for name in self.options.attribute_names() {
            daemon.args(["-o", name]);
        }
        for option in &self.options.filesystem {
            let mut text = OsString::from(&option.key);
            if let Some(value) = &option.value {
                // Values hold no quotes: they were taken away when the list was read.
                text.push("=\"");
                text.push(value);
                text.push("\"");
            }
            daemon.arg("-o").arg(text);
        }
        for device in &self.devices {
            daemon.arg("--device").arg(device);
        }
        daemon
            .arg(format!("--offset={}", self.options.offset))
            .arg("--")
            .args([&self.image, &self.target]);
        Ok(erofs_fuse::launch(daemon)?)
    }

    /// Serves until the image is unmounted.
    fn serve(&self, ready: impl FnOnce() -> std::io::Result<()>) -> anyhow::Result<()> {
        let options = self.serve_options()?;
        let image = Arc::new(self.open()?);
        let mut watcher = Role::Watcher.command();
        watcher.arg("--").args([&self.image, &self.target]);
        Ok(erofs_fuse::serve(
            image,
            &self.target,
            &options,
            watcher,
            ready,
        )?)
    }

    fn serve_options(&self) -> anyhow::Result<ServeOptions> {
        let mut options = ServeOptions {
            source: self.image.display().to_string(),
            attributes: self.options.attributes,
            ..ServeOptions::default()
        };
        for option in &self.options.filesystem {
            options.set(&option.key, option.value.as_deref())?;
        }
        Ok(options)
    }

    fn open(&self) -> anyhow::Result<Image> {
        let source =
            |path: &Path| FileSource::open(path).with_context(|| path.display().to_string());
        let mut devices: Vec<Box<dyn ByteSource>> = Vec::new();
        for device in &self.devices {
            devices.push(Box::new(source(device)?));
        }
        let options = ImageOptions {
            devices,
            offset: ByteOffset(self.options.offset),
            ..ImageOptions::default()
        };
        Image::open(source(&self.image)?, options).with_context(|| self.image.display().to_string())
    }
}
