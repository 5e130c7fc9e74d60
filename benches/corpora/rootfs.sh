#!/bin/sh
# Debian 12 root with compilers, interpreters and a Java runtime: rootfs.sh DIR (as root; needs debootstrap)
set -eu
out=${1:?usage: rootfs.sh DIR}
command -v debootstrap >/dev/null || { echo "debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
debootstrap --variant=minbase \
    --include=python3,perl,gcc,g++,make,git,vim,curl,locales,openjdk-17-jre-headless,ca-certificates \
    bookworm "$out"
# What differs from run to run, and device nodes.
rm -rf "${out:?}"/var/cache/apt/archives/*.deb "${out:?}"/var/lib/apt/lists/* "${out:?}"/dev/* "${out:?}"/var/log/*
