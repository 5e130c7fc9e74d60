//! Mounts images, reads everything back and writes down what the kernel showed.
//!
//! It is the first process of a guest (then it takes its jobs from the initramfs and powers off at the end), and
//! an ordinary program on the host:
//!
//! ```text
//! erofs-kernel-agent manifest DIRECTORY       what a directory holds: the expected side
//! erofs-kernel-agent jobs JOBS PAYLOAD        runs jobs on this machine's own kernel (root, private mounts)
//! ```
//!
//! | module | answers |
//! |---|---|
//! | [`guest`] | what the first process of a guest does |
//! | [`system`] | the same, where the guest has programs of its own |
//! | [`job`] | what one job is, and its record |
//! | [`reach`] | how the kernel gets at an image |
//! | [`manifest`] | what a mounted tree holds, error by error |
//! | [`content`] | what a file holds |
//! | [`ioctl`], [`loop_device`], [`fs_verity`], [`dm_verity`] | the devices for it |
//! | [`kernel_log`] | what the kernel said meanwhile |

mod content;
mod dm_verity;
mod fs_verity;
mod guest;
mod ioctl;
mod job;
mod kernel_log;
mod loop_device;
mod manifest;
mod reach;
mod system;

use std::{env, io, path::Path, process::ExitCode};

const USAGE: &str = "usage: erofs-kernel-agent manifest DIRECTORY | jobs JOBS PAYLOAD";

fn main() -> ExitCode {
    if std::process::id() == 1 {
        guest::run();
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["manifest", directory] => {
            let manifest = manifest::Walk::new(Path::new(directory), content::Depth::Once).finish();
            print!("{}", manifest.lines);
            if manifest.errors == 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        ["jobs", jobs, payload] => match job::run_all(
            Path::new(jobs),
            &reach::Payload::on_host(payload),
            &mut io::stdout(),
        ) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
