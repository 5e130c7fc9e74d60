"""Golden images that no option of mkfs.erofs 1.9.4 gives: one of its images, with a change that keeps it well-formed."""
import struct, zlib
from dataclasses import dataclass, replace
from typing import Callable

from layout import Image
from trees import Node, TIME, content, lower, ordered, original, text


@dataclass(frozen=True)
class Craft:
    name: str
    options: str  # of the image that is changed; none when it is made from nothing
    source: str
    expected: str
    kernel: str
    shows: str
    change: Callable  # takes the image, or nothing, and returns the bytes
    block: int = 4096


CRAFTED = []
LINES = {b"": Node("d", 0o755), b"lines": Node("f", data=text(61, 13000)), b"short": Node("f", data=text(62, 5000))}
HOLE = {**LINES, b"lines": replace(LINES[b"lines"], data=bytes(13000))}


def craft(name, options, source, expected, kernel, shows, block=4096):
    def add(change):
        CRAFTED.append(Craft(name, options, source, expected, kernel, shows, change, block))
        return change
    return add


# ---- full index -------------------------------------------------------------------------------------------------------------------
@craft("head-2", "-zlz4:deflate -C4096 -Elegacy-compress", "lines", "lines", "6.6", "files whose second algorithm is in use")
def _(image):
    at = image.find(b"lines")
    image.put("I", image.SB + 80, image.get("I", image.SB + 80) | 8)
    header = image.map_header(at)
    image[header + 6] |= 2 << 4
    # The size of its cluster is told as HEAD2 tells it.
    image.put("H", header + 4, image.get("H", header + 4) | 4)
    first = image.index(at)
    image.put("H", first, 3)
    coder = zlib.compressobj(9, wbits=-15)
    encoded = coder.compress(LINES[b"lines"].data) + coder.flush()
    assert encoded[0] and len(encoded) <= image.block, "one extent, whose first byte is not padding"
    block = image.get("I", first + 4) * image.block
    image[block:block + image.block] = encoded.rjust(image.block, b"\0")
    return image


@craft("index-hole", "-zlz4hc -C4096 -Elegacy-compress", "lines", "lines-hole", "7.2", "hole in a full index")
def _(image):
    at = image.find(b"lines")
    image.put("I", image.u(at), 0)
    image.put("H", image.index(at), 1 | 1 << 14)
    return image


# ---- encoded extents --------------------------------------------------------------------------------------------------------------
def moved(image, path, room):
    """Appends a block of metadata with a copy of the inode at `path`, whose entry then leads there. Position of the copy."""
    at, new = image.find(path), len(image)
    directory, _, name = path.rpartition(b"/")
    entry, _ = image.entry(image.find(directory), name)
    image.extend(bytes(-(-room // image.block) * image.block))
    size = image.behind_xattrs(at) - at
    image[new:new + size] = image[at:at + size]
    image.put("Q", entry, image.nid(new))
    image.put("I", image.SB + 36, len(image) // image.block)
    return new


def sequential(image, at):
    """(length and format, address, where it begins) of extents with records of 4 bytes."""
    header = image.map_header(at)
    bits = image.get("B", header + 7) & 15
    extent = image.block << bits
    address, found = image.get("Q", header + 8), []
    for number in range(-(-image.size(at) // extent)):
        plen = image.get("I", header + 16 + 4 * number)
        found.append((plen, address, number * extent))
        address += plen & 0x1FFFFF
    return found


def with_records(form, selector):
    def change(image):
        extents = sequential(image, image.find(b"lines"))
        new = moved(image, b"lines", 512)
        header = image.map_header(new)
        # Bytes 0–3 and 6–7 are the count where the records are long.
        image.put("I", header, len(extents) if selector > 1 else 0)
        image.put("HH", header + 4, 1 | selector << 1, 0)
        size = 4 << selector
        first = -(-(header + 8) // size) * size
        for number, (plen, address, start) in enumerate(extents):
            record = struct.pack("<IQII", plen, address, start, 0)[:8] if selector == 1 else struct.pack("<IQII", plen, address, start, 0)
            image[first + number * size:first + number * size + len(record[:size])] = record[:size]
        return image
    return change


craft("extents-8", "-zzstd -C4096 -E48bit", "lines", "lines", "6.15", "encoded extents with records of 8 bytes")(with_records("8", 1))
craft("extents-32", "-zzstd -C4096 -E48bit", "lines", "lines", "6.15", "encoded extents with records of 32 bytes")(with_records("32", 3))


# ---- chunks and attributes --------------------------------------------------------------------------------------------------------
@craft("chunk-wide", "-b512 --chunksize=1024 -E48bit -Eforce-chunk-indexes", "holes", "holes", "6.15", "chunk indexes of 48 bits", 512)
def _(image):
    for _, _, name in image.entries(image.inode(image.root())):
        at = image.find(name)
        if image.layout(at) != 4:
            continue
        image.put("H", image.u(at), image.get("H", image.u(at)) | 0x40)
        first = image.behind_xattrs(at, 8)
        for number in range(-(-image.size(at) // 1024)):
            if image.get("I", first + 8 * number + 4) == 0xFFFFFFFF:
                image.put("H", first + 8 * number, 0xFFFF)
    return image


@craft("xattr-metabox", "-m4096", "nodes", "nodes-coarse", "6.17", "shared attributes in the metabox")
def _(image):
    metabox = image.inode(image.get("Q", image.SB + 128))
    size = image.size(metabox)
    data = image.data(metabox)
    assert image.layout(metabox) == 0 and data[-1] + image.block == len(image) and size % image.block == 0, "it can grow"
    # The block that holds the shared attributes, once more, at the end of the metabox.
    image.extend(image[:image.block])
    image.put("I", metabox + 8, size + image.block)
    image.put("II", image.SB + 36, len(image) // image.block, image.get("I", image.SB + 40))
    image.put("I", image.SB + 44, size // image.block)
    image.put("I", image.SB + 8, image.get("I", image.SB + 8) | 8)
    return image


# ---- large blocks -----------------------------------------------------------------------------------------------------------------
def one_block(bits, tree):
    """An image of a single block: superblock, then inodes with their data behind them. mkfs.erofs refuses blocks larger than the pages
    of the machine that built it."""
    size, inodes = 1 << bits, {}
    image, position = Image(size), 2048

    def data(path):
        node = tree[path]
        if node.kind != "d":
            return node.data
        names = {b".": path, b"..": path.rpartition(b"/")[0]}
        names |= {other.rpartition(b"/")[2]: other for other in tree if other and other.rpartition(b"/")[0] == path}
        entries, text, offset = b"", b"", 12 * len(names)
        for name, other in sorted(names.items()):
            source = original(tree, other)
            kind = {"f": 1, "d": 2, "l": 7}[tree[source].kind]
            entries += struct.pack("<QHBB", inodes.get(source, 0), offset + len(text), kind, 0)
            text += name
        return entries + text

    paths = [path for path in ordered(tree) if tree[path].kind != "h"]
    for path in paths:
        node = tree[path]
        # Sizes do not depend on where the inodes stand, so the first round only places them.
        assert not node.xattrs, "attributes are not written here"
        inodes[path] = position // 32
        position += 64 + -(-len(data(path)) // 32) * 32
    assert position <= size
    for number, path in enumerate(paths, 1):
        node, body, at = tree[path], data(path), inodes[path] * 32
        links = sum(original(tree, other) == path for other in tree)
        if node.kind == "d":
            links = 2 + sum(1 for other in tree if other and tree[other].kind == "d" and other.rpartition(b"/")[0] == path)
        kind = {"f": 0o100000, "d": 0o040000, "l": 0o120000}[node.kind]
        # Extended, flat inline; empty ones plain.
        image.put("HHHHQIIIIQII", at, 1 | (2 << 1 if body else 0), 0, kind | node.mode, 0, len(body), 0xFFFFFFFF if body else 0, number,
                  *node.owner, *node.mtime, links)
        image[at + 64:at + 64 + len(body)] = body
    image.put("IIIBBHQQIIII", 1024, 0xE0F5E1E2, 0, 1, bits, 0, inodes[b""], len(paths), TIME, 0, 1, 0, 0)
    return image


PLAIN = {path: replace(node, xattrs={}) for path, node in lower().items()}
craft("block-65536", "", "", "lower-plain", "5.4", "blocks of 64 KiB, for kernels with pages as large", 65536)(lambda: one_block(16, PLAIN))
CRAFTED_TREES = {"lines": LINES}
CRAFTED_EXPECTED = {"lines": LINES, "lines-hole": HOLE, "lower-plain": PLAIN}
