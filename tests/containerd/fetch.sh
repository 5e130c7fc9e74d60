#!/bin/bash
# Puts containerd, runc, a registry and a shell for images into the cache, and prints its folder: containerd 2.1 in
# containerd-2.1/bin, 1.7 in containerd-1.7/bin, 1.6 in containerd-1.6/bin. Needs the network once; EROFS_REFRESH=1 fetches anew.
#
# Their programs start each other by the path that they were started by, so they are run by this machine's own loader:
# containerd needs no library but libc from 2.34 on, and runc comes from this machine's own release.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=tests/peers/debian-set.sh
. ../peers/debian-set.sh

link() {
    local program
    for program in "$1"/root/usr/bin/* "$1"/root/usr/sbin/*; do
        [ ! -x "$program" ] || ln -sf "../${program#"$1"/}" "$1/bin/"
    done
}

# shellcheck disable=SC1091
codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
debian_set containerd-2.1 sid link busybox-static -- containerd docker-registry
debian_set containerd-1.7 trixie link busybox-static -- containerd
debian_set containerd-1.6 bookworm link busybox-static -- containerd
debian_set runc "$codename" link busybox-static -- runc
for version in 2.1 1.7 1.6; do "$EROFS_CACHE/containerd-$version/bin/containerd" --version >&2; done
"$EROFS_CACHE/runc/bin/runc" --version >&2
echo "$EROFS_CACHE"
