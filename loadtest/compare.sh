#!/usr/bin/env bash
# Compares tickcast with the baselines, and with any other server, under the same load.
# baselines/src/lib.rs says what the baselines are.

set -euo pipefail
# Every child gets a process group of its own: whatever it started ends with it, and Ctrl-C comes to us alone.
set -m

usage() {
    cat <<'END'
Usage: loadtest/compare.sh [OPTIONS]

Runs the load test against each server in turn, several rounds, each round in another order, and
prints for every case the median, lowest and highest of what was measured and how they compare.

Options:
  --case NxR            N connections, R messages a second; repeatable
                        [default: 1000x10 1000x20 10000x1]
  --rounds N            [default: 5]
  --duration TIME       how long a run is measured, like 10s or 500ms [default: 10s]
  --payload SIZE        size of a message, like 200 or 1KiB [default: 1KiB]
  --server NAME         run only this one; repeatable
                        [default: floor tickcast tungstenite-broadcast mpsc-mutex]
  --extra NAME=COMMAND  another server as well; repeatable. One command with its arguments, as bash
                        reads it; {LISTEN} in it becomes an address with a free port, {PORT} the port
                        alone. It needs WebSocket at /ws/bench and POST at /publish/bench.
  --server-cpus LIST    CPUs of the servers, as taskset takes them
  --loadtest-cpus LIST  CPUs of the load test [default for both: half and half]
  --smoke               a short run for CI that fails if anything is missing: one round of 50x20,
                        measured for 1 s
  -h, --help            print this

Results, as JSON, and logs are kept in target/compare/<date>.

Exit status: 0 done, 1 a run is missing or interrupted, 2 bad arguments.
END
}

exec 4>&2
say() { printf '%s\n' "$*" >&4; }
step() { say "==> $*"; }
warn() { say "    warning: $*"; }
fail() {
    say "compare.sh: $*"
    exit 1
}
reject() {
    say "compare.sh: $*"
    say "Try --help."
    exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
baselines=(floor tungstenite-broadcast mpsc-mutex)

# ---------------------------------------------------------------- arguments

cases=() servers=() extras=() rounds='' duration='' payload=1KiB server_cpus='' loadtest_cpus='' smoke=false
ramp=2s warmup=2s
declare -A extra_commands=()

while (($#)); do
    option=$1
    shift
    case $option in
        -h | --help)
            usage
            exit 0
            ;;
        --smoke)
            smoke=true
            continue
            ;;
        --*=*)
            value=${option#*=}
            option=${option%%=*}
            ;;
        --*)
            # An empty value is refused below, like one that is given empty.
            value=${1-}
            shift $(($# > 0))
            ;;
        *) reject "unexpected argument '$option'" ;;
    esac
    case $option in
        --case)
            pattern='^[1-9][0-9]{0,6}x([1-9][0-9]*([.][0-9]+)?|0[.][0-9]*[1-9][0-9]*)$'
            accepts='connections and messages a second, like 1000x10'
            ;;
        --rounds) pattern='^[1-9][0-9]{0,3}$' accepts='a whole number from 1' ;;
        --duration) pattern='^[1-9][0-9]*([.][0-9]+)?(ms|s|m)$' accepts='a time, like 10s' ;;
        --payload) pattern='^[1-9][0-9]*(KiB|MiB)?$' accepts='a size, like 1KiB' ;;
        --server) pattern='^(floor|tickcast|tungstenite-broadcast|mpsc-mutex)$' accepts='a server, see --help' ;;
        --extra) pattern='^[A-Za-z0-9][A-Za-z0-9._-]*=.*[^[:space:]]' accepts='NAME=COMMAND' ;;
        --server-cpus | --loadtest-cpus) pattern='^[0-9]+([-,][0-9]+)*$' accepts='CPUs, like 0 or 0-3' ;;
        *) reject "unknown option '$option'" ;;
    esac
    [[ $value =~ $pattern ]] || reject "$option '$value': expected $accepts"
    case $option in
        --case) cases+=("$value") ;;
        --rounds) rounds=$value ;;
        --duration) duration=$value ;;
        --payload) payload=$value ;;
        --server) servers+=("$value") ;;
        --extra)
            extras+=("${value%%=*}")
            extra_commands[${value%%=*}]=${value#*=}
            ;;
        --server-cpus) server_cpus=$value ;;
        --loadtest-cpus) loadtest_cpus=$value ;;
    esac
done

if $smoke; then
    ramp=200ms warmup=200ms duration=${duration:-1s} rounds=${rounds:-1}
    ((${#cases[@]})) || cases=(50x20)
fi
duration=${duration:-10s} rounds=${rounds:-5}
((${#cases[@]})) || cases=(1000x10 1000x20 10000x1)
((${#servers[@]})) || servers=(floor tickcast tungstenite-broadcast mpsc-mutex)
servers+=("${extras[@]}")
twice=$(printf '%s\n' "${servers[@]}" "${cases[@]}" | sort | uniq -d)
[[ -z $twice ]] || reject "given twice: ${twice//$'\n'/, }"

# ---------------------------------------------------------------- the machine

[[ $(uname -s) == Linux ]] || fail "needs Linux"
command -v taskset >/dev/null || fail "taskset is not installed: apt-get install -y util-linux"

# Half of the CPUs we may use are the servers', the others the load test's: neither takes time from the other.
share_cpus() {
    local part first last parts cpus=() IFS=,
    read -ra parts < <(awk '/^Cpus_allowed_list/ { print $2 }' /proc/self/status)
    for part in "${parts[@]}"; do
        first=${part%-*} last=${part#*-}
        while ((first <= last)); do
            cpus+=("$((first++))")
        done
    done
    local half=$(((${#cpus[@]} + 1) / 2))
    ((${#cpus[@]} > 1)) || warn "one CPU for the servers and the load test: the figures say little"
    server_cpus=${server_cpus:-${cpus[*]:0:half}}
    loadtest_cpus=${loadtest_cpus:-${cpus[*]:${#cpus[@]} > 1 ? half : 0}}
}
share_cpus
for cpus in "$server_cpus" "$loadtest_cpus"; do
    taskset -c "$cpus" true 2>/dev/null || reject "there are no CPUs '$cpus' to run on"
done

# Each side holds one descriptor a connection, and some of its own.
raise_descriptors() {
    local largest soft
    largest=$(printf '%s\n' "${cases[@]%x*}" | sort -n | tail -n 1)
    local need=$((largest + 100))
    soft=$(ulimit -Sn)
    [[ $soft == unlimited ]] && return
    ((soft >= need)) && return
    ulimit -Sn "$need" 2>/dev/null && return
    # Root may raise the hard limit as well.
    ulimit -n "$need" 2>/dev/null && return
    fail "$largest connections need $need open files, the limit is $(ulimit -Hn): raise it" \
        "(ulimit -n as root, or /etc/security/limits.conf) or take smaller cases"
}
raise_descriptors

# ---------------------------------------------------------------- children and cleaning up

server='' load=''

# Waiting, unlike a command in the foreground, lets a signal through at once.
pause() {
    sleep 0.05 &
    wait "$!"
}
# Ends a child with everything it started: politely, then not.
stop() {
    local pid=$1 waited=0
    # Otherwise the shell reports how it ended.
    exec 2>/dev/null
    kill -TERM -- "-$pid" || true
    while kill -0 -- "-$pid" && ((waited++ < 200)); do
        pause
    done
    kill -KILL -- "-$pid" || true
    wait "$pid" || true
    exec 2>&4
}
clean_up() {
    local status=$?
    trap '' INT TERM HUP
    # The crowd goes before the server, which then has nobody to drain.
    [[ -z $load ]] || stop "$load"
    [[ -z $server ]] || stop "$server"
    ((status != 130)) || say "compare.sh: interrupted"
    # Other programs have their own meanings of a status.
    ((status == 0 || status == 2)) || status=1
    exit "$status"
}
interrupted() { exit 130; }
trap clean_up EXIT
trap interrupted INT TERM HUP

# ---------------------------------------------------------------- programs

build() {
    step "build: $1 (minutes the first time)"
    # One at a time: together they would get each other's features, and tickcast not be what users build.
    (cd "$root" && exec cargo build --release --quiet --package "$1") </dev/null &
    load=$!
    wait "$load" || fail "the build failed"
    load=''
}
is_chosen() { printf '%s\n' "${servers[@]}" | grep -qxFf <(printf '%s\n' "$@"); }

build loadtest
if is_chosen tickcast; then build tickcast; fi
if is_chosen "${baselines[@]}"; then build baselines; fi

# ---------------------------------------------------------------- one run

# shellcheck disable=SC2016 # the inner shell expands it
accepts_connections() { timeout 1 bash -c 'exec 3<>"/dev/tcp/127.0.0.1/$0"' "$1" 2>/dev/null; }

# A port below those that the kernel gives to connections by itself.
free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)) && accepts_connections "$port"; do :; done
    echo "$port"
}

# Starts a server and sets `server` to its process and `address` to where it listens.
start() {
    local name=$1 log=$2 tries command=() port=''
    case $name in
        tickcast) command=("$target/release/tickcast" --source none --listen 127.0.0.1:0) ;;
        floor | tungstenite-broadcast | mpsc-mutex) command=("$target/release/$name" --listen 127.0.0.1:0) ;;
        *)
            port=$(free_port)
            local line=${extra_commands[$name]//'{LISTEN}'/127.0.0.1:$port}
            # In place of the shell, so that the process measured is the server.
            command=(bash -c "exec ${line//'{PORT}'/$port}")
            ;;
    esac
    taskset -c "$server_cpus" "${command[@]}" </dev/null >"$log" 2>&1 &
    server=$!
    address=''
    for ((tries = 0; tries < 400; tries++)); do
        kill -0 "$server" 2>/dev/null || return
        if [[ -z $port ]]; then
            address=$(sed -nE 's|^(tickcast .* )?listening on http://([^/]+)/.*|\2|p' "$log")
        elif accepts_connections "$port"; then
            address=127.0.0.1:$port
        fi
        [[ -z $address ]] || return 0
        pause
    done
}

show_tail() { tail -n 5 "$1" | sed 's/^/      /' >&4; }

# Measures one server once. Fails if that gives no result.
measure() {
    local name=$1 case=$2 files=$3 status=0
    start "$name" "$files.server.log"
    if [[ -z $address ]]; then
        warn "$name does not listen:"
        show_tail "$files.server.log"
    else
        taskset -c "$loadtest_cpus" "$target/release/loadtest" --url "ws://$address/ws/bench" \
            --publish-url "http://$address/publish/bench" --publish-rate "${case#*x}" --payload "$payload" \
            --connections "${case%x*}" --ramp "$ramp" --warmup "$warmup" --duration "$duration" \
            --server-pid "$server" --json "$files.json" --quiet </dev/null >"$files.log" 2>&1 &
        load=$!
        wait "$load" || status=$?
        load=''
        case $status in
            0) ;;
            98) warn "the run is invalid:" && show_tail "$files.log" ;;
            *) warn "loadtest ended with status $status:" && show_tail "$files.log" ;;
        esac
        if ! kill -0 "$server" 2>/dev/null; then
            warn "$name ended by itself:"
            show_tail "$files.server.log"
        fi
    fi
    stop "$server"
    server=''
    [[ -s $files.json ]]
}

# ---------------------------------------------------------------- all runs

out=$target/compare/$(date +%Y%m%d-%H%M%S)
declare -A results=()
missing=0
step "servers on CPU $server_cpus, load test on CPU $loadtest_cpus, results in $out"
for ((round = 1; round <= rounds; round++)); do
    for case in "${cases[@]}"; do
        mkdir -p -- "$out/$case"
        for ((n = 0; n < ${#servers[@]}; n++)); do
            # Whatever changes on the machine meanwhile hits each of them first once.
            name=${servers[(n + round - 1) % ${#servers[@]}]}
            step "round $round of $rounds · $name · $case"
            if measure "$name" "$case" "$out/$case/$name-$round"; then
                results[$case/$name]+=,$case/$name-$round.json
            else
                warn "no result of $name in round $round of $case: it is left out"
                missing=$((missing + 1))
            fi
        done
    done
done

for case in "${cases[@]}"; do
    arguments=()
    for name in "${servers[@]}"; do
        [[ -z ${results[$case/$name]-} ]] || arguments+=("$name=${results[$case/$name]#,}")
    done
    ((${#arguments[@]})) || continue
    printf '\n%s connections, %s messages of %s a second: %s x %s\n\n' \
        "${case%x*}" "${case#*x}" "$payload" "$rounds" "$duration"
    (cd "$out" && "$target/release/loadtest" compare "${arguments[@]}") || fail "loadtest cannot compare the results"
done
printf '\n%s\n' "$out"
((missing == 0)) || fail "$missing of $((rounds * ${#cases[@]} * ${#servers[@]})) runs gave no result"
