"""Shows results: to people, to programs, to the documentation."""

import json
from dataclasses import dataclass
from pathlib import Path

from .guest import Run
from .images import Job
from .verdict import Cell

# After so many the rest is told by their number.
MOST_FAILURES = 40

Cells = dict[str, dict[str, Cell]]
"""Cells by job and kernel."""


@dataclass
class Results:
    """Everything that came out of one run of the matrix."""

    kernels: list[str]
    jobs: list[Job]
    runs: dict[str, Run]
    cells: Cells

    def failures(self) -> list[tuple[str, str, Cell]]:
        return [(job, kernel, cell) for job, row in self.cells.items() for kernel, cell in row.items() if cell.failed]


def table(results: Results) -> str:
    width = max(len(job.id) for job in results.jobs)
    columns = {kernel: max([len(kernel)] + [len(row[kernel].text) for row in results.cells.values() if kernel in row])
               for kernel in results.kernels}
    lines = ["  ".join(["image/mode".ljust(width), *(kernel.ljust(size) for kernel, size in columns.items())])]
    for job in results.jobs:
        row = results.cells[job.id]
        texts = [(row[kernel].text if kernel in row else "-").ljust(size) for kernel, size in columns.items()]
        lines.append("  ".join([job.id.ljust(width), *texts]))
    return "\n".join(line.rstrip() for line in lines)


def summary(results: Results) -> str:
    lines = []
    for kernel in results.kernels:
        run = results.runs[kernel]
        boots = f"{len(run.reports)} boots, " if len(run.reports) > 1 else ""
        lines.append(f"{kernel}: Linux {run.release()}, {boots}{len(run.records)} jobs in {run.seconds:.1f} s")
    failures = results.failures()
    for job, kernel, cell in failures[:MOST_FAILURES]:
        lines.append(f"FAILED {job} on {kernel}: {cell.text}")
        lines += [f"    {line}" for line in cell.detail]
    if len(failures) > MOST_FAILURES:
        lines.append(f"and {len(failures) - MOST_FAILURES} more; --table shows them")
    return "\n".join(lines)


def write_files(results: Results, folder: Path) -> None:
    """results.json, and for each job on each kernel its manifest: KERNEL/IMAGE.MODE.manifest."""
    document: dict[str, dict[str, object]] = {}
    for kernel in results.kernels:
        (folder / kernel).mkdir(parents=True, exist_ok=True)
        rows = document[kernel] = {}
        for job in results.jobs:
            record = results.runs[kernel].records.get(job.id)
            if record is None:
                continue
            file = folder / kernel / f"{job.id.replace('/', '.')}.manifest"
            file.write_text("".join(f"{line}\n" for line in record.manifest))
            rows[job.id] = {"cell": results.cells[job.id][kernel].text, "outcome": record.outcome,
                            "errno": record.refusal(), "errors": record.errors(), "log": record.log}
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n")
