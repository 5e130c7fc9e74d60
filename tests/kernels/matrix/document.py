"""The generated part of docs/compatibility.md."""

from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from .images import FILE_MODE_SINCE, FILE_MODES, Image, version
from .report import Results

BEGIN = "<!-- tests/kernels/run.sh --report writes from here -->\n"
END = "<!-- to here -->\n"

GROUPS = {
    "build": ("What `erofs build` writes", "image"),
    "index": ("What `erofs index` writes", "image"),
    "golden": ("What mkfs.erofs 1.9.4 writes: the golden images", "image"),
}
WORDS = {"ok": "yes", "ok, unpromised": "(yes)", "read errors": "errors", "misread, known": "wrong",
         "errors, known": "errors"}
WAYS = {
    "blk": "block device", "loop": "loop device", "loop-direct": "loop device with direct I/O",
    "file": "file-backed", "fs-verity": "file-backed, sealed by fs-verity",
    "fs-verity-flip": "the same with a byte changed", "dm-verity": "dm-verity device",
    "dm-verity-flip": "the same with a byte changed",
}


def write(path: Path, results: Results) -> None:
    """Replaces what stands between the marks."""
    text = path.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}{generated(results)}{END}{after}")


def generated(results: Results) -> str:
    date = datetime.now(timezone.utc).date()
    releases = ", ".join(results.runs[kernel].release() for kernel in results.kernels)
    parts = [f"\nRead on {date} by {releases}: {len(results.jobs)} mounts each, {len(results.failures())} failures.\n"]
    for group, (title, what) in GROUPS.items():
        images = {job.image.name: job.image for job in results.jobs if job.image.group == group}
        if images:
            rows = (image_row(results, image) for image in images.values())
            parts.append(f"## {title}\n\n" + table(results, what, rows))
    parts.append("## Ways to an image\n\n" + table(results, "way", way_rows(results)))
    return "\n".join([*parts, ""])


def table(results: Results, what: str, rows: Iterable[list[str]]) -> str:
    heads = [what, "since", *results.kernels]
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def image_row(results: Results, image: Image) -> list[str]:
    label = f"{image.name.removeprefix('golden-')}: {image.label}" if image.group == "golden" else f"`{image.label}`"
    since = "never" if image.expect == "unreadable" else ".".join(map(str, image.since))
    return [label, since, *(merged(results, image, kernel) for kernel in results.kernels)]


def merged(results: Results, image: Image, kernel: str) -> str:
    """One word for all modes that the kernel can be asked for, or each mode with its own."""
    can_file = version(results.runs[kernel].release()) >= FILE_MODE_SINCE
    found = {}
    for mode in image.modes:
        cell = results.cells[f"{image.name}/{mode}"].get(kernel)
        if cell and (can_file or mode not in FILE_MODES):
            found[mode] = WORDS.get(cell.text, cell.text)
    words = set(found.values())
    return words.pop() if len(words) == 1 else ", ".join(f"{mode}: {word}" for mode, word in found.items())


def way_rows(results: Results) -> Iterable[list[str]]:
    for job in results.jobs:
        if job.image.group == "ways":
            name = WAYS[job.mode] + (f", `{job.image.options}`" if job.image.options else "")
            cells = results.cells[job.id]
            words = [WORDS.get(cells[kernel].text, cells[kernel].text) if kernel in cells else "–"
                     for kernel in results.kernels]
            yield [name, ".".join(map(str, job.since())), *words]
