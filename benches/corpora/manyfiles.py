#!/usr/bin/env python3
"""Tiny files of 0 to 200 bytes as an uncompressed ustar stream: manyfiles.py TAR [N]

N folders d000…, each with e00…e09, each with f00.txt…f99.txt: N = 1000 makes a million files in 11,000
folders. The seed fixes every byte.
"""
import random
import sys

random.seed(42)
pool = bytes(random.choices(b"abcdefghijklmnopqrstuvwxyz0123456789 \n", k=1 << 16))


def header(name, size, kind, mode):
    record = bytearray(512)
    record[0 : len(name)] = name.encode()
    record[100:108] = b"%07o\0" % mode
    record[108:116] = record[116:124] = b"0001750\0"
    record[124:136] = b"%011o\0" % size
    record[136:148] = b"%011o\0" % 1700000000
    record[148:156] = b" " * 8
    record[156:157] = kind
    record[257:265] = b"ustar\x0000"
    record[265:269] = record[297:301] = b"user"
    record[148:156] = b"%06o\0 " % sum(record)
    return bytes(record)


with open(sys.argv[1], "wb", buffering=1 << 20) as out:
    for a in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1000):
        out.write(header(f"d{a:03d}/", 0, b"5", 0o755))
        for b in range(10):
            out.write(header(f"d{a:03d}/e{b:02d}/", 0, b"5", 0o755))
            for c in range(100):
                size = random.randrange(0, 201)
                start = random.randrange(0, 65536 - 200)
                out.write(header(f"d{a:03d}/e{b:02d}/f{c:02d}.txt", size, b"0", 0o644))
                if size:
                    out.write(pool[start : start + size] + bytes(512 - size))
    out.write(bytes(10240))
