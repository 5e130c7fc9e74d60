#!/bin/bash
# Everything that must pass before a change is accepted, on Debian 12 or 13 with rustup:
#
#     tests/run.sh [STEP…]        (all steps, in this order, when none is named)
#
# Kernel mounts need root: run it as root, or as a user who may use sudo without a password; the tests
# then run through sudo and the building does not. What cannot run here is reported as
# "skipped, because …"; with CI=true such a skip is a failure.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/peers/debian-set.sh

steps=(packages peers scripts fmt lock deny clippy test kernels fuzz)
skipped=77 # exit code of a step that this machine cannot run, as Automake and Meson use it
export EROFS_CACHE EROFS_PEERS=${EROFS_PEERS:-$EROFS_CACHE/peers/bin}
export DEBIAN_FRONTEND=noninteractive

as_root=()
if [ "$(id -u)" -ne 0 ] && sudo -n true 2>/dev/null; then as_root=(sudo -E); fi

# Debian packages that the steps below use, installed only when missing.
step_packages() {
    local wanted missing=() package
    wanted=(gcc g++ libc6-dev git util-linux systemd kmod time fuse3 attr acl tar gzip bzip2 xz-utils zstd shellcheck
        libarchive-tools python3 python3-yaml e2fsprogs strace gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
    # Debian 13 made the statically linked emulators the ordinary ones.
    if [ "$(. /etc/os-release && echo "${VERSION_ID%%.*}")" -ge 13 ]; then wanted+=(qemu-user); else wanted+=(qemu-user-static); fi
    for package in "${wanted[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then
        echo "all ${#wanted[@]} are installed"
    elif [ "$(id -u)" -ne 0 ] && [ ${#as_root[@]} -eq 0 ]; then
        echo "missing, and only root may install them: apt-get install ${missing[*]}" >&2
        return 1
    else
        echo "installing ${missing[*]}"
        "${as_root[@]}" apt-get -qq update
        "${as_root[@]}" apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
    fi
}

# erofs-utils and containerd of newer Debian releases, beside the host's.
step_peers() {
    tests/peers/fetch.sh
    tests/containerd/fetch.sh
}

step_scripts() {
    local scripts script
    mapfile -t scripts < <(git ls-files --cached --others --exclude-standard -- '*.sh' '.ci/*')
    for script in "${scripts[@]}"; do bash -n "$script"; done
    shellcheck -x "${scripts[@]}"
    echo "${#scripts[@]} scripts"
}

step_fmt() {
    cargo fmt --all --check
    cargo fmt --manifest-path fuzz/Cargo.toml --check
}

# The versions that are tested are those that are committed.
step_lock() {
    cargo metadata --locked --format-version 1 >/dev/null
    cargo metadata --locked --format-version 1 --manifest-path fuzz/Cargo.toml >/dev/null
}

# cargo-deny is in neither Debian nor rustup, so it is asked only where somebody has it.
step_deny() {
    if cargo deny --version >/dev/null 2>&1; then
        cargo deny --log-level warn check
    else
        echo "skipped, because cargo-deny is not installed (cargo install cargo-deny)"
        return $skipped
    fi
}

step_clippy() {
    cargo clippy --quiet --workspace --all-targets -- -D warnings
    # The reader builds without any C.
    if cargo tree -p erofs-reader --no-default-features -e normal,build --prefix none | grep '^cc v'; then
        echo "erofs-reader needs a C compiler without its default features" >&2
        return 1
    fi
    cargo clippy --quiet -p erofs-reader --no-default-features -- -D warnings
}

step_test() {
    local machine
    if [ ${#as_root[@]} -gt 0 ]; then
        machine=$(uname -m)
        export "CARGO_TARGET_${machine^^}_UNKNOWN_LINUX_GNU_RUNNER=${as_root[*]}"
    fi
    # Not /tmp: Debian 13 keeps it in memory, from where the kernel mounts no image.
    export TMPDIR=${TMPDIR:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/tmp}
    mkdir -p "$TMPDIR"
    # The tests drive the real binary, which cargo test alone builds only for its own package.
    cargo build --quiet --workspace --lib --bins --tests
    # Half of them wait for disks and daemons at any time, so two lanes go side by side.
    local lane names lanes=()
    for lane in 0 1; do
        mapfile -t names < <(test_targets $lane)
        test_lane $lane "${names[@]/#/--test=}" >"$TMPDIR/lane-$lane" 2>&1 &
        lanes+=($!)
    done
    for lane in 0 1; do
        wait "${lanes[lane]}" || lanes[lane]=failed
        cat "$TMPDIR/lane-$lane"
    done
    [[ ${lanes[*]} != *failed* ]]
}

# Names of every other test target of the workspace, from this one on.
test_targets() {
    cargo metadata --no-deps --format-version 1 | python3 -c '
import json, sys
packages = json.load(sys.stdin)["packages"]
names = {target["name"] for package in packages for target in package["targets"] if "test" in target["kind"]}
print("\n".join(sorted(names)[int(sys.argv[1])::2]))' "$1"
}

# These targets; with lane 0, which has less to wait for, also unit tests and those in documentation. One failure does not
# hide the next.
test_lane() {
    local lane=$1 failed=0 which=()
    shift
    if [ "$lane" -eq 0 ]; then which=(--lib --bins); fi
    cargo test --quiet --workspace --no-fail-fast "${which[@]}" "$@" || failed=1
    if [ "$lane" -eq 0 ]; then cargo test --quiet --workspace --no-fail-fast --doc || failed=1; fi
    return $failed
}

# Every fuzz target replays what is kept, and looks for news for a second, in the same places each time: luck is for
# .ci/long.
step_fuzz() { fuzz/run.sh --seconds 1 --seed 1; }

# What kernels of other versions make of our images: one from before most features, and the newest.
# `.ci/long kernels` asks all of them in every way, also of the golden images, which this machine's kernel reads in the tests.
step_kernels() { tests/kernels/run.sh --kernels 6.1,7.2 --brief; }

# The crates below the system layer, for arm64 under qemu-user. By name, and in `.ci/long`: it takes a quarter of all other steps.
step_arm64() { tests/arm64.sh; }

[ $# -gt 0 ] || set -- "${steps[@]}"
for step; do
    declare -F "step_$step" >/dev/null || { echo "no step $step; there are: ${steps[*]}" >&2; exit 2; }
done

failed=() summary="" start=$SECONDS
for step; do
    echo "== $step"
    began=$SECONDS
    # A subshell outside any condition, since bash ignores "set -e" inside one.
    set +e
    (set -e; "step_$step")
    status=$?
    set -e
    case $status in
        0) result=passed ;;
        "$skipped") result=skipped ;;
        *) result=FAILED failed+=("$step") ;;
    esac
    summary+=" $step $result,"
    echo "== $step $result after $((SECONDS - began)) s"
done

echo "tests/run.sh:$summary $((SECONDS - start)) s"
[ ${#failed[@]} -eq 0 ]
