"""The list of images, and the jobs that come of it. tests/kernels/README.md explains every key."""

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

Version = tuple[int, int]

# CONFIG_EROFS_FS_BACKED_BY_FILE
FILE_MODE_SINCE: Version = (6, 12)
FILE_MODES = {"file", "fs-verity", "fs-verity-flip"}
# Need more than a directory and the kernel's erofs.
GUEST_MODES = {"blk", "fs-verity", "fs-verity-flip", "dm-verity", "dm-verity-flip"}
EXPECTATIONS = {"same", "unreadable", "any"}


def version(text: str) -> Version:
    """Major and minor number of a kernel's release."""
    numbers = re.findall(r"\d+", text)
    return int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 0


@dataclass
class Image:
    """One line of the list."""

    name: str
    file: Path
    manifest: Path | None = None
    devices: list[Path] = field(default_factory=list)
    objects: Path | None = None
    modes: list[str] = field(default_factory=lambda: ["loop", "file"])
    options: str = ""
    since: Version = (0, 0)
    misread: list[str] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    ignore: set[str] = field(default_factory=set)
    flags: str = "deep"
    expect: str = "same"
    group: str = ""
    brief: bool = True
    label: str = ""

    def device_names(self) -> list[str]:
        return [f"{self.name}.device{number}" for number in range(1, len(self.devices) + 1)]

    def files(self) -> dict[str, Path]:
        """What the payload must hold for it, by name."""
        return {self.name: self.file, **dict(zip(self.device_names(), self.devices))}


@dataclass
class Job:
    """One image mounted in one way."""

    image: Image
    mode: str

    @property
    def id(self) -> str:
        return f"{self.image.name}/{self.mode}"

    def line(self) -> str:
        columns = [self.id, self.mode, self.image.name, ",".join(self.image.device_names()),
                   self.image.options, self.image.flags]
        return "\t".join(column or "-" for column in columns)

    def since(self) -> Version:
        """The first kernel on which it must work."""
        return max(self.image.since, FILE_MODE_SINCE) if self.mode in FILE_MODES else self.image.since

    def is_flip(self) -> bool:
        return self.mode.endswith("-flip")


def read_list(path: Path) -> list[Image]:
    """Reads a list; paths in it are relative to it. Raises ValueError on a wrong line."""
    images = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = shlex.split(line, comments=True)
        if words:
            try:
                images.append(parse(words, path.parent))
            except (TypeError, KeyError, ValueError) as error:
                raise ValueError(f"{path}:{number}: {error}") from error
    names = [image.name for image in images]
    if len(names) != len(set(names)):
        raise ValueError(f"{path}: a name comes twice")
    return images


def parse(words: list[str], base: Path) -> Image:
    name, file, *pairs = words
    values = dict(pair.split("=", 1) for pair in pairs)
    parsers = {
        "manifest": base.joinpath, "objects": base.joinpath,
        "devices": lambda text: [base / path for path in text.split(",")],
        "modes": lambda text: text.split(","), "options": str, "min": version,
        "misread": lambda text: text.split(","), "needs": lambda text: text.split(","),
        "ignore": lambda text: set(text.split(",")), "flags": str, "expect": str, "group": str, "label": str,
        "brief": lambda text: text != "no",
    }
    fields = {"since" if key == "min" else key: parsers[key](value) for key, value in values.items()}
    image = Image(name, base / file, **fields)
    if image.expect not in EXPECTATIONS:
        raise ValueError(f"expect={image.expect} is none of {sorted(EXPECTATIONS)}")
    return image


def jobs_of(images: list[Image]) -> list[Job]:
    return [Job(image, mode) for image in images for mode in image.modes]
