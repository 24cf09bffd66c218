#!/usr/bin/env bash
# Shows where the bytes of an idle connection go. profiling/README.md says how to read it.

set -euo pipefail

usage() {
    cat <<'USAGE'
Usage: profiling/memory.sh [OPTIONS]

Records the heap of the server with few and with many idle connections, divides the difference by the
connections more, and prints bytes per connection by allocation site. Beside it, the difference of
resident memory of an ordinary build.

Options:
  --few N              connections in the first recording [default: 1000]
  --many N             connections in the second [default: 10000]
  --out DIR            where the results go [default: target/profiling/<time>-memory]
  --server-bin FILE    take resident memory of this server instead of building one
  --heap-bin FILE      take the heap of this one, built without default features: heaptrack does not see
                       what mimalloc does
  --loadtest-bin FILE  use this load test instead of building one
  --smoke              a short run for CI that fails if the result is not usable: 50 and 500 connections
  -h, --help           print this

Needs heaptrack, which it installs on Debian and Ubuntu.

Exit status: 0 done, 1 failed or interrupted, 2 bad arguments.
USAGE
}

# shellcheck source=profiling/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# ---------------------------------------------------------------- arguments

# The channel that is there from the start.
channel=market
few='' many='' server_bin='' heap_bin='' loadtest_bin='' smoke=false

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
        --few) expect_count && few=$value ;;
        --many) expect_count && many=$value ;;
        --out) expect '.' 'a directory' && out=$value ;;
        --server-bin) expect_program && server_bin=$value ;;
        --heap-bin) expect_program && heap_bin=$value ;;
        --loadtest-bin) expect_program && loadtest_bin=$value ;;
        *) reject "unknown option '$option'" ;;
    esac
done
if $smoke; then
    few=${few:-50} many=${many:-500}
fi
few=${few:-1000} many=${many:-10000}
((few < many)) || reject "--few $few is not less than --many $many"
more=$((many - few))

[[ $(uname -s) == Linux ]] || fail "needs Linux"
make_directories memory
raise_descriptors "$many"

# ---------------------------------------------------------------- programs

need heaptrack heaptrack || fail "$why"
if [[ -z $heap_bin ]]; then
    build tickcast-system tickcast --no-default-features
    heap_bin=$built
fi
build_server tickcast
build_loadtest

# ---------------------------------------------------------------- recording

# Connects that many clients, which then say nothing and are sent nothing.
connect() { # connect N
    local tries connected=0
    start_load --connections "$1" --ramp "$((1 + $1 / 2500))s" --warmup 0s --duration 10m --settle 0s
    for ((tries = 0; tries < 300; tries++)); do
        connected=$(metrics | metric tickcast_connections)
        ((connected < $1)) || break
        alive "$server" || server_ended
        alive "$load" || load_ended
        pause 0.2
    done
    ((connected >= $1)) || fail "$connected of $1 clients connected in a minute"
    # What was only needed to connect is given back.
    pause 1.5
}

# The process that heaptrack, a script, has started.
profiled() {
    local pid
    for pid in $(<"/proc/$server/task/$server/children"); do
        [[ $(readlink "/proc/$pid/exe") != "$(readlink -f "$heap_bin")" ]] || echo "$pid"
    done
}

# Stacks, outermost function first, and the bytes that each still holds, out of heaptrack's record. Its own
# heaptrack_print turns the inlined functions of a frame around. The record's lines: `s` a string, `i` an address
# with its functions, innermost first, `t` a step of a stack and its caller, `a` an allocation's size and stack,
# `+` and `-` allocated and freed. Numbers are hexadecimal, and count from 1 but for allocations.
live_stacks() { # live_stacks FILE
    local unpack=gzip
    [[ $1 != *.zst ]] || unpack=zstd
    "$unpack" -dc <"$1" | awk '
        function number(text,    n, value) {
            for (n = 1; n <= length(text); n++) value = value * 16 + index("0123456789abcdef", substr(text, n, 1)) - 1
            return value
        }
        $1 == "s" { key = sprintf("%x", ++strings); sub(/^s [0-9a-f]+ /, ""); gsub(/;/, ":"); text[key] = $0; next }
        $1 == "i" {
            key = sprintf("%x", ++addresses)
            for (n = 4; n <= NF; n += 3) functions[key] = text[$n] (n > 4 ? ";" functions[key] : "")
            if (NF < 4) functions[key] = "?"
            next
        }
        $1 == "t" { key = sprintf("%x", ++steps); address[key] = $2; caller[key] = $3; next }
        $1 == "a" { key = sprintf("%x", sizes++); size[key] = number($2); stack[key] = $3; next }
        $1 == "+" { live[$2]++; next }
        $1 == "-" { live[$2]--; next }
        END {
            for (key in live) {
                if (live[key] < 1) continue
                path = ""
                for (step = stack[key]; step in address; step = caller[step])
                    path = functions[address[step]] (path == "" ? "" : ";" path)
                bytes[path] += live[key] * size[key]
            }
            for (path in bytes) print path, bytes[path]
        }' | demangle
}
# What heaptrack leaves of names, and the hashes, which differ between builds.
demangle() {
    # shellcheck disable=SC2016 # these dollars are in the names
    sed -E -e 's/::h[0-9a-f]{16}//g' \
        -e 's/_?\$LT\$/</g; s/\$GT\$/>/g; s/\$u20\$/ /g; s/\$RF\$/\&/g; s/\$LP\$/(/g; s/\$RP\$/)/g; s/\$C\$/,/g' \
        -e 's/_?\$u7b\$/{/g; s/\$u7d\$/}/g; s/\$u5b\$/[/g; s/\$u5d\$/]/g; s/\.\./::/g'
}

# The heap with N connections, as stacks and the bytes they hold.
record_heap() { # record_heap N
    local pid tries
    step "heap with $1 connections"
    start_server heaptrack -o "$work/heap-$1" "$heap_bin" --source none
    pid=$(profiled)
    [[ -n $pid ]] || fail "heaptrack did not start the server: $(tail -n 1 "$server_log")"
    connect "$1"
    # At once: what is not given back is what the connections hold.
    kill -KILL "$pid"
    for ((tries = 0; tries < 600; tries++)); do
        alive "$server" || break
        pause 0.1
    done
    stop_children
    live_stacks "$work/heap-$1".* >"$work/stacks-$1"
    [[ -s $work/stacks-$1 ]] || fail "heaptrack recorded nothing"
    cp -- "$work/stacks-$1" "$out/heap-$1.folded"
}

# Resident memory and page tables in bytes with N connections, into $work/resident-N.
record_resident() { # record_resident N
    step "resident memory with $1 connections"
    start_server "$server_bin" --source none
    connect "$1"
    awk '/^VmRSS/ { rss = $2 } /^VmPTE/ { pte = $2 } END { print rss * 1024, pte * 1024 }' \
        "/proc/$server/status" >"$work/resident-$1"
    stop_children
}

for n in "$few" "$many"; do
    record_heap "$n"
done
for n in "$few" "$many"; do
    record_resident "$n"
done

# ---------------------------------------------------------------- the table

# Bytes by allocation site: the innermost function that is neither the standard library's nor an allocator's,
# and who of tickcast called it.
sites() {
    awk '
        function theirs(name) {
            return name == "" || name ~ /^<?(alloc|core|std)::/ || name ~ /^_R/ || name ~ /^_?_?(rust|rdl|malloc|calloc|realloc|posix_memalign|aligned_alloc|mi_)/ || name ~ /alloc(ate)?$/ && name !~ /::/
        }
        {
            bytes = $NF
            sub(/ [0-9]+$/, "")
            n = split($0, frames, ";")
            for (at = n; at > 1 && theirs(frames[at]); at--);
            site = frames[at]
            for (up = at; up > 1 && frames[up] !~ /^<?tickcast::/; up--);
            if (up > 1 && up != at) site = site "  <-  " frames[up]
            sum[site] += bytes
        }
        END { for (site in sum) printf "%s\t%d\n", site, sum[site] }' "$1"
}
sites "$work/stacks-$few" >"$work/few"
sites "$work/stacks-$many" >"$work/many"
awk -F '\t' -v more="$more" '
    FNR == NR { few[$1] = $2; next }
    { printf "%.1f\t%s\n", ($2 - few[$1]) / more, $1; delete few[$1] }
    END { for (site in few) printf "%.1f\t%s\n", -few[site] / more, site }' \
    "$work/few" "$work/many" | LC_ALL=C sort -t$'\t' -k1,1nr -k2 >"$work/table"
heap=$(awk -F '\t' '{ sum += $1 } END { printf "%.0f", sum }' "$work/table")
((heap > 0)) || fail "no site holds more with more connections"
read -r rss_few pte_few <"$work/resident-$few"
read -r rss_many pte_many <"$work/resident-$many"

{
    printf 'bytes per connection\tsite\n'
    awk -F '\t' '$1 >= 0.1 || $1 <= -0.1' "$work/table"
} >"$out/memory.tsv"

printf '\nheap of an idle connection: (%s connections - %s) / %s\n\n%9s %7s  %s\n' \
    "$many" "$few" "$more" bytes share 'allocated by'
awk -F '\t' -v heap="$heap" '
    NR <= 15 && $1 > 0 { printf "%9.1f %6.1f%%  %s\n", $1, 100 * $1 / heap, $2; next }
    { rest += $1 }
    END { printf "%9.1f %6.1f%%  all others\n%9.0f %6.1f%%  heap\n", rest, 100 * rest / heap, heap, 100 }' "$work/table"
awk -v few="$rss_few" -v many="$rss_many" -v pte="$((pte_many - pte_few))" -v more="$more" -v heap="$heap" 'BEGIN {
    rss = (many - few) / more
    printf "\nresident memory of a connection, with mimalloc (VmRSS): %.0f B (%.1f MiB - %.1f MiB)\n", rss, many / 1048576, few / 1048576
    printf "    %.0f B of heap are %.0f %% of it; the other %.0f B: size classes and free memory of the allocator,\n", heap, 100 * heap / rss, rss - heap
    printf "    less what was allocated and never touched\n"
    printf "    not in it: page tables, %.0f B; the socket and its buffers in the kernel\n", pte / more
}'
print_origin
printf '%s\n' "$out"/*

if $smoke; then
    grep -q 'Clients.*insert' "$out/memory.tsv" || fail "the table does not name the session"
fi
