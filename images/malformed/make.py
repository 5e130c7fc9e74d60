#!/usr/bin/env python3
"""Makes the malformed images of this folder again:  ./make.py PEERS [OUTPUT]

Each is a small well-formed image of mkfs.erofs with one thing made wrong: `shapes.py` lists them. As for the golden images, PEERS is
what tests/peers/fetch.sh prints, and root is needed.
"""
import hashlib, os, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [f"{HERE}/../golden", f"{HERE}/.."]

import trees
from layout import Image
from shapes import BASES, SHAPES, TREES

PEERS = os.path.abspath(sys.argv[1])
OUT = os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else HERE)
FIXED = ["--quiet", "-T%d" % trees.TIME, "--mkfs-time", "--workers=0", "-U", "00000000-0000-4000-8000-000000000000"]


def bases():
    with tempfile.TemporaryDirectory() as tmp:
        for name, tree in TREES.items():
            trees.write(tree, f"{tmp}/{name}")
        made = {}
        for name, (tree, options) in BASES.items():
            environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
            subprocess.run([f"{PEERS}/mkfs.erofs", *FIXED, *options.split(), f"{name}.erofs", tree], cwd=tmp, env=environment, check=True,
                           stderr=subprocess.DEVNULL)
            with open(f"{tmp}/{name}.erofs", "rb") as f:
                made[name] = f.read()
        return made


def main():
    for name in os.listdir(OUT):
        if name.endswith(".erofs"):
            os.unlink(f"{OUT}/{name}")
    images, rows = bases(), []
    for shape in SHAPES:
        image = Image(images[shape.base])
        shape.change(image)
        if shape.seal:
            image.seal()
        with open(f"{OUT}/{shape.name}.erofs", "wb") as f:
            f.write(image)
        digest = hashlib.sha256(image).hexdigest()
        rows.append("\t".join([f"{shape.name}.erofs", shape.path, shape.error, shape.pitfall, shape.base, digest]) + "\n")
    with open(f"{OUT}/manifest.tsv", "w") as f:
        f.write("image\twhere\terror\tpitfall\tbase\tsha256\n")
        f.writelines(sorted(rows))


main()
