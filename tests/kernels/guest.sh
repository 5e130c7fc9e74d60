#!/bin/bash
# Runs a command in a guest under QEMU that has programs of its own; see README.md.
#
#     tests/kernels/guest.sh [-k 6.12] --root IMAGE --disk FILE [--log FILE] [--seconds N] COMMAND
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/kernels/qemu.sh
. "$here/qemu.sh"

PYTHONPATH=$here exec python3 -m matrix.system "$@"
