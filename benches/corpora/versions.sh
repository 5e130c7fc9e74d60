#!/bin/sh
# Several versions of one Python package side by side, much of which is the same: versions.sh DIR
set -eu
out=${1:?usage: versions.sh DIR}
for version in 1.26.0 1.26.1 1.26.2 1.26.3 1.26.4; do
    python3 -m pip install --quiet --no-compile --no-deps --only-binary :all: --implementation cp --python-version 3.11 \
        --platform manylinux2014_x86_64 --target "$out/$version" "numpy==$version"
done
