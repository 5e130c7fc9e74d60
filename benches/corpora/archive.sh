#!/bin/sh
# A directory as a tar, compressed as the name's end asks: archive.sh DIR TAR
set -eu
source=${1:?usage: archive.sh DIR TAR} out=${2:?usage: archive.sh DIR TAR}
case $out in
*.tar) filter='cat' ;;
*.tar.gz) filter='gzip -6 -n' ;;
*.tar.zst) filter='zstd -q -3' ;;
*) echo "no idea how to compress $out" >&2; exit 2 ;;
esac
tar --sort=name --numeric-owner --format=gnu -C "$source" -c . | $filter >"$out"
