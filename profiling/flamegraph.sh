#!/usr/bin/env bash
# Records where the server spends its CPU time under a crowd of WebSocket clients, as a flame graph.
# profiling/README.md says how to read it.

set -euo pipefail
# Every child gets a process group of its own: whatever it started ends with it.
set -m

usage() {
    cat <<'END'
Usage: profiling/flamegraph.sh [OPTIONS] [-- SERVER OPTIONS]

Runs the server under a crowd of WebSocket clients, samples its call stacks with perf and writes a
flame graph (SVG, opens in a browser) with the folded stacks beside it.

Options:
  --clients N          clients of the channel `market` [default: 1000]
  --duration SECS      how long to record [default: 10]
  --frequency HZ       samples a second of CPU time [default: 499]
  --call-graph METHOD  how stacks are walked: dwarf or fp [default: dwarf]
  --out FILE           the flame graph [default: profiling/out/flamegraph-<date>.svg]
  --server-bin FILE    profile this server instead of building one
  --crowd-bin FILE     use this crowd instead of building one
  --smoke              a short run for CI that fails if the result is not usable: 100 clients,
                       2 s, 997 Hz, profiling/out/smoke.svg
  -h, --help           print this

Server options default to: --source sim --broadcast-interval 10ms

Exit status: 0 done, 1 failed or interrupted, 2 bad arguments.
END
}

# What is said goes to the terminal from inside a redirected command as well, where a signal may find us.
exec 4>&2
say() { printf '%s\n' "$*" >&4; }
step() { say "==> $*"; }
warn() { say "    warning: $*"; }
fail() {
    say "flamegraph.sh: $*"
    exit 1
}
rejected=false
reject() {
    rejected=true
    say "flamegraph.sh: $*"
    say "Try --help."
    exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=$root/target/tools
build=$root/target/profiling-build
inferno_version=0.12.8
# The runtime under a task is the same sixty frames in every stack: the graph begins where a task does.
task_base='tokio::runtime::task::core::Core<T,S>::poll::{{closure}}'

# ---------------------------------------------------------------- arguments

clients='' duration='' frequency='' out='' call_graph=dwarf server_bin='' crowd_bin='' smoke=false
server_options=(--source sim --broadcast-interval 10ms)

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
        --)
            if (($#)); then
                server_options=("$@")
            fi
            break
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
        *) reject "unexpected argument '$option' (server options go behind --)" ;;
    esac
    case $option in
        --clients) pattern='^[1-9][0-9]{0,6}$' accepts='a whole number from 1' ;;
        --frequency) pattern='^[1-9][0-9]{0,5}$' accepts='a whole number from 1' ;;
        --duration) pattern='^([1-9][0-9]*([.][0-9]+)?|0?[.]0*[1-9][0-9]*)s?$' accepts='seconds above 0, like 10 or 2.5' ;;
        --call-graph) pattern='^(dwarf|fp)$' accepts='dwarf or fp' ;;
        --out | --server-bin | --crowd-bin) pattern='.' accepts='a file' ;;
        *) reject "unknown option '$option'" ;;
    esac
    [[ $value =~ $pattern ]] || reject "$option '$value': expected $accepts"
    case $option in
        --clients) clients=$value ;;
        --frequency) frequency=$value ;;
        --duration) duration=${value%s} ;;
        --call-graph) call_graph=$value ;;
        --out) out=$value ;;
        --server-bin) server_bin=$value ;;
        --crowd-bin) crowd_bin=$value ;;
    esac
done

if $smoke; then
    clients=${clients:-100} duration=${duration:-2} frequency=${frequency:-997}
    out=${out:-$root/profiling/out/smoke.svg}
fi
clients=${clients:-1000}
duration=${duration:-10}
# Prime, so that samples do not march in step with timers that tick 100 or 1,000 times a second. One
# percent of a busy core is 50 samples in ten seconds; a dwarf sample copies 8 KiB of stack, so more
# would cost machines with many cores more than it tells.
frequency=${frequency:-499}
out=${out:-$root/profiling/out/flamegraph-$(date +%Y%m%d-%H%M%S).svg}

[[ ! -d $out ]] || reject "--out '$out' is a directory"
for binary in "$server_bin" "$crowd_bin"; do
    [[ -z $binary || (-f $binary && -x $binary) ]] || reject "'$binary' is not a program"
done
case $out in
    *.svg) folded=${out%.svg}.folded ;;
    *) folded=$out.folded ;;
esac

[[ $(uname -s) == Linux ]] || fail "needs perf, which is part of Linux"

# ---------------------------------------------------------------- children and cleaning up

# A server with `--source stdin` reads what this script is given; nothing else reads it.
if [[ -t 0 ]]; then
    exec 3</dev/null
else
    exec 3<&0
fi
exec </dev/null

work=''
children=()

# Runs a command to its end. Waiting, unlike a command in the foreground, lets a signal through at once.
run() {
    local status=0
    "$@" 3<&- 4>&- &
    children+=("$!")
    wait "$!" || status=$?
    # It is gone, and its number may come to belong to somebody else.
    unset 'children[-1]'
    return "$status"
}

alive() { kill -0 "$1" 2>/dev/null; }

stop_children() {
    local n pid waited=0
    # Otherwise the shell reports the end of each.
    exec 2>/dev/null
    # The crowd goes before the server: it was started after it, and the server then has nobody to drain.
    for ((n = ${#children[@]} - 1; n >= 0; n--)); do
        kill -TERM -- "-${children[n]}" || true
    done
    for pid in "${children[@]}"; do
        while kill -0 -- "-$pid" && ((waited < 60)); do
            sleep 0.05
            waited=$((waited + 1))
        done
        kill -KILL -- "-$pid" || true
        wait "$pid" || true
    done
    children=()
    exec 2>&4
}

clean_up() {
    local status=$?
    trap '' INT TERM HUP
    # A command in the foreground may have taken the Ctrl-C in our place.
    ((status != 130)) || say "flamegraph.sh: interrupted"
    # Other programs have their own meanings of a status.
    $rejected || ((status == 0)) || status=1
    stop_children
    [[ -z $work ]] || rm -rf -- "$work"
    exit "$status"
}
interrupted() { exit 130; }
trap clean_up EXIT
trap interrupted INT TERM HUP

# Beside the result and not in /tmp, which may be memory: a long recording is large.
mkdir -p -- "$(dirname -- "$out")" || fail "cannot make the directory of '$out'"
work=$(mktemp -d -- "$(dirname -- "$out")/.flamegraph.XXXXXX") || fail "cannot write beside '$out'"

# ---------------------------------------------------------------- perf

setting() { cat "/proc/sys/kernel/$1" 2>/dev/null || echo '?'; }

perf_packages() {
    if grep -qs '^ID=ubuntu' /etc/os-release; then
        echo "linux-tools-generic linux-tools-$(uname -r)"
    else
        echo linux-perf
    fi
}

install_perf() {
    local packages
    read -ra packages <<<"$(perf_packages)"
    if ! command -v apt-get >/dev/null; then
        fail "perf is not installed: install your distribution's package of it (perf, linux-tools)"
    elif ((EUID != 0)); then
        fail "perf is not installed: sudo apt-get install -y ${packages[*]}"
    fi
    step "perf: installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    run apt-get install -y --no-install-recommends "${packages[@]}" >"$work/apt" 2>&1 && return
    # A fresh container has no package lists.
    run apt-get update >"$work/apt" 2>&1 || true
    run apt-get install -y --no-install-recommends "${packages[@]}" >"$work/apt" 2>&1 && return
    tail -n 5 "$work/apt" >&2
    fail "cannot install ${packages[*]}"
}

# Samples something short that is busy for long enough to be seen.
try_event() {
    # shellcheck disable=SC2016 # the inner shell expands it
    run perf record -N -q -e "$1" -F "$frequency" --call-graph "$call_graph" -o "$work/probe" \
        -- bash -c 'for ((n = 0; n < 60000; n++)); do :; done' >"$work/probe.log" 2>&1 &&
        run perf script -i "$work/probe" -F comm,ip >"$work/probe.txt" 2>>"$work/probe.log" &&
        [[ -s $work/probe.txt ]]
}

explain_perf() {
    local paranoid
    paranoid=$(setting perf_event_paranoid)
    sed 's/^/    /' "$work/probe.log" >&2
    say "    kernel.perf_event_paranoid is $paranoid, user id $EUID"
    if ((EUID != 0)); then
        say "    Allow it until the next boot:  sudo sysctl kernel.perf_event_paranoid=1 kernel.kptr_restrict=0"
        say "    or run this script as root."
    else
        say "    In a container: docker run --cap-add PERFMON --security-opt seccomp=unconfined ..."
    fi
    fail "perf is not allowed to record, or cannot"
}

command -v perf >/dev/null || install_perf
perf version >"$work/version" 2>&1 ||
    fail "perf does not run: $(head -n 1 "$work/version"); on Ubuntu it needs linux-tools-$(uname -r)"

max_rate=$(setting perf_event_max_sample_rate)
if [[ $max_rate =~ ^[0-9]+$ ]] && ((frequency > max_rate)); then
    reject "--frequency $frequency: this kernel allows at most $max_rate (kernel.perf_event_max_sample_rate)"
fi

event=cycles
if ! try_event cycles; then
    event=cpu-clock
    try_event cpu-clock || explain_perf
elif [[ $(perf evlist -i "$work/probe" 2>/dev/null) == cpu-clock* ]]; then
    # perf takes the clock by itself where there are no counters, and says so nowhere else.
    event=cpu-clock
fi
step "perf: $(cut -d' ' -f1-3 <"$work/version"), event $event, $frequency Hz, stacks by $call_graph"
[[ $event == cycles ]] || warn "no hardware counters (a VM?): the clock is sampled," \
    "code that masks interrupts shows where it unmasks them"

if ((EUID != 0)) && [[ $(setting perf_event_paranoid) != [01-]* ]]; then
    warn "user space only, the kernel's part is missing: sudo sysctl kernel.perf_event_paranoid=1"
elif ! awk '$1 !~ /^0+$/ { found = 1; exit } END { exit !found }' /proc/kallsyms 2>/dev/null; then
    warn "kernel functions have no names: sudo sysctl kernel.kptr_restrict=0"
fi

# ---------------------------------------------------------------- limits

raise_descriptors() {
    # Each side holds one a client, and some of its own.
    local need=$((clients + 100)) soft hard
    soft=$(ulimit -Sn)
    hard=$(ulimit -Hn)
    [[ $soft == unlimited ]] && return
    ((soft >= need)) && return
    ulimit -Sn "$need" 2>/dev/null && return
    # Root may raise the hard limit as well.
    ulimit -n "$need" 2>/dev/null && return
    fail "--clients $clients needs $need open files, the limit is $hard:" \
        "raise it (ulimit -n as root, or /etc/security/limits.conf) or take at most $((hard - 100)) clients"
}

check_ports() {
    local low high
    read -r low high 2>/dev/null </proc/sys/net/ipv4/ip_local_port_range || return 0
    ((clients <= high - low + 1)) ||
        fail "--clients $clients: one machine has $((high - low + 1)) ports towards one address;" \
            "sudo sysctl net.ipv4.ip_local_port_range='1024 65535' gives 64,512"
}

raise_descriptors
check_ports

# ---------------------------------------------------------------- programs

need_rust() {
    command -v cargo >/dev/null || fail "cargo is not installed: see https://rustup.rs"
    command -v cc >/dev/null || fail "no C compiler: apt-get install -y build-essential"
}

version=''
if [[ -n $server_bin && -n $crowd_bin ]]; then
    step "build: skipped, using $server_bin"
else
    need_rust
    what=()
    [[ -n $server_bin ]] || what+=(--bin tickcast)
    [[ -n $crowd_bin ]] || what+=(--example crowd)
    step "build: ${what[*]} with --profile profiling, in target/profiling-build (minutes the first time)"
    # Line tables alone name inlined functions without their path, and nearly all of them are inlined.
    run env -C "$root" CARGO_PROFILE_PROFILING_DEBUG=limited \
        RUSTFLAGS="${RUSTFLAGS:-} -C force-frame-pointers=yes" CFLAGS="${CFLAGS:-} -fno-omit-frame-pointer" \
        cargo build --profile profiling --target-dir "$build" "${what[@]}" || fail "the build failed"
    if [[ -z $server_bin ]]; then
        server_bin=$build/profiling/tickcast
        version=$(git -C "$root" describe --always --dirty 2>/dev/null || true)
    fi
    crowd_bin=${crowd_bin:-$build/profiling/examples/crowd}
fi

inferno=(inferno-collapse-perf inferno-flamegraph inferno-diff-folded)
installed=true
for tool in "${inferno[@]}"; do
    [[ -x $tools/bin/$tool ]] || installed=false
done
if $installed; then
    step "inferno: in target/tools"
else
    need_rust
    step "inferno: installing $inferno_version in target/tools, once"
    run cargo install inferno --version "$inferno_version" --locked --no-default-features --features cli \
        --root "$tools" --force --quiet "${inferno[@]/#/--bin=}" || fail "cannot install inferno"
fi

# ---------------------------------------------------------------- the load

server_log=$work/server.log
crowd_log=$work/crowd.log
# They are read while they may not be there yet.
touch "$server_log" "$crowd_log"

# Prints the answer to GET /metrics. Without curl, which a fresh machine may not have.
metrics() {
    local host=${address%:*}
    host=${host#[} host=${host%]}
    # shellcheck disable=SC2016 # the inner shell expands it
    timeout 5 bash -c 'exec 4<>"/dev/tcp/$1/$2" &&
        printf "GET /metrics HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" "$1" >&4 && cat <&4' \
        _ "$host" "${address##*:}" 2>/dev/null || true
}
# The sum of a metric over its labels, out of an answer to GET /metrics.
metric() {
    awk -v name="$1" '$1 == name || index($1, name "{") == 1 { sum += $2 } END { printf "%.0f\n", sum }'
}

server_ended() {
    local status=0
    wait "$server" 2>/dev/null || status=$?
    # The first of the two that stay.
    unset 'children[0]'
    children=("${children[@]}")
    sed 's/^/    /' "$server_log" | tail -n 10 >&2
    ((status != 2)) || reject "the server refused its options: ${server_options[*]}"
    fail "the server ended with status $status"
}

step "server: ${server_options[*]}"
# In the environment and not as an option: an option of the user's goes before it.
TICKCAST_LISTEN=127.0.0.1:0 "$server_bin" "${server_options[@]}" <&3 3<&- 4>&- >/dev/null 2>"$server_log" &
server=$!
children+=("$server")
exec 3<&-

address=''
for ((tries = 0; tries < 200; tries++)); do
    address=$(sed -nE -e 's|^tickcast .* listening on http://([^/]+)/.*|\1|p' \
        -e 's|.*"listening":"([^"]+)".*|\1|p' "$server_log")
    [[ -z $address ]] || break
    alive "$server" || server_ended
    sleep 0.05
done
[[ -n $address ]] || fail "the server did not say where it listens: $(tail -n 1 "$server_log")"

step "crowd: $clients clients of ws://$address/ws/market"
"$crowd_bin" "$address" market "$clients" 4>&- >/dev/null 2>"$crowd_log" &
crowd=$!
children+=("$crowd")

crowd_ended() {
    grep -v ' connected, ' "$crowd_log" | sort | uniq -c | sort -rn | head -n 3 >&2 || true
    fail "the crowd $1"
}

connected=0
for ((tries = 0; tries < 300; tries++)); do
    connected=$(metrics | metric tickcast_connections)
    ((connected < clients)) || break
    alive "$server" || server_ended
    alive "$crowd" || crowd_ended "ended"
    sleep 0.2
done
((connected >= clients)) || crowd_ended "is not complete after a minute: $connected of $clients connected"
# The handshakes are not the load.
sleep 1

# ---------------------------------------------------------------- recording

cpu_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$server/stat" 2>/dev/null || echo 0; }
uptime_now() { cut -d' ' -f1 /proc/uptime; }

step "record: $duration s"
before=$(metrics) began=$(uptime_now) ticks=$(cpu_ticks)
# Without the build-id cache, which would keep a copy of every server profiled under ~/.debug.
if ! run perf record -N -e "$event" -F "$frequency" --call-graph "$call_graph" -p "$server" -o "$work/perf.data" \
    -- sleep "$duration" >"$work/perf.log" 2>&1; then
    alive "$server" || server_ended
    tail -n 5 "$work/perf.log" >&2
    fail "perf record failed"
fi
alive "$server" || server_ended
ticks=$(($(cpu_ticks) - ticks)) ended=$(uptime_now) after=$(metrics)
alive "$crowd" || crowd_ended "ended during the recording"

sent=$(($(metric tickcast_frames_sent_total <<<"$after") - $(metric tickcast_frames_sent_total <<<"$before")))
bytes=$(($(metric tickcast_bytes_sent_total <<<"$after") - $(metric tickcast_bytes_sent_total <<<"$before")))
dropped=$(($(metric tickcast_frames_dropped_total <<<"$after") - $(metric tickcast_frames_dropped_total <<<"$before")))
connected=$(metric tickcast_connections <<<"$after")
figures=$(awk -v from="$began" -v to="$ended" -v ticks="$ticks" -v hz="$(getconf CLK_TCK)" \
    -v sent="$sent" -v bytes="$bytes" \
    'BEGIN { s = to - from; printf "%.2f %.0f %.1f\n", ticks / hz / s, sent / s, bytes / s / 1e6 }')
read -r cores rate megabytes <<<"$figures"
((connected >= clients)) || warn "$((clients - connected)) clients left during the recording"
((sent > 0)) || warn "nothing was sent during the recording: has the source anything to say?"
((dropped == 0)) || warn "$dropped frames were dropped: the clients on this machine could not keep up with the server"
if grep -qiE 'lost [1-9]' "$work/perf.log"; then
    warn "perf lost samples: $(grep -iE -m 1 'lost [1-9]' "$work/perf.log")"
fi
# The crowd takes a core that folding can use.
stop_children

# ---------------------------------------------------------------- the graph

step "fold: stacks into $folded"
# Without the name of the event: a processor with two kinds of cores has two, which belong together.
run perf script -i "$work/perf.data" -F comm,pid,tid,time,ip,sym,dso >"$work/stacks" 2>"$work/script.log" ||
    fail "perf script failed: $(tail -n 1 "$work/script.log")"

fold() {
    "$tools/bin/inferno-collapse-perf" --quiet --kernel "$@" "$work/stacks" 2>"$work/fold.log" |
        # Hashes differ between builds, which would then not compare; the vdso runs in user mode; perf names
        # the function that entered the kernel once from each side.
        sed -E -e 's/::h[0-9a-f]{16}//g' -e 's/\[\[vdso\]\]_\[k\]/[vdso]/g' -e 's/;([^;]+);\1;([^;]*_\[k\])/;\1;\2/'
}
fold >"$work/whole" || fail "inferno-collapse-perf failed: $(tail -n 1 "$work/fold.log")"
fold --skip-after "$task_base" >"$work/folded" || fail "inferno-collapse-perf failed: $(tail -n 1 "$work/fold.log")"

samples=$(awk '{ sum += $NF } END { print sum + 0 }' "$work/whole")
((samples > 0)) || fail "no samples: the server used $cores cores"
# A stack is complete if it goes down to where Rust starts a thread, or the program.
complete=$(awk -v samples="$samples" \
    '/;[^;]*(thread_start|lang_start)/ { sum += $NF } END { printf "%.1f\n", 100 * sum / samples }' "$work/whole")

subtitle="$clients clients, $rate frames/s, $megabytes MB/s, $cores cores"
subtitle+=" | tickcast ${version:+$version }${server_options[*]} | $event $frequency Hz, $duration s, $(date +%F)"
run "$tools/bin/inferno-flamegraph" --quiet --title "tickcast: where the CPU time goes" --subtitle "$subtitle" \
    --colors rust --deterministic "$work/folded" >"$work/svg" 2>"$work/svg.log" ||
    fail "inferno-flamegraph failed: $(tail -n 1 "$work/svg.log")"

if $smoke; then
    grep -q 'tickcast::' "$work/folded" || fail "the stacks name no function of the server"
    [[ $(tail -c 20 "$work/svg") == *'</svg>'* ]] || fail "the flame graph is not whole"
fi
mv -- "$work/folded" "$folded"
mv -- "$work/svg" "$out"

# Self time: the function a stack ends in. Kernel functions end in _[k].
awk -v samples="$samples" '
    { count = $NF; sub(/ [0-9.]+$/, ""); sub(/.*;/, ""); self[$0] += count }
    /_\[k\]$/ { kernel += count }
    END {
        printf "kernel %.1f%%, user %.1f%%\n", 100 * kernel / samples, 100 - 100 * kernel / samples
        for (name in self) printf "%d\t%s\n", self[name], name | "sort -t \"\t\" -k1,1nr -k2"
    }' "$folded" >"$work/table"

printf '\n%s clients, %s frames/s, %s MB/s, %s frames dropped\n' "$clients" "$rate" "$megabytes" "$dropped"
printf '%s cores busy: %s\n' "$cores" "$(grep -m 1 '^kernel' "$work/table")"
printf '%s samples, %s%% of them with a complete stack\n\n' "$samples" "$complete"
printf '%7s  %-6s  %s\n' self side function
grep -v '^kernel' "$work/table" | awk -F '\t' -v samples="$samples" 'NR <= 15 {
    side = sub(/_\[k\]$/, "", $2) ? "kernel" : "user"
    printf "%6.1f%%  %-6s  %s\n", 100 * $1 / samples, side, $2
}'
printf '\n%s\n%s\n' "$out" "$folded"

if awk -v complete="$complete" 'BEGIN { exit !(complete < 90) }'; then
    case $call_graph in
        fp) warn "broken stacks: the C library keeps no frame pointers, --call-graph dwarf walks through it" ;;
        *) warn "broken stacks: was the server built with --profile profiling?" ;;
    esac
fi
