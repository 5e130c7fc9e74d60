#!/usr/bin/env python3
"""Makes the golden images of this folder again:  ./make.py PEERS [OUTPUT]

PEERS is the folder that tests/peers/fetch.sh prints; its mkfs.erofs must be 1.9.4, and the same libraries (file `versions`) give the
same bytes. OUTPUT defaults to this folder. Needs root, and TMPDIR on a filesystem that keeps holes, all attributes and times from 1901
to 2446 (ext4).

MKCOMPOSEFS in the environment names the program that writes the image of composefs (1.0.8; tests/peers/composefs.sh prints it); without it
the kept image stays.

Images are described in `cases.py`, their sources in `trees.py`, those that no option of mkfs.erofs gives in `crafted.py`.
"""
import gzip, hashlib, os, shutil, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(f"{HERE}/..")

import trees
from cases import CASES, EXPECTED, RECIPES, SOURCES
from crafted import CRAFTED, CRAFTED_EXPECTED, CRAFTED_TREES
from layout import Image

PEERS = os.path.abspath(sys.argv[1])
OUT = os.path.abspath(sys.argv[2] if len(sys.argv) > 2 else HERE)
FIXED = ["--quiet", "-T%d" % trees.TIME, "--mkfs-time", "--workers=0", "-U", "00000000-0000-4000-8000-000000000000"]


def mkfs(options, image, *sources, **more):
    # Nothing of the caller's environment may reach the image.
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    run = subprocess.run([f"{PEERS}/mkfs.erofs", *options, image, *sources], env=environment, stderr=subprocess.PIPE, **more)
    if run.returncode:
        sys.exit(f"{image}: mkfs.erofs {' '.join(options)}: exit {run.returncode} {run.stderr.decode()}")


def prepare(tmp):
    """The sources, in `tmp`, under the names that the options of the cases use."""
    for name, tree in {**SOURCES, **CRAFTED_TREES}.items():
        if name.endswith(".tar"):
            with open(f"{tmp}/{name}", "wb") as f:
                f.write(trees.tar(tree))
        elif name.endswith(".headers"):
            with open(f"{tmp}/{name}", "wb") as f:
                f.write(trees.tar(tree, data=False))
        else:
            trees.write(tree, f"{tmp}/{name}")
    with open(f"{tmp}/lower.tar.gz", "wb") as f, gzip.GzipFile("", "wb", mtime=0, fileobj=f) as packed:
        packed.write(trees.tar(SOURCES["lower.tar"]))
    for name, lines in RECIPES.items():
        with open(f"{tmp}/{name}", "w") as f:
            f.write(lines)


def make(case, tmp):
    """Runs the steps of a case in `tmp`, where the image then stands as NAME.erofs."""
    for options, image, source in case.before:
        mkfs([*FIXED, *options.split()], image, source, cwd=tmp)
    mkfs([*FIXED, *case.options.split()], f"{case.name}.erofs", *case.source.split(), cwd=tmp)


def main():
    kept = open(f"{HERE}/composefs.erofs", "rb").read() if "MKCOMPOSEFS" not in os.environ else None
    for name in sorted(os.listdir(OUT)):
        if name.endswith((".erofs", ".blob")):
            os.unlink(f"{OUT}/{name}")
    os.makedirs(f"{OUT}/expected", exist_ok=True)
    for name, tree in {**EXPECTED, **CRAFTED_EXPECTED}.items():
        with open(f"{OUT}/expected/{name}.tsv", "w") as f:
            f.write(trees.listing(tree))
    shutil.copyfile(f"{PEERS}/../versions", f"{OUT}/versions")

    rows = []

    def row(image, devices, expected, block, kernel, made, shows):
        data = open(f"{OUT}/{image}", "rb").read()
        sums = [hashlib.sha256(data).hexdigest()] + [hashlib.sha256(open(f"{OUT}/{d}", "rb").read()).hexdigest() for d in devices]
        fields = [image, ",".join(devices) or "-", expected, str(block), kernel, str(len(data)), ",".join(sums), made, shows]
        rows.append("\t".join(fields) + "\n")

    with tempfile.TemporaryDirectory() as tmp:
        prepare(tmp)
        for case in CASES:
            make(case, tmp)
            image = f"{case.name}.erofs"
            shutil.copyfile(f"{tmp}/{image}", f"{OUT}/{image}")
            devices = [f"{case.name}.{number}.blob" for number in range(1, len(case.devices) + 1)]
            for written, device in zip(case.devices, devices):
                shutil.copyfile(f"{tmp}/{written}", f"{OUT}/{device}")
            steps = [*case.before, (case.options, image, case.source)]
            made = "; ".join(" ".join(filter(None, step)) for step in steps)
            row(image, devices, case.expected or case.source, case.block, case.kernel, made, case.shows)
            for name in os.listdir(tmp):
                if name.endswith((".erofs", ".written")):
                    os.unlink(f"{tmp}/{name}")
        for craft in CRAFTED:
            image = None
            if craft.source:
                mkfs([*FIXED, *craft.options.split()], "base.erofs", craft.source, cwd=tmp)
                with open(f"{tmp}/base.erofs", "rb") as f:
                    image = Image(f.read())
            made = craft.change(image) if image else craft.change()
            made.seal()
            with open(f"{OUT}/{craft.name}.erofs", "wb") as f:
                f.write(made)
            steps = " ".join(filter(None, [craft.options, craft.source, "then crafted.py" if image else "crafted.py"]))
            row(f"{craft.name}.erofs", [], craft.expected, craft.block, craft.kernel, steps, craft.shows)
        if kept is None:
            command = [os.environ["MKCOMPOSEFS"], "--digest-store=objects", "lower", "composefs.erofs"]
            os.mkdir(f"{tmp}/objects")
            subprocess.run(command, cwd=tmp, check=True)
            with open(f"{tmp}/composefs.erofs", "rb") as f:
                kept = f.read()
        with open(f"{OUT}/composefs.erofs", "wb") as f:
            f.write(kept)
        made = "mkcomposefs 1.0.8: --digest-store=objects lower composefs.erofs"
        row("composefs.erofs", [], "composefs", 4096, "5.15", made, "holes with overlayfs attributes, header of its own in front")
    with open(f"{OUT}/manifest.tsv", "w") as f:
        f.write("image\tdevices\texpected\tblock size\tkernel\tbytes\tsha256 of image,devices\tmade by\tshows\n")
        f.writelines(sorted(rows))


main()
