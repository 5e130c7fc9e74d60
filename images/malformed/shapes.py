"""What is made wrong in which image, the pitfall that it stands for, and what a reader must say."""
import struct
from dataclasses import dataclass
from typing import Callable

from trees import Node, acl, noise, text

SHARED = {b"user.shared": b"by three inodes"}
FEW = {
    b"": Node("d", 0o755),
    b"dir": Node("d", 0o755),
    b"dir/a": Node("f", data=b"a\n", xattrs=SHARED),
    b"dir/b": Node("f", data=text(53, 700), xattrs=SHARED),
    b"dir/sub": Node("d", 0o755, xattrs=SHARED),
    b"dir/sub/leaf": Node("f", data=b"leaf\n"),
    b"link": Node("l", 0o777, data=b"dir/a"),
    b"own": Node("f", data=b"own\n", xattrs={b"user.own": b"of one inode", b"user.two": b"2"}),
}
TREES = {
    "few": FEW,
    "tail": {b"": Node("d", 0o755), b"tail": Node("f", data=text(54, 4396))},
    "data": {b"": Node("d", 0o755), b"data": Node("f", data=text(51, 13000)), b"short": Node("f", data=text(55, 5000))},
    "mixed": {b"": Node("d", 0o755), b"data": Node("f", data=text(51, 9000) + noise(52, 4200))},
}
BASES = {
    "plain": ("few", ""),
    "tail": ("tail", ""),
    "small": ("few", "-b512"),
    "chunk": ("tail", "--chunksize=4096 -Eforce-chunk-indexes"),
    "prefix": ("few", "--xattr-prefix=user."),
    "metabox": ("few", "-m4096"),
    "lz4": ("data", "-zlz4hc -C4096"),
    "lz4-full": ("data", "-zlz4hc -C4096 -Elegacy-compress"),
    "lz4-big": ("data", "-zlz4 -C16384"),
    "lz4-mixed": ("mixed", "-zlz4hc -C4096 -Elegacy-compress"),
    "lz4-512": ("data", "-b512 -zlz4hc -C512"),
    "lz4-tail": ("data", "-zlz4hc -C4096 -Elegacy-compress,ztailpacking"),
    "fragments": ("data", "-zlz4hc -C4096 -Efragments"),
    "lzma": ("data", "-zlzma -C4096 -Elegacy-compress"),
    "deflate": ("data", "-zdeflate -C4096 -Elegacy-compress"),
    "zstd": ("data", "-zzstd -C4096 -Elegacy-compress"),
    "48bit": ("data", "-zzstd -C4096 -E48bit"),
}
SB = 1024


@dataclass(frozen=True)
class Shape:
    name: str
    base: str
    pitfall: str
    error: str  # part of what our reader says; "-" when it reads as the kernel does
    path: str  # where it says so: a path, "." for the root, "mount" when it opens nothing
    change: Callable
    seal: bool = True


SHAPES = []


def shape(name, base, pitfall, path, error, seal=True):
    def add(change):
        SHAPES.append(Shape(name, base, pitfall, error, path, change, seal))
        return change
    return add


def superblock(name, base, pitfall, error, form, at, value, seal=True):
    shape(f"superblock-{name}", base, pitfall, "mount", error, seal)(lambda image: image.put(form, SB + at, value))


# ---- superblock -------------------------------------------------------------------------------------------------------------------
superblock("magic", "plain", "no magic number", "no EROFS magic at byte", "I", 0, 0xE0F5E1E3)
superblock("checksum", "plain", "wrong checksum", "superblock checksum is", "I", 4, 0x12345678, seal=False)
superblock("block-bits-0", "plain", "blocks of one byte", "is not one of", "B", 12, 0)
superblock("block-bits-31", "plain", "shift beyond 32 bits", "is not one of", "B", 12, 31)
shape("superblock-extension-slots", "plain", "superblock longer than a page of 4 KiB (kernel: EINVAL on such pages)", ".", "-")(
    lambda image: image.put("B", SB + 13, 255))
superblock("unknown-feature", "plain", "unknown incompatible feature", "unknown incompatible features", "I", 80, 0x80000000)
superblock("root-outside", "plain", "root behind the end", "on end behind device", "H", 14, 0xFFFF)
superblock("directory-blocks", "plain", "directory blocks of another size", "dirblkbits is", "B", 90, 1)
superblock("meta-block", "plain", "inode positions beyond 32 bits", "on end behind device", "I", 40, 0xFFFFFFFF)
superblock("algorithms", "lz4-big", "unknown algorithm", "algorithm bitmap", "H", 84, 0x8001)
superblock("no-configuration", "zstd", "configurations of algorithms that are not there", "configuration needs", "H", 84, 0x000F)
superblock("packed-outside", "fragments", "packed inode behind the end", "on end behind device", "Q", 96, 0x7FFFFFFFFFFF)
superblock("metabox-itself", "metabox", "metabox inside of the metabox", "lies in the metabox", "Q", 128, 1 << 63)
superblock("prefixes-outside", "prefix", "long prefixes behind the end", "on end behind device", "I", 92, 0x7FFFFFFF)


def devices(image, count):
    """A device table of zeros."""
    image.put("I", SB + 80, image.get("I", SB + 80) | 8)
    image.put("HH", SB + 86, count, 2048 // 128)


@shape("superblock-devices", "chunk", "device table of 8 MiB in a small image", "mount", "on end behind device")
def _(image):
    devices(image, 0xFFFF)


# ---- inodes -----------------------------------------------------------------------------------------------------------------------
def inode(name, base, pitfall, path, error, form, at, value):
    """Changes the field `at` bytes into the inode at `path`."""
    shape(f"inode-{name}", base, pitfall, path, error)(lambda image: image.put(form, image.find(path.encode()) + at, value))


inode("format-reserved", "plain", "reserved bits of the format", "dir/a", "has unknown bits", "H", 0, 0xFF04)
inode("layout-5", "plain", "data layout that does not exist", "dir/a", "data layout", "H", 0, 5 << 1)
inode("no-type", "plain", "mode without a file type", "dir/a", "has no valid file type", "H", 4, 0o644)
inode("no-links", "plain", "link count of 0", "dir/a", "-", "H", 6, 0)
inode("inline-across-blocks", "plain", "inline data that leaves its block (kernel: EFSCORRUPTED)", "dir/b", "bytes crosses a block boundary", "I", 8, 4095)
inode("size-4g", "plain", "4 GiB in an image of 4 KiB: truncated to 32 bits, plus 1, it is 0 (symlink i_size + 1, 2026-06)", "link", "symbolic link of", "I", 8, 0xFFFFFFFF)
inode("size-flat", "tail", "data far behind the end", "tail", "on end behind device", "I", 8, 0xFFFFF001)
inode("start-outside", "tail", "data behind the end", "tail", "on end behind device", "I", 16, 0xFFFFFFF0)
inode("symlink-directory", "plain", "symlink whose data are an inode's", "link", "-", "I", 8, 4)
inode("directory-size-0", "plain", "directory without entries, not even \"..\"", "dir", "-", "I", 8, 0)
inode("directory-size-11", "plain", "directory shorter than an entry", "dir", "is not a multiple of", "I", 8, 11)
inode("xattr-count-1", "plain", "attribute header without attributes", "own", "bytes holds nothing", "H", 2, 1)
inode("xattr-count-65535", "plain", "256 KiB of attributes in an image of 4 KiB", "own", "on end behind device", "H", 2, 65535)


@shape("inode-size-negative", "lz4-full", "size of 2^63: negative for the kernel", "data", "is larger than")
def _(image):
    at = image.find(b"data")
    # As an extended inode; its index is then what follows, whatever that is.
    image[at] |= 1
    image.put("Q", at + 8, 1 << 63)


@shape("inode-size-2-62", "lz4-full", "size of 2^62 bytes over an index that ends at once (extents beyond any memory, CVE-2023-33552)", "data", "big pclusters without the superblock's feature bit")
def _(image):
    at = image.find(b"data")
    image[at] |= 1
    image.put("Q", at + 8, 1 << 62)


@shape("inode-symlink-size-max", "plain", "symlink of 2^64 - 1 bytes: with room for a NUL it is 0 (2026-06)", "link", "is larger than")
def _(image):
    at = image.find(b"link")
    image[at] |= 1
    image.put("Q", at + 8, (1 << 64) - 1)


@shape("inode-symlink-nul", "plain", "NUL in a symlink's target", "link", "symbolic link with a NUL at byte")
def _(image):
    image[image.behind_xattrs(image.find(b"link")) + 2] = 0


@shape("inode-of-zeros", "plain", "inode in unused space", "dir/a", "has no valid file type")
def _(image):
    at, _ = image.entry(image.find(b"dir"), b"a")
    image.put("Q", at, (image.block - 64) // 32)


# ---- directories ------------------------------------------------------------------------------------------------------------------
def dirent(name, pitfall, path, error, of, form, at, value, base="plain"):
    """Changes the field `at` bytes into the entry `of` of `dir`."""
    shape(f"directory-{name}", base, pitfall, path, error)(lambda image: image.put(form, image.entry(image.find(b"dir"), of)[0] + at, value))


def renamed(name, pitfall, path, error, of, to):
    def change(image):
        at = image.entry(image.find(b"dir"), of)[1]
        image[at:at + len(to)] = to
    shape(f"directory-{name}", "plain", pitfall, path, error)(change)


dirent("name-offset-0", "first name offset 0: no entries at all", "dir", "is not a multiple of", b".", "H", 8, 0)
dirent("name-offset-13", "first name offset that is no multiple of 12", "dir", "is not a multiple of", b".", "H", 8, 13)
dirent("name-offset-outside", "name offset behind the block (kernel, 2026-04)", "dir", "in a block of", b"b", "H", 8, 0xFFFF)
dirent("name-offset-back", "name offsets that go back", "dir", "in a block of", b"b", "H", 8, 12)
dirent("many-entries", "more entries than fit the directory", "dir", "is not a multiple of", b".", "H", 8, 4092)
dirent("nid-outside", "entry whose inode lies behind the end", "dir/a", "on end behind device", b"a", "Q", 0, 0x7FFFFFFFFFFF)
dirent("nid-overflow", "inode position beyond 64 bits", "dir/a", "position overflows", b"a", "Q", 0, (1 << 59) + 5)
dirent("nid-metabox", "inode in a metabox that is not there", "dir/a", "inode in the metabox of an image without one", b"a", "Q", 0, 1 << 63)
dirent("wrong-type", "entry of another type than its inode", "dir/a", "-", b"a", "B", 10, 2)
dirent("unknown-type", "entry of a type that does not exist", "dir/a", "-", b"a", "B", 10, 255)
renamed("slash", "name that leaves the directory where it is extracted (2023-09)", "dir", "name contains", b"sub", b"../")
renamed("slash-inside", "name with a slash", "dir", "name contains", b"sub", b"s/b")
renamed("nul-inside", "name with a NUL", "dir", "-", b"sub", b"s\0b")
renamed("duplicate", "a name twice (1.7)", "dir/a", "-", b"b", b"a")
renamed("unsorted", "unsorted names: listed, but not found", "dir", "-", b"a", b"z")
renamed("second-dot", "a second \".\"", "dir", "-", b"a", b".")


@shape("directory-itself", "plain", "directory inside of itself: endless (CVE-2023-33551, issue 15, 2026-06)", "dir/sub", "contains itself")
def _(image):
    at, _ = image.entry(image.find(b"dir"), b"sub")
    image.put("Q", at, image.nid(image.find(b"dir")))


@shape("directory-root-below", "plain", "root inside of a directory: endless", "dir/sub/leaf", "contains itself")
def _(image):
    at, _ = image.entry(image.find(b"dir/sub"), b"leaf")
    image.put("Q", at, image.root())


@shape("directory-linked", "plain", "directory of two names (1.7)", "own", "was already reached by another name")
def _(image):
    at, _ = image.entry(image.find(b""), b"own")
    image.put("Q", at, image.nid(image.find(b"dir/sub")))


@shape("directory-parent", "plain", "\"..\" that leads elsewhere", "dir", "-")
def _(image):
    at, _ = image.entry(image.find(b"dir"), b"..")
    image.put("Q", at, image.nid(image.find(b"dir/sub")))


@shape("directory-of-holes", "chunk", "directory of 2 GiB, all holes: 10^9 entries of nothing", ".", "is not a multiple of")
def _(image):
    # The file becomes the root: one chunk of 2 GiB, a hole.
    at = image.find(b"tail")
    image.put("H", at + 4, 0o40755)
    image.put("H", image.u(at), 0x20 | 19)
    image.put("I", at + 8, 0x7FFFFFFF)
    image.put("I", image.behind_xattrs(at, 8), 0xFFFFFFFF)
    image.put("I", image.behind_xattrs(at, 8) + 4, 0xFFFFFFFF)
    image.put("H", SB + 14, image.nid(at))


# ---- attributes -------------------------------------------------------------------------------------------------------------------
def xattr(name, pitfall, path, error, form, at, value, base="plain"):
    """Changes the field `at` bytes into the attributes of `path`: header of 12 bytes, shared ids, entries of 4 bytes and more."""
    shape(f"xattr-{name}", base, pitfall, path, error)(lambda image: image.put(form, image.xattrs(image.find(path.encode())) + at, value))


xattr("shared-count", "more shared attributes than fit", "dir/a", "shared xattr ids do not fit a body of", "B", 4, 255)
xattr("shared-outside", "shared attribute behind the end", "dir/a", "on end behind device", "I", 12, 0x3FFFFFFF)
xattr("name-long", "name longer than the attributes", "own", "are left in the body", "B", 12, 255)
xattr("value-long", "value longer than the attributes", "own", "are left in the body", "H", 14, 65535)
xattr("unknown-namespace", "attribute of no known namespace", "own", "-", "B", 13, 7)
xattr("prefix-outside", "long prefix that is not there", "own", "-", "B", 13, 0xFF, base="prefix")
xattr("filter", "name filter that hides what is there", "own", "-", "I", 0, 0xFFFFFFFF)


# ---- chunks -----------------------------------------------------------------------------------------------------------------------
inode("chunk-reserved", "chunk", "reserved bits of the chunk format", "tail", "has unknown bits", "H", 16, 0x0180)
inode("chunk-bits", "chunk", "chunks of 2^43 bytes", "tail", "-", "H", 16, 0x20 | 31)


def chunk(name, pitfall, error, form, at, value):
    shape(f"chunk-{name}", "chunk", pitfall, "tail", error)(lambda image: image.put(form, image.behind_xattrs(image.find(b"tail"), 8) + at, value))


chunk("outside", "chunk behind the end", "on end behind device", "I", 4, 0x7FFFFFFF)
chunk("hole", "hole where data was", "-", "I", 4, 0xFFFFFFFF)


@shape("chunk-device", "chunk", "device 3 of two", "tail", "device 3 of 2")
def _(image):
    devices(image, 2)
    image.put("H", image.behind_xattrs(image.find(b"tail"), 8) + 2, 3)


@shape("chunk-size", "chunk", "2^63 - 1 bytes: 2^51 chunks", "tail", "on end behind device")
def _(image):
    at = image.find(b"tail")
    image[at] |= 1
    image.put("Q", at + 8, (1 << 63) - 1)


# ---- compression ------------------------------------------------------------------------------------------------------------------
def header(name, base, pitfall, error, form, at, value, path="data"):
    shape(f"map-{name}", base, pitfall, path, error)(lambda image: image.put(form, image.map_header(image.find(path.encode())) + at, value))


def index(name, base, pitfall, error, form, at, value):
    """Changes the index of `data`, `at` bytes from its first record on."""
    shape(f"index-{name}", base, pitfall, "data", error)(lambda image: image.put(form, image.index(image.find(b"data")) + at, value))


header("algorithm-4", "lz4", "algorithm that does not exist", "is unknown", "B", 6, 4)
header("algorithm-off", "zstd", "algorithm that the superblock does not name", "lzma is not among the algorithms of the superblock", "B", 6, 1)
header("big-pcluster", "lz4", "big pclusters in an image without", "big pclusters without the superblock's feature bit", "H", 4, 7)
header("big-pcluster-half", "lz4-big", "big pclusters for one head only in a compact index", "big-pcluster bits of a compact index differ: advise", "H", 4, 3)
header("cluster-bits", "lz4-full", "lclusters of 128 MiB", "-", "B", 7, 15)
header("cluster-bits-compact", "lz4", "lclusters too large for a compact index", "bytes are too large for this compact index", "B", 7, 3)
header("inline-size-0", "lz4-tail", "inline tail of no bytes", "lz4 data is corrupt", "H", 2, 0)
header("inline-across-blocks", "lz4-tail", "inline tail that leaves its block", "bytes crosses a block boundary", "H", 2, 4096)
header("fragment-outside", "fragments", "fragment behind the end of the packed inode (2026-06)", "of a packed inode of", "I", 0, 0x7FFFFFFF)
header("fragment-without-packed", "lz4-full", "fragment in an image without a packed inode", "fragment in an image without a packed inode", "H", 4, 0x20)
header("extents-zero", "48bit", "encoded extents of which there are none: a hole", "-", "H", 4, 7)

index("first-not-head", "lz4-full", "index that does not begin with a head", "look-back distance", "H", 0, 2)
index("look-back-0", "lz4-full", "distance of 0 to the head: endless where reading begins there", "-", "H", 12, 0)
index("look-back-outside", "lz4-full", "head in front of the file, met where reading begins there", "-", "H", 12, 0x7FF)
index("cluster-offset", "lz4-full", "extent that begins behind its lcluster", "of an lcluster, behind its end", "H", 2, 4096)
index("block-outside", "lz4-full", "pcluster behind the end", "on end behind device", "I", 4, 0xFFFFFFF0)
index("block-metadata", "lz4-full", "pcluster that is the metadata (overlapping ones: CVE-2024-47736)", "lz4 data is corrupt", "I", 4, 0)
index("type-plain", "lz4-full", "encoded cluster read as plain: more bytes than it has", "plain bytes in a pcluster of", "H", 0, 0)
index("type-head-2", "lz4-full", "second head of another algorithm", "-", "H", 0, 3)
index("big-0", "zstd", "big pcluster of no blocks", "-", "H", 12, 0x800)
index("big-2047", "zstd", "pcluster of 8 MiB", "bytes, at most", "H", 12, 0x800 | 2047)
index("compact-base", "lz4", "compact pack whose base lies behind the end", "on end behind device", "I", 4, 0xFFFFFFF0)
index("compact-not-head", "lz4", "compact index that does not begin with a head", "look-back distance", "H", 0, 0x2000)
index("compact-look-back", "lz4", "compact index whose look-back is endless", "of a pack holds a pcluster size without the big-pcluster bits", "H", 2, 0x2FFF)
index("compact-big-0", "lz4-big", "compact index with a big pcluster of no blocks", "-", "H", 2, 0x2800)
index("extent-long", "48bit", "encoded extent of 2 MiB", "encoded bytes, at most", "I", 8, 0x401FFFFF)
index("extent-algorithm", "48bit", "encoded extent of an unknown algorithm", "extent format", "I", 8, 0xF0000300)
index("extent-hole", "48bit", "encoded extent of no bytes: a hole", "-", "I", 8, 0)


index("pclusters-overlap", "zstd", "pcluster that goes on into the next one (CVE-2024-47736)", "-", "H", 12, 0x802)
index("compact-512-look-back-0", "lz4-512", "compact index of blocks of 512 bytes with a distance of 0 to the head (2025)", "decodes to", "H", 8, 0x2000)


@shape("index-interlaced-long", "lz4-mixed", "interlaced plain data longer than its pcluster (2025)", "data", "plain bytes in a pcluster of")
def _(image):
    at = image.find(b"data")
    header = image.map_header(at)
    image.put("H", header + 4, image.get("H", header + 4) | 0x10)
    image.put("H", image.index(at), 0)


def payload(name, base, pitfall, error, change):
    """Changes the first pcluster of `data`."""
    def apply(image):
        start = image.get("I", image.index(image.find(b"data")) + 4) * image.block
        change(image, start + next(n for n, byte in enumerate(image[start:start + image.block]) if byte))
    shape(f"payload-{name}", base, pitfall, "data", error)(apply)


def cut(image, start):
    """The encoded bytes vanish."""
    image[start:start + image.block - start % image.block] = bytes(image.block - start % image.block)


def flip(image, start):
    image[start + 40] ^= 0xFF


payload("lz4-zeros", "lz4-full", "pcluster of zeros alone: no encoded byte", "nothing but zeros where encoded data begins", cut)
payload("lz4-offset", "lz4-full", "LZ4 match in front of the beginning (in-place underflow, 7.1)", "lz4 data is corrupt",
        lambda image, at: image.put("BBH", at, 0x0F, 0xFF, 0xFFFF))
payload("lzma-flip", "lzma", "broken LZMA", "lzma data is corrupt", flip)
payload("lzma-properties", "lzma", "LZMA properties that do not exist", "lzma header: properties out of range", lambda image, at: image.put("B", at, 0x01))
payload("deflate-type", "deflate", "DEFLATE block of type 3", "deflate data is corrupt", lambda image, at: image.put("B", at, 0x07))
payload("deflate-flip", "deflate", "broken DEFLATE", "deflate data is corrupt", flip)
payload("zstd-magic", "zstd", "no Zstd frame (\"Unknown frame descriptor\", issue 23)", "zstd header: wrong magic", lambda image, at: image.put("B", at, 0x29))
payload("zstd-window", "zstd", "Zstd window of 3.75 TiB", "bytes, at most", lambda image, at: image.put("BB", at + 4, 0x00, 0xFF))
payload("zstd-flip", "zstd", "broken Zstd", "cut off after decoding", lambda image, at: image.put("B", at + 8, 0xFF))
payload("zstd-literal", "zstd", "changed literal, which nothing notices", "-", flip)


@shape("packed-in-packed", "fragments", "packed inode whose data is in itself: endless", "data", "fragment in the packed inode itself")
def _(image):
    packed = image.packed()
    image[packed] = image[packed] & ~0x0E | 1 << 1
    image.put("Q", image.map_header(packed), 1 << 63)


@shape("bomb", "lz4-full", "extents that all decode the same pcluster: 250 times its size", "data", "-")
def _(image):
    at = image.find(b"data")
    first = image.index(at)
    count = (image.block - first % image.block) // 8
    for n in range(count):
        image.put("HHI", first + 8 * n, 1 | 0x8000, 0, 1)
    image.put("I", at + 8, count * image.block)
