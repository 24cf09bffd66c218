# shellcheck shell=bash disable=SC2034,SC2154 # shares its variables with flamegraph.sh, which reads this
# The two samplers of flamegraph.sh, and the table of what they found. Not a program: `source` it.

# The runtime under a task is the same sixty frames in every stack: the graph begins where a task does.
task_base='tokio::runtime::task::core::Core<T,S>::poll::{{closure}}'

# ---------------------------------------------------------------- which

# Sets `sampler` to the one that is wanted or works, `recorder` to the name of its functions and `event`.
choose_sampler() {
    if [[ $sampler != in-process ]]; then
        if prepare_perf; then
            sampler=perf recorder=perf
            describe_perf
            return
        fi
        [[ $sampler == auto ]] || fail "$why"
        warn "$why"
        say "    the server samples itself instead"
    fi
    sampler=in-process recorder=inside event='CPU clock' complete=''
    step "in-process sampler, $frequency Hz"
    warn "it does not see the kernel: time in a system call counts for the function that made it;" \
        "inlined functions count for the one they are inlined into"
}

# ---------------------------------------------------------------- perf

# Samples something short that is busy for long enough to be seen.
try_event() {
    # shellcheck disable=SC2016 # the inner shell expands it
    run perf record -N -q -e "$1" -F "$frequency" --call-graph "$call_graph" -o "$work/probe" \
        -- bash -c 'for ((n = 0; n < 60000; n++)); do :; done' >"$work/probe.log" 2>&1 &&
        run perf script -i "$work/probe" -F comm,ip >"$work/probe.txt" 2>>"$work/probe.log" &&
        [[ -s $work/probe.txt ]]
}

# Fails, having said why in `why`, if perf is not there or may not record.
prepare_perf() {
    need_perf || return 1
    local max_rate
    max_rate=$(setting perf_event_max_sample_rate)
    if [[ $max_rate =~ ^[0-9]+$ ]] && ((frequency > max_rate)); then
        reject "--frequency $frequency: this kernel allows at most $max_rate (kernel.perf_event_max_sample_rate)"
    fi
    event=cycles
    if ! try_event cycles; then
        event=cpu-clock
        try_event cpu-clock && return
        why="perf may not record (kernel.perf_event_paranoid is $(setting perf_event_paranoid), user id $EUID): "
        if ((EUID != 0)); then
            why+="sudo sysctl kernel.perf_event_paranoid=1 kernel.kptr_restrict=0, or run this as root"
        else
            why+="in a container, docker run --cap-add PERFMON --security-opt seccomp=unconfined ..."
        fi
        return 1
    elif [[ $(perf evlist -i "$work/probe" 2>/dev/null) == cpu-clock* ]]; then
        # perf takes the clock by itself where there are no counters, and says so nowhere else.
        event=cpu-clock
    fi
}

describe_perf() {
    step "perf: $(cut -d' ' -f1-3 <"$work/version"), event $event, $frequency Hz, stacks by $call_graph"
    [[ $event == cycles ]] || warn "no hardware counters (a VM?): the clock is sampled," \
        "code that masks interrupts shows where it unmasks them"
    if ((EUID != 0)) && [[ $(setting perf_event_paranoid) != [01-]* ]]; then
        warn "user space only, the kernel's part is missing: sudo sysctl kernel.perf_event_paranoid=1"
    elif ! awk '$1 !~ /^0+$/ { found = 1; exit } END { exit !found }' /proc/kallsyms 2>/dev/null; then
        warn "kernel functions have no names: sudo sysctl kernel.kptr_restrict=0"
    fi
}

record_perf() {
    # A writer is deeper than perf's usual 8 KiB, with room for the slices of its writes, handshakes are
    # deeper than two of them.
    local perf_stacks=$call_graph
    [[ $call_graph != dwarf ]] || perf_stacks=dwarf,16384
    [[ $workload/$call_graph != connect/dwarf ]] || perf_stacks=dwarf,24576
    # Without the build-id cache, which would keep a copy of every server profiled under ~/.debug.
    if ! run perf record -N -e "$event" -F "$frequency" --call-graph "$perf_stacks" -p "$server" \
        -o "$work/perf.data" -- sleep "$seconds" >"$work/perf.log" 2>&1; then
        alive "$server" || server_ended
        tail -n 5 "$work/perf.log" >&4
        fail "perf record failed"
    fi
    ! grep -qiE 'lost [1-9]' "$work/perf.log" || warn "perf lost samples: $(grep -iE -m 1 'lost [1-9]' "$work/perf.log")"
}

fold_perf() {
    # Without the name of the event: a processor with two kinds of cores has two, which belong together.
    run perf script -i "$work/perf.data" -F comm,pid,tid,time,ip,sym,dso >"$work/stacks" 2>"$work/script.log" ||
        fail "perf script failed: $(tail -n 1 "$work/script.log")"
    collapse >"$work/whole"
    collapse --skip-after "$task_base" >"$work/folded"
    # A stack is complete if it goes down to where Rust starts a thread, or the program.
    complete=$(awk '{ sum += $NF } /;[^;]*(thread_start|lang_start)/ { whole += $NF }
        END { printf "%.1f\n", sum ? 100 * whole / sum : 0 }' "$work/whole")
}
collapse() {
    "$tools/bin/inferno-collapse-perf" --quiet --kernel "$@" "$work/stacks" 2>"$work/fold.log" |
        # Hashes differ between builds, which would then not compare; the vdso runs in user mode; perf names
        # the function that entered the kernel once from each side.
        sed -E -e 's/::h[0-9a-f]{16}//g' -e 's/\[\[vdso\]\]_\[k\]/[vdso]/g' -e 's/;([^;]+);\1;([^;]*_\[k\])/;\1;\2/' ||
        fail "inferno-collapse-perf failed: $(tail -n 1 "$work/fold.log")"
}

# ---------------------------------------------------------------- in-process

build_sampled_server() {
    build_server tickcast-sampler --features sampler
    grep -qa TICKCAST_SAMPLER "$server_bin" ||
        reject "--server-bin '$server_bin' has no sampler in it: build it with --features sampler"
}
# The first signal starts it, the second ends it.
record_inside() {
    kill -USR1 "$server"
    pause "$seconds"
    kill -USR1 "$server"
}
# It writes when it has looked all names up.
await_samples() {
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        [[ ! -e $work/sampled ]] || return 0
        alive "$server" || server_ended
        sleep 0.1
    done
    fail "the server wrote no samples"
}
fold_inside() {
    sed -E -e 's/::h[0-9a-f]{16}//g' -e 's/^([^;]+);.*;tokio::runtime::task::[a-z_:]*poll;/\1;/' "$work/sampled" |
        awk '{ count = $NF; sub(/ [0-9]+$/, ""); sum[$0] += count } END { for (s in sum) print s, sum[s] }' |
        LC_ALL=C sort >"$work/folded"
}

# ---------------------------------------------------------------- the table

# Samples, side and name of each function by own time, most first. Kernel functions end in _[k].
own_time() {
    awk '{
        count = $NF
        sub(/ [0-9.]+$/, "")
        sub(/.*;/, "")
        self[$0] += count
    }
    END {
        for (name in self) {
            plain = name
            side = sub(/_\[k\]$/, "", plain) ? "kernel" : "user"
            printf "%d\t%s\t%s\n", self[name], side, plain
        }
    }' "$1" | LC_ALL=C sort -t$'\t' -k1,1nr -k3
}

kernel_samples() { awk -F '\t' '$2 == "kernel" { sum += $1 } END { print sum + 0 }' "$work/own"; }

print_side() { # print_side kernel|user
    awk -F '\t' -v side="$1" -v samples="$samples" '$2 == side && ++n <= 20 {
        printf "%6.2f%%  %s\n", 100 * $1 / samples, $3
    }' "$work/own"
}

print_table() {
    local kernel
    kernel=$(kernel_samples)
    if [[ $sampler == perf ]]; then
        printf '\n%s samples (perf, %s), %s%% of them with a complete stack\n' "$samples" "$event" "$complete"
        awk -v kernel="$kernel" -v samples="$samples" \
            'BEGIN { printf "\nuser %.1f%%\n", 100 - 100 * kernel / samples }'
        print_side user
        awk -v kernel="$kernel" -v samples="$samples" 'BEGIN { printf "\nkernel %.1f%%\n", 100 * kernel / samples }'
        print_side kernel
    else
        printf '\n%s samples (in-process): user space, with the time of the kernel in what called it\n\n' "$samples"
        print_side user
    fi
}

json_text() { printf '%s' "$1" | sed -e 's/[\\"]/\\&/g' -e 's/[[:cntrl:]]/ /g'; }

# README.md describes the shape.
write_top() {
    local kernel=null user=null whole=null
    if [[ $sampler == perf ]]; then
        kernel=$(kernel_samples)
        user=$(awk -v k="$kernel" -v n="$samples" 'BEGIN { printf "%.4f", 1 - k / n }')
        kernel=$(awk -v k="$kernel" -v n="$samples" 'BEGIN { printf "%.4f", k / n }')
        whole=$(awk -v complete="$complete" 'BEGIN { printf "%.3f", complete / 100 }')
    fi
    cat <<JSON
{
  "schema": 1,
  "workload": "$workload",
  "sampler": "$sampler",
  "event": "$event",
  "frequency_hz": $frequency,
  "seconds": $seconds,
  "samples": $samples,
  "user_share": $user,
  "kernel_share": $kernel,
  "complete_stacks_share": $whole,
  "server_cores": $cores,
  "frames_per_second": $sent_rate,
  "connections_per_second": $opened_rate,
  "commit": "$(json_text "$version")",
  "command": "$(json_text "$command_line")",
  "server": "$(json_text "tickcast ${server_options[*]}")",
  "load": "$(json_text "$load_command")",
  "machine": "$(json_text "$(machine)")",
  "date": "$(date -u +%FT%TZ)",
  "functions": [
JSON
    # Twenty of each side.
    awk -F '\t' -v samples="$samples" '++n[$2] <= 20 {
        gsub(/[\\"]/, "\\\\&", $3)
        printf "%s    {\"function\": \"%s\", \"side\": \"%s\", \"samples\": %d, \"share\": %.4f}", \
            comma, $3, $2, $1, $1 / samples
        comma = ",\n"
    } END { print "" }' "$work/own"
    printf '  ]\n}\n'
}
