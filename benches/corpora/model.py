#!/usr/bin/env python3
"""Weights like those of a language model, with their JSON: model.py DIR [BYTES]

One safetensors-like file of bfloat16 tensors, normally distributed, each layer with its own sigma.
The seed fixes every byte.
"""
import json
import os
import struct
import sys

import numpy as np

SHARD = "model-00001-of-00001.safetensors"
HIDDEN = 4096
BATCH = 1 << 22  # values drawn at a time

out = sys.argv[1]
total = int(sys.argv[2]) if len(sys.argv) > 2 else 2 << 30
random = np.random.Generator(np.random.PCG64(20240501))

tensors = []
offset = 0
while offset < total:
    size = min(HIDDEN * HIDDEN * 2, total - offset)
    tensors.append((f"model.layers.{len(tensors)}.mlp.w.weight", size, offset))
    offset += size
header = json.dumps(
    {
        name: {"dtype": "BF16", "shape": [size // 2], "data_offsets": [start, start + size]}
        for name, size, start in tensors
    },
    separators=(",", ":"),
).encode()
header += b" " * (-(len(header) + 8) % 4096)

os.makedirs(out, exist_ok=True)
with open(f"{out}/{SHARD}", "wb") as shard:
    shard.write(struct.pack("<Q", len(header)) + header)
    for layer, (_, size, _) in enumerate(tensors):
        sigma = np.float32(0.02 / np.sqrt(1 + layer % 32))
        values = size // 2
        while values:
            count = min(BATCH, values)
            bits = (random.standard_normal(count, dtype=np.float32) * sigma).view(np.uint32)
            # Round to nearest, ties to even, as the hardware does.
            shard.write(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes())
            values -= count

documents = {
    "config.json": {"hidden_size": HIDDEN, "layers": len(tensors), "dtype": "bfloat16"},
    "tokenizer.json": {f"tok{number}": number for number in range(128000)},
    "model.safetensors.index.json": {"weight_map": {name: SHARD for name, _, _ in tensors}},
}
for name, document in documents.items():
    with open(f"{out}/{name}", "w") as file:
        json.dump(document, file)
