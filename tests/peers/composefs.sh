#!/bin/bash
# Puts mkcomposefs of Debian sid into the cache and prints its path. Needs the network once.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/peers/debian-set.sh
. ./debian-set.sh

wrap() { debian_wrap "$1" usr/bin/mkcomposefs; }
debian_set composefs sid wrap composefs
echo "$EROFS_CACHE/composefs/bin/mkcomposefs"
