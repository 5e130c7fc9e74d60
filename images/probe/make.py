#!/usr/bin/env python3
"""Makes the probe images of this folder again:  ./make.py MKFS_EROFS [OUTPUT]

MKFS_EROFS is mkfs.erofs of erofs-utils 1.9.4 (another version may write other bytes that mean the same). OUTPUT defaults to this
folder, needs a filesystem with user xattrs for the sources, and gets the images and manifest.tsv.
"""
import hashlib, os, struct, subprocess, sys, tempfile

MKFS = sys.argv[1]
OUT = sys.argv[2] if len(sys.argv) > 2 else os.path.dirname(os.path.abspath(__file__))
SIZE = 9000
FIXED = ["--quiet", "-T0", "--all-root", "--workers=0", "-U", "00000000-0000-0000-0000-000000000000"]

# image, bytes of the file "probe", options, what a successful mount and read proves
IMAGES = [
    ("block-512", SIZE, ["-b512", "-Enoinline_data"], "512-byte blocks"),
    ("block-1024", SIZE, ["-b1024", "-Enoinline_data"], "1 KiB blocks"),
    ("block-2048", SIZE, ["-b2048", "-Enoinline_data"], "2 KiB blocks"),
    ("block-4096", SIZE, ["-b4096", "-Enoinline_data"], "4 KiB blocks; nothing else is asked of the kernel"),
    ("lz4", SIZE, ["-zlz4hc", "-C4096"], "LZ4, one-block pclusters"),
    ("lzma", SIZE, ["-zlzma", "-C4096"], "MicroLZMA"),
    ("deflate", SIZE, ["-zdeflate", "-C4096"], "DEFLATE"),
    ("zstd", SIZE, ["-zzstd", "-C4096"], "Zstd"),
    ("bigpcluster", 20000, ["-zlz4hc", "-C8192"], "LZ4 with an 8 KiB pcluster"),
    ("lz4-512", SIZE, ["-b512", "-zlz4hc", "-C512"], "LZ4 with 512-byte blocks"),
    ("ztailpacking", 12000, ["-zlz4hc", "-C4096", "-Eztailpacking"], "compressed inline tail"),
    ("fragments", 12000, ["-zlz4hc", "-C4096", "-Efragments"], "tail in the packed inode"),
    ("chunked", SIZE, ["--chunksize=4096"], "chunk indexes"),
    ("devices", SIZE, ["--chunksize=4096", "--blobdev=devices.blob"], "a second device; its content is devices.blob"),
    ("xattr-prefixes", SIZE, ["--xattr-prefix=user.erofs."], "long xattr name prefix"),
    ("48bit", SIZE, ["-E48bit"], "48-bit layout"),
    ("metabox", SIZE, ["-m4096"], "inodes in the metabox"),
]


def content(size):
    """Numbered lines, each with a pseudo-random word (Knuth's MMIX generator, seed 1, upper half): compressible, never periodic."""
    out, x, i = bytearray(), 1, 0
    while len(out) < size:
        x = (x * 6364136223846793005 + 1442695040888963407) % 2**64
        out += b"erofs probe line %04d: %08x\n" % (i, x >> 32)
        i += 1
    return bytes(out[:size])


def one_block_image(bits):
    """An image of a single block of 2**bits bytes, which mkfs.erofs refuses to write above the page size: superblock, root (compact
    inode at nid 40, inline directory), file "probe" (compact inode at nid 48, inline data)."""
    size, root, probe = 1 << bits, 40, 48
    names, entries = [(b".", root, 2), (b"..", root, 2), (b"probe", probe, 1)], b""
    offset = 12 * len(names)
    for name, nid, kind in names:
        entries += struct.pack("<QHBB", nid, offset, kind, 0)
        offset += len(name)
    entries += b"".join(name for name, _, _ in names)
    block = bytearray(size)

    def inode(nid, mode, nlink, data, ino):
        # i_format: compact, layout 2 (flat inline)
        head = struct.pack("<HHHHIIIIHHI", 2 << 1, 0, mode, nlink, len(data), 0, 0, ino, 0, 0, 0)
        assert len(head) == 32
        block[nid * 32 : nid * 32 + 32 + len(data)] = head + data
        assert len(block) == size, "the data does not fit the block"

    inode(root, 0o40755, 2, entries, 1)
    inode(probe, 0o100644, 1, content(SIZE), 2)
    struct.pack_into("<IIIBBHQQIIII", block, 1024, 0xE0F5E1E2, 0, 1, bits, 0, root, 2, 0, 0, 1, 0, 0)
    crc = 0xFFFFFFFF
    for byte in block[1024:]:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    struct.pack_into("<I", block, 1028, crc)
    return bytes(block)


def main():
    rows, version = [], subprocess.run([MKFS, "-V"], stdout=subprocess.PIPE, text=True).stdout.splitlines()[0]
    with tempfile.TemporaryDirectory() as tmp:
        for name, size, options, proves in IMAGES:
            source = f"{tmp}/{name}"
            os.mkdir(source)
            with open(f"{source}/probe", "wb") as f:
                f.write(content(size))
            os.chmod(source, 0o755)
            os.chmod(f"{source}/probe", 0o644)
            xattrs = ["-x-1"]
            if name == "xattr-prefixes":
                os.setxattr(f"{source}/probe", "user.erofs.probe", b"1")
                xattrs = []
            for stale in (f"{name}.erofs", f"{name}.blob"):
                if os.path.exists(f"{OUT}/{stale}"): os.unlink(f"{OUT}/{stale}")
            subprocess.run([MKFS, *FIXED, *xattrs, *options, f"{name}.erofs", source], cwd=OUT, check=True)
            rows.append((f"{name}.erofs", size, f"{version}: {' '.join(FIXED + xattrs + options)}", proves))
            if os.path.exists(f"{OUT}/{name}.blob"):
                rows.append((f"{name}.blob", size, f"written with {name}.erofs", "extra device of it"))
    with open(f"{OUT}/block-16384.erofs", "wb") as f:
        f.write(one_block_image(14))
    rows.append(("block-16384.erofs", SIZE, "one_block_image(14) of make.py", "16 KiB blocks (pages must be as large)"))
    with open(f"{OUT}/manifest.tsv", "w") as f:
        f.write("file\tsha256\tbytes\tbytes of /probe\tmade by\tproves\n")
        for name, size, made, proves in sorted(rows):
            data = open(f"{OUT}/{name}", "rb").read()
            f.write(f"{name}\t{hashlib.sha256(data).hexdigest()}\t{len(data)}\t{size}\t{made}\t{proves}\n")


main()
