"""Which options of mkfs.erofs 1.9.4 make which golden image of which tree, and what it must show."""
import hashlib, struct
from dataclasses import dataclass, replace

from trees import TIME, WHITEOUT, aufs, content, each, holes, large, lower, merged, no_xattrs, nodes, ordered, separate, upper, without


@dataclass(frozen=True)
class Case:
    name: str
    options: str
    source: str  # the tree, the archive, or images made before; several are separated by spaces
    shows: str
    kernel: str = "5.4"  # the first that reads it
    expected: str = ""  # listing; that of the source when empty
    devices: tuple = ()  # files beside the image, in the order of its device table
    before: tuple = ()  # runs that make what this one starts from: (options, image, source)
    block: int = 4096


# ---- sources and what images of them show -----------------------------------------------------------------------------------------
ORIGIN = {b"trusted.overlay.origin": b""}  # mkfs.erofs marks the directory of a whiteout so
OPAQUE = {b"trusted.overlay.opaque": b"y"}
LABEL = b"system_u:object_r:golden_t:s0"


def tarred(tree):
    """Without what a tar cannot hold."""
    return without(tree, lambda _, node: node.kind == "s")


def coarse(tree):
    """Times as compact inodes of the 48-bit layout keep them, by a mistake of mkfs.erofs 1.9.4: 32 bits of seconds alone."""
    return each(tree, lambda _, node: replace(node, mtime=(node.mtime[0] % 2**32, 0)))


def emptied(tree):
    """Zeros where the content is still to come."""
    return each(tree, lambda _, node: replace(node, data=bytes(len(node.data))) if node.kind == "f" else node)


def with_root(tree, **changes):
    return {**tree, b"": replace(tree[b""], **changes)}


def marked(tree, name):
    """With the digest of every file in an attribute."""
    def mark(_, node):
        value = b"sha256:" + hashlib.sha256(node.data).digest() if node.kind == "f" else None
        return replace(node, xattrs={**node.xattrs, name: value}) if value else node
    return each(tree, mark)


def labelled(tree):
    return each(tree, lambda _, node: replace(node, xattrs={**node.xattrs, b"security.selinux": LABEL}))


def owned(tree, change):
    return each(tree, lambda _, node: replace(node, owner=change(*node.owner)))


def stripped(tree):
    """Without the attributes of overlayfs."""
    def strip(_, node):
        return replace(node, xattrs={key: value for key, value in node.xattrs.items() if not key.startswith(b"trusted.overlay.")})
    return each(tree, strip)


def verity(data):
    """Digest of fs-verity: SHA-256, blocks of 4 KiB, no salt."""
    blocks = [data[at:at + 4096] for at in range(0, len(data), 4096)]
    level = [hashlib.sha256(block.ljust(4096, b"\0")).digest() for block in blocks]
    while len(level) > 1:
        pages = [b"".join(level[at:at + 128]) for at in range(0, len(level), 128)]
        level = [hashlib.sha256(page.ljust(4096, b"\0")).digest() for page in pages]
    root = level[0] if level else bytes(32)
    return hashlib.sha256(struct.pack("<BBBBIQ", 1, 1, 12, 0, 0, len(data)) + root.ljust(64, b"\0") + bytes(176)).digest()


def composed(tree):
    """As mkcomposefs writes it: no content of files above 64 bytes but where overlayfs finds it, and a whiteout for each of the names that
    their store has at the top."""
    def compose(_, node):
        if node.kind != "f" or len(node.data) <= 64:
            return node
        digest = verity(node.data)
        where = digest.hex()
        told = {b"trusted.overlay.metacopy": struct.pack("BBBB", 0, 36, 0, 1) + digest,
                b"trusted.overlay.redirect": f"/{where[:2]}/{where[2:]}".encode()}
        return replace(node, data=bytes(len(node.data)), xattrs={**node.xattrs, **told})
    store = {b"%02x" % n: replace(WHITEOUT, mode=0o644) for n in range(256)}
    return {**store, **with_root(each(separate(tree), compose), xattrs=OPAQUE)}


BOTH = merged(lower(), upper())
GROWN = {**lower(), **upper()}  # an increment only adds
ABOVE = without(aufs(), lambda path, _: b".wh." in path)

SOURCES = {
    "nodes": nodes(), "content": content(), "large": large(), "holes": holes(), "lower": lower(), "upper": upper(),
    "nodes.tar": tarred(nodes()), "content.tar": content(), "lower.tar": lower(), "upper.tar": upper(), "aufs.tar": aufs(),
    "lower.headers": lower(),
}
EXPECTED = {
    "nodes": nodes(), "content": content(), "large": large(), "holes": holes(), "lower": lower(),
    "nodes-tar": tarred(nodes()),
    "nodes-coarse": coarse(nodes()),
    "nodes-no-xattrs": no_xattrs(nodes()),
    "content-coarse": coarse(content()),
    "lower-owners": owned(lower(), lambda uid, gid: (77 + 100000, gid + 200000)),
    "lower-excluded": without(lower(), lambda path, _: path == b"kept" or path.startswith(b"only")),
    "lower-separate": separate(lower()),
    "lower-empty": emptied(lower()),
    "lower-digests": marked(lower(), b"user.digest"),
    "lower-labels": labelled(lower()),
    "upper": with_root(upper(), xattrs=ORIGIN),
    "upper-tar": upper(),
    "upper-stripped": stripped(without(upper(), lambda path, node: node == WHITEOUT)),
    "aufs": {**ABOVE, b"": replace(ABOVE[b""], xattrs=ORIGIN), b"removed": WHITEOUT, b"hidden": replace(ABOVE[b"hidden"], xattrs=OPAQUE)},
    "merged": with_root(BOTH, mode=0o777, xattrs=ORIGIN),
    "merged-empty": emptied(with_root(BOTH, mode=0o777, xattrs=ORIGIN)),
    "merged-stripped": stripped(with_root(without(BOTH, lambda path, node: node == WHITEOUT), mode=0o777)),
    "grown": with_root(GROWN, xattrs=ORIGIN),
    "grown-tar": GROWN,
    "composefs": composed(lower()),
}
RECIPES = {
    # Bytes of a cluster, which files. (A number of an algorithm between them makes mkfs.erofs 1.9.4 crash.)
    "sizes.hints": "4096 text\n8192 sub/\n65536 mixed\n",
    "contexts": "/.* system_u:object_r:golden_t:s0\n/ system_u:object_r:golden_t:s0\n",
}

# ---- cases ------------------------------------------------------------------------------------------------------------------------
CASES = [
    Case("plain", "", "nodes", "compact and extended inodes, inline tails, shared attributes"),
    Case("plain-noinline", "-Enoinline_data", "lower", "no inline data of files"),
    Case("plain-compact", "-Eforce-inode-compact", "lower", "compact inodes only"),
    Case("plain-extended", "-Eforce-inode-extended", "nodes", "extended inodes only"),
    Case("plain-nosbcrc", "-Enosbcrc", "lower", "no checksum"),
    Case("plain-label", "-L fifteen-letters", "lower", "longest volume name of 1.9.4"),
    Case("plain-align", "--fsalignblks=4 --dsunit=2", "lower", "data aligned to 8 KiB, the image to 16 KiB"),
    Case("plain-root-isize", "--root-xattr-isize=300", "lower", "padding in the attributes of the root"),
    Case("plain-dereference", "--hard-dereference", "lower", "an inode for every name", expected="lower-separate"),
    Case("plain-excluded", "--exclude-path=kept --exclude-regex=^only", "lower", "files left out", expected="lower-excluded"),
    Case("plain-owners", "--force-uid=77 --uid-offset=100000 --gid-offset=200000", "lower", "owners beyond 16 bits", expected="lower-owners"),
    Case("plain-whiteouts", "", "upper", "whiteout, opaque directory, mark of a merged one", expected="upper"),
    Case("plain-stripped", "--ovlfs-strip=1", "upper", "the same without marks of overlayfs", expected="upper-stripped"),
    Case("xattr-none", "-x-1", "nodes", "no attributes", expected="nodes-no-xattrs"),
    Case("xattr-shared", "-x0", "nodes", "every attribute shared"),
    Case("xattr-inline", "-x255", "nodes", "attributes of few inodes inline"),
    Case("xattr-filter", "-Exattr-name-filter", "nodes", "name filter", kernel="6.6"),
    Case("xattr-no-filter", "-E^xattr-name-filter", "nodes", "no name filter"),
    Case("xattr-prefix", "--xattr-prefix=user.erofs. --xattr-prefix=trusted.overlay.", "nodes", "long prefixes on the device", kernel="6.4"),
    Case("xattr-prefix-packed", "-zlz4hc -Efragments --xattr-prefix=user.erofs. --xattr-prefix=trusted.", "nodes",
         "long prefixes in the packed inode", kernel="6.4"),
    Case("xattr-prefix-metabox", "-m4096 --xattr-prefix=user.layer --xattr-prefix=trusted.", "lower",
         "long prefixes in the metabox", kernel="6.17"),
    Case("xattr-prefix-plain", "-zlz4hc -Efragments,plain-xattr-prefixes --xattr-prefix=user.erofs.", "nodes",
         "long prefixes on the device though there is a packed inode", kernel="6.17"),
    Case("xattr-fingerprint", "--xattr-inode-digest", "lower", "fingerprints for page-cache sharing", kernel="6.4"),
    Case("xattr-digest", "--xattr-inode-digest=user.digest", "lower", "fingerprints under a visible name", kernel="6.4", expected="lower-digests"),
    Case("xattr-label", "--file-contexts=contexts", "lower", "labels of SELinux", expected="lower-labels"),
    Case("48bit", "-E48bit", "nodes", "48-bit layout", kernel="6.15", expected="nodes-coarse"),
    Case("48bit-extended", "-E48bit,force-inode-extended", "nodes", "48-bit layout in extended inodes", kernel="6.15"),
    Case("48bit-dot-omitted", "-Edot-omitted", "nodes", "directories without \".\"", kernel="6.15", expected="nodes-coarse"),
    Case("metabox", "-m4096", "nodes", "inodes in the metabox", kernel="6.17", expected="nodes-coarse"),
    Case("metabox-zone", "-m4096 --MZ=id", "lower", "inodes and directories in the metabox, root too", kernel="6.17"),
    Case("metabox-lz4", "-m4096:lz4hc", "nodes", "compressed metabox", kernel="6.17", expected="nodes-coarse"),
    Case("metabox-zstd", "-zzstd -C16384 -m16384 --zD -x255", "nodes", "compressed metabox of 16 KiB clusters and directories", kernel="6.17",
         expected="nodes-coarse"),
    Case("metabox-fragments", "-zlzma -C16384 -Eall-fragments -m4096 --xattr-prefix=user.erofs.", "nodes", "metabox and packed inode",
         kernel="6.17", expected="nodes-coarse"),
    Case("zone-inodes", "--MZ=id", "nodes", "metadata zone without compression", kernel="6.17"),
    Case("chunk", "--chunksize=4096", "holes", "chunk indexes, holes, equal chunks", kernel="5.15"),
    Case("chunk-map", "--chunksize=4096 -Eforce-inode-blockmap", "holes", "block maps", kernel="5.15"),
    Case("chunk-indexes", "--chunksize=4096 -Eforce-chunk-indexes", "holes", "chunk indexes where block maps would do", kernel="5.15"),
    Case("chunk-blob", "--chunksize=4096 --blobdev=data.written", "holes", "chunks on another device", kernel="5.16", devices=("data.written",)),
    Case("zdir-lz4", "-zlz4hc --zD", "nodes", "compressed directories", kernel="6.1"),
    Case("zdir-fragments", "-zzstd -C16384 --zD -Eall-fragments", "nodes", "compressed directories, all in the packed inode", kernel="6.10"),
    Case("hints", "-zlz4hc -C65536 --compress-hints=sizes.hints", "content", "cluster size by file", kernel="5.13"),
    Case("four-algorithms", "-zlz4:lzma:deflate:zstd -C16384", "content", "four algorithms configured, one used", kernel="6.10"),
    Case("lz4-ancient", "-zlz4 -E^48bit,nosbcrc -C4096", "lower", "as for the oldest kernels", kernel="5.4"),
    Case("lz4-extents", "-b512 -zlz4hc --max-extent-bytes=4096", "content", "extents of 4 KiB at most", kernel="6.8", block=512),
    Case("lz4-1m", "-zlz4hc -C1048576", "large", "largest pclusters", kernel="5.13"),
    Case("zstd-1m", "-zzstd,level=19 -C1048576", "large", "largest pclusters", kernel="6.10"),
    Case("lzma-64k", "-zlzma,level=109,dictsize=131072 -C65536", "large", "dictionary of 128 KiB", kernel="5.16"),
    Case("lzma-lc-lp", "-zlzma,lc=1,lp=3,pb=1 -C16384", "content", "other properties of LZMA", kernel="5.16"),
    Case("tar", "--tar=f", "nodes.tar", "a tar", expected="nodes-tar"),
    Case("tar-zstd", "--tar=f -zzstd -C16384 -Eall-fragments", "content.tar", "a tar, compressed", kernel="6.10", expected="content"),
    Case("tar-unsorted", "-b1024 --tar=f --sort=none -Enoinline_data", "lower.tar", "data in the order of the tar", kernel="6.4", block=1024, expected="lower"),
    Case("tar-chunk", "-b1024 --tar=f --chunksize=1024", "lower.tar", "a tar as chunks", kernel="6.4", block=1024, expected="lower"),
    Case("tar-gzip", "--tar=f --ungzip", "lower.tar.gz", "a tar in gzip", expected="lower"),
    Case("tar-whiteouts", "--tar=f --xattr-prefix=trusted.overlay.", "upper.tar", "whiteouts of overlayfs", kernel="6.4", expected="upper-tar"),
    Case("tar-aufs", "--tar=f --aufs", "aufs.tar", "whiteouts of AUFS", expected="aufs"),
    Case("tar-index", "--tar=i", "lower.tar", "index whose device is the tar", kernel="6.4", expected="lower", devices=("lower.tar",), block=512),
    Case("tar-reserved", "-b1024 --tar=f --clean=rvsp", "lower.tar", "space for data that is to come", kernel="6.4", block=1024, expected="lower-empty"),
    Case("tar-map", "-b1024 --tar=i,map.written", "lower.tar", "the same by an index", kernel="6.4", block=1024, expected="lower-empty"),
    Case("tar-headers", "--tar=headerball", "lower.headers", "headers without data", expected="lower-empty", kernel="5.15"),
    Case("merge", "-b1024", "lower.written upper.written", "metadata whose devices are images, the upper one last", kernel="6.4", block=1024, expected="merged",
         devices=("lower.written", "upper.written"),
         before=(("-b1024 -Enoinline_data", "lower.written", "lower"), ("-b1024 -Enoinline_data", "upper.written", "upper"))),
    Case("merge-data", "-b1024 --clean=data", "lower.written upper.written", "the same with the data", kernel="6.4", block=1024, expected="merged",
         before=(("-b1024 -Enoinline_data", "lower.written", "lower"), ("-b1024 -Enoinline_data", "upper.written", "upper"))),
    Case("merge-reserved", "-b1024 --clean=rvsp", "lower.written upper.written", "the same with space for the data", kernel="6.4", block=1024, expected="merged-empty",
         before=(("-b1024 -Enoinline_data", "lower.written", "lower"), ("-b1024 -Enoinline_data", "upper.written", "upper"))),
    Case("merge-stripped", "-b1024 --clean=data --ovlfs-strip=1", "lower.written upper.written", "the same without marks of overlayfs",
         kernel="6.4", block=1024, expected="merged-stripped",
         before=(("-b1024 -Enoinline_data", "lower.written", "lower"), ("-b1024 -Enoinline_data", "upper.written", "upper"))),
    Case("increment", "-b1024 --incremental=data", "upper", "a directory added to an image", kernel="6.4", block=1024, expected="grown",
         before=(("-b1024 -Enoinline_data", "increment.erofs", "lower"),)),
    Case("increment-tar", "-b1024 --incremental=data --tar=f", "upper.tar", "a tar added to an image", kernel="6.4", block=1024, expected="grown-tar",
         before=(("-b1024 -Enoinline_data", "increment-tar.erofs", "lower"),)),
]
PACKING = {512: "-C4096 -Eztailpacking", 1024: "-C1024 -Elegacy-compress,fragments"}
for size in (512, 1024):
    CASES += [
        Case(f"block-{size}", f"-b{size}", "nodes", "small blocks", kernel="6.4", block=size),
        Case(f"block-{size}-chunk", f"-b{size} --chunksize={2 * size}", "holes", "chunks of small blocks", kernel="6.4", block=size),
        Case(f"block-{size}-lz4", f"-b{size} -zlz4hc {PACKING[size]}", "content", "compressed small blocks", kernel="6.8", block=size),
        Case(f"block-{size}-zstd", f"-b{size} -zzstd -C{16 * size} -E48bit,fragments", "content", "unaligned extents", kernel="6.15",
             expected="content-coarse", block=size),
    ]
CASES.append(Case("block-2048", "-b2048 -zlz4hc -C2048 -Efragments", "content", "blocks of 2 KiB, compressed", kernel="6.8", block=2048))
# Every algorithm in every form of index; libdeflate writes the format of deflate, with another configuration.
SINCE = {"lz4hc": "5.4", "lzma": "5.16", "deflate": "6.6", "libdeflate": "6.6", "zstd": "6.10"}
LEVEL = {"deflate": "deflate,level=9", "libdeflate": "libdeflate,level=12"}
FORMS = [
    ("", "-C4096", "5.4", "compact index"),
    ("-big-full", "-C16384 -Elegacy-compress,ztailpacking", "5.17", "big pclusters, full index, inline tail"),
    ("-tail", "-C4096 -Eztailpacking", "5.17", "inline tail, compact index"),
    ("-all-fragments", "-C4096 -Eall-fragments,fragdedupe=full", "6.1", "files in the packed inode"),
    ("-dedupe", "-C16384 -Ededupe,fragments,^fragdedupe", "6.1", "extents that share clusters"),
    ("-48bit", "-C16384 -E48bit", "6.15", "encoded extents"),
    ("-48bit-dedupe", "-C16384 -E48bit,dedupe,fragments=16384", "6.15", "encoded extents that share clusters, tails in the packed inode"),
    ("-full", "-C4096 -Elegacy-compress", "5.4", "full index"),
    ("-big", "-C16384", "5.13", "big pclusters, compact index"),
    ("-fragments", "-C4096 -Efragments", "6.1", "tails in the packed inode, interlaced plain clusters"),
]


def later(a, b):
    return max(a, b, key=lambda version: [int(part) for part in version.split(".")])


for algorithm, since in SINCE.items():
    for suffix, options, kernel, shows in {"lz4hc": FORMS, "libdeflate": FORMS[:2]}.get(algorithm, FORMS[:7]):
        expected = "content-coarse" if "48bit" in options else "content"
        CASES.append(Case(algorithm + suffix, f"-z{LEVEL.get(algorithm, algorithm)} {options}", "content", shows, later(since, kernel), expected))
