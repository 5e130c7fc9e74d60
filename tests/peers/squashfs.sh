#!/bin/bash
# Puts mksquashfs of Debian sid into the cache and prints its path. Needs the network once.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/peers/debian-set.sh
. ./debian-set.sh

wrap() { debian_wrap "$1" usr/bin/mksquashfs; }
debian_set squashfs sid wrap squashfs-tools
echo "$EROFS_CACHE/squashfs/bin/mksquashfs"
