"""What the agent wrote: records of jobs, and manifests."""

import re
from dataclasses import dataclass, field

COLUMNS = {"mode": 2, "owner": 3, "nlink": 4, "size": 5, "mtime": 6, "xattr": 8, "shared": 9}


@dataclass
class Record:
    """What became of one job."""

    outcome: str = ""
    manifest: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    ended: bool = False

    def refusal(self) -> int | None:
        """The errno of a refused mount."""
        found = re.match(r"refused errno=(\d+)", self.outcome)
        return int(found.group(1)) if found else None

    def errors(self) -> int:
        """How many errors reading met."""
        found = re.search(r" errors=(\d+)", self.outcome)
        return int(found.group(1)) if found else 0


@dataclass
class Report:
    """What one run of the agent wrote."""

    release: str = ""
    started: str = ""
    finished: str = ""
    records: dict[str, Record] = field(default_factory=dict)


def parse(text: str) -> Report:
    report, current = Report(), Record()
    for line in text.split("\n"):
        kind, _, rest = line.partition(" ")
        match kind:
            case "B":
                report.release, _, report.started = rest.partition(" ")
            case "D":
                report.finished = rest
            case "J":
                current = report.records[rest] = Record()
            case "M":
                current.manifest.append(rest)
            case "K":
                current.log.append(rest)
            case "S":
                current.outcome = rest
            case "E":
                current.ended = True
    return report


def normalised(manifest: list[str], ignore: set[str]) -> list[str]:
    """The manifest with stars for what is to be ignored."""
    lines = []
    for line in manifest:
        columns = line.split("\t")
        if "root" in ignore and columns[0] == ".":
            continue
        for name in ignore & COLUMNS.keys():
            if COLUMNS[name] < len(columns):
                columns[COLUMNS[name]] = "*"
        if "nsec" in ignore and len(columns) > COLUMNS["mtime"]:
            columns[COLUMNS["mtime"]] = columns[COLUMNS["mtime"]].split(".")[0]
        if "dirnlink" in ignore and columns[1] == "d":
            columns[COLUMNS["nlink"]] = "*"
        lines.append("\t".join(columns))
    return lines


def differences(got: list[str], expected: list[str]) -> list[str]:
    """The lines that only one has."""
    seen, wanted = set(got), set(expected)
    return [f"- {line}" for line in expected if line not in seen] + [f"+ {line}" for line in got if line not in wanted]
