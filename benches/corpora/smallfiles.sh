#!/bin/sh
# 100,000 files of 0 to 200 bytes in 1,100 folders: smallfiles.sh DIR
set -eu
out=${1:?usage: smallfiles.sh DIR}
mkdir "$out"
python3 "$(dirname "$0")/manyfiles.py" "$out.tar" 100
tar -xf "$out.tar" -C "$out"
rm "$out.tar"
