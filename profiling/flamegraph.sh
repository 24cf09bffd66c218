#!/usr/bin/env bash
# Records where the server spends its CPU time under a load, as a flame graph.
# profiling/README.md says how to read it.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: profiling/flamegraph.sh [OPTIONS] [-- SERVER OPTIONS]

Builds server and load test with symbols, puts the server under load, samples its stacks, and writes
target/profiling/<time>-<workload>/ with flamegraph.svg (opens in a browser), folded.txt and top.json.

Options:
  --workload NAME      [default: fanout]
                         fanout   a publisher, everybody reads
                         connect  clients leave and return all the time
                         slow     a tenth of the clients reads nothing
                         ingest   a recording as fast as it can be decoded, few clients
  --connections N      clients [default: 1000; connect: 3000; ingest: 10]
  --payload SIZE       of a message, like 200 or 1KiB; not for ingest [default: 1KiB]
  --rate R             messages a second; for ingest, snapshots a second
                       [default: 97; connect: 1; ingest: 10]
  --seconds S          how long to record [default: 10]
  --diff BASE.folded   draw what changed against this recording as well, in diff.svg
  --sampler NAME       perf, in-process (user space only), or auto, which is the first that works
                       [default: auto]
  --frequency HZ       samples a second of CPU time [default: 499]
  --call-graph METHOD  how perf walks stacks: dwarf or fp [default: dwarf]
  --out DIR            where the results go
  --server-bin FILE    profile this server instead of building one
  --loadtest-bin FILE  use this load test instead of building one
  --smoke              a short run for CI that fails if the result is not usable: 100 connections, 997 messages
                       a second, 2 s
  -h, --help           print this

Server options default to `--source none`, and for ingest to `--source replay --replay-speed 0`.

Exit status: 0 done, 1 failed or interrupted, 2 bad arguments.
USAGE
}

# shellcheck source=profiling/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
# shellcheck source=profiling/samplers.sh
source "$(dirname "${BASH_SOURCE[0]}")/samplers.sh"

# ---------------------------------------------------------------- arguments

workload=fanout connections='' payload='' rate='' seconds='' base='' sampler=auto frequency='' call_graph=dwarf
server_bin='' loadtest_bin='' smoke=false server_options=()

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
        --)
            server_options=("${@:2}")
            break
            ;;
    esac
    next_option "$@"
    shift "$used"
    case $option in
        --workload) expect '^(fanout|connect|slow|ingest)$' 'fanout, connect, slow or ingest' && workload=$value ;;
        --connections) expect_count && connections=$value ;;
        --payload) expect_size && payload=$value ;;
        --rate) expect_rate && rate=$value ;;
        --seconds) expect_seconds && seconds=${value%s} ;;
        --diff) expect '.' 'a file' && base=$value ;;
        --sampler) expect '^(auto|perf|in-process)$' 'auto, perf or in-process' && sampler=$value ;;
        --frequency) expect_count && frequency=$value ;;
        --call-graph) expect '^(dwarf|fp)$' 'dwarf or fp' && call_graph=$value ;;
        --out) expect '.' 'a directory' && out=$value ;;
        --server-bin) expect_program && server_bin=$value ;;
        --loadtest-bin) expect_program && loadtest_bin=$value ;;
        *) reject "unknown option '$option'" ;;
    esac
done

[[ -z $base || -s $base ]] || reject "--diff '$base': there is no such recording"
[[ $workload != ingest || -z $payload ]] || reject "--payload: the messages of ingest are snapshots"
if $smoke; then
    connections=${connections:-100} seconds=${seconds:-2} frequency=${frequency:-997}
    # Enough work in two seconds for a sampler that sees at most every tick.
    [[ $workload != fanout ]] || rate=${rate:-997}
fi
seconds=${seconds:-10} payload=${payload:-1KiB}
# Prime, so that samples do not march in step with timers that tick 100 or 1,000 times a second. One
# percent of a busy core is 50 samples in ten seconds; a dwarf sample copies 16 KiB of stack, so more
# would cost machines with many cores more than it tells.
frequency=${frequency:-499}

# Rates are prime like the frequency: the in-process sampler goes by the kernel's tick, usually 4 ms, and would see
# all or nothing of what is done in step with it.
publish=true
case $workload in
    fanout) rate=${rate:-97} scenario=(--scenario steady) stage=measuring duration=$((seconds + 3)) ;;
    connect)
        connections=${connections:-3000} rate=${rate:-1} scenario=(--scenario churn --churn-share '100%')
        stage=churn duration=$((seconds + 3))
        ;;
    slow)
        # The second half is the one with slow clients, and they must have filled what the kernel takes.
        rate=${rate:-97} scenario=(--scenario slow --slow-share '10%' --slow-rate 0)
        stage='some slow' duration=$((2 * (seconds + 4)))
        ;;
    ingest)
        connections=${connections:-10} rate=${rate:-10} channel=market publish=false
        scenario=(--scenario steady) stage=measuring duration=$((seconds + 3))
        ((${#server_options[@]})) || server_options=(--source replay --replay-speed 0 --broadcast-interval \
            "$(awk -v rate="$rate" 'BEGIN { printf "%.6f", 1 / rate }')")
        ;;
esac
connections=${connections:-1000}
((${#server_options[@]})) || server_options=(--source none)

[[ $(uname -s) == Linux ]] || fail "needs Linux"
make_directories "$workload"
raise_descriptors "$connections"

# ---------------------------------------------------------------- programs

choose_sampler
if [[ $sampler == perf ]]; then
    build_server tickcast
else
    build_sampled_server
fi
build_loadtest
install_inferno

# ---------------------------------------------------------------- the load, and recording it

step "server: tickcast ${server_options[*]}"
if [[ $sampler == perf ]]; then
    start_server "$server_bin" "${server_options[@]}"
else
    start_server env TICKCAST_SAMPLER="$work/sampled" TICKCAST_SAMPLER_HZ="$frequency" \
        "$server_bin" "${server_options[@]}"
fi

load_options=(--connections "$connections" "${scenario[@]}" --ramp 1s --warmup 2s --duration "${duration}s")
if $publish; then
    load_options+=(--publish-url "http://$address/publish/$channel" --publish-rate "$rate" --payload "$payload")
fi
start_load "${load_options[@]}"
await_stage "$stage" $((duration + 30))

step "record: $seconds s of '$stage', with $sampler"
before=$(metrics) began=$(uptime_now) ticks=$(cpu_ticks "$server")
"record_$recorder"
alive "$server" || server_ended
ticks=$(($(cpu_ticks "$server") - ticks)) ended=$(uptime_now) after=$(metrics)
alive "$load" || load_ended

delta() { echo $(($(metric "$1" <<<"$after") - $(metric "$1" <<<"$before"))); }
sent=$(delta tickcast_frames_sent_total)
opened=$(delta tickcast_connections_total)
dropped=$(delta tickcast_frames_dropped_total)
read -r cores sent_rate opened_rate < <(awk -v from="$began" -v to="$ended" -v ticks="$ticks" \
    -v hz="$(getconf CLK_TCK)" -v sent="$sent" -v opened="$opened" \
    'BEGIN { s = to - from; printf "%.2f %.0f %.0f\n", ticks / hz / s, sent / s, opened / s }')

finish_load
[[ $sampler == perf ]] || await_samples
stop_children

# ---------------------------------------------------------------- the graph

step "fold: stacks into $out/folded.txt"
"fold_$recorder"
samples=$(awk '{ sum += $NF } END { print sum + 0 }' "$work/folded")
((samples > 0)) || fail "no samples: the server used $cores cores, try more --connections or another --rate"

traffic="$sent_rate frames/s"
[[ $workload != connect ]] || traffic+=", $opened_rate connections/s"
subtitle="$connections clients, $traffic, $cores cores | tickcast $version ${server_options[*]}"
subtitle+=" | $event $frequency Hz, $seconds s, $(date +%F)"
what="tickcast, $workload"
[[ $sampler == perf ]] || what+=' (user space only, sampled in-process)'
draw() { # draw FOLDED SVG TITLE [OPTION...]
    local folded=$1 svg=$2 title=$3
    shift 3
    run "$tools/bin/inferno-flamegraph" --quiet --title "$title" --subtitle "$subtitle" --deterministic \
        "$@" "$folded" >"$work/svg" 2>"$work/svg.log" || fail "inferno-flamegraph failed: $(tail -n 1 "$work/svg.log")"
    mv -- "$work/svg" "$svg"
}
draw "$work/folded" "$out/flamegraph.svg" "$what: where the CPU time goes" --colors rust
if [[ -n $base ]]; then
    run "$tools/bin/inferno-diff-folded" --normalize "$base" "$work/folded" >"$work/diff" 2>"$work/svg.log" ||
        fail "inferno-diff-folded failed: $(tail -n 1 "$work/svg.log")"
    draw "$work/diff" "$out/diff.svg" "$what: against $(basename "$(dirname "$base")") (red grew, blue shrank)"
fi

if $smoke; then
    grep -q 'tickcast::' "$work/folded" || fail "the stacks name no function of the server"
    [[ $(tail -c 20 "$out/flamegraph.svg") == *'</svg>'* ]] || fail "the flame graph is not whole"
fi
mv -- "$work/folded" "$out/folded.txt"

# ---------------------------------------------------------------- the table

own_time "$out/folded.txt" >"$work/own"
write_top >"$out/top.json"

printf '\n%s, %s clients: %s, %s frames dropped, %s cores busy\n' \
    "$workload" "$connections" "$traffic" "$dropped" "$cores"
verdict | sed 's/^/    /'
print_table
print_origin
printf '%s\n' "$out"/*

if [[ $sampler == perf ]] && awk -v complete="$complete" 'BEGIN { exit !(complete < 90) }'; then
    case $call_graph in
        fp) warn "broken stacks: the C library keeps no frame pointers, --call-graph dwarf walks through it" ;;
        *) warn "broken stacks: was the server built with --profile profiling?" ;;
    esac
fi
