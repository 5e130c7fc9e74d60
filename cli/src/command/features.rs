//! `erofs features`: what this machine can mount, and how that was found out.

use crate::error::Outcome;
use crate::image::requirements;
use crate::mounting::{self, PlanAccount};
use crate::report;
use anyhow::Context;
use clap::Args;
use erofs_mount::capabilities::{Driver, Privilege};
use erofs_mount::{
    Ability, Capabilities, MountError, MountOptions, PlanError, Proof, Requirements, Sources,
    Verdict, Wish, plan,
};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Show what this machine can mount, by mounting tiny images; and, of an image, what it needs and how it would be mounted.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Features {
    /// A folder on the filesystem of interest, or an image; by default the current folder
    #[arg(value_name = "FOLDER|IMAGE", default_value = ".")]
    place: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Without root nothing can be probed: verdicts then follow from the kernel's version.

Examples:
  erofs features
  erofs features /srv/images      file-backed mounts depend on the filesystem of the image
  erofs features rootfs.erofs     what does it need, how would it be mounted?";

/// The whole answer, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Answer {
    machine: Machine,
    /// The folder in which file-backed mounts were probed.
    probed_in: String,
    abilities: Vec<AbilityRow>,
    image: Option<ImageAnswer>,
}

#[derive(Debug, Serialize)]
struct Machine {
    kernel: String,
    page_size: u64,
    driver: &'static str,
    driver_module: Option<String>,
    privilege: Privilege,
    mount_contexts: bool,
    loop_devices: bool,
    fuse_device: bool,
    fusermount: bool,
    sysfs_features: Vec<String>,
}

#[derive(Debug, Serialize)]
struct AbilityRow {
    ability: String,
    /// The first kernel that has it; none has what is larger than this machine's pages.
    since: Option<String>,
    /// `works`, `expected`, `too-old`, `never` or `refused`.
    verdict: &'static str,
    /// How that was found out.
    found_by: String,
}

#[derive(Debug, Serialize)]
struct ImageAnswer {
    path: String,
    block_size: u64,
    extra_devices: u16,
    /// Extra devices as they would be mounted, in slot order.
    devices: Vec<String>,
    oldest_kernel: Option<String>,
    oldest_kernel_because: Option<String>,
    needs: Vec<AbilityRow>,
    #[serde(flatten)]
    ways: PlanAccount,
    /// Why it cannot be mounted.
    error: Option<String>,
    /// The plan for people.
    #[serde(skip)]
    lines: Vec<String>,
}

impl Features {
    /// Runs the command.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        let place = self
            .place
            .canonicalize()
            .with_context(|| self.place.display().to_string())?;
        let is_folder = place.is_dir();
        let requirements = if is_folder {
            None
        } else {
            Some(requirements(&place, 0)?)
        };
        let folder = if is_folder {
            place.clone()
        } else if place.is_file() {
            place.parent().unwrap_or(Path::new("/")).to_owned()
        } else {
            // No image file stands beside a block device.
            std::env::temp_dir()
        };
        let mut capabilities = Capabilities::detect()?;
        capabilities.probe_all(&folder);
        let image = requirements.map(|requirements| {
            capabilities.probe_needs(&requirements, &folder);
            image(&place, &requirements, &capabilities)
        });
        let answer = Answer {
            machine: machine(&capabilities),
            probed_in: report::path(&folder),
            abilities: rows(Ability::all(), &capabilities),
            image,
        };
        if self.json {
            report::print_json(&answer)?;
        } else {
            answer.print()?;
        }
        Ok(Outcome::Fine)
    }
}

fn machine(capabilities: &Capabilities) -> Machine {
    let (driver, driver_module) = match &capabilities.driver {
        Driver::Registered => ("registered", None),
        Driver::Module(path) => ("module", Some(report::path(path))),
        Driver::Absent => ("absent", None),
        Driver::Unknown => ("unknown", None),
    };
    Machine {
        kernel: capabilities.release.clone(),
        page_size: capabilities.page.bytes(),
        driver,
        driver_module,
        privilege: capabilities.privilege,
        mount_contexts: capabilities.mount_contexts,
        loop_devices: capabilities.loop_control,
        fuse_device: capabilities.fuse.device,
        fusermount: capabilities.fuse.fusermount,
        sysfs_features: capabilities.sysfs_features.clone(),
    }
}

fn rows(abilities: Vec<Ability>, capabilities: &Capabilities) -> Vec<AbilityRow> {
    let rows = abilities.into_iter().map(|ability| {
        let verdict = match capabilities.verdict(ability) {
            Verdict::Proven => "works",
            Verdict::Expected => "expected",
            Verdict::TooOld { .. } => "too-old",
            Verdict::Never => "never",
            Verdict::Refused { .. } => "refused",
        };
        let found_by = match capabilities.proof(ability) {
            Some(Proof::Works) => "a probe was mounted and read".to_owned(),
            Some(Proof::Refused { reason, .. }) => format!("a probe: {reason}"),
            Some(Proof::WrongContent) => "a probe was read back wrong".to_owned(),
            Some(Proof::NotProbed { reason }) => format!("kernel version; no probe: {reason}"),
            None => "kernel version; there is no probe".to_owned(),
        };
        AbilityRow {
            ability: ability.to_string(),
            since: ability
                .since(capabilities.page)
                .map(|version| version.to_string()),
            verdict,
            found_by,
        }
    });
    rows.collect()
}

fn image(path: &Path, requirements: &Requirements, capabilities: &Capabilities) -> ImageAnswer {
    let options = MountOptions::default();
    let sources = Sources::find(path, &options, requirements);
    let needs = match &sources {
        Ok(sources) => sources.needs(requirements, options.offset),
        Err(_) => requirements.clone(),
    };
    let oldest = needs.oldest_kernel(capabilities.page);
    let mut answer = ImageAnswer {
        path: report::path(path),
        block_size: requirements.block_bits.bytes(),
        extra_devices: requirements.extra_devices,
        devices: Vec::new(),
        oldest_kernel: oldest.map(|(version, _)| version.to_string()),
        oldest_kernel_because: oldest.map(|(_, ability)| ability.to_string()),
        needs: rows(needs.abilities(capabilities.page), capabilities),
        ways: PlanAccount::default(),
        error: None,
        lines: Vec::new(),
    };
    let planned = sources.and_then(|sources| {
        answer.devices = mounting::devices(&sources);
        let wish = Wish::new(&options, true);
        Ok(plan(requirements, capabilities, &sources, &wish)?)
    });
    match planned {
        Ok(plan) => {
            answer.ways = PlanAccount::new(&plan);
            answer.lines = plan.to_string().lines().map(str::to_owned).collect();
        }
        Err(error) => {
            if let MountError::Plan(PlanError::Impossible { rejected, .. }) = &error {
                answer.ways = PlanAccount::impossible(rejected);
            }
            answer.error = Some(mounting::explained(&error));
        }
    }
    answer
}

impl Answer {
    fn print(&self) -> anyhow::Result<()> {
        self.machine.print()?;
        say!("");
        print_rows(&self.abilities)?;
        if self.machine.privilege == Privilege::Full {
            say!("(file-backed mounts were probed in {})", self.probed_in);
        }
        if let Some(image) = &self.image {
            say!("");
            image.print()?;
        }
        Ok(())
    }
}

impl Machine {
    fn print(&self) -> anyhow::Result<()> {
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let driver = match self.driver {
            "registered" => "yes".to_owned(),
            "module" => format!(
                "as a module: {}",
                self.driver_module.as_deref().unwrap_or("")
            ),
            "absent" => "no".to_owned(),
            _ => "not loaded, its modules are not to be seen from here".to_owned(),
        };
        let privilege = match self.privilege {
            Privilege::Full => "may mount by the kernel",
            Privilege::UserNamespace => "user namespace: FUSE only",
            Privilege::None => "none: FUSE only",
        };
        let sysfs = match self.sysfs_features.as_slice() {
            [] => "none".to_owned(),
            names => names.join(" "),
        };
        let rows = [
            ("kernel", self.kernel.clone()),
            ("page size", self.page_size.to_string()),
            ("EROFS driver", driver),
            ("privileges", privilege.to_owned()),
            ("fsopen(2)", yes(self.mount_contexts)),
            ("loop devices", yes(self.loop_devices)),
            ("/dev/fuse", yes(self.fuse_device)),
            ("fusermount3", yes(self.fusermount)),
            ("/sys/fs/erofs", sysfs),
        ];
        report::print_table(rows.map(|(name, value)| [name.to_owned(), value]))
    }
}

impl ImageAnswer {
    fn print(&self) -> anyhow::Result<()> {
        say!("{}:", self.path);
        match (&self.oldest_kernel, &self.oldest_kernel_because) {
            (Some(kernel), Some(ability)) => say!("needs Linux {kernel} for {ability}"),
            _ => say!("no kernel mounts it on this machine: its blocks are larger than a page"),
        }
        for (index, path) in self.devices.iter().enumerate() {
            say!("device {}: {path}", index + 1);
        }
        print_rows(&self.needs)?;
        for line in self.lines.iter().chain(&self.error) {
            say!("{line}");
        }
        Ok(())
    }
}

fn print_rows(rows: &[AbilityRow]) -> anyhow::Result<()> {
    let heading = ["ABILITY", "SINCE", "HERE", "FOUND OUT BY"].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let since = row.since.clone().unwrap_or_else(|| "-".to_owned());
        [
            row.ability.clone(),
            since,
            row.verdict.to_owned(),
            row.found_by.clone(),
        ]
    });
    report::print_table(std::iter::once(heading).chain(cells))
}
