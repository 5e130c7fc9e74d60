#!/usr/bin/env python3
"""One file of holes, with 4 KiB of data every GiB and a last partial block: sparse.py DIR [BYTES]"""
import os
import sys
from random import Random

out = sys.argv[1]
size = int(sys.argv[2]) if len(sys.argv) > 2 else (100 << 30) + 777
random = Random(20261121)
os.makedirs(out, exist_ok=True)
with open(f"{out}/sparse.bin", "wb") as file:
    for offset in range(0, size, 1 << 30):
        file.seek(offset)
        file.write(random.randbytes(min(4096, size - offset)))
    file.truncate(size)
