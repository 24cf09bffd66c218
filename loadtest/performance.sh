#!/usr/bin/env bash
# Measures what tickcast promises beyond a steady load: docs/performance.md has the figures.

set -euo pipefail
# Every child gets a process group of its own: whatever it started ends with it.
set -m

usage() {
    cat <<'END'
Usage: loadtest/performance.sh [OPTIONS] [CASE]...

Cases (all, if none is given):
  backlog   1,000 clients at 1,500 messages a second of 1 KiB and of 128 B; 10,000 at 100 a second
  slow      1,000 clients alone, and beside 1,000 that read nothing
  storm     1,000 clients alone, and while 10,000 others connect; CPU of 10,000 handshakes
  large     100 clients of a small channel alone, and beside 1,000 that get 2.5 MB each two seconds
  publish   how long a publish call takes: to 1, 1,000 and 10,000 clients; half of them stalled
  memory    resident memory with 10,000 idle clients and after they left, several times
  tls       plain beside TLS: 1,000 clients that get a snapshot of 30 symbols (6 KiB) ten times a second, and 1 KiB
            500 times; CPU of 10,000 handshakes and memory of 10,000 idle clients
  cluster   1,000 clients that get a snapshot of 30 symbols (6 KiB) ten times a second: from the server that makes it, and
            from an edge of a cluster, with NATS and the origin on the load's processors

Options:
  --rounds N            [default: 5]
  --server COMMAND      another server than the one built here; it listens where '--source none --listen'
                        says
  --server-cpus LIST    as taskset takes them [default: 0]
  --loadtest-cpus LIST  [default: 1]
  --smoke               one short round of everything with few clients
  -h, --help            print this

Needs Linux, taskset, curl, python3 and, for tls, openssl, and for cluster, nats-server. Reports, as JSON, and logs are kept in target/performance/<date>.

Exit status: 0 done, 1 something failed or was interrupted, 2 bad arguments.
END
}

say() { printf '%s\n' "$*" >&2; }
fail() { say "performance.sh: $*" && exit 1; }
reject() { say "performance.sh: $*" && say "Try --help." && exit 2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
loadtest=$target/release/loadtest
command=("$target/release/tickcast")
rounds=5 server_cpus=0 loadtest_cpus=1 smoke=false cases=()
while (($#)); do
    case $1 in
        -h | --help) usage && exit 0 ;;
        --smoke) smoke=true rounds=1 && shift && continue ;;
        backlog | slow | storm | large | publish | memory | tls | cluster) cases+=("$1") && shift && continue ;;
        --rounds | --server | --server-cpus | --loadtest-cpus) [[ -n ${2-} ]] || reject "$1 needs a value" ;;
        *) reject "unknown argument '$1'" ;;
    esac
    case $1 in
        --rounds) [[ $2 =~ ^[1-9][0-9]*$ ]] || reject "--rounds '$2': expected a whole number from 1" && rounds=$2 ;;
        --server) read -ra command <<<"$2" ;;
        --server-cpus) server_cpus=$2 ;;
        --loadtest-cpus) loadtest_cpus=$2 ;;
    esac
    shift 2
done
((${#cases[@]})) || cases=(backlog slow storm large publish memory tls cluster)

# Ten thousand clients, a thousand, a hundred; how long one run is measured.
if $smoke; then
    many=200 some=50 few=10 seconds=1
else
    many=10000 some=1000 few=100 seconds=6
fi

# Of the server that runs: `s` if it encrypts, and what its clients have to be told then.
server='' address='' s='' trust=() crowd=() feed=(--source none)
stop() {
    kill -TERM -- "-$1" 2>/dev/null || return 0
    wait "$1" 2>/dev/null || true
}
end_server() {
    for process in "${crowd[@]}"; do stop "$process"; done
    crowd=()
    [[ -z $server ]] || stop "$server"
    server=''
}
clean_up() {
    local status=$?
    trap '' INT TERM HUP
    end_server 2>/dev/null
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
out=$target/performance/$(date +%Y%m%d-%H%M%S)
mkdir -p "$out"

# ---------------------------------------------------------------- a server and its crowds

# begin_server OPTIONS...
begin_server() {
    local tries
    end_server
    s='' trust=()
    [[ "$*" != *--tls-cert* ]] || s=s trust=(--insecure)
    : >"$out/server.log"
    taskset -c "$server_cpus" "${command[@]}" "${feed[@]}" --listen 127.0.0.1:0 "$@" >"$out/server.log" 2>&1 &
    server=$!
    for ((tries = 0; tries < 200; tries++)); do
        address=$(sed -nE 's|^(tickcast .* )?listening on https?://([^/]+)/.*|\2|p' "$out/server.log")
        [[ -z $address ]] || return 0
        sleep 0.05
    done
    fail "the server does not listen: $(tail -n 1 "$out/server.log")"
}

# Runs the load test on a channel, and publishes there unless the server has a source: load CHANNEL FILE OPTIONS...
load() {
    local channel=$1 file=$2 status=0 publish=()
    shift 2
    [[ ${feed[1]} != none ]] || publish=(--publish-url "http$s://$address/publish/$channel")
    taskset -c "$loadtest_cpus" "$loadtest" --quiet "${trust[@]}" --url "ws$s://$address/ws/$channel" --ramp 1s --warmup 2s \
        "${publish[@]}" --server-pid "$server" --json "$file" "$@" \
        </dev/null >"${file%.json}.log" 2>&1 || status=$?
    # 98: valid with a warning that is in the log and in the report.
    ((status == 0 || status == 98)) || fail "loadtest ended with $status: $(tail -n 3 "${file%.json}.log")"
    ((status == 0)) || say "    invalid, see ${file%.json}.log"
}

# A crowd that stays until the server is stopped: crowd SECONDS_LATER CHANNEL CLIENTS OPTIONS...
crowd() {
    local later=$1 channel=$2 clients=$3
    shift 3
    # shellcheck disable=SC2016 # the inner shell expands it
    bash -c 'sleep "$0" && exec "$@"' "$later" taskset -c "$loadtest_cpus" "$loadtest" --quiet \
        "${trust[@]}" --url "ws$s://$address/ws/$channel" --connections "$clients" --ramp 1s --duration 1000s "$@" \
        </dev/null >"$out/crowd.log" 2>&1 &
    crowd+=($!)
}

# Clients that read nothing after the handshake: stalled CHANNEL CLIENTS
stalled() {
    taskset -c "$loadtest_cpus" python3 -c '
import resource, socket, sys, time
host, port, channel, clients = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
request = f"GET /ws/{channel} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
request += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
held = []
for _ in range(clients):
    held.append(socket.create_connection((host, port)))
    held[-1].sendall(request.encode())
time.sleep(1000)' "${address%:*}" "${address##*:}" "$1" "$2" </dev/null >"$out/stalled.log" 2>&1 &
    crowd+=($!)
    wait_for_clients "$1" "$2"
    # Until the kernel has taken what it takes for them, they are not stalled.
    load "$1" "$out/filling.json" --connections 1 --publish-rate 1000 --duration 5s
    wait_for_clients "$1" "$2"
}

metric() { curl -fsSk "http$s://$address/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
wait_for_clients() {
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        [[ $(metric "tickcast_connections{channel=\"$1\"}") != "$2" ]] || return 0
        sleep 0.1
    done
    fail "not $2 clients of $1 after a minute"
}
say_hello() { curl -fsSk -o "$out/answer" -H 'content-type: text/plain' -d hello "http$s://$address/publish/$1"; }
cpu_ticks() { awk '{ print $14 + $15 }' "/proc/$server/stat"; }
resident_kib() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$server/status"; }

# The reports of several rounds side by side: compare_runs TITLE NAME...
compare_runs() {
    local title=$1 name files arguments=()
    shift
    for name in "$@"; do
        files=("$out/$name"-*.json)
        arguments+=("${name#*-}=$(IFS=, && echo "${files[*]}")")
    done
    printf '\n%s\n\n' "$title"
    "$loadtest" compare "${arguments[@]}" | grep -E '^(metric|p50|p99|delivered|messages_per|server_cpu|server_rss|holes|connect_p99|0 every)'
}

# ---------------------------------------------------------------- cases

backlog() { # ROUND
    begin_server && load bench "$out/backlog-1KiB-$1.json" --connections "$some" --publish-rate 1500 --duration "${seconds}s"
    begin_server && load bench "$out/backlog-128B-$1.json" --connections "$some" --publish-rate 1500 --payload 128 --duration "${seconds}s"
    begin_server && load bench "$out/backlog-many-$1.json" --connections "$many" --publish-rate 100 --duration "${seconds}s"
}

slow() {
    local steady=(--connections "$some" --publish-rate 20 --duration "${seconds}s")
    begin_server && load bench "$out/slow-alone-$1.json" "${steady[@]}"
    begin_server && say_hello bench
    stalled bench "$some"
    load bench "$out/slow-beside-$1.json" "${steady[@]}"
}

storm() {
    local steady=(--connections "$some" --publish-rate 20 --duration "${seconds}s") before
    begin_server && load bench "$out/storm-alone-$1.json" "${steady[@]}"
    begin_server && say_hello other
    crowd 4 other "$many"
    load bench "$out/storm-beside-$1.json" "${steady[@]}"
    begin_server && say_hello other
    before=$(cpu_ticks)
    crowd 0 other "$many"
    wait_for_clients other "$many"
    echo "$((($(cpu_ticks) - before) * 10)) ms" >>"$out/handshakes.txt"
}

large() {
    local steady=(--connections "$few" --publish-rate 20 --duration "${seconds}s")
    begin_server && load small "$out/large-alone-$1.json" "${steady[@]}"
    begin_server && say_hello huge
    crowd 0 huge "$some" --publish-url "http://$address/publish/huge" --publish-rate 0.5 --payload 2500000
    wait_for_clients huge "$some"
    load small "$out/large-beside-$1.json" "${steady[@]}"
}

# Shares of `tickcast_publish_seconds` up to 2, 4.1 and 8.2 us, as a line.
print_publish() {
    curl -fsS "http://$address/metrics" | awk -v what="$1" '
        /^tickcast_publish_seconds_bucket/ { split($1, part, "\""); count[part[2]] = $2 }
        END { all = count["+Inf"]; printf "%-44s %8d", what, all
              for (n = 1; n <= split("0.000001024 0.000002048 0.000004096 0.000008192 0.000016384", le, " "); n++)
                  printf " %7.2f%%", 100 * count[le[n]] / all
              print "" }'
}

publish() {
    local clients
    for clients in 1 "$some" "$many"; do
        begin_server && load bench "$out/publish.json" --connections "$clients" --duration "$((2 * seconds))s" \
            --publish-rate "$((clients == many ? 5 : 50))"
        print_publish "$clients clients" >>"$out/publish.txt"
    done
    begin_server && say_hello bench
    stalled bench "$some"
    load bench "$out/publish.json" --connections "$some" --publish-rate 50 --duration "$((2 * seconds))s"
    print_publish "$some clients beside $some that read nothing" >>"$out/publish.txt"
}

memory() {
    local cycle start with process
    begin_server && say_hello bench
    start=$(resident_kib)
    for cycle in 1 2 3 4 5; do
        crowd 0 bench "$many"
        wait_for_clients bench "$many"
        sleep 0.5
        with=$(resident_kib)
        for process in "${crowd[@]}"; do stop "$process"; done
        crowd=()
        wait_for_clients bench 0
        sleep 2
        printf '%-8s %10d %10d %10d %14d\n' "$1.$cycle" "$start" "$with" "$(resident_kib)" "$(((with - start) * 1024 / many))" \
            >>"$out/memory.txt"
    done
}

tls() {
    local kind options before start
    if [[ ! -e $out/cert.pem ]]; then
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 7 -subj /CN=127.0.0.1 \
            -addext subjectAltName=IP:127.0.0.1 -keyout "$out/key.pem" -out "$out/cert.pem" 2>"$out/openssl.log" ||
            fail "openssl makes no certificate: $(tail -n 1 "$out/openssl.log")"
    fi
    for kind in plain encrypted; do
        options=()
        [[ $kind == plain ]] || options=(--tls-cert "$out/cert.pem" --tls-key "$out/key.pem")
        begin_server "${options[@]}" && load bench "$out/tls-$kind-$1.json" --connections "$some" --publish-rate 10 \
            --payload 6KiB --duration "${seconds}s"
        begin_server "${options[@]}" && load bench "$out/burst-$kind-$1.json" --connections "$some" \
            --publish-rate 500 --duration "${seconds}s"
        begin_server "${options[@]}" && say_hello bench
        before=$(cpu_ticks) start=$(resident_kib)
        crowd 0 bench "$many" --ramp 5s --connect-timeout 60s
        wait_for_clients bench "$many"
        sleep 1
        printf '%-12s %14d %14d\n' "$kind" "$((($(cpu_ticks) - before) * 10000 / many))" \
            "$((($(resident_kib) - start) * 1024 / many))" >>"$out/tls.txt"
    done
}

# NATS with JetStream on a free port, and an origin; says where NATS is.
begin_origin() {
    local port tries
    command -v nats-server >/dev/null || fail "nats-server is not installed"
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    rm -rf "$out/jetstream"
    taskset -c "$loadtest_cpus" nats-server -a 127.0.0.1 -p "$port" -js -sd "$out/jetstream" >"$out/nats.log" 2>&1 &
    crowd+=($!)
    nats=nats://127.0.0.1:$port
    taskset -c "$loadtest_cpus" "${command[@]}" "${feed[@]}" --listen 127.0.0.1:0 --cluster-url "$nats" --cluster-role origin \
        >"$out/origin.log" 2>&1 &
    crowd+=($!)
    for ((tries = 0; tries < 200; tries++)); do
        ! grep -q 'active origin' "$out/origin.log" || return 0
        sleep 0.05
    done
    fail "the origin does not become active: $(tail -n 1 "$out/origin.log")"
}

cluster() {
    local nats steady=(--connections "$some" --duration "${seconds}s")
    feed=(--source sim --broadcast-interval 0.1)
    begin_server && load market "$out/cluster-alone-$1.json" "${steady[@]}"
    end_server
    begin_origin
    local others=("${crowd[@]}")
    crowd=()
    begin_server --cluster-url "$nats" && crowd=("${others[@]}")
    load market "$out/cluster-edge-$1.json" "${steady[@]}"
    curl -fsS "http://$address/metrics" | awk '$1 == "tickcast_cluster_transit_seconds_sum" { sum = $2 }
        $1 == "tickcast_cluster_transit_seconds_count" { print 1e6 * sum / $2 }' >>"$out/transit.txt"
    feed=(--source none)
}

for ((round = 1; round <= rounds; round++)); do
    for case in "${cases[@]}"; do
        say "==> round $round of $rounds · $case"
        "$case" "$round"
    done
done
end_server

for case in "${cases[@]}"; do
    case $case in
        backlog) compare_runs "backlog: $some clients at 1,500/s of 1 KiB and of 128 B, $many at 100/s" backlog-1KiB backlog-128B backlog-many ;;
        slow) compare_runs "slow: $some clients alone, and beside $some that read nothing" slow-alone slow-beside ;;
        storm)
            compare_runs "storm: $some clients alone, and while $many others connect" storm-alone storm-beside
            printf 'CPU of %s handshakes: %s\n' "$many" "$(sort -n "$out/handshakes.txt" | tr '\n' ' ')"
            ;;
        large) compare_runs "large: $few clients of a small channel alone, and beside $some that get 2.5 MB each two seconds" large-alone large-beside ;;
        publish)
            printf '\n%-44s %8s %8s %8s %8s %8s %8s\n' 'publish calls' all '≤1.0us' '≤2.0us' '≤4.1us' '≤8.2us' '≤16us'
            cat "$out/publish.txt"
            ;;
        tls)
            compare_runs "tls: $some clients, 6 KiB at 10/s" tls-plain tls-encrypted
            compare_runs "tls: $some clients, 1 KiB at 500/s" burst-plain burst-encrypted
            printf '\n%-12s %14s %14s\n' "$many clients" 'us/handshake' 'B/connection'
            cat "$out/tls.txt"
            ;;
        cluster)
            compare_runs "cluster: $some clients, 6 KiB at 10/s, from the server that makes it and from an edge" cluster-alone cluster-edge
            printf 'from the origin to the edge, mean of each round: %s us\n' "$(sort -n "$out/transit.txt" | tr '\n' ' ')"
            ;;
        memory)
            printf '\n%-8s %10s %10s %10s %14s\n' round 'start KiB' with after 'B/connection'
            cat "$out/memory.txt"
            ;;
    esac
done
printf '\n%s\n' "$out"
