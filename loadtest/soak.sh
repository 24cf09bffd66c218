#!/usr/bin/env bash
# Serves healthy clients for long, alone and among hostile ones, and looks for what leaks, creeps or does not add up.

set -euo pipefail
# Every child gets a process group of its own: whatever it started ends with it.
set -m

usage() {
    cat <<'END'
Usage: loadtest/soak.sh [OPTIONS]

A server with a synthetic market and healthy clients: first alone, then beside every kind of hostile client in
rotation, with churn, unread streams and clients that are stopped and continued all the while. When everybody has
left, everything must be as it was.

Options:
  --minutes N           of the whole run [default: 30]
  --smoke               a minute with fewer clients
  --connections N       healthy clients [default: 500; 200 with --smoke]
  --server COMMAND      another server than the one built here; '--listen' and a source are added
  --server-cpus LIST    as taskset takes them [default: 0]
  --loadtest-cpus LIST  [default: 1]
  -h, --help            print this

Needs Linux, taskset, curl and python3. Samples, reports and logs are kept in target/soak/<date>.

Exit status: 0 nothing leaks and everything adds up, 1 something does not or was interrupted, 2 bad arguments.
END
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "soak.sh: $*" && exit 1; }
reject() { say "soak.sh: $*" && say "Try --help." && exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
loadtest=$target/release/loadtest
hostile=$target/release/hostile
command=("$target/release/tickcast")
minutes=30 smoke=false connections='' server_cpus=0 loadtest_cpus=1
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --smoke) smoke=true && shift && continue ;;
        --minutes | --connections | --server | --server-cpus | --loadtest-cpus) [[ -n ${2-} ]] || reject "$1 needs a value" ;;
        *) reject "unknown argument '$1'" ;;
    esac
    case $1 in
        --minutes | --connections) [[ $2 =~ ^[1-9][0-9]*$ ]] || reject "$1 '$2': expected a whole number from 1" ;;&
        --minutes) minutes=$2 ;;
        --connections) connections=$2 ;;
        --server) read -ra command <<<"$2" ;;
        --server-cpus) server_cpus=$2 ;;
        --loadtest-cpus) loadtest_cpus=$2 ;;
    esac
    shift 2
done

# Seconds alone and among the hostile; of one kind; stopped and running. The longer stop is over the
# heartbeat's interval and timeout together, so that those clients are closed while they cannot read.
if $smoke; then
    minutes=1 alone=8 attacked=36 slot=2 stopped=4 running=2
else
    alone=$((minutes * 6)) attacked=$((minutes * 54 - 15)) slot=20 stopped=45 running=15
fi
((slot * 11 <= attacked)) || slot=$((attacked / 15))
connections=${connections:-$($smoke && echo 200 || echo 500)}

children=() server=''
stop() {
    kill -CONT -- "-$1" 2>/dev/null || return 0
    kill -TERM -- "-$1" 2>/dev/null || return 0
    wait "$1" 2>/dev/null || true
}
stop_children() {
    for process in "${children[@]}"; do stop "$process"; done
    children=()
}
clean_up() {
    local status=$?
    trap '' INT TERM HUP
    stop_children 2>/dev/null
    [[ -z $server ]] || stop "$server"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 1' INT TERM HUP

for tool in taskset curl python3; do
    command -v "$tool" >/dev/null || fail "$tool is not installed"
done

say "==> build (minutes the first time)"
for package in tickcast loadtest; do
    (cd "$root" && cargo build --release --quiet --package "$package") || fail "the build failed"
done
out=$target/soak/$(date +%Y%m%d-%H%M%S)
mkdir -p "$out"

phase() { say "==> $1" && echo "$1" >"$out/phase.next" && mv "$out/phase.next" "$out/phase"; }
on_loadtest_cpus() { taskset -c "$loadtest_cpus" "$@" </dev/null; }

begin_server() {
    local tries
    # Some 10 KB ten times a second.
    taskset -c "$server_cpus" "${command[@]}" --listen 127.0.0.1:0 --source sim --sim-symbols 40 --broadcast-interval 0.1 \
        </dev/null >"$out/server.log" 2>&1 &
    server=$!
    for ((tries = 0; tries < 200; tries++)); do
        address=$(sed -nE 's|^(tickcast .* )?listening on http://([^/]+)/.*|\2|p' "$out/server.log")
        [[ -z $address ]] || return 0
        sleep 0.05
    done
    fail "the server does not listen: $(tail -n 1 "$out/server.log")"
}

# The healthy clients: healthy NAME SECONDS
healthy() {
    local status=0
    on_loadtest_cpus "$loadtest" --quiet --url "ws://$address/ws/market" --connections "$connections" --ramp 1s \
        --warmup 1s --duration "$2s" --server-pid "$server" --json "$out/$1.json" >"$out/$1.log" 2>&1 || status=$?
    # 98: the harness did not keep up, which soak.py weighs.
    ((status == 0 || status == 98)) || fail "loadtest ended with $status: $(tail -n 3 "$out/$1.log")"
}

# Hostile clients: attack NAME SECONDS OPTIONS...
attack() {
    local name=$1 seconds=$2
    shift 2
    on_loadtest_cpus "$hostile" --quiet --url "ws://$address/ws/market" --duration "${seconds}s" --flood-limit 100 \
        --json "$out/hostile-$name.json" "$@" >"$out/hostile-$name.log" 2>&1 || true
}

# Clients that are stopped again and again; those that were closed meanwhile are replaced.
stoppable() {
    while :; do
        on_loadtest_cpus "$loadtest" --quiet --url "ws://$address/ws/market" --connections 20 --ramp 1s --duration 30s \
            >"$out/stoppable.log" 2>&1 || true
        sleep 0.5
    done
}
# Stops and continues a process group: faults PROCESS
faults() {
    while sleep "$running"; do
        kill -STOP -- "-$1" || return 0
        sleep "$stopped"
        kill -CONT -- "-$1" || return 0
    done
}

phase start
begin_server
python3 "$root/loadtest/soak.py" sample "$out" "$address" "$server" &
sampler=$!
children+=("$sampler")
sleep 3

phase alone
healthy alone "$alone"

phase arrival
healthy attacked "$attacked" &
well=$!
children+=("$well")
attack all-along "$attacked" --kind churn,slow-readers --rate 200 &
children+=($!)
stoppable &
stoppable=$!
children+=("$stoppable")
faults "$stoppable" 2>/dev/null &
children+=($!)
# Ramp and warm-up.
sleep 2

kinds=(half-open churn reset half-close dribble ping-flood fragment-flood slow-readers garbage protocol oversize)
end=$((SECONDS + attacked)) round=0
while ((round == 0 || SECONDS + slot < end)); do
    for kind in "${kinds[@]}"; do
        ((round == 0 || SECONDS + slot < end)) || break
        phase "$kind"
        attack "$kind-$round" "$slot" --kind "$kind" --seed "$round"
    done
    round=$((round + 1))
done
phase departure
kept=("$sampler")
wait "$well" || fail "the healthy clients failed: $(tail -n 3 "$out/attacked.log")"
for process in "${children[@]}"; do
    [[ $process == "$sampler" || $process == "$well" ]] || stop "$process"
done
children=("${kept[@]}")

phase after
python3 "$root/loadtest/soak.py" settle "$out"
stop_children
status=0
kill -TERM "$server"
wait "$server" || status=$?
server=''
python3 "$root/loadtest/soak.py" judge "$out" "$minutes" "$status"
