#!/bin/bash
# Fuzzes with the toolchain of rust-toolchain.toml; see README.md.
#
#     fuzz/run.sh [--seconds N] [--jobs N] [--seed N] [--asan] [--keep] [TARGET…]      (all targets when none is named)
#
# --seconds N   fuzz each target for so long (default 10); 0 only replays what is kept
# --jobs N      so many targets at a time (default: one for each processor)
# --seed N      begin with the same inputs each time
# --asan        build with the nightly compiler and AddressSanitizer
# --keep        afterwards put the smallest corpus of the same coverage into kept/
#
# Each target replays its fixtures and its kept corpus first. Fails when anything fails; the input is then in artifacts/.
set -euo pipefail
cd "$(dirname "$0")"

seconds=10 jobs=$(nproc) seed=0 asan='' keep=''
while [[ ${1:-} == --* ]]; do
    case $1 in
        --seconds) seconds=$2; shift ;;
        --jobs) jobs=$2; shift ;;
        --seed) seed=$2; shift ;;
        --asan) asan=1 ;;
        --keep) keep=1 ;;
        *) echo "unknown option $1" >&2; exit 2 ;;
    esac
    shift
done
if [ $# -eq 0 ]; then
    for target in fuzz_targets/*.rs; do set -- "$@" "$(basename "$target" .rs)"; done
fi
for target; do
    [ -e "fuzz_targets/$target.rs" ] || { echo "no target $target" >&2; exit 2; }
done

# What cargo-fuzz would set. Coverage needs no nightly compiler, only sanitizers do.
flags="--cfg fuzzing -Cpasses=sancov-module -Cdebug-assertions -Coverflow-checks"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    flags+=" -Cllvm-args=-sanitizer-coverage-$option"
done
cargo=(cargo) machine=$(rustc -vV | sed -n 's/^host: //p') built=${CARGO_TARGET_DIR:+$CARGO_TARGET_DIR/fuzz}
built=${built:-target}
if [ -n "$asan" ]; then
    cargo+=(+nightly) built+=/asan flags+=" -Zsanitizer=address"
fi
# A target of its own keeps the instrumentation out of build scripts.
RUSTFLAGS=$flags "${cargo[@]}" build --quiet --release --locked --bins --target "$machine" --target-dir "$built"
programs=$built/$machine/release

# Replays and fuzzes one target; its figures go to logs/TARGET.
fuzz() {
    local target=$1 corpus=corpus/$1 log=logs/$1 limits fixtures
    limits=(-rss_limit_mb=1024 -timeout=60 "-artifact_prefix=artifacts/$1/")
    mkdir -p "$corpus" "artifacts/$target"
    if [ -e "kept/$target.tar.zst" ]; then zstd -dc "kept/$target.tar.zst" | tar -xf - -C "$corpus"; fi
    shopt -s nullglob
    fixtures=("fixtures/$target"/*)
    case $target in
        # Images themselves.
        superblock_walk | image_read | check | dump | extract) fixtures+=(../images/malformed/*.erofs) ;;
    esac
    if [ ${#fixtures[@]} -gt 0 ]; then
        "$programs/$target" "${limits[@]}" "${fixtures[@]}" >"$log" 2>&1 || return 1
    fi
    local amount=(-runs=0)
    if [ "$seconds" -gt 0 ]; then amount=("-max_total_time=$seconds"); fi
    "$programs/$target" "${limits[@]}" "${amount[@]}" -seed="$seed" -max_len=131072 -print_final_stats=1 "$corpus" >"$log" 2>&1 || return 1
    if [ -n "$keep" ]; then
        rm -rf "$corpus.new"
        mkdir -p "$corpus.new" kept
        "$programs/$target" "${limits[@]}" -max_len=131072 -merge=1 "$corpus.new" "$corpus" >"$log.merge" 2>&1 || return 1
        tar -c --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --format=ustar \
            -C "$corpus.new" . | zstd -q -19 --long -f -o "kept/$target.tar.zst"
        rm -rf "$corpus.new"
    fi
}

# A line of the table: executions, edges covered, inputs in the corpus.
figures() {
    local target=$1 executed covered
    executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "logs/$target")
    covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "logs/$target" | tail -n 1)
    printf '%-18s %12s executions %6s edges %6s inputs\n' "$target" "${executed:-?}" "${covered:-?}" \
        "$(find "corpus/$target" -type f | wc -l)"
}

# What targets write to folders goes to memory.
if [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi
mkdir -p logs
declare -A running=()
failed=()
# Waits for one target and prints what came of it.
collect() {
    local pid status=0 target
    wait -n -p pid || status=$?
    target=${running[$pid]}
    unset "running[$pid]"
    if [ $status -eq 0 ]; then
        figures "$target"
    else
        failed+=("$target")
        echo "$target FAILED, its log ends with:"
        tail -n 40 "logs/$target"
    fi
}
for target; do
    if [ ${#running[@]} -ge "$jobs" ]; then collect; fi
    (fuzz "$target") &
    running[$!]=$target
done
while [ ${#running[@]} -gt 0 ]; do collect; done

[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}; inputs are in fuzz/artifacts/" >&2; exit 1; }
