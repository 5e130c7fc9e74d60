#!/bin/sh
# Installs the snapshotter on the node whose root is at /host, and stays there. It runs under the node's systemd and not in
# this pod: containerd needs it to start pods, this one too.
set -eu

: "${CONTAINERD_SERVICE:=containerd}" "${CONTAINERD_CONFIG:=/etc/containerd/conf.d/erofs-toolkit.toml}"
: "${CONTAINERD_PROGRAMS:=/usr/local/bin:/usr/bin}" "${WITH_CRI:=yes}"

on_node() { chroot /host "$@"; }

# Copies file $1 (- is standard input) to $2 of the node; fails if that is the same already.
replace() {
    mkdir -p "/host${2%/*}"
    cat "$1" >"/host$2.new"
    if cmp -s "/host$2.new" "/host$2"; then
        rm "/host$2.new"
        return 1
    fi
    mv "/host$2.new" "/host$2"
}

restart=no
replace /usr/local/bin/erofs /usr/local/bin/erofs && restart=yes
chmod 755 /host/usr/local/bin/erofs
replace /etc/erofs/snapshotter.toml /etc/erofs/snapshotter.toml && restart=yes
for unit in service socket; do
    replace /opt/erofs/systemd/erofs-snapshotter.$unit /etc/systemd/system/erofs-snapshotter.$unit && restart=yes
done
if [ $restart = yes ]; then
    on_node systemctl daemon-reload
    on_node systemctl enable --now erofs-snapshotter.socket
    # Containers go on meanwhile: the kernel serves them.
    on_node systemctl restart erofs-snapshotter.service
fi

snippet() {
    on_node env "PATH=$CONTAINERD_PROGRAMS:$PATH" \
        erofs snapshotter --config /etc/erofs/snapshotter.toml --print-containerd-config |
        if [ "$WITH_CRI" = yes ]; then cat; else sed -e '/^# Kubernetes/,$d' -e '/^version = /d'; fi
}
{
    printf '%s\n' "${CONTAINERD_CONFIG_HEAD:-}"
    snippet
} | replace - "$CONTAINERD_CONFIG" && on_node systemctl restart "$CONTAINERD_SERVICE"

exec sleep infinity
