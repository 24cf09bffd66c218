#!/usr/bin/env bash
# Fuzzes the targets of this crate for a while, starting from the committed corpus.

set -euo pipefail
# Every child gets a process group of its own: whatever it started ends with it.
set -m
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all=(reader handshake decoder configuration replay_lines)

usage() {
    cat <<END
Usage: fuzz/run.sh [OPTIONS] [TARGET...]

Builds the fuzz targets with a nightly toolchain, runs each for a while and prints what came of it.
Without a nightly toolchain it says so and is content.

Targets: ${all[*]} [default: all]

Options:
  --seconds N         how long each target runs [default: 60]
  --seed N            of what is tried; the same again as far as the clock allows [default: 0, another each time]
  --jobs N            targets at a time [default: 2]
  --sanitizer NAME    none or address [default: none]: the project has no unsafe code; address
                      looks at that of its dependencies, and costs executions
  --no-install        with what is there already: without cargo-fuzz it is left out
  --minimise          afterwards adds to the committed corpus the largest of what is new, 25 of a target
  -h, --help          print this

What is found is kept in target/nightly/fuzz, and starts the next run together with the corpus.

Exit status: 0 nothing was found or there is no nightly toolchain, 1 a target crashed, 2 bad arguments.
END
}

say() { printf '%s\n' "$*" >&2; }
reject() {
    say "fuzz/run.sh: $*"
    say "Try --help."
    exit 2
}
number() { [[ $2 =~ ^[1-9][0-9]{0,5}$ ]] || reject "$1 takes a number from 1, not '$2'"; }

targets=() seconds=60 seed=0 jobs=2 sanitizer=none install=yes minimise=no
while (($#)); do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --seconds) number "$1" "${2:-}"; seconds=$2; shift ;;
        --seed)
            [[ ${2:-} =~ ^[0-9]{1,9}$ ]] || reject "--seed takes a number, not '${2:-}'"
            seed=$2
            shift
            ;;
        --jobs) number "$1" "${2:-}"; jobs=$2; shift ;;
        --sanitizer)
            case ${2:-} in none | address) sanitizer=$2 ;; *) reject "--sanitizer takes none or address" ;; esac
            shift
            ;;
        --no-install) install=no ;;
        --minimise) minimise=yes ;;
        -*) reject "unknown option $1" ;;
        *)
            [[ " ${all[*]} " == *" $1 "* ]] || reject "no target $1; there are ${all[*]}"
            targets+=("$1")
            ;;
    esac
    shift
done
((${#targets[@]})) || targets=("${all[@]}")

if ! cargo +nightly --version >/dev/null 2>&1; then
    say "fuzz/run.sh: left out: there is no nightly toolchain (rustup toolchain install nightly)"
    exit 0
fi
if ! command -v c++ >/dev/null 2>&1; then
    say "fuzz/run.sh: left out: there is no C++ compiler, which libFuzzer is built with"
    exit 0
fi

tools=${CARGO_TARGET_DIR:-target}/tools
build=${NIGHTLY_TARGET_DIR:-${CARGO_TARGET_DIR:-target}/nightly}/fuzz
mkdir -p "$tools" "$build"
tools=$(cd "$tools" && pwd) build=$(cd "$build" && pwd)
PATH=$tools/bin:$PATH
if ! command -v cargo-fuzz >/dev/null 2>&1; then
    if [ "$install" = no ]; then
        say "fuzz/run.sh: left out: there is no cargo-fuzz (cargo install --locked cargo-fuzz)"
        exit 0
    fi
    say "==> cargo-fuzz"
    cargo install --quiet --locked --root "$tools" cargo-fuzz
fi

say "==> building the targets, sanitizer: $sanitizer"
options=(--fuzz-dir fuzz --sanitizer "$sanitizer" --target-dir "$build/$sanitizer")
only=()
((${#targets[@]} > 1)) || only=("${targets[0]}")
cargo +nightly fuzz build "${options[@]}" "${only[@]}"
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
programs=$build/$sanitizer/$host/release

running=()
stop() {
    local pid
    for pid in "${running[@]}"; do kill -TERM -- "-$pid" 2>/dev/null || true; done
}
trap stop EXIT
trap 'exit 130' INT TERM

run() { # run TARGET: what libFuzzer says goes to a log
    local target=$1 found=$build/corpus/$1 flags=()
    mkdir -p "$found" "$build/artifacts"
    [ ! -f "fuzz/dictionaries/$target.dict" ] || flags+=("-dict=fuzz/dictionaries/$target.dict")
    exec "$programs/$target" -max_total_time="$seconds" -seed="$seed" -timeout=20 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$build/artifacts/$target-" "${flags[@]}" "$found" "fuzz/corpus/$target" \
        >"$build/$target.log" 2>&1
}

say "==> fuzzing ${targets[*]}: ${seconds} s each, $jobs at a time"
declare -A target_of=() status_of=()
waiting=("${targets[@]}")
while ((${#waiting[@]} + ${#running[@]})); do
    while ((${#waiting[@]} && ${#running[@]} < jobs)); do
        run "${waiting[0]}" &
        target_of[$!]=${waiting[0]}
        running+=($!)
        waiting=("${waiting[@]:1}")
    done
    status=0
    wait -n -p ended "${running[@]}" || status=$?
    status_of[${target_of[$ended]}]=$status
    left=()
    for pid in "${running[@]}"; do [ "$pid" = "$ended" ] || left+=("$pid"); done
    running=("${left[@]}")
done

final() { sed -n "s/^stat::$1: *//p" "$build/$target.log" | tail -1; }
printf '\n%-16s %12s %8s %9s %12s %8s\n' target executions exec/s coverage 'new entries' crashes
failed=()
for target in "${targets[@]}"; do
    coverage=$(sed -n 's/^#.* cov: \([0-9]*\) .*/\1/p' "$build/$target.log" | tail -1)
    crashes=0
    if [ "${status_of[$target]}" != 0 ]; then
        crashes=1
        failed+=("$target")
    fi
    printf '%-16s %12s %8s %9s %12s %8s\n' "$target" "$(final number_of_executed_units)" "$(final average_exec_per_sec)" \
        "${coverage:--}" "$(final new_units_added)" "$crashes"
done
echo

for target in "${failed[@]}"; do
    say "$target ended with status ${status_of[$target]}; from $build/$target.log:"
    grep -aE -A1 'panicked|^SUMMARY|ERROR|assertion|left:|right:' "$build/$target.log" | cut -c1-400 | tail -12 >&2 || true
    input=$(sed -n 's/.*Test unit written to //p' "$build/$target.log" | tail -1)
    if [ -n "$input" ]; then
        say "reproduce: cargo +nightly fuzz run ${options[*]} $target $input"
        say "keep it:   cp $input fuzz/corpus/$target/    then it is in cargo test --test corpus as well"
    fi
done
((${#failed[@]} == 0)) || exit 1

if [ "$minimise" = yes ]; then
    for target in "${targets[@]}"; do
        smallest=$build/minimised/$target
        rm -rf "$smallest"
        mkdir -p "$smallest"
        # By edges, not by how often each is taken: that would be thousands of files.
        "$programs/$target" -use_counters=0 -merge=1 "$smallest" "fuzz/corpus/$target" "$build/corpus/$target" \
            >"$build/$target.merge.log" 2>&1
        find "$smallest" -type f -printf '%s %p\n' | sort -rn | sed -n '1,25s/^[0-9]* //p' |
            while read -r file; do cp "$file" "fuzz/corpus/$target/"; done
        say "$target: $(find "fuzz/corpus/$target" -type f | wc -l) files, $(du -sb "fuzz/corpus/$target" | cut -f1) bytes"
    done
fi
