#!/bin/bash
# Reads images on real kernels, old and new, under QEMU; see README.md.
#
#     tests/kernels/run.sh [-k 6.1,7.2,host] [OPTION…] [LIST…]
#
# EROFS_CACHE: where kernels and QEMU are kept. The network is used only for what is missing there.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
. tests/peers/debian-set.sh
export EROFS_CACHE

[ "$(uname -m)" = x86_64 ] || { echo "skipped, because the guests and their agent are for x86-64" >&2; exit 77; }

# Its modules lie beside its libraries, not beside the loader that runs it.
wrap() { debian_wrap "$1" usr/bin/qemu-system-x86_64 -L "\$root/usr/share/qemu" -L "\$root/usr/share/seabios"; }
debian_set qemu trixie wrap qemu-system-x86
export EROFS_QEMU=$EROFS_CACHE/qemu/bin/qemu-system-x86_64
export QEMU_MODULE_DIR=$EROFS_CACHE/qemu/root/usr/lib/x86_64-linux-gnu/qemu

# Static, since the guests have no libraries.
target=x86_64-unknown-linux-gnu
RUSTFLAGS="-C target-feature=+crt-static" cargo build --quiet --release --package erofs-kernel-agent --target $target
EROFS_KERNEL_AGENT=$(realpath "${CARGO_TARGET_DIR:-target}")/$target/release/erofs-kernel-agent
export EROFS_KERNEL_AGENT

PYTHONPATH=$here exec python3 -m matrix "$@"
