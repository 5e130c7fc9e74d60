#!/usr/bin/env python3
"""One file of random bytes: noise.py DIR [BYTES]. The seed fixes every byte."""
import os
import sys
from random import Random

out = sys.argv[1]
left = int(sys.argv[2]) if len(sys.argv) > 2 else 2 << 30
random = Random(20261121)
os.makedirs(out, exist_ok=True)
with open(f"{out}/random.bin", "wb") as file:
    while left:
        count = min(1 << 20, left)
        file.write(random.randbytes(count))
        left -= count
