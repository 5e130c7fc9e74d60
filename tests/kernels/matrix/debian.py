"""Debian's cloud kernels, from the mirror of this machine's apt, on a private apt state."""

import fcntl
import functools
import json
import lzma
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

ARCHITECTURE = "amd64"
# Where each kernel is: the older ones in the releases, those between in backports, the newest in sid.
SUITES = ["bullseye", "bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid"]
WITH_SECURITY = {"bullseye", "bookworm", "trixie"}
# Only Debian's own archive keys may vouch for a kernel.
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What the guests need; what these depend on comes too.
MODULES = ["virtio_pci", "virtio_blk", "loop", "erofs", "overlay", "dm_verity"]
SECONDS_OF_A_DAY = 86400
DEBIAN_SET = Path(__file__).parents[2] / "peers" / "debian-set.sh"


@dataclass
class Kernel:
    """A kernel in the cache: its folder holds vmlinuz, config and modules/ with the order to load them in."""

    wanted: str
    package: str
    version: str
    modules: list[str]

    @property
    def folder(self) -> Path:
        return kernels_folder() / self.wanted

    @functools.cached_property
    def config(self) -> dict[str, str]:
        """The kernel's configuration, without the prefix CONFIG_."""
        return parse_config((self.folder / "config").read_text())


def parse_config(text: str) -> dict[str, str]:
    return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", text, re.M))


def cache() -> Path:
    return Path(os.environ["EROFS_CACHE"])


def kernels_folder() -> Path:
    return cache() / "kernels"


def run(*command: str, **options) -> str:
    """Runs a program that must succeed and returns what it prints."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def kernel(wanted: str) -> Kernel:
    """The newest kernel that begins with these numbers, such as "6.12"; fetched when the cache has none.

    Raises LookupError when the mirror has none either.
    """
    with locked(kernels_folder()):
        info = kernels_folder() / wanted / "info.json"
        if info.exists() and not os.environ.get("EROFS_REFRESH"):
            known = Kernel(**json.loads(info.read_text()))
            if requested(known.modules):
                return known
        return fetch(wanted)


def requested(modules: list[str]) -> bool:
    """Whether a cached kernel was made for these MODULES: some are built in, but never erofs and dm_verity."""
    return {"erofs.ko", "dm_verity.ko"} <= set(modules)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(wanted: str) -> Kernel:
    apt = private_apt()
    versions = find_packages(apt, wanted)
    new = kernels_folder() / f".new.{wanted}"
    shutil.rmtree(new, ignore_errors=True)
    (new / "debs").mkdir(parents=True)
    named = [f"{package}={version}" for package, version in versions.items()]
    run("apt-get", *apt, "-qq", "download", *named, cwd=new / "debs")
    for deb in (new / "debs").iterdir():
        run("dpkg-deb", "-x", str(deb), str(new / "root"))
    shutil.rmtree(new / "debs")
    package = next(iter(versions))
    result = Kernel(wanted, package, versions[package], keep_what_is_needed(new))
    (new / "info.json").write_text(json.dumps(asdict(result), indent=1) + "\n")
    shutil.rmtree(result.folder, ignore_errors=True)
    new.rename(result.folder)
    return result


def mirrors() -> tuple[str, str]:
    """The mirrors of releases and of their security updates that apt is configured for."""
    releases = run("bash", "-c", '. "$0" && debian_mirror', str(DEBIAN_SET)).strip()
    known = run("apt-get", "update", "--print-uris")
    security = re.search(r"'(\S+/debian-security)/dists/", known)
    if "EROFS_DEBIAN_MIRROR" in os.environ or not security:
        return releases, f"{releases}-security"
    return releases, security.group(1)


@functools.cache
def private_apt() -> list[str]:
    """Options for apt that leave the host's own state alone, with an index no older than a day."""
    state = kernels_folder() / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    releases, security = mirrors()
    source = f"deb [signed-by={KEYRING} arch={ARCHITECTURE}]"
    lines = [f"{source} {releases} {suite} main\n" for suite in SUITES]
    lines += [f"{source} {security} {suite}-security main\n" for suite in SUITES if suite in WITH_SECURITY]
    listed, stamp = state / "sources.list", state / "updated"
    settings = {
        "Dir::Etc::sourcelist": listed, "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null", "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": state, "Dir::State::Lists": state / "lists", "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache", "APT::Sandbox::User": "", "APT::Default-Release": "",
        "APT::Architecture": ARCHITECTURE, "APT::Architectures::": ARCHITECTURE, "Acquire::Languages": "none",
        "Acquire::Retries": "3", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    wanted = "".join(lines)
    have = listed.read_text() if listed.exists() else ""
    if have != wanted or not stamp.exists() or time.time() - stamp.stat().st_mtime > SECONDS_OF_A_DAY:
        listed.write_text(wanted)
        # A suite that a mirror has dropped matters only if a kernel is missing then.
        subprocess.run(["apt-get", *options, "-qq", "update"], check=False)
        stamp.touch()
    return options


def newer(one: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", one, "gt", other], check=False).returncode == 0


def find_packages(apt: list[str], wanted: str) -> dict[str, str]:
    """Packages, the image first, and versions of the newest kernel that the mirror has whole."""
    names = set(run("apt-cache", *apt, "pkgnames", "linux-").split())
    pattern = re.compile(rf"linux-image-{re.escape(wanted)}[-.].*-cloud-{ARCHITECTURE}")
    images = sorted(filter(pattern.fullmatch, names))
    best: dict[str, str] = {}
    for stanza in run("apt-cache", *apt, "show", *images).split("\n\n") if images else []:
        fields = dict(re.findall(r"^([A-Z][\w-]*): (.*)$", stanza, re.M))
        if "Package" not in fields:
            continue
        # From 6.19 on the one package is several, of which older mirrors have no linux-base. A mirror may keep an image
        # whose other parts are gone.
        parts = re.findall(r"(linux-(?:base|binary|modules)-\d[^ ,]*)", fields["Depends"])
        parts = [part for part in parts if part in names or not part.startswith("linux-base-")]
        version = fields["Version"]
        if names.issuperset(parts) and (not best or newer(version, next(iter(best.values())))):
            best = {fields["Package"]: version} | {part: version for part in parts}
    if not best:
        raise LookupError(f"the mirror has no whole cloud kernel {wanted}")
    return best


def keep_what_is_needed(new: Path) -> list[str]:
    """Takes vmlinuz, config and modules out of the unpacked packages; the modules in the order to load them."""
    files = [path for path in (new / "root").rglob("*") if path.is_file()]
    built_in: set[str] = set()
    modules: dict[str, Path] = {}
    for path in files:
        if path.name.startswith("vmlinuz"):
            shutil.copy(path, new / "vmlinuz")
        elif path.name.startswith("config-") or (path.name == "config" and "modules" in path.parts):
            shutil.copy(path, new / "config")
        elif path.name == "modules.builtin":
            built_in |= {module_name(Path(line)) for line in path.read_text().split()}
        elif ".ko" in path.suffixes:
            modules[module_name(path)] = path
    if not all((new / name).exists() for name in ("vmlinuz", "config")):
        raise LookupError(f"no vmlinuz or no config in the packages at {new / 'root'}")
    (new / "modules").mkdir()
    order: list[str] = []

    def add(module: str) -> None:
        if module in built_in or module not in modules or f"{module}.ko" in order:
            return
        content = decompressed(modules[module])
        depends = re.search(rb"\0depends=([^\0]*)\0", b"\0" + content)
        for other in depends.group(1).decode().split(",") if depends else []:
            add(other.replace("-", "_"))
        (new / "modules" / f"{module}.ko").write_bytes(content)
        order.append(f"{module}.ko")

    for module in MODULES:
        add(module)
    (new / "modules" / "list").write_text("".join(f"{name}\n" for name in order))
    shutil.rmtree(new / "root")
    return order


def module_name(path: Path) -> str:
    return path.name.split(".ko")[0].replace("-", "_")


def decompressed(module: Path) -> bytes:
    content = module.read_bytes()
    match module.suffix:
        case ".xz":
            return lzma.decompress(content)
        case ".zst":
            return subprocess.run(["zstd", "-dc"], input=content, stdout=subprocess.PIPE, check=True).stdout
    return content
