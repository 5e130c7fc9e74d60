#!/bin/bash
# Reads images on real kernels, old and new, under QEMU; see README.md.
#
#     tests/kernels/run.sh [-k 6.1,7.2,host] [OPTION…] [LIST…]
#
# Without a LIST it reads every form of image that this project writes, and the golden images.
# EROFS_CACHE: where kernels and QEMU are kept. The network is used only for what is missing there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/kernels/qemu.sh
. "$here/qemu.sh"

PYTHONPATH=$here exec python3 -m matrix "$@"
