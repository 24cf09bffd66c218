#!/usr/bin/env bash
# Tries the interleavings of the engine's threads (proofs/models), and prints how many they were.
#
#   proofs/loom.sh [NAME...]   the models whose names contain one of these, or all
#   proofs/loom.sh --mutants [TEXT]
#                              breaks the engine in one place after another, or where TEXT is in the description: each
#                              time a model must fail
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
target=$(mkdir -p "$target" && cd "$target" && pwd)/loom
export RUST_BACKTRACE=${RUST_BACKTRACE:-0}
# Optimised as one whole they would take longer to build, and most of them not less to run.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=false CARGO_INCREMENTAL=1

build() { # build SOURCES TARGET
  cargo build --quiet --release --locked --package models --manifest-path "$1/Cargo.toml" --target-dir "$2"
}

# mutant WHAT MODEL FILE PERL: applies the expression to the file, and runs the model.
mutant() {
  local what=$1 model=$2 file=$tree/src/fanout/$3 expression=$4 verdict=caught
  case $what in *"$only"*) ;; *) return ;; esac
  cp "src/fanout/$3" "$file"
  perl -0pi -e "$expression" "$file"
  if cmp -s "src/fanout/$3" "$file"; then
    verdict="NOT APPLIED"
  elif ! build "$tree" "$tree/target" 2>"$tree/build.log"; then
    verdict="NOT COMPILED"
  else
    local status=0
    timeout 300 "$tree/target/release/models" "$model" >/dev/null 2>&1 || status=$?
    case $status in 0) verdict=SURVIVED ;; 124) verdict="TIMED OUT" ;; esac
  fi
  cp "src/fanout/$3" "$file"
  printf '%-66s %-34s %s\n' "$what" "$model" "$verdict"
  [ "$verdict" = caught ] || survived=$((survived + 1))
}

mutants() {
  tree=$target/mutants survived=0 only=${1:-}
  rm -rf "$tree/src"
  mkdir -p "$tree"
  git ls-files -z --cached --others --exclude-standard -- Cargo.toml Cargo.lock src proofs loadtest benches |
    xargs -0 cp --parents -t "$tree"
  # shellcheck source=proofs/mutants.sh
  . proofs/mutants.sh
  [ "$survived" = 0 ] || { echo "loom.sh: $survived not caught" >&2; return 1; }
}

case "${1:-}" in
  --mutants) mutants "${2:-}" ;;
  -*) echo "loom.sh: unknown option $1; --mutants is known" >&2; exit 2 ;;
  *)
    build . "$target"
    "$target/release/models" "$@"
    ;;
esac
