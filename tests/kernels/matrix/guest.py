"""Runs jobs on a kernel: in a guest under QEMU, or on this machine's own."""

import os
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from . import payload, project
from .debian import Kernel
from .images import GUEST_MODES, Image, Job
from .records import Record, Report, parse

RECORD_DISK_BYTES = 1 << 30
MEMORY_MEBIBYTES = 768
CHUNK = 1 << 20
POLL_SECONDS = 0.1
# A guest may hang before its agent runs; more than this is no accident.
MOST_SILENT_BOOTS = 3
# Emulated on a busy machine.
BOOT_SECONDS = 180


@dataclass
class Setup:
    """What all runs have in common."""

    agent: Path
    work: Path
    patience: float
    disk: Path = field(init=False)

    def __post_init__(self) -> None:
        self.disk = self.work / "payload"


@dataclass
class Run:
    """All boots of one kernel."""

    kernel: str
    reports: list[Report] = field(default_factory=list)
    records: dict[str, Record] = field(default_factory=dict)
    seconds: float = 0

    def add(self, other: "Run") -> None:
        """Adds what another guest of the same kernel did, at the same time or not."""
        self.reports += other.reports
        self.records |= other.records
        self.seconds += other.seconds

    def release(self) -> str:
        return next((report.release for report in self.reports if report.release), "")


class RecordDisk:
    """The sparse file to which a guest appends its records."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end = 0
        with open(path, "wb") as file:
            file.truncate(RECORD_DISK_BYTES)

    def grew(self) -> bool:
        """Whether something was written since the last call."""
        before = self.end
        with open(self.path, "rb") as file:
            file.seek(self.end)
            while chunk := file.read(CHUNK).rstrip(b"\0"):
                self.end += len(chunk)
                file.seek(self.end)
        return self.end > before

    def text(self) -> str:
        self.grew()
        with open(self.path, "rb") as file:
            return file.read(self.end).decode("utf-8", "replace")


def boot(kernel: Kernel, jobs: list[Job], setup: Setup, work: Path) -> tuple[Report, bool]:
    """Boots once; what the guest wrote, and whether it fell silent and was killed."""
    work.mkdir(exist_ok=True)
    lines = "".join(f"{job.line()}\n" for job in jobs)
    (work / "initramfs").write_bytes(payload.initramfs(kernel, setup.agent, "jobs", lines))
    records = RecordDisk(work / "records")
    with open(work / "qemu.log", "wb") as log:
        process = subprocess.Popen(
            qemu(kernel, work, setup.disk), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=dict(os.environ, TMPDIR=str(work)))
        silent = wait(process, records, setup.patience)
    report = parse(records.text())
    records.path.unlink()
    return report, silent


def wait(process: subprocess.Popen, records: RecordDisk, patience: float) -> bool:
    """Waits until the guest powers off; kills one that boots and has written nothing for so many seconds."""
    until = time.monotonic() + max(patience, BOOT_SECONDS)
    try:
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            if records.grew():
                until = time.monotonic() + patience
            elif time.monotonic() > until:
                return True
        return False
    finally:
        process.kill()
        process.wait()


def machine(kernel: Kernel, initramfs: Path, serial: str) -> list[str]:
    """A guest without disks. Emulation, not KVM: every machine has it, and a machine's KVM may not run these kernels."""
    append = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic random.trust_cpu=on"
    return [
        os.environ["EROFS_QEMU"], "-accel", "tcg", "-machine", "pc", "-cpu", "max", "-smp", "1",
        "-m", str(MEMORY_MEBIBYTES), "-nographic", "-nodefaults", "-no-user-config", "-no-reboot", "-serial", serial,
        "-kernel", str(kernel.folder / "vmlinuz"), "-initrd", str(initramfs), "-append", append,
    ]


def qemu(kernel: Kernel, work: Path, disk: Path) -> list[str]:
    return [
        *machine(kernel, work / "initramfs", f"file:{work}/serial.log"),
        # What guests write to the payload is lost with them, so that they can share it.
        "-drive", f"file={disk},format=raw,if=none,id=payload,snapshot=on", "-device", "virtio-blk-pci,drive=payload",
        "-drive", f"file={work}/records,format=raw,if=none,id=records,cache=unsafe",
        "-device", "virtio-blk-pci,drive=records",
    ]


def run_guests(kernel: Kernel, jobs: list[Job], setup: Setup, part: int) -> Run:
    """Runs a part of all jobs; when the kernel crashes or hangs, the rest goes on with a new boot."""
    work = setup.work / f"{kernel.wanted}.{part}"
    run, left, silent_boots = Run(kernel.wanted), jobs, 0
    began = time.monotonic()
    while left and silent_boots < MOST_SILENT_BOOTS:
        report, hung = boot(kernel, left, setup, work)
        run.reports.append(report)
        run.records |= {id: record for id, record in report.records.items() if record.ended}
        broken = [job for job in left if job.id in report.records and job.id not in run.records]
        for job in broken:
            outcome = "hang" if hung else "crash"
            run.records[job.id] = Record(outcome, log=serial_tail(work), ended=True)
        rest = [job for job in left if job.id not in run.records]
        silent_boots = silent_boots + 1 if len(rest) == len(left) else 0
        left = rest
    run.seconds = time.monotonic() - began
    return run


def serial_tail(work: Path) -> list[str]:
    """The end of what the kernel said before it died."""
    return (work / "serial.log").read_text(errors="replace").splitlines()[-40:]


def run_host(jobs: list[Job], images: list[Image], setup: Setup) -> Run:
    """Runs what needs no guest on this machine's kernel, in a mount namespace of its own."""
    began = time.monotonic()
    jobs = [job for job in jobs if job.mode not in GUEST_MODES]
    with TemporaryDirectory(dir=setup.work) as work:
        listed = Path(work) / "jobs"
        listed.write_text("".join(f"{job.line()}\n" for job in jobs))
        payload.stage(Path(work) / "payload", images)
        # A /run of its own keeps the mount points out of the host's.
        script = 'mount -t tmpfs none /run && exec "$@"'
        agent = [str(setup.agent), "jobs", str(listed), f"{work}/payload"]
        command = ["unshare", "--mount", "sh", "-c", script, "sh", *agent]
        done = subprocess.run([*project.as_root(), *command], stdout=subprocess.PIPE, check=True)
    report = parse(done.stdout.decode("utf-8", "replace"))
    return Run("host", [report], report.records, time.monotonic() - began)
