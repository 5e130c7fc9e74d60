"""This project's own programs: the agent, and the images that it writes."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[3]
MACHINE = "x86_64-unknown-linux-gnu"


class Missing(Exception):
    """What this machine would need."""


def as_root() -> list[str]:
    """The words in front of a command that needs root. Raises Missing."""
    if os.geteuid() == 0:
        return []
    if subprocess.run(["sudo", "-n", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        raise Missing("it needs root, or sudo without a password")
    return ["sudo", "-n", "-E"]


def built() -> Path:
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


def cargo_build(*options: str, flags: str = "") -> None:
    environment = dict(os.environ, RUSTFLAGS=flags) if flags else None
    subprocess.run(["cargo", "build", "--quiet", *options], cwd=ROOT, env=environment, check=True)


def agent() -> Path:
    """Builds the agent: static, since the guests have no libraries, and in a folder of its own for its own flags."""
    folder = built() / "kernel-agent"
    cargo_build("--release", "--package", "erofs-kernel-agent", "--target", MACHINE, "--target-dir", str(folder),
                flags="-C target-feature=+crt-static")
    return folder / MACHINE / "release" / "erofs-kernel-agent"


def images(folder: Path, using: Path, release: bool) -> Path:
    """Writes all images into the folder and returns their list. Raises Missing."""
    sudo = as_root()
    # As tests/run.sh and .ci/long build: with fewer packages their dependencies have other features, and all is built again.
    cargo_build("--workspace", "--lib", "--bins", "--tests", *(["--release"] if release else []))
    programs = built() / ("release" if release else "debug")
    subprocess.run([*sudo, programs / "erofs-kernel-images", programs / "erofs", using, folder], check=True)
    return folder / "images.list"
