#!/usr/bin/env bash
# Counts the server's system calls for each message delivered. profiling/README.md says how to read it.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: profiling/syscalls.sh [OPTIONS]

Puts the server under a steady load, then under a backlog, then has all clients leave and return, counts
its system calls by name, and prints how many there were for each message that the load test received,
and in the last case for each connection it opened.

Options:
  --connections N      clients [default: 1000]
  --payload SIZE       of a message, like 200 or 1KiB [default: 1KiB]
  --rate R             messages a second under steady load [default: 100]
  --backlog-rate R     messages a second for the backlog, more than go out one by one [default: 1000]
  --seconds S          how long to count, each [default: 8]
  --counter NAME       perf (tracepoints in the kernel, as root), strace (stops the server at every
                       call: it falls behind, and always has a backlog), or auto, which is the first
                       that works [default: auto]
  --out DIR            where the results go [default: target/profiling/<time>-syscalls]
  --server-bin FILE    count this server's instead of building one
  --loadtest-bin FILE  use this load test instead of building one
  --smoke              a short run for CI that fails if the result is not usable: 50 connections, 1 s
  -h, --help           print this

Exit status: 0 done, 1 failed or interrupted, 2 bad arguments.
USAGE
}

# shellcheck source=profiling/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# ---------------------------------------------------------------- arguments

connections='' payload=1KiB rate=100 backlog_rate=1000 seconds='' counter=auto
server_bin='' loadtest_bin='' smoke=false

while (($#)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
        --smoke)
            smoke=true
            shift
            continue
            ;;
    esac
    next_option "$@"
    shift "$used"
    case $option in
        --connections) expect_count && connections=$value ;;
        --payload) expect_size && payload=$value ;;
        --rate) expect_rate && rate=$value ;;
        --backlog-rate) expect_rate && backlog_rate=$value ;;
        --seconds) expect_seconds && seconds=${value%s} ;;
        --counter) expect '^(auto|perf|strace)$' 'auto, perf or strace' && counter=$value ;;
        --out) expect '.' 'a directory' && out=$value ;;
        --server-bin) expect_program && server_bin=$value ;;
        --loadtest-bin) expect_program && loadtest_bin=$value ;;
        *) reject "unknown option '$option'" ;;
    esac
done
if $smoke; then
    connections=${connections:-50} seconds=${seconds:-1}
fi
connections=${connections:-1000} seconds=${seconds:-8}

[[ $(uname -s) == Linux ]] || fail "needs Linux"
make_directories syscalls
raise_descriptors "$connections"

# ---------------------------------------------------------------- counting

# What a server may call. Each costs 40 ms to attach to, so not all 360; what is left over is counted as `other`.
calls=(accept4 close epoll_ctl epoll_pwait epoll_wait fcntl futex getpeername getrandom getsockname getsockopt
    madvise mmap mprotect munmap nanosleep openat read readv recvfrom recvmsg sched_yield sendmsg sendto
    setsockopt shutdown timerfd_settime write writev)
events=''

# Fails, having said why in `why`, if the kernel's tracepoints cannot be counted.
prepare_perf_stat() {
    need_perf || return 1
    local call
    for call in "${calls[@]}"; do
        # Not every processor has all of them.
        [[ ! -e /sys/kernel/tracing/events/syscalls/sys_enter_$call ]] || events+=syscalls:sys_enter_$call,
    done
    events+=raw_syscalls:sys_enter
    run perf stat -x, -e raw_syscalls:sys_enter -o "$work/probe" -- true >/dev/null 2>&1 &&
        grep -q '^[1-9]' "$work/probe" && [[ $events == syscalls:* ]] && return
    why="perf may not count system calls: run this as root, with tracefs at /sys/kernel/tracing"
    return 1
}
choose_counter() {
    if [[ $counter != strace ]]; then
        if prepare_perf_stat; then
            counter=perf
            return
        fi
        [[ $counter == auto ]] || fail "$why"
        warn "$why"
    fi
    counter=strace
    need strace strace || fail "$why"
    warn "strace stops the server at every call: both loads are more of a backlog than without it"
}

# The events are counted in the kernel from the start of `sleep` to its end: none is lost, and nothing waits.
count_perf() { # count_perf FILE
    run perf stat -x, -e "$events" -p "$server" -o "$work/stat" -- sleep "$seconds" \
        >"$work/counter.log" 2>&1 || count_failed
    awk -F, '$3 == "raw_syscalls:sys_enter" { all = $1; next }
        $1 > 0 && sub(/.*sys_enter_/, "", $3) { print $3 "\t" $1; known += $1 }
        END { if (all > known) print "other\t" all - known }' "$work/stat" >"$1"
}
count_strace() {
    # At an interrupt it writes its table and lets the server go.
    run timeout --preserve-status -s INT "$seconds" strace -f -c -o "$work/stat" -p "$server" \
        >"$work/counter.log" 2>&1 || [[ -s $work/stat ]] || count_failed
    awk '$4 ~ /^[0-9]+$/ && $NF != "total" { print $NF "\t" $4 }' "$work/stat" >"$1"
}
count_failed() {
    alive "$server" || server_ended
    tail -n 3 "$work/counter.log" >&4
    fail "$counter cannot count the system calls of the server"
}

# Takes a figure out of the load test's report: the word behind `$2` in the line that begins with `$1`.
figure() {
    awk -v line="$1" -v name="$2" 'index($0, line) == 1 {
        gsub(",", "")
        for (n = 1; n < NF; n++) if ($n == name) { print $(n + 1); exit }
    }' "$load_report"
}

# One load. Leaves calls by name in $work/<name> and the number of `$2`, messages or connections, in $work/<name>.units.
measure() { # measure NAME UNITS RATE [OPTION...]
    local name=$1 units=$2 rate=$3 stage=measuring a_second
    shift 3
    [[ $units == messages ]] || stage=churn
    start_server "$server_bin" --source none
    start_load --connections "$connections" --ramp 1s --warmup 2s --duration "$((seconds + 6))s" \
        --publish-url "http://$address/publish/$channel" --publish-rate "$rate" --payload "$payload" "$@"
    await_stage "$stage" 30
    step "count: $seconds s of $name, with $counter"
    "count_$counter" "$work/$name"
    alive "$load" || load_ended
    finish_load
    stop_children
    cp -- "$load_json" "$out/$name.json"
    # The load is even, so what came in the time counted is its share of what came in all.
    if [[ $units == messages ]]; then
        a_second=$(figure traffic messages/s)
    else
        a_second=$(awk -v left="$(figure 'churn  ' left)" -v time="$((seconds + 6))" 'BEGIN { print left / time }')
    fi
    awk -v rate="$a_second" -v time="$seconds" 'BEGIN { printf "%.0f\n", rate * time; exit !rate }' \
        >"$work/$name.units" || fail "the load test counted no $units"
    printf '\n%s, %s %s:\n' "$name" "$(<"$work/$name.units")" "$units"
    verdict | sed 's/^/    /'
}

build_server tickcast
build_loadtest
choose_counter
measure steady messages "$rate"
measure backlog messages "$backlog_rate"
measure connect connections 1 --scenario churn --churn-share '100%'

# ---------------------------------------------------------------- the table

loads=(steady backlog connect)
for name in "${loads[@]}"; do
    awk -F '\t' -v name="$name" -v units="$(<"$work/$name.units")" \
        '{ printf "%s\t%s\t%d\t%.6f\n", $1, name, $2, $2 / units }' "$work/$name"
done | awk -F '\t' '
    { names[$1] = 1; calls[$1, $2] = $3; per[$1, $2] = $4 }
    END {
        for (n in names) {
            printf "%s\t%d\t%.6f\t%d\t%.6f\t%d\t%.6f\n", n, calls[n, "steady"], per[n, "steady"],
                calls[n, "backlog"], per[n, "backlog"], calls[n, "connect"], per[n, "connect"]
        }
    }' | LC_ALL=C sort -t$'\t' -k2,2nr -k4,4nr -k6,6nr >"$work/table"
{
    printf 'call\tsteady\tper message\tbacklog\tper message\tconnect\tper connection\n'
    cat "$work/table"
} >"$out/syscalls.tsv"

printf '\nsystem calls of the server in %s s each, counted with %s\n\n' "$seconds" "$counter"
printf '%-16s %10s %11s %10s %11s %10s %14s\n' call steady 'per message' backlog 'per message' connect 'per connection'
awk -F '\t' '
    function row(name, v) { printf "%-16s %10d %11.5f %10d %11.5f %10d %14.3f\n", name, v[2], v[3], v[4], v[5], v[6], v[7] }
    { for (n = 2; n <= 7; n++) { v[n] = $n; sum[n] += $n } row($1, v) }
    END { row("all", sum) }' "$work/table"
print_origin
printf '%s\n' "$out"/*

if $smoke; then
    awk -F '\t' '/^(sendto|writev)\t/ { sent += $2 } END { exit !sent }' "$out/syscalls.tsv" ||
        fail "no call that sends was counted"
fi
