#!/bin/sh
# Installs the snapshotter on the node whose root is at /host, and stays there. It runs under the node's systemd and not in
# this pod: containerd needs it to start pods, this one too.
set -eu

: "${HOST:=/host}" "${IMAGE:=}"
: "${CONTAINERD_SERVICE:=containerd}" "${CONTAINERD_CONFIG:=/etc/containerd/conf.d/erofs-toolkit.toml}"
: "${CONTAINERD_PROGRAMS:=/usr/local/bin:/usr/bin}" "${WITH_CRI:=yes}"

on_node() { chroot "$HOST" "$@"; }

# What must be started anew ($1) is noted on the node, so that the next run does it when this one fails before.
note() { echo "$HOST/run/erofs-toolkit.$1"; }

# Copies file $1 to $2 of the node, where $3 reads it, unless it is there already.
replace() {
    if ! cmp -s "$1" "$HOST$2"; then
        mkdir -p "$HOST${2%/*}"
        cp "$1" "$HOST$2.new"
        : >"$(note "$3")"
        mv "$HOST$2.new" "$HOST$2"
    fi
}

replace "$IMAGE/usr/local/bin/erofs" /usr/local/bin/erofs snapshotter
replace "$IMAGE/etc/erofs/snapshotter.toml" /etc/erofs/snapshotter.toml snapshotter
for unit in service socket; do
    replace "$IMAGE/opt/erofs/systemd/erofs-snapshotter.$unit" /etc/systemd/system/erofs-snapshotter.$unit snapshotter
done
if [ -e "$(note snapshotter)" ]; then
    on_node systemctl daemon-reload
    on_node systemctl enable --now erofs-snapshotter.socket
    # Containers go on meanwhile: the kernel serves them.
    on_node systemctl restart erofs-snapshotter.service
    rm "$(note snapshotter)"
fi

lines=$(on_node env "PATH=$CONTAINERD_PROGRAMS:$PATH" \
    erofs snapshotter --config /etc/erofs/snapshotter.toml --print-containerd-config)
if [ "$WITH_CRI" != yes ]; then
    lines=$(printf '%s\n' "$lines" | sed -e '/^# Kubernetes/,$d' -e '/^version = /d')
fi
made=$(mktemp)
printf '%s\n' "${CONTAINERD_CONFIG_HEAD:-}" "$lines" >"$made"
chmod 644 "$made"
replace "$made" "$CONTAINERD_CONFIG" containerd
rm "$made"
if [ -e "$(note containerd)" ]; then
    running=
    for service in $CONTAINERD_SERVICE; do
        if on_node systemctl is-active --quiet "$service"; then running=$service; fi
    done
    if [ -z "$running" ]; then
        echo "of the services that have containerd, none runs on this node: $CONTAINERD_SERVICE" >&2
        exit 1
    fi
    on_node systemctl restart "$running"
    rm "$(note containerd)"
fi

exec sleep infinity
