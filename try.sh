#!/bin/sh
# Builds the erofs program and shows it at work: a real directory becomes an EROFS image, is mounted by the kernel and
# read back identical. On Debian 12 or 13 with rustup; a missing C compiler is installed.
#
#     ./try.sh [SOURCE…] [OPTION…]      as `erofs try`; the source is /usr/share/doc unless given
set -eu
cd "$(dirname "$0")"
here=$(pwd)
if ! command -v cc >/dev/null || ! [ -e /usr/include/stdio.h ]; then
    root=
    [ "$(id -u)" -eq 0 ] || root=sudo
    echo "installing a C compiler (gcc, libc6-dev)"
    $root apt-get -qq update
    # Through env, since sudo drops variables.
    $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install gcc libc6-dev >/dev/null
fi
cargo build --release --package erofs
[ $# -gt 0 ] || set -- /usr/share/doc
cd "$OLDPWD" 2>/dev/null || true
if [ "$(id -u)" -ne 0 ] && command -v sudo >/dev/null; then
    # The kernel mounts for root only. Without root it would be FUSE, where fusermount3 is installed.
    echo "the kernel mounts for root only: running erofs try with sudo"
    exec sudo "$here/target/release/erofs" try "$@"
fi
exec "$here/target/release/erofs" try "$@"
