#!/bin/sh
# Python site-packages of a numerical stack for Python 3.11, byte-compiled: pysite.sh DIR
set -eu
out=${1:?usage: pysite.sh DIR}
python3 -m pip install --quiet --no-compile --only-binary :all: --implementation cp --python-version 3.11 \
    --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --target "$out" \
    numpy==1.26.4 scipy==1.13.1 pandas==2.2.2 sympy==1.13.1 matplotlib==3.9.0 scikit-learn==1.5.0 \
    pyarrow==16.1.0 numba==0.60.0 transformers==4.42.3 jaxlib==0.4.30 jax==0.4.30 statsmodels==0.14.2 \
    notebook==7.2.1
# Some packages carry files for other versions of Python, which do not compile: they stay without.
python3 -m compileall -q -j2 --invalidation-mode unchecked-hash "$out" >/dev/null || true
