#!/bin/bash
# Puts the newest erofs-utils of Debian into the cache and prints the folder to put first in PATH.
# Needs the network once; EROFS_REFRESH=1 fetches anew. EROFS_CACHE: where the cache is.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/peers/debian-set.sh
. ./debian-set.sh

wrap() {
    local program
    for program in mkfs.erofs fsck.erofs dump.erofs erofsfuse; do
        debian_wrap "$1" "usr/bin/$program"
    done
    # A set that cannot run here must not enter the cache.
    "$1/bin/mkfs.erofs" --version >/dev/null
}

debian_set peers sid wrap erofs-utils erofsfuse
"$EROFS_CACHE/peers/bin/mkfs.erofs" --version | head -n 1 >&2
echo "$EROFS_CACHE/peers/bin"
