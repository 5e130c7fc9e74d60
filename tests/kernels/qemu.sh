# Sourced: QEMU from Debian 13, in the cache. The script says in `here` where it is.
# shellcheck shell=bash
# shellcheck source=tests/peers/debian-set.sh
. "${here:?}/../peers/debian-set.sh"
export EROFS_CACHE

if [ "$(uname -m)" != x86_64 ]; then
    echo "skipped, because the guests are for x86-64" >&2
    # Continuous integration must have everything.
    [ "${CI:-}" != true ] || exit 1
    exit 77
fi

wrap() { debian_wrap "$1" usr/bin/qemu-system-x86_64 -L "\$root/usr/share/qemu" -L "\$root/usr/share/seabios"; }
debian_set qemu trixie wrap qemu-system-x86
export EROFS_QEMU=$EROFS_CACHE/qemu/bin/qemu-system-x86_64
# It would look for modules beside the loader that runs it.
export QEMU_MODULE_DIR=$EROFS_CACHE/qemu/root/usr/lib/x86_64-linux-gnu/qemu
