//! `mount.erofs`: this program as mount(8) calls it, for /etc/fstab and systemd's mount units.
//!
//! Exit codes are those that mount(8) expects of its helpers.

use crate::mounting::{self, Detail};
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

const HELP: &str = "\
Usage: mount.erofs SOURCE DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t erofs[.auto|.file|.loop|.fuse]]
The helper of mount(8): \"mount -t erofs.auto IMAGE DIR\" calls it. See \"erofs mount --help\".";

/// Runs the helper on the arguments after its name.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    if arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h")
    {
        say!("{HELP}");
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
    let call = HelperCall::parse(arguments).map_err(|error| (USAGE, format!("{error}\n{HELP}")))?;
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
