# Sourced. Unpacks packages of a newer Debian suite, with the libraries they need, into a folder of
# the user's cache. Nothing is installed and the host's own apt state is only read: the programs run
# through the dynamic loader that came with them, so the host's libraries and theirs never mix.
#
# A set is a folder NAME in the cache: root/ (the unpacked packages), bin/ (wrappers), packages (what
# was asked for) and versions (what came). It appears by one rename, so a broken download never counts.
# shellcheck shell=bash

EROFS_CACHE=${EROFS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/erofs-toolkit}
# Unpacked code runs with the caller's rights: only Debian's own archive keys may vouch for it.
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The Debian mirror that apt is configured for on this machine; EROFS_DEBIAN_MIRROR overrides it.
debian_mirror() {
    local codename mirror
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=${EROFS_DEBIAN_MIRROR:-$(apt-get update --print-uris 2>/dev/null |
        sed -n "s|^'\(.*/debian\)/dists/$codename/InRelease'.*|\1|p" | head -n 1)}
    [ -n "$mirror" ] || { echo "no Debian mirror in apt's configuration: set EROFS_DEBIAN_MIRROR" >&2; return 1; }
    echo "$mirror"
}

# debian_set_is_ready NAME REQUEST: whether the cache holds exactly what is asked for.
debian_set_is_ready() {
    [ -r "$EROFS_CACHE/$1/packages" ] && [ "$(cat "$EROFS_CACHE/$1/packages")" = "$2" ]
}

# debian_set NAME SUITE WRAP PACKAGE… [-- PACKAGE:ARCH…]
# Makes the set NAME from PACKAGEs with everything they depend on, and the packages after "--" alone.
# The function WRAP is then called with the new set's folder to fill bin/.
debian_set() (
    set -euo pipefail
    name=$1 suite=$2 wrap=$3
    shift 3
    host=$(dpkg --print-architecture)
    request="$suite $host: $*"
    mkdir -p "$EROFS_CACHE"
    exec 9>"$EROFS_CACHE/$name.lock"
    flock 9
    if debian_set_is_ready "$name" "$request" && [ -z "${EROFS_REFRESH:-}" ]; then
        exit 0
    fi

    whole=() alone=() architectures=$host
    while [ $# -gt 0 ] && [ "$1" != -- ]; do whole+=("$1"); shift; done
    [ $# -eq 0 ] || shift
    for package in "$@"; do
        alone+=("$package")
        case $package in *:*) architectures+=",${package#*:}" ;; esac
    done

    new=$(mktemp -d "$EROFS_CACHE/.new.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    mkdir -p "$new"/apt/{lists,cache/archives}/partial "$new/debs" "$new/set"/{root,bin}
    : >"$new/apt/status"
    echo "deb [signed-by=$DEBIAN_KEYRING arch=$architectures] $(debian_mirror) $suite main" >"$new/apt/sources.list"
    apt=("-oDir::Etc::sourcelist=$new/apt/sources.list" -oDir::Etc::sourceparts=/dev/null
        -oDir::Etc::preferences=/dev/null -oDir::Etc::preferencesparts=/dev/null
        "-oDir::State=$new/apt" "-oDir::State::Lists=$new/apt/lists" "-oDir::State::status=$new/apt/status"
        "-oDir::Cache=$new/apt/cache" -oAPT::Sandbox::User= -oAPT::Architecture="$host"
        -oAPT::Default-Release= -oAPT::Install-Recommends=0
        -oAcquire::Languages=none -oAcquire::Retries=3 -oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
    for architecture in ${architectures//,/ }; do apt+=("-oAPT::Architectures::=$architecture"); done

    apt-get "${apt[@]}" -qq update
    # With an empty dpkg status, apt's own resolver lists the closure: "Inst NAME (VERSION …".
    mapfile -t closure < <(apt-get "${apt[@]}" -qq -s install "${whole[@]}" |
        sed -n 's/^Inst \([^ ]*\) (\([^ ]*\) .*/\1=\2/p')
    [ ${#closure[@]} -gt 0 ] || { echo "$suite has no installable ${whole[*]}" >&2; exit 1; }
    (cd "$new/debs" && apt-get "${apt[@]}" -qq download "${closure[@]}" "${alone[@]}")
    for deb in "$new"/debs/*.deb; do dpkg-deb -x "$deb" "$new/set/root"; done

    "$wrap" "$new/set"
    printf '%s\n' "${closure[@]}" "${alone[@]}" >"$new/set/versions"
    echo "$request" >"$new/set/packages"
    # One rename makes the set visible; a reader sees the old one, the new one, or none.
    [ ! -e "$EROFS_CACHE/$name" ] || mv "$EROFS_CACHE/$name" "$new/old"
    mv "$new/set" "$EROFS_CACHE/$name"
)

# debian_wrap SET PROGRAM [ARGUMENT…]: writes SET/bin/<name of PROGRAM>, which runs SET/root/PROGRAM
# through the set's own loader, with ARGUMENTs first ("$root" in them is the set's root).
debian_wrap() {
    local set=$1 program=$2 loader
    shift 2
    [ -x "$set/root/$program" ] || { echo "no $program in the downloaded packages" >&2; return 1; }
    # The loader itself, not a link to it: it stands among the libraries.
    loader=$(cd "$set/root" && find usr/lib -type f -name 'ld-linux-*.so.*' -print -quit)
    cat >"$set/bin/${program##*/}" <<WRAPPER
#!/bin/sh
root=\${0%/*}/../root
exec "\$root/$loader" --library-path "\$root/${loader%/*}" --argv0 "\$0" "\$root/$program" $* "\$@"
WRAPPER
    chmod +x "$set/bin/${program##*/}"
}
