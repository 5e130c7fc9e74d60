#!/bin/bash
# Reads images on real kernels, old and new, under QEMU; see README.md.
#
#     tests/kernels/run.sh [-k 6.1,7.2,host] [OPTION…] [LIST…]
#
# Without a LIST it reads every form of image that this project writes, and the golden images.
# EROFS_CACHE: where kernels and QEMU are kept. The network is used only for what is missing there.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tests/peers/debian-set.sh
. "$here/../peers/debian-set.sh"
export EROFS_CACHE

if [ "$(uname -m)" != x86_64 ]; then
    echo "skipped, because the guests are for x86-64" >&2
    # Continuous integration must have everything.
    [ "${CI:-}" != true ] || exit 1
    exit 77
fi

wrap() { debian_wrap "$1" usr/bin/qemu-system-x86_64 -L "\$root/usr/share/qemu" -L "\$root/usr/share/seabios"; }
debian_set qemu trixie wrap qemu-system-x86
export EROFS_QEMU=$EROFS_CACHE/qemu/bin/qemu-system-x86_64
# It would look for modules beside the loader that runs it.
export QEMU_MODULE_DIR=$EROFS_CACHE/qemu/root/usr/lib/x86_64-linux-gnu/qemu

PYTHONPATH=$here exec python3 -m matrix "$@"
