#!/bin/sh
# A directory or a tar as an image by mkfs.erofs, compressed as the name's end asks: image.sh SOURCE IMAGE
set -eu
source=${1:?usage: image.sh SOURCE IMAGE} out=${2:?usage: image.sh SOURCE IMAGE}
case $out in
*.plain.erofs) set -- ;;
*.lz4.erofs) set -- -zlz4 ;;
*.zstd.erofs) set -- -zzstd,level=3 -C65536 ;;
*.lzma.erofs) set -- -zlzma,level=6 -C65536 ;;
*) echo "no idea how to compress $out" >&2; exit 2 ;;
esac
[ -d "$source" ] || set -- "$@" --tar=f
peers=$("$(dirname "$0")/../../tests/peers/fetch.sh")
"$peers/mkfs.erofs" --quiet "$@" "$out" "$source"
