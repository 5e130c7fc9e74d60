"""Holds what a kernel showed against what it should show."""

import errno
import re
from dataclasses import dataclass, field

from .images import Job, Version
from .records import Record, differences, normalised

# What a read of changed bytes must end with.
EIO = f":{errno.EIO}"
CHECKED_READ = re.compile(r"!\w+@?\d*" + EIO)


@dataclass
class Cell:
    """The verdict about one job on one kernel."""

    text: str
    failed: bool = False
    detail: list[str] = field(default_factory=list)


def judge(job: Job, record: Record | None, release: Version, config: dict[str, str]) -> Cell:
    """The table in tests/kernels/README.md."""
    if record is None or not record.outcome:
        return Cell("NOT RUN", failed=True)
    anything = job.image.expect == "any"
    if record.outcome in ("crash", "hang"):
        return Cell(record.outcome.upper(), not anything, record.log[-12:])
    if anything:
        return observed(record)
    must = promised(job, release, config)
    known = f"{release[0]}.{release[1]}" in job.image.misread
    if job.is_flip():
        return judge_flipped(job, record, must, known)
    refusal = record.refusal()
    if job.image.expect == "unreadable":
        readable = refusal is None and record.errors() == 0
        return Cell("READ" if readable else refused(refusal), failed=readable)
    if refusal is not None:
        return Cell(refused(refusal), failed=must, detail=record.log if must else [])
    found = compare(job, record)
    if not found:
        return Cell("ok" if must else "ok, unpromised")
    if not must and record.errors():
        return Cell("read errors")
    if known and (record.errors() or not must):
        return Cell("errors, known" if record.errors() else "misread, known")
    return Cell("DIFFERS", True, [*found[:8], *record.log[:6]])


def promised(job: Job, release: Version, config: dict[str, str]) -> bool:
    """Whether a kernel of this release and configuration must read the image in this way."""
    return release >= job.since() and all(config.get(name) in ("y", "m") for name in job.image.needs)


def observed(record: Record) -> Cell:
    refusal = record.refusal()
    if refusal is not None:
        return Cell(refused(refusal))
    return Cell(f"read, {record.errors()} errors" if record.errors() else "read")


def refused(number: int | None) -> str:
    return "read errors" if number is None else errno.errorcode.get(number, str(number))


def compare(job: Job, record: Record) -> list[str]:
    if job.image.manifest is None:
        return [line for line in record.manifest if "\t!" in line]
    expected = job.image.manifest.read_text().splitlines()
    ignore = job.image.ignore
    columns = max((line.count("\t") + 1 for line in expected), default=0)
    shown = ["\t".join(line.split("\t")[:columns]) for line in record.manifest]
    return differences(normalised(shown, ignore), normalised(expected, ignore))


def judge_flipped(job: Job, record: Record, promised: bool, known: bool) -> Cell:
    """After one byte was changed below the check, a read gives EIO or the right bytes."""
    refusal = record.refusal()
    if refusal is not None:
        return Cell(refused(refusal), failed=promised and refusal != errno.EIO, detail=record.log)
    found = compare(job, record)
    shown = [line[2:] for line in found if line.startswith("+ ")]
    wrong = [line for line in shown if not CHECKED_READ.search(line)]
    if wrong and known:
        return Cell("misread, known")
    if wrong or not shown:
        return Cell("UNCHECKED", True, wrong[:8])
    return Cell("EIO")
