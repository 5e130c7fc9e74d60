"""Runs a command in a guest that has files of its own, and cuts its power: see tests/kernels/README.md."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from . import debian, payload, project
from .guest import machine

ENDED = "agent: the command ended with "


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/kernels/guest.sh", description=__doc__)
    parser.add_argument("command", metavar="COMMAND", help="for /bin/sh; its output goes to standard output")
    parser.add_argument("-k", "--kernel", default="6.12")
    parser.add_argument("--root", type=Path, required=True, metavar="IMAGE", help="EROFS image of the root directory")
    parser.add_argument("--disk", type=Path, required=True, metavar="FILE", help="ext4 for /disk, /dev/vdb")
    parser.add_argument("--log", type=Path, metavar="FILE",
                        help="write down what is written to the disk, and when it is flushed, as dm-log-writes does")
    parser.add_argument("--seconds", type=float, metavar="N", help="cut the power after so long")
    return parser.parse_args()


def devices(options: argparse.Namespace) -> list[str]:
    root = f"file={options.root},format=raw,if=none,id=root,readonly=on"
    words = ["-drive", root, "-device", "virtio-blk-pci,drive=root",
             "-blockdev", f"driver=file,node-name=disk,filename={options.disk}"]
    node = "disk"
    if options.log:
        options.log.touch()
        node = "logged"
        words += ["-blockdev", f"driver=file,node-name=log,filename={options.log}",
                  "-blockdev", "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512"]
    return [*words, "-device", f"virtio-blk-pci,drive={node}"]


def main() -> int:
    options = arguments()
    kernel = debian.kernel(options.kernel)
    said = ""
    with TemporaryDirectory(prefix="guest.") as work:
        initramfs = Path(work) / "initramfs"
        initramfs.write_bytes(payload.initramfs(kernel, project.agent(), "command", options.command))
        words = machine(kernel, initramfs, "stdio") + devices(options)
        environment = dict(os.environ, TMPDIR=work)
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as process:
            try:
                said, _ = process.communicate(timeout=options.seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
    text = said.decode("utf-8", "replace")
    sys.stdout.write(text)
    if options.seconds is not None:
        return 0
    _, _, code = text.rpartition(ENDED)
    return int(code.split()[0]) if code else 2


if __name__ == "__main__":
    sys.exit(main())
