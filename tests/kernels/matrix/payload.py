"""What a guest boots from: initramfs, and a disk with all images."""

import os
import shutil
import stat
import struct
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from .debian import Kernel, run
from .images import Image

SECTOR = 512
# Partitions begin at multiples of 1 MiB.
ALIGNMENT = 2048
ENTRY_BYTES = 128
LINUX_DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def cpio(entries: Iterable[tuple[str, int, bytes, int]]) -> bytes:
    """A newc archive of (name, mode, content, device)."""
    archive = bytearray()
    for inode, (name, mode, content, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", 0)], 1):
        path = name.encode() + b"\0"
        fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, os.major(device), os.minor(device), len(path), 0)
        archive += ("070701" + "".join(f"{field:08x}" for field in fields)).encode()
        for part in (path, content):
            archive += part
            archive += bytes(-len(archive) % 4)
    return bytes(archive)


def initramfs(kernel: Kernel, agent: Path, name: str, text: str) -> bytes:
    """With the agent, modules, and the file that says what the agent does: jobs or command."""
    def folder(name: str) -> tuple[str, int, bytes, int]:
        return name, stat.S_IFDIR | 0o755, b"", 0

    def file(name: str, content: bytes) -> tuple[str, int, bytes, int]:
        return name, stat.S_IFREG | 0o755, content, 0

    console = ("dev/console", stat.S_IFCHR | 0o600, b"", os.makedev(5, 1))
    modules = sorted((kernel.folder / "modules").iterdir())
    return cpio([
        folder("dev"), console, file("init", agent.read_bytes()), file(name, text.encode()), folder("modules"),
        *(file(f"modules/{path.name}", path.read_bytes()) for path in modules),
    ])


def build(disk: Path, images: list[Image]) -> None:
    """Writes the payload disk: an ext4 with all files, then a partition for each image with the mode "blk"."""
    with TemporaryDirectory(dir=disk.parent) as work:
        ext4 = Path(work) / "ext4"
        make_ext4(ext4, images)
        partitions = [("payload", ext4)]
        for image in images:
            if "blk" in image.modes:
                partitions += image.files().items()
        make_disk(disk, partitions)


def stage(folder: Path, images: list[Image]) -> None:
    """Puts all files of the images into a folder of the same filesystem where that is possible, without copies."""
    folder.mkdir()
    for image in images:
        for name, source in image.files().items():
            try:
                os.link(source, folder / name)
            except OSError:
                run("cp", "--sparse=always", str(source), str(folder / name))
        if image.objects:
            shutil.copytree(image.objects, folder / f"{image.name}.objects", symlinks=True)


def make_ext4(path: Path, images: list[Image]) -> None:
    folder = path.parent / "stage"
    stage(folder, images)
    files = [file.stat() for file in folder.rglob("*")]
    mebibytes = (sum(file.st_blocks * SECTOR for file in files) * 5 // 4 >> 20) + 24
    environment = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    # fs-verity keeps its trees behind the files, hence the room; no journal, since nobody needs the disk again.
    run("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "verity,^has_journal", "-m", "0",
        "-N", str(1024 + len(files)), "-d", str(folder), str(path), f"{mebibytes}M", env=environment)


def make_disk(path: Path, partitions: list[tuple[str, Path]]) -> None:
    """Writes a disk with a GUID partition table."""
    count = max(128, -(-len(partitions) // 4) * 4)
    first_usable = 2 + -(-count * ENTRY_BYTES // SECTOR)
    start = -(-first_usable // ALIGNMENT) * ALIGNMENT
    entries, places = b"", []
    for name, file in partitions:
        sectors = -(-file.stat().st_size // SECTOR)
        entries += LINUX_DATA.bytes_le + uuid.uuid4().bytes_le
        entries += struct.pack("<QQQ", start, start + sectors - 1, 0)
        entries += name.encode("utf-16le")[:70].ljust(72, b"\0")
        places.append((start, file))
        start += -(-sectors // ALIGNMENT) * ALIGNMENT
    entries = entries.ljust(count * ENTRY_BYTES, b"\0")
    total = start + ALIGNMENT
    last = total - 1
    entries_behind = total - 1 - (first_usable - 2)
    disk_id = uuid.uuid4().bytes_le

    def header(own: int, other: int, entries_at: int) -> bytes:
        def packed(checksum: int) -> bytes:
            return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, checksum, 0, own, other, first_usable,
                               total - first_usable, disk_id, entries_at, count, ENTRY_BYTES, zlib.crc32(entries))
        return packed(zlib.crc32(packed(0))).ljust(SECTOR, b"\0")

    protective = struct.pack("<BBBBBBBBII", 0, 0, 2, 0, 0xEE, 255, 255, 255, 1, min(last, 0xFFFFFFFF))
    with open(path, "wb") as disk:
        disk.truncate(total * SECTOR)
        for offset, content in [
            (446, protective), (510, b"\x55\xaa"), (SECTOR, header(1, last, 2)), (2 * SECTOR, entries),
            (entries_behind * SECTOR, entries), (last * SECTOR, header(last, 1, entries_behind)),
        ]:
            disk.seek(offset)
            disk.write(content)
        for sector, file in places:
            disk.seek(sector * SECTOR)
            with open(file, "rb") as source:
                shutil.copyfileobj(source, disk, 1 << 20)
