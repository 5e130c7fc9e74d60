//! `mount.erofs`: this program as mount(8) calls it, for /etc/fstab and systemd's mount units.
//!
//! Exit codes are those that mount(8) expects of its helpers.

use crate::mounting::{self, Detail};
use clap::{Arg, ArgAction, Command};
use erofs_mount::helper::HelperCall;
use erofs_mount::{MountError, MountRequest, PlanError, Rejection};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

/// Incorrect invocation or permissions.
const USAGE: u8 = 1;
/// System error.
const SYSTEM: u8 = 2;
/// Mount failure.
const FAILURE: u8 = 32;

const EXAMPLES: &str = "\
mount(8) calls it when it is in /sbin or /usr/sbin: for -t erofs, and for -t erofs.auto, erofs.file, erofs.loop and erofs.fuse, \
    which say the way and keep mount(8) from making a loop device.

Examples:
  mount -t erofs.auto rootfs.erofs /mnt
  mount.erofs rootfs.erofs /mnt -v -o fsoffset=4096
  rootfs.erofs /mnt erofs.auto ro,nofail 0 0      a line of /etc/fstab

Exit codes: 0 mounted, 1 wrong call or not allowed, 2 system error, 32 not mounted.";

/// What [`HelperCall`] takes, for help and man page.
pub(super) fn command() -> Command {
    let flag = |name: &'static str, short, help: &'static str| {
        Arg::new(name)
            .short(short)
            .help(help)
            .action(ArgAction::SetTrue)
    };
    let value = |name: &'static str, short, value: &'static str, help: &'static str| {
        Arg::new(name).short(short).value_name(value).help(help)
    };
    Command::new("mount.erofs")
        .about("Mount an EROFS image, as mount(8) calls its helpers")
        .disable_version_flag(true)
        .after_help(EXAMPLES)
        .arg(
            Arg::new("source")
                .value_name("SOURCE")
                .required(true)
                .help("Image file or block device"),
        )
        .arg(
            Arg::new("directory")
                .value_name("DIR")
                .required(true)
                .help("Directory to mount on"),
        )
        .arg(flag(
            "sloppy",
            's',
            "Ignore mount options that nobody knows",
        ))
        .arg(flag("fake", 'f', "Check everything, mount nothing"))
        .arg(flag(
            "no-mtab",
            'n',
            "Without effect: there is no mtab to write",
        ))
        .arg(flag(
            "verbose",
            'v',
            "Tell which ways were considered and tried",
        ))
        .arg(value(
            "namespace",
            'N',
            "NAMESPACE",
            "Mount namespace to mount in: a process id or a path",
        ))
        .arg(value(
            "options",
            'o',
            "OPTIONS",
            "Mount options by commas, see erofs mount --help; may be repeated",
        ))
        .arg(value(
            "type",
            't',
            "TYPE",
            "erofs, or erofs.auto, erofs.file, erofs.loop or erofs.fuse for the way",
        ))
        .arg(flag("version", 'V', "Print the version and exit").long("version"))
}

/// Runs the helper on the arguments after its name.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let asks = |long: &str, short: &str| {
        let mut words = arguments.iter();
        words.any(|word| word == long || word == short)
    };
    if asks("--help", "-h") {
        say!("{}", command().render_long_help());
        return ExitCode::SUCCESS;
    }
    if asks("--version", "-V") {
        say!("mount.erofs (erofs) {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match serve(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            complain!("mount.erofs: {message}");
            ExitCode::from(code)
        }
    }
}

fn serve(arguments: Vec<OsString>) -> Result<(), (u8, String)> {
    let call = HelperCall::parse(arguments).map_err(|error| {
        let usage = command().render_usage();
        (USAGE, format!("{error}\n{usage}\nSee mount.erofs --help."))
    })?;
    if let Some(namespace) = &call.namespace {
        enter(namespace).map_err(|error| {
            let name = namespace.to_string_lossy();
            (SYSTEM, format!("mount namespace {name}: {error}"))
        })?;
    }
    let request = MountRequest {
        image: call.source,
        target: call.target,
        options: call.options,
    };
    let detail = if call.verbose {
        Detail::Plan
    } else {
        Detail::Nothing
    };
    let result = if call.fake {
        request.prepare(true).map(drop)
    } else {
        mounting::mount(&request, detail).1
    };
    result.map_err(|error| (exit_code(&error), mounting::explained(&error)))
}

/// Moves into a mount namespace, named by a process or by a path.
fn enter(namespace: &OsStr) -> std::io::Result<()> {
    let process = namespace.to_str().and_then(|text| text.parse::<u32>().ok());
    let file = match process {
        Some(process) => File::open(format!("/proc/{process}/ns/mnt"))?,
        None => File::open(Path::new(namespace))?,
    };
    Ok(move_into_link_name_space(
        file.as_fd(),
        Some(LinkNameSpaceType::Mount),
    )?)
}

fn exit_code(error: &MountError) -> u8 {
    match error {
        MountError::Capabilities(_) => SYSTEM,
        MountError::Plan(PlanError::Impossible { rejected, .. })
            if rejected
                .iter()
                .flat_map(|(_, reasons)| reasons)
                .any(|reason| matches!(reason, Rejection::NotPrivileged(_))) =>
        {
            USAGE
        }
        _ => FAILURE,
    }
}
