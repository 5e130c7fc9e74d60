//! mount(2), for kernels and seccomp filters without fsopen(2). All options share one page of text.

use super::{KernelError, KernelMount};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, MountFlags};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The kernel copies at most one page (4 KiB on the smallest), the last byte being a NUL.
const LONGEST_DATA: usize = 4095;

pub(super) fn mount(mount: &KernelMount, target: &Path) -> Result<(), KernelError> {
    let data = data(mount)?;
    rustix::mount::mount(
        mount.source.as_path(),
        target,
        "erofs",
        flags(mount.attributes),
        data.as_c_str(),
    )
    .map_err(|errno| KernelError::new(format!("mount({})", mount.source.display()), errno))
}

fn data(mount: &KernelMount) -> Result<CString, KernelError> {
    let mut data = Vec::new();
    for option in mount.driver_options() {
        let value = option
            .value
            .as_deref()
            .map(OsStrExt::as_bytes)
            .unwrap_or_default();
        if value.contains(&b',') {
            let operation = format!("mount(2) cannot carry a comma in {}", option.key);
            return Err(KernelError::new(operation, Errno::INVAL));
        }
        if !data.is_empty() {
            data.push(b',');
        }
        data.extend_from_slice(option.key.as_bytes());
        if option.value.is_some() {
            data.push(b'=');
            data.extend_from_slice(value);
        }
    }
    if data.len() > LONGEST_DATA {
        let operation = format!(
            "mount(2) takes {LONGEST_DATA} bytes of options, these are {}",
            data.len()
        );
        return Err(KernelError::new(operation, Errno::TOOBIG));
    }
    CString::new(data).map_err(|_| KernelError::new("mount(2) option with a NUL", Errno::INVAL))
}

fn flags(attributes: MountAttrFlags) -> MountFlags {
    use MountAttrFlags as A;
    let mut flags = MountFlags::RDONLY;
    for (attribute, flag) in [
        (A::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (A::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (A::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (A::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
        (A::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
        (A::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (A::MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
    ] {
        flags.set(flag, attributes.contains(attribute));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::MountOptions;

    fn kernel_mount(list: &str) -> KernelMount {
        let options = MountOptions::parse(list).expect("valid");
        KernelMount {
            source: "/i".into(),
            devices: options.devices,
            direct_io: true,
            offset: options.offset,
            options: options.filesystem,
            attributes: options.attributes,
        }
    }

    #[test]
    fn one_page_of_text() {
        let text = |list| data(&kernel_mount(list)).map(|data| data.into_string().expect("text"));
        assert_eq!(text("").as_deref(), Ok("directio"));
        let list = "device=/a,noacl,device=/b,offset=4096,cache_strategy=disabled";
        assert_eq!(
            text(list).as_deref(),
            Ok("device=/a,device=/b,fsoffset=4096,directio,noacl,cache_strategy=disabled")
        );
        assert_eq!(
            text("device=\"/a,b\"").map_err(|error| error.errno),
            Err(Errno::INVAL)
        );
        let many = vec!["device=/a/long/path/to/a/blob"; 200].join(",");
        assert_eq!(text(&many).map_err(|error| error.errno), Err(Errno::TOOBIG));
    }

    #[test]
    fn mount_2_mounts() {
        if let Some(reason) = crate::test_support::cannot_mount() {
            return crate::test_support::skip("mount(2)", &reason);
        }
        let folder = tempfile::tempdir().expect("temporary folder");
        let image = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../images/probe/block-4096.erofs"
        );
        let file = std::fs::File::open(image).expect("image");
        let settings = crate::loop_device::LoopSettings {
            offset: 0,
            size_limit: 0,
            block_bits: erofs_format::BlockBits::B4096,
            direct_io_alignment: None,
            writable: false,
        };
        let device = crate::loop_device::LoopDevice::attach(&file, Path::new(image), settings)
            .expect("attached");
        let classic = KernelMount {
            source: device.path().to_owned(),
            direct_io: false,
            ..kernel_mount("noacl,nosuid,noatime")
        };
        mount(&classic, folder.path()).expect("mounted");
        drop(device);
        let content = std::fs::read(folder.path().join("probe"));
        let unmounted = crate::umount(folder.path(), false).expect("unmounted");
        assert_eq!(content.expect("read").len(), 9000);
        for option in ["ro", "nosuid", "noatime", "noacl"] {
            assert!(
                unmounted
                    .image
                    .options
                    .split(',')
                    .any(|shown| shown == option),
                "{unmounted:?}"
            );
        }
        assert_eq!(unmounted.left_over, None);
    }

    #[test]
    fn attributes_become_flags() {
        for (list, expected) in [
            ("", MountFlags::RDONLY),
            (
                "nosuid,noexec",
                MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC,
            ),
            (
                "nodev,noatime",
                MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOATIME,
            ),
            (
                "strictatime,nodiratime",
                MountFlags::RDONLY | MountFlags::STRICTATIME | MountFlags::NODIRATIME,
            ),
            ("nosymfollow", MountFlags::RDONLY | MountFlags::NOSYMFOLLOW),
        ] {
            assert_eq!(flags(kernel_mount(list).attributes), expected, "{list}");
        }
    }
}
