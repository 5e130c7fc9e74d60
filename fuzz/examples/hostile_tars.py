#!/usr/bin/env python3
"""Makes the fixtures of target `tar` again: tars on which tools crashed, looped or read nonsense (each behind the byte that
selects how whiteouts are taken):  examples/hostile_tars.py FOLDER
"""
import os
import struct
import subprocess
import sys
import zlib


def octal(value, width):
    return b"%0*o\0" % (width - 1, value)


def header(name, kind=b"0", size=b"00000000000\0", link=b"", magic=b"ustar\x0000", major=b"0000000\0", minor=b"0000000\0"):
    block = name.ljust(100, b"\0")[:100] + octal(0o644, 8) + octal(0, 8) * 2 + size.ljust(12, b"\0") + octal(0, 12)
    block += b" " * 8 + kind + link.ljust(100, b"\0")[:100] + magic + b"root".ljust(32, b"\0") * 2 + major + minor
    block = block.ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data):
    return data + bytes(-len(data) % 512)


def file(name, data=b"", kind=b"0", **fields):
    return header(name, kind, octal(len(data), 12), **fields) + padded(data)


def record(key, value):
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length = len(b"%d" % length) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def pax(*records, kind=b"x"):
    return file(b"pax", b"".join(records), kind)


def gnu_sparse(entries, size, extended=b"\0"):
    block = bytearray(header(b"sparse", b"S", octal(0, 12), magic=b"ustar  \0"))
    for index, (offset, length) in enumerate(entries):
        block[386 + 24 * index:410 + 24 * index] = octal(offset, 12) + octal(length, 12)
    block[482:483] = extended
    block[483:495] = octal(size, 12)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


MINUS_ONE = b"\xff" * 12
LARGE = b"\x80" + b"\0" * 3 + (2**63 - 1).to_bytes(8, "big")
DIRECTORY = header(b"d/", b"5")

TARS = {
    "size-minus-one-base-256": header(b"f", size=MINUS_ONE),
    "size-minus-one-pax": pax(record(b"size", b"-1")) + file(b"f", b"x"),
    "size-2-63-base-256": header(b"f", size=LARGE),
    "size-2-64-pax": pax(record(b"size", b"18446744073709551616")) + file(b"f", b"x"),
    "long-name-of-4-gib": header(b"././@LongLink", b"L", octal(2**32, 12), magic=b"ustar  \0") + padded(b"name\0"),
    "long-name-without-member": file(b"././@LongLink", b"a" * 5000, b"L", magic=b"ustar  \0"),
    "long-names-one-after-another": file(b"././@LongLink", b"a" * 300, b"L", magic=b"ustar  \0") * 20 + file(b"f"),
    "device-number-garbage": header(b"c", b"3", major=b"zzzzzzz\0", minor=b"\xff" * 8),
    "duplicates-that-change-type": DIRECTORY + file(b"d/f", b"1") + file(b"d", b"2") + DIRECTORY + header(b"d", b"2", link=b"e") + DIRECTORY,
    "directory-over-its-children": file(b"d/e/f", b"1") + file(b"d/e", b"2") + file(b"d/e/f", b"3"),
    "hard-link-before-its-target": header(b"l", b"1", link=b"f") + file(b"f", b"x"),
    "hard-link-to-itself": header(b"l", b"1", link=b"l"),
    "hard-link-to-a-directory": DIRECTORY + header(b"l", b"1", link=b"d"),
    "path-out-of-the-root": file(b"../../etc/passwd", b"x") + header(b"l", b"2", link=b"..") + file(b"l/f", b"y"),
    "path-of-3000-components": pax(record(b"path", b"d/" * 3000 + b"f")) + file(b"f"),
    "pax-length-0": file(b"pax", b"0 path=f\n", b"x") + file(b"f"),
    "pax-length-huge": file(b"pax", b"99999999999999999999 path=f\n", b"x") + file(b"f"),
    "pax-without-equals-sign": file(b"pax", b"7 path\n", b"x") + file(b"f"),
    "pax-xattr-with-nul": pax(record(b"SCHILY.xattr.user.a\0b", b"v")) + file(b"f"),
    "global-then-reset": pax(record(b"path", b"g"), kind=b"g") + pax(record(b"path", b"")) + file(b"f"),
    "sparse-ranges-overlap": gnu_sparse([(0, 512), (256, 512)], 4096) + bytes(1024),
    "sparse-range-beyond-size": gnu_sparse([(4096, 512)], 512) + bytes(512),
    "sparse-without-end": gnu_sparse([(0, 0)] * 4, 2**33, b"\1") + (octal(0, 12) * 42 + b"\1").ljust(512, b"\0") * 40,
    "sparse-blocks-10-9": pax(record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0"),
                              record(b"GNU.sparse.name", b"s"), record(b"GNU.sparse.realsize", b"9")) + file(b"s", b"1000000000\n"),
    "v7-without-type": header(b"f", b"\0", magic=b"\0" * 8) + header(b"d/", b"\0", magic=b"\0" * 8),
    "whiteout-of-itself": file(b".wh..wh..opq") + file(b".wh.") + file(b".wh..wh.f") + file(b".wh..") + file(b".wh..."),
    "cut-off-in-a-header": file(b"f", b"x")[:700],
}



def xz(data, *arguments):
    return subprocess.run(["xz", "--stdout", *arguments], input=data, stdout=subprocess.PIPE, check=True).stdout


def lzip(data):
    stream = xz(data, "--format=raw", "--lzma1=preset=1,dict=64KiB,lc=3,lp=0,pb=2")
    return b"LZIP\1\x10" + stream + struct.pack("<IQQ", zlib.crc32(data), len(data), 26 + len(stream))


TAR = file(b"file", b"some content\n" * 9) + bytes(1024)
COMPRESSED = {
    "lzma": xz(TAR, "--format=lzma"),
    "lzip-members": lzip(TAR[:700]) + lzip(b"") + lzip(TAR[700:]),
    "lzip-cut-off": (lzip(TAR[:700]) + lzip(TAR[700:]))[:-5],
}

for name, tar in TARS.items():
    with open(os.path.join(sys.argv[1], name), "wb") as out:
        out.write(b"\1" + tar + bytes(1024))
for name, data in COMPRESSED.items():
    with open(os.path.join(sys.argv[1], name), "wb") as out:
        out.write(b"\1" + data)
