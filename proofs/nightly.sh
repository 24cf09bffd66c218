#!/usr/bin/env bash
# Runs what needs a nightly toolchain: Miri, ThreadSanitizer and the fuzzers. What the machine cannot run is left
# out, and it says so.
#
#   proofs/nightly.sh              all three
#   proofs/nightly.sh PART...      of miri, thread, fuzz
#   proofs/nightly.sh --planted    only whether ThreadSanitizer, run as here, finds a race that is there
#
# FUZZ_SECONDS=60 is how long each fuzzer runs, FUZZ_SEED=1 what it begins with: a run that fails can be repeated. Builds are kept in target/nightly, apart from all others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

step() { printf '\n-- %s (%ss)\n' "$*" "$SECONDS"; }
ran=() left_out=()
report() {
  printf '\n'
  for line in "${ran[@]}"; do printf 'nightly: ran       %s\n' "$line"; done
  for line in "${left_out[@]}"; do printf 'nightly: left out  %s\n' "$line"; done
}

parts=("$@")
[ "${#parts[@]}" -gt 0 ] || parts=(miri thread fuzz)
for part in "${parts[@]}"; do
  case $part in
    miri | thread | fuzz | --planted) ;;
    *) echo "nightly.sh: unknown part $part; miri, thread and fuzz are known, and --planted" >&2; exit 2 ;;
  esac
done

if ! cargo +nightly --version >/dev/null 2>&1; then
  left_out+=("everything: there is no nightly toolchain (rustup toolchain install nightly --component miri,rust-src)")
  report
  exit 0
fi
target=${CARGO_TARGET_DIR:-target}/nightly
target=$(mkdir -p "$target" && cd "$target" && pwd)
host=$(rustc +nightly -vV | sed -n 's/^host: //p')
sources=$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/Cargo.toml

# Undefined behaviour in what the pure parts do, in the dependencies they use among them.
#
# Skipped is what Miri cannot run, or not within minutes: sockets, files, processes and other tests of the runtime's
# I/O; the decoder, as simd-json's vector instructions are not all known to Miri; and inputs of megabytes.
miri() {
  if ! cargo +nightly miri --version >/dev/null 2>&1; then
    left_out+=("Miri: the nightly toolchain has no component miri (rustup +nightly component add miri rust-src)")
    return
  fi
  step "Miri: readers, frames, slots, deadlines, values"
  local tests=(server::reader:: server::utf8:: server::heartbeat:: fanout::frame:: fanout::slots:: fanout::ring::
    fanout::turn:: fanout::audience:: config::value:: source::tests:: metrics::)
  # Time that passes is the machine's, and what is leaked by threads that outlive the tests is not of interest.
  MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks" \
    cargo +nightly miri test --locked --no-default-features --lib --target-dir "$target/miri" -- "${tests[@]}"
  ran+=("Miri: ${tests[*]}")
}

sanitizer=(-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer)
export TSAN_OPTIONS="suppressions=$PWD/proofs/thread.suppressions:halt_on_error=1:log_path=$target/races/race"

forget_races() {
  rm -rf "$target/races"
  mkdir -p "$target/races"
}

# Races between the threads that publish, join, write and leave. Without mimalloc, whose memory ThreadSanitizer does not know.
#
# The server that some of these tests start is built for it too. It stops at the first race, which fails the test,
# and leaves a report, which fails this even if no test noticed.
thread() {
  case $host in
    x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu | *-apple-darwin) ;;
    *) left_out+=("ThreadSanitizer: not for $host"); return ;;
  esac
  planted
  # A standard library that is not built for it hides what its locks, its Arc and its OnceLock order: over a hundred
  # reports of what they protect, in tokio and here. Suppressing those would leave little to find.
  if [ ! -f "$sources" ]; then
    left_out+=("ThreadSanitizer over delivery: the nightly toolchain has no component rust-src")
    return
  fi
  step "ThreadSanitizer: delivery"
  forget_races
  local status=0
  RUSTFLAGS="${sanitizer[*]}" CARGO_PROFILE_DEV_DEBUG=line-tables-only \
    cargo +nightly test -Zbuild-std --locked --target "$host" --target-dir "$target/thread" \
    --package tickcast --no-default-features --lib --test rounds --test wake --test delivery --test slow_client ||
    status=$?
  # Some of the library's tests have nothing to do with delivery; they are quick.
  if [ -n "$(ls "$target/races")" ]; then
    head -n 60 "$target/races"/*
    echo "nightly.sh: ThreadSanitizer has found a race" >&2
    exit 1
  fi
  [ "$status" = 0 ] || exit "$status"
  ran+=("ThreadSanitizer: the library's tests, rounds, wake, delivery, slow_client")
}

# A race that is there must be found, with the same flags and suppressions.
planted() {
  step "ThreadSanitizer: a planted race"
  forget_races
  rustc +nightly --edition 2024 --target "$host" -g "${sanitizer[@]}" -o "$target/planted_race" proofs/planted_race.rs
  if "$target/planted_race" || ! grep -qs 'data race' "$target/races"/*; then
    echo "nightly.sh: ThreadSanitizer did not find a race that was planted" >&2
    exit 1
  fi
  ran+=("ThreadSanitizer: finds a planted race")
}

fuzz() {
  step "fuzzers"
  NIGHTLY_TARGET_DIR=$target fuzz/run.sh --seconds "${FUZZ_SECONDS:-60}" --seed "${FUZZ_SEED:-1}"
  ran+=("fuzzers, ${FUZZ_SECONDS:-60} s each")
}

for part in "${parts[@]}"; do
  case $part in
    --planted) planted ;;
    *) "$part" ;;
  esac
done
report
