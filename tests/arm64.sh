#!/bin/bash
# Builds the crates that must work on arm64 for it and runs their tests under qemu-user.
#
# rustup's own aarch64 target is used where it is installed. Otherwise rustc comes from Debian sid with
# its arm64 standard library (both have the same version there), unpacked into the cache and run through
# its own loader; compiler and C library for arm64 are the host release's packages.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/peers/debian-set.sh

target=aarch64-unknown-linux-gnu
crates=(format codec reader mkfs)

qemu=$(command -v qemu-aarch64-static || command -v qemu-aarch64) ||
    { echo "no qemu-aarch64: install qemu-user-static (Debian 12) or qemu-user (13)" >&2; exit 2; }
command -v aarch64-linux-gnu-gcc >/dev/null ||
    { echo "no aarch64-linux-gnu-gcc: install gcc-aarch64-linux-gnu and libc6-dev-arm64-cross" >&2; exit 2; }

wrap() {
    local standard
    debian_wrap "$1" usr/bin/rustc --sysroot "\$root/usr"
    for standard in x86_64-unknown-linux-gnu "$target"; do
        [ -d "$1/root/usr/lib/rustlib/$standard/lib" ] || { echo "no standard library for $standard" >&2; return 1; }
    done
    # Building proves that compiler and standard library have one version.
    echo 'fn main() {}' >"$1/hello.rs"
    "$1/bin/rustc" --target "$target" --emit=metadata -o "$1/hello.rmeta" "$1/hello.rs"
    rm "$1"/hello.*
}

if [ "$(uname -m)" = aarch64 ]; then
    echo "arm64: this machine is one, the ordinary tests cover it"
    exit 0
fi
if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
    debian_set rust-arm64 sid wrap libstd-rust-dev -- rustc libstd-rust-dev:arm64
    export RUSTC=$EROFS_CACHE/rust-arm64/bin/rustc
fi
"${RUSTC:-rustc}" --version

# Emulation is 10 to 20 times slower than the machine: fewer cases of each property.
export PROPTEST_CASES=${PROPTEST_CASES:-16}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/arm64
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="$qemu -L /usr/aarch64-linux-gnu"
export CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
# Not the doc tests: rustdoc would have to be sid's as well, and they say nothing about a machine.
exec cargo test --target "$target" "${crates[@]/#/--package=erofs-}" --lib --tests
