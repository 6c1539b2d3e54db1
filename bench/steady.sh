#!/bin/bash
# Is there really no system call, no lock and no allocation on the packet path? The gateway answers
# load on a memif; when it has been under way for a while, the worker's thread is watched: first its
# calls of malloc, free, mutexes and DPDK's heap, by a library in front of libc; then its system
# calls, by strace. As root:
#
#   bench/steady.sh [OPTION...]
#
#   --cases A,B,...    respond, non, hit, miss, post, observe, and mixed, which is all of them at
#                      the same time (all)
#   --seconds S        how long each of the two looks (2)
#   --rate N           requests a second (10000)
#   --build DIR        the build (build/release)
#   --if-possible      code 77 where it cannot run: no root, one CPU, no strace
#
# It fails when anything was found, or the load went wrong. That it would find something is tried
# first, on a worker that sleeps. Nothing leaves the machine: a memif is shared memory.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=bench/lib.sh
. "$here/lib.sh"
cd "$here/.."

all=(respond non hit miss post observe mixed)
selected=("${all[@]}")
build=build/release
seconds=2
rate=10000
warmup=1
found=0

usage() {
    sed -n '2,18s/^# \{0,1\}//p' "$0"
}

possible() {
    ((EUID == 0 && $(nproc) > 1)) && [[ -n $(type -P strace) ]]
}

parse() {
    local name

    while (($# > 0)); do
        if [[ $1 == --help ]]; then
            usage
            exit
        fi
        if [[ $1 == --if-possible ]]; then
            possible || exit 77
            shift
            continue
        fi
        (($# > 1)) || die "$1: there is no such option, or it needs a value; see --help"
        case $1 in
        --cases) IFS=, read -r -a selected <<<"$2" ;;
        --seconds) seconds=$2 ;;
        --rate) rate=$2 ;;
        --build) build=$2 ;;
        *) die "$1: there is no such option; see --help" ;;
        esac
        shift 2
    done
    for name in "${selected[@]}"; do
        [[ " ${all[*]} " == *" $name "* ]] || die "--cases: there is no $name; see --help"
    done
    [[ $seconds =~ ^[1-9][0-9]?$ ]] || die "--seconds $seconds: write a number from 1 to 99"
    [[ $rate =~ ^[1-9][0-9]{1,6}$ ]] || die "--rate $rate: write a number from 10 to 9999999"
}

write_config() { # IDLE
    cat >"$work/gateway.yaml" <<YAML
instance: steady-$$
workers: 1
cores: "1"
idle: $1
memory: {huge_pages: never, size: 256MiB}
interfaces:
  - name: south
    device: "memif:$work/socket"
    addresses: [10.99.0.2/16]
listeners:
  - uri: coap://10.99.0.2
upstreams:
  - name: origin
    servers: [coap://10.99.0.3]
    transmission: {nstart: 4096}
admin: none
journal: {directory: "$work"}
limits: {amplification: 0, client_requests: 65535}
routes:
  - {path: /, to: origin}
  - path: /hello
    respond: {payload: "hello world!", content_format: text/plain, max_age: 60s}
YAML
}

start_gateway() { # IDLE
    write_config "$1"
    rm -f "$work/socket" "$work/hook"
    start coapgw env LD_PRELOAD="$hook" COAPGW_HOOK="$work/hook" \
        "$build/coapgw" -c "$work/gateway.yaml"
    wait_until_started test -S "$work/socket"
    find_worker
}

# The thread of the worker: DPDK names it. Sets `worker`.
find_worker() {
    local task i

    worker=
    for ((i = 0; i < 50; i++)); do
        for task in /proc/"$lib_server"/task/*; do
            if [[ $(cat "$task/comm" 2>/dev/null) == *worker* ]]; then
                worker=${task##*/}
                return
            fi
        done
        sleep 0.1
    done
    fail_with_log "no thread of the gateway is a worker's"
}

# calls WHOSE: allocations, frees, locks and mappings so far; "worker" or "all".
calls() {
    od -An -v -t u8 -w64 "$work/hook" | awk -v whose="$1" -v worker="$worker" '
        whose == "all" ? $1 : $1 == worker {a += $2; f += $3; l += $4; m += $5}
        END {print a + 0, f + 0, l + 0, m + 0}'
}

# Pages that the worker touched for the first time.
faults() {
    sed 's/.*) //' "/proc/$lib_server/task/$worker/stat" | cut -d ' ' -f 8
}

# system_calls: those of the worker in the next seconds. Sets `system_calls`.
count_system_calls() {
    local status=0

    timeout --signal=INT --kill-after=5 "$seconds" \
        strace --quiet=attach,exit -p "$worker" -o "$work/strace" 2>"$work/strace.log" || status=$?
    # 124: the time was over, as it should be.
    if ((status != 124)) || [[ -s $work/strace.log ]]; then
        cat "$work/strace.log" >&2
        die "strace ended with status $status"
    fi
    system_calls=$(grep -cv '^---' "$work/strace" || true)
}

# A worker that has nothing to do and may sleep: it has to be caught at it.
try_out() {
    local before after

    start_gateway adaptive
    count_system_calls
    ((system_calls > 0)) || fail_with_log "strace does not see that the worker sleeps"
    read -r -a before <<<"0 0 0 0"
    read -r -a after <<<"$(calls all)"
    ((after[0] > before[0] && after[2] > 0)) ||
        fail_with_log "the library in front of libc has counted nothing"
    stop
}

# load ARGUMENT...: in the background, for longer than is looked at.
load() {
    timeout --kill-after=5 120 "$build/bench/coapgun" --device "memif:$work/socket" --core 0 \
        --target 10.99.0.2 --endpoints 1000 --warmup "$warmup" --duration $((2 * seconds + 3)) \
        --timeout 5000 --no-progress --json "$work/load.json" "$@" >"$work/load.txt" 2>&1 3<&- &
    lib_load=$!
}

start_load() { # CASE
    local origin=(--origin 10.99.0.3 --rate "$rate")

    case $1 in
    respond) load --rate "$rate" --path /hello --expect "hello world!" ;;
    non) load --rate "$rate" --non --path /hello --expect "hello world!" ;;
    hit) load "${origin[@]}" --path /kept/%u --spread 1000 --origin-max-age 86400 ;;
    miss) load "${origin[@]}" --path /new/%u --spread 1000000 ;;
    post) load "${origin[@]}" --path /post --mix post=100 --payload 64 ;;
    observe) load --origin 10.99.0.3 --window 0 --path /state --observe 1000 \
        --notify-rate $((rate / 1000 + 1)) ;;
    mixed)
        printf '%s\n' "4 GET /hello" "2 GET /kept" "2 GET /new/%u" "2 POST /post" "1 OBSERVE /state" >"$work/paths"
        load "${origin[@]}" --paths "$work/paths" --con=80 --payload 64 --origin-max-age 86400 \
            --spread 4000000 --observe 200 --notify-rate 10
        ;;
    esac
}

field() { # NAME: a number of the load's JSON
    grep -oE "\"$1\": [0-9.]+" "$work/load.json" | head -n 1 | cut -d ' ' -f 2
}

look() { # CASE
    local before after sum touched rate_seen status=0

    start_gateway spin
    start_load "$1"
    sleep $((warmup + 1))
    read -r -a before <<<"$(calls worker)"
    touched=$(faults)
    sleep "$seconds"
    read -r -a after <<<"$(calls worker)"
    touched=$(($(faults) - touched))
    count_system_calls
    if ! kill -0 "$lib_load" 2>/dev/null; then
        cat "$work/load.txt" >&2
        fail_with_log "$1: the load ended before it was looked at"
    fi
    wait "$lib_load" || status=$?
    lib_load=
    if ((status != 0)); then
        cat "$work/load.txt" >&2
        fail_with_log "$1: the load went wrong"
    fi
    stop memif
    rate_seen=$(awk -v a="$(field rate)" -v n="$(field notify_rate)" 'BEGIN {print int(a + n)}')
    ((rate_seen > 0)) || die "$1: there was no load"
    printf '%-10s %12.0f %12d %12d %8d %8d %12d %12d\n' "$1" "$rate_seen" \
        $((after[0] - before[0])) $((after[1] - before[1])) $((after[2] - before[2])) \
        $((after[3] - before[3])) "$system_calls" "$touched"
    sum=$((after[0] - before[0] + after[1] - before[1] + after[2] - before[2] + after[3] - before[3]))
    if ((sum + system_calls > 0)); then
        found=1
        sort "$work/strace" | uniq -c | sort -rn | head -n 10
    fi
}

lib_name=steady.sh
parse "$@"
lib_begin steady.sh
need strace strace
need_built "$build" coapgw bench/coapgun bench/steady_hook.so
hook=$(realpath "$build/bench/steady_hook.so")
try_out
printf '%-10s %12s %12s %12s %8s %8s %12s %12s\n' "worker, of" "answers/s" allocations frees locks \
    maps "system calls" "new pages"
for name in "${selected[@]}"; do
    look "$name"
done
exit "$found"
