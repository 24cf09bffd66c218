#!/usr/bin/env bash
# Installs what the tests need and runs all of them: format, lints, documentation, all targets,
# every test (third-party clients, a browser, a cluster around NATS and a conformance suite among them), the
# deployment files with edges behind a load balancer, a smoke run of every
# benchmark, of the comparison and of the profilers, and a count of instructions.
#
#   ./test.sh              everything
#   ./test.sh --no-install everything, with what is there already
#
# Needs Rust, and apt where something else is missing (as root, or with sudo).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

install=yes
case "${1:-}" in
  "") ;;
  --no-install) install=no ;;
  *) echo "test.sh: unknown option $1; --no-install is known" >&2; exit 2 ;;
esac

# A state for each of some fifty programs to be built from again is 12 GB that one run has no use of.
export CARGO_INCREMENTAL=${CARGO_INCREMENTAL:-0}

step() { printf '\n== %s (%ss)\n' "$*" "$SECONDS"; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

need() { # need COMMAND PACKAGE...: installs the packages where the command is missing
  local command=$1
  shift
  command -v "$command" >/dev/null 2>&1 || missing+=("$@")
}

install_runner() { # counts instructions; must be of the same version as the library that drives it
  local tools=${CARGO_TARGET_DIR:-target}/tools version
  version=$(cargo pkgid --locked gungraun | sed 's/.*[@#]//')
  case "$("$tools/bin/gungraun-runner" --version 2>/dev/null)" in *" $version") return ;; esac
  step "gungraun-runner $version"
  cargo install --quiet --locked --root "$tools" --version "=$version" gungraun-runner
}

install_tools() {
  missing=()
  need cc gcc libc6-dev
  need c++ g++
  need python3 python3 python3-venv
  need curl curl
  need openssl openssl
  need node nodejs
  need npm npm
  need valgrind valgrind
  need strace strace
  need heaptrack heaptrack
  # Started by the tests; where apt starts it as a service too, that one is not touched.
  need nats-server nats-server
  need promtool prometheus
  need haproxy haproxy
  [ -x "${CHROMIUM:-/usr/bin/chromium}" ] || missing+=(chromium)
  if [ "${#missing[@]}" -gt 0 ]; then
    step "apt: ${missing[*]}"
    command -v apt-get >/dev/null 2>&1 || { echo "test.sh: please install ${missing[*]}" >&2; exit 1; }
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
  fi
  install_runner
  step "clients from PyPI and npm"
  if [ ! -x tests/interop/.venv/bin/python ]; then
    python3 -m venv tests/interop/.venv || {
      as_root apt-get update -q
      as_root apt-get install -y -q python3-venv
      python3 -m venv tests/interop/.venv
    }
  fi
  tests/interop/.venv/bin/python -m pip install -q --disable-pip-version-check -r tests/interop/requirements.txt
  (cd tests/browser && npm ci --no-audit --no-fund --loglevel=error)
}

[ "$install" = no ] || install_tools

step "format"
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy --package tickcast --bins --features sampler --locked -- -D warnings
cargo clippy --package tickcast --all-targets --features echo --locked -- -D warnings
cargo clippy --manifest-path fuzz/Cargo.toml --all-targets --locked --target-dir "${CARGO_TARGET_DIR:-target}/fuzz" -- -D warnings
step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
step "all targets"
cargo build --workspace --all-targets --locked
step "tests"
# The models are run by loom, below.
cargo test --workspace --exclude models --lib --bins --tests --examples --locked
step "conformance (RFC 6455)"
if [ "$install" = yes ]; then tests/autobahn/run.sh; else tests/autobahn/run.sh --no-install; fi
step "deployment files, and edges behind a load balancer"
PYTHON=$PWD/tests/interop/.venv/bin/python deploy/check.sh "${CARGO_TARGET_DIR:-target}/debug/tickcast"
step "examples in the documentation"
cargo test --workspace --doc --locked
step "models of the lock-free parts"
proofs/loom.sh
step "benchmarks, once"
cargo test --benches --locked
step "instructions, against the last release"
cargo bench --bench instructions --locked -- --check
step "what needs a nightly toolchain"
proofs/nightly.sh
step "every server under load, once"
loadtest/compare.sh --smoke
step "what is promised beyond a steady load, once"
loadtest/performance.sh --smoke
step "a soak among hostile clients, a minute of it"
loadtest/soak.sh --smoke
step "the profilers, once"
export PROFILING_INSTALL=$install
profiling/flamegraph.sh --smoke
profiling/flamegraph.sh --smoke --sampler in-process
# With --no-install what these two record with may be missing.
if command -v perf || command -v strace; then profiling/syscalls.sh --smoke; fi
if command -v heaptrack; then profiling/memory.sh --smoke; fi
step "all passed"
