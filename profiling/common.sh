# shellcheck shell=bash disable=SC2034 # what is set here is used by the scripts that read this
# What the scripts of this directory share: messages, children and their end, packages, builds, the
# server and the load test. Not a program: `source` it.

# Every child gets a process group of its own: whatever it started ends with it.
set -m

script=${0##*/}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/target/tools
build=$root/target/profiling-build
results=$root/target/profiling
inferno_version=0.12.8
# As it was called, for whoever finds the result. Set before the script takes its arguments apart.
command_line=profiling/$script
(($# == 0)) || command_line+=$(printf ' %q' "$@")

# What is said goes to the terminal from inside a redirected command as well, where a signal may find us.
exec 4>&2
say() { printf '%s\n' "$*" >&4; }
step() { say "==> $*"; }
warn() { say "    warning: $*"; }
fail() {
    say "$script: $*"
    exit 1
}
rejected=false
reject() {
    rejected=true
    say "$script: $*"
    say "Try --help."
    exit 2
}

# ---------------------------------------------------------------- arguments

# Takes the next option apart: sets `option`, `value` and `used`, how many arguments they were.
next_option() {
    option=$1 value='' used=1
    case $option in
        --*=*)
            value=${option#*=}
            option=${option%%=*}
            ;;
        # An empty value is refused by `expect`, like one that is given empty.
        --*) value=${2-} used=$(($# > 1 ? 2 : 1)) ;;
        *) reject "unexpected argument '$option'" ;;
    esac
}
expect() { [[ $value =~ $1 ]] || reject "$option '$value': expected $2"; }
expect_count() { expect '^[1-9][0-9]{0,6}$' 'a whole number from 1'; }
expect_rate() { expect '^([1-9][0-9]*([.][0-9]+)?|0[.][0-9]*[1-9][0-9]*)$' 'a number above 0'; }
expect_seconds() { expect '^[1-9][0-9]{0,3}s?$' 'whole seconds from 1'; }
expect_size() { expect '^[1-9][0-9]*(KiB|MiB)?$' 'a size, like 200 or 1KiB'; }
expect_program() { [[ -f $value && -x $value ]] || reject "$option: '$value' is not a program"; }

# ---------------------------------------------------------------- children and cleaning up

out='' fresh=false work='' server='' load='' channel=bench
children=()

# Makes the directory for what comes out, named after the time and `$1`, and one for what is only needed meanwhile.
make_directories() {
    out=${out:-$results/$(date +%Y%m%d-%H%M%S)-$1}
    [[ -e $out ]] || fresh=true
    mkdir -p -- "$out" || fail "cannot make the directory '$out'"
    out=$(cd -- "$out" && pwd)
    # Beside the result and not in /tmp, which may be memory: a long recording is large.
    work=$(mktemp -d -- "$out/.work.XXXXXX") || fail "cannot write in '$out'"
}

# Runs a command to its end. Waiting, unlike a command in the foreground, lets a signal through at once.
run() {
    local status=0
    "$@" 4>&- </dev/null &
    children+=("$!")
    wait "$!" || status=$?
    # It is gone, and its number may come to belong to somebody else.
    unset 'children[-1]'
    return "$status"
}
pause() { run sleep "$1"; }
alive() { kill -0 "$1" 2>/dev/null; }

# Ends a child with everything it started: politely, then not.
stop() {
    local pid=$1 waited=0 n
    # Otherwise the shell reports how it ended.
    exec 2>/dev/null
    kill -"${2:-TERM}" -- "-$pid" || true
    while kill -0 -- "-$pid" && ((waited++ < 100)); do
        sleep 0.05
    done
    kill -KILL -- "-$pid" || true
    wait "$pid" || true
    exec 2>&4
    for n in "${!children[@]}"; do
        [[ ${children[n]} != "$pid" ]] || unset "children[$n]"
    done
    children=("${children[@]}")
}
# The newest first: the load before the server, which then has nobody to drain.
stop_children() {
    while ((${#children[@]})); do
        stop "${children[-1]}"
    done
    server='' load=''
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    # A command in the foreground may have taken the Ctrl-C in our place.
    ((status != 130)) || say "$script: interrupted"
    # Other programs have their own meanings of a status.
    $rejected || ((status == 0)) || status=1
    stop_children
    [[ -z $work ]] || rm -rf -- "$work"
    # A part of a result is none.
    ! $fresh || ((status == 0)) || rm -rf -- "$out"
    exit "$status"
}
interrupted() { exit 130; }
trap clean_up EXIT
trap interrupted INT TERM HUP

# ---------------------------------------------------------------- the machine

setting() { cat "/proc/sys/kernel/$1" 2>/dev/null || echo '?'; }
machine() {
    local model
    model=$(sed -n '/^model name/ { s/.*: *//p; q }' /proc/cpuinfo)
    echo "$(nproc) x ${model:-$(uname -m)}, $(uname -sr)"
}

# Where figures come from.
print_origin() { printf '\ncommit   %s\ncommand  %s\nmachine  %s\n\n' "$version" "$command_line" "$(machine)"; }

# Installs what a command needs, if it is not there and unless PROFILING_INSTALL=no. Fails, having said why in `why`, if that is not possible.
need() { # need COMMAND PACKAGE...
    local command=$1
    shift
    ! command -v "$command" >/dev/null || return 0
    if ! command -v apt-get >/dev/null; then
        why="$command is not installed: install your distribution's package of it"
    elif ((EUID != 0)) || [[ ${PROFILING_INSTALL:-yes} == no ]]; then
        why="$command is not installed: sudo apt-get install -y $*"
    else
        step "$command: installing $*"
        export DEBIAN_FRONTEND=noninteractive
        # A fresh container has no package lists.
        if run apt-get install -y --no-install-recommends "$@" >"$work/apt" 2>&1 ||
            { run apt-get update >"$work/apt" 2>&1 &&
                run apt-get install -y --no-install-recommends "$@" >"$work/apt" 2>&1; }; then
            return 0
        fi
        why="$command is not installed, and apt-get cannot install $*: $(tail -n 1 "$work/apt")"
    fi
    return 1
}
need_perf() {
    local packages=(linux-perf)
    ! grep -qs '^ID=ubuntu' /etc/os-release || packages=(linux-tools-generic "linux-tools-$(uname -r)")
    need perf "${packages[@]}" || return 1
    run perf version >"$work/version" 2>&1 && return
    why="perf does not run: $(head -n 1 "$work/version"); on Ubuntu it needs linux-tools-$(uname -r)"
    return 1
}

# Each side holds one descriptor a client, and some of its own.
raise_descriptors() {
    local need=$(($1 + 200)) soft hard
    soft=$(ulimit -Sn)
    hard=$(ulimit -Hn)
    [[ $soft == unlimited ]] && return
    ((soft >= need)) && return
    ulimit -Sn "$need" 2>/dev/null && return
    # Root may raise the hard limit as well.
    ulimit -n "$need" 2>/dev/null && return
    fail "$1 connections need $need open files, the limit is $hard:" \
        "raise it (ulimit -n as root, or /etc/security/limits.conf) or take at most $((hard - 200)) connections"
}

# ---------------------------------------------------------------- programs

need_rust() {
    command -v cargo >/dev/null || fail "cargo is not installed: see https://rustup.rs"
    command -v cc >/dev/null || fail "no C compiler: apt-get install -y build-essential"
}

# Builds a program with frame pointers and symbols and keeps it as `$1` in target/profiling-build: builds with
# other features do not replace it.
built='' version=''
build() { # build NAME PACKAGE [OPTION...]
    local name=$1 package=$2
    shift 2
    need_rust
    step "build: $name, --profile profiling (minutes the first time)"
    # Line tables alone name inlined functions without their path, and nearly all of them are inlined.
    run env -C "$root" CARGO_PROFILE_PROFILING_DEBUG=limited \
        RUSTFLAGS="${RUSTFLAGS:-} -C force-frame-pointers=yes" CFLAGS="${CFLAGS:-} -fno-omit-frame-pointer" \
        cargo build --quiet --locked --profile profiling --target-dir "$build" \
        --package "$package" --bin "$package" "$@" || fail "the build of $name failed"
    built=$build/$name
    cmp -s "$build/profiling/$package" "$built" || cp -- "$build/profiling/$package" "$built"
}
# Unless programs were given. Sets `version` to what the server was built from.
build_server() { # build_server NAME [OPTION...]
    version="of $server_bin"
    [[ -z $server_bin ]] || return 0
    build "$1" tickcast "${@:2}"
    server_bin=$built
    version=$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)
}
build_loadtest() {
    [[ -z $loadtest_bin ]] || return 0
    build loadtest loadtest
    loadtest_bin=$built
}

install_inferno() {
    local tool wanted=(inferno-collapse-perf inferno-flamegraph inferno-diff-folded)
    for tool in "${wanted[@]}"; do
        [[ -x $tools/bin/$tool ]] && continue
        need_rust
        step "inferno: installing $inferno_version in target/tools, once"
        run cargo install inferno --version "$inferno_version" --locked --no-default-features --features cli \
            --root "$tools" --force --quiet "${wanted[@]/#/--bin=}" || fail "cannot install inferno"
        return
    done
}

# ---------------------------------------------------------------- the server

# Starts a command that ends in a server; sets `server` to its process and `address` to where it listens.
start_server() { # start_server COMMAND...
    local tries status=0
    server_log=$work/server.log
    # It is read while it may not be there yet.
    : >"$server_log"
    # In the environment and not as an option: an option of the user's goes before it.
    TICKCAST_LISTEN=127.0.0.1:0 "$@" 4>&- </dev/null >/dev/null 2>"$server_log" &
    server=$!
    children+=("$server")
    address=''
    # A profiler may take its time to start it.
    for ((tries = 0; tries < 600; tries++)); do
        address=$(sed -nE -e 's|^tickcast .* listening on http://([^/]+)/.*|\1|p' \
            -e 's|.*"listening":"([^"]+)".*|\1|p' "$server_log")
        [[ -z $address ]] || return 0
        alive "$server" || server_ended
        sleep 0.05
    done
    fail "the server did not say where it listens: $(tail -n 1 "$server_log")"
}
server_ended() {
    local status=0
    wait "$server" 2>/dev/null || status=$?
    sed 's/^/    /' "$server_log" | tail -n 10 >&4
    ((status != 2)) || reject "the server refused its options"
    fail "the server ended with status $status"
}

# The answer to GET /metrics. Without curl, which a fresh machine may not have.
metrics() {
    # shellcheck disable=SC2016 # the inner shell expands it
    timeout 5 bash -c 'exec 5<>"/dev/tcp/${0%:*}/${0##*:}" &&
        printf "GET /metrics HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" "$0" >&5 && cat <&5' \
        "$address" 2>/dev/null || true
}
# The sum of a metric over its labels, out of an answer to GET /metrics.
metric() {
    awk -v name="$1" '$1 == name || index($1, name "{") == 1 { sum += $2 } END { printf "%.0f\n", sum }'
}
# CPU time of a process in ticks, and the time.
cpu_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat" 2>/dev/null || echo 0; }
uptime_now() { cut -d' ' -f1 /proc/uptime; }
# Resident memory of a process in bytes.
resident() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$1/status"; }

# ---------------------------------------------------------------- the load

# Starts the load test against the server, reporting to $load_report (text), and .json beside it.
start_load() { # start_load OPTION...
    load_log=$work/load.log load_report=$work/load.txt load_json=$work/load.json
    : >"$load_log"
    load_command="loadtest $*"
    step "$load_command"
    "$loadtest_bin" --url "ws://$address/ws/$channel" --server-pid "$server" --json "$load_json" "$@" \
        4>&- </dev/null >"$load_report" 2>"$load_log" &
    load=$!
    children+=("$load")
}
# Waits until the load test says that it is at a stage; it says so once a second.
await_stage() { # await_stage STAGE SECONDS
    local tries
    for ((tries = 0; tries < $2 * 20; tries++)); do
        ! grep -q " s  $1 " "$load_log" || return 0
        alive "$server" || server_ended
        alive "$load" || load_ended
        sleep 0.05
    done
    fail "the load test did not come to '$1' in $2 s: $(tail -n 1 "$load_log")"
}
load_ended() {
    tail -n 5 "$load_log" "$load_report" >&4
    fail "the load test ended before the recording did"
}
# Waits for the end of the load test. A run that is not valid says so in its report and is kept.
finish_load() {
    local status=0
    wait "$load" || status=$?
    alive "$server" || server_ended
    case $status in
        0) ;;
        98) warn "the load test's run is not valid: $(grep -m 1 INVALID "$load_report" || true)" ;;
        *) tail -n 5 "$load_log" >&4 && fail "the load test ended with status $status" ;;
    esac
    local n
    for n in "${!children[@]}"; do
        [[ ${children[n]} != "$load" ]] || unset "children[$n]"
    done
    children=("${children[@]}")
    load=''
}
# What the load test says of its run.
verdict() { grep -E -m 6 '^(steady|churn|storm|slow|ramp|soak)|^(connections|traffic|delivery|harness|INVALID)' "$load_report" || true; }
