#!/bin/sh
# Linux source tree from Debian's linux-source-6.1: src.sh DIR (on Debian 12)
set -eu
out=${1:?usage: src.sh DIR}
scratch=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$out"
(cd "$scratch" && apt-get -qq -oAPT::Sandbox::User= download linux-source-6.1 && dpkg-deb -x linux-source-6.1_*.deb unpacked)
tar -xf "$scratch/unpacked/usr/src/linux-source-6.1.tar.xz" -C "$out" --strip-components=1
