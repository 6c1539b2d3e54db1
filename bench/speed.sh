#!/bin/bash
# How fast the gateway answers, as a ratio within one run: coapgw with a `respond:` route against
# dpdk-testpmd that only swaps addresses (--forward-mode=5tswap). Both on a memif, each on CPU 1 with
# the generator on CPU 0, in alternating rounds; the medians are compared.
#
#   bench/speed.sh [BUILD] [ROUNDS] [SECONDS]      default: build/release, 3 rounds of 5 s each
#
# From the environment: ENDPOINTS (1000), WINDOW (512), JSON (a file that gets the result, too).
#
# Run as root: it reserves huge pages and gives them back. It fails when something does not run or an
# answer is wrong, never on a figure. Nothing leaves the machine: a memif is shared memory.
set -euo pipefail

cd "$(dirname "$(readlink -f "$0")")/.."
build=${1:-build/release}
rounds=${2:-3}
seconds=${3:-5}
endpoints=${ENDPOINTS:-1000}
window=${WINDOW:-512}
json=${JSON:-}
pages=1024 # of 2 MiB: 512 MiB for what is measured, 256 MiB for the generator, and some room
pages_file=/proc/sys/vm/nr_hugepages
work=
pages_before=
mounted=
measured= # process IDs
gun=

say() {
    echo "speed.sh: $*" >&2
}

end_process() {
    if [[ -n $1 ]] && kill "$1" 2>/dev/null; then
        wait "$1" 2>/dev/null || true
    fi
}

cleanup() {
    end_process "$gun"
    end_process "$measured"
    if [[ -n $mounted ]]; then
        umount /dev/hugepages || true
    fi
    if [[ -n $pages_before ]]; then
        echo "$pages_before" >"$pages_file"
    fi
    if [[ -n $work ]]; then
        rm -rf "$work"
    fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

check_machine() {
    local program

    for program in "$build/coapgw" "$build/bench/coapgun"; do
        if [[ ! -x $program ]]; then
            say "$program is missing: cmake --preset release && cmake --build --preset release"
            exit 1
        fi
    done
    if [[ -z $(type -P dpdk-testpmd) ]]; then
        say "dpdk-testpmd is missing: apt-get install dpdk"
        exit 1
    fi
    if (($(id -u) != 0)); then
        say "only root may reserve huge pages"
        exit 1
    fi
    if (($(nproc) < 2)); then
        say "two CPUs are needed: one for the generator, one for what is measured"
        exit 1
    fi
}

free_pages() {
    awk '/^HugePages_Free:/ {print $2}' /proc/meminfo
}

reserve_pages() {
    local free

    free=$(free_pages)
    if ((free < pages)); then
        pages_before=$(cat "$pages_file")
        echo $((pages_before + pages - free)) >"$pages_file"
    fi
    if (($(free_pages) < pages)); then
        say "only $(free_pages) of $pages huge pages are free: memory is short or in fragments"
        exit 1
    fi
    if ! grep -q ' /dev/hugepages hugetlbfs ' /proc/mounts; then
        mkdir -p /dev/hugepages
        mount -t hugetlbfs none /dev/hugepages
        mounted=yes
    fi
}

write_config() {
    cat >"$work/gateway.yaml" <<YAML
workers: 1
cores: "1"
idle: spin
memory: {huge_pages: always, size: 512MiB}
interfaces:
  - name: memif
    device: "memif:$work/socket,rsize=11"
    mac: "02:00:00:00:00:02"
    addresses: [10.99.0.2/16]
    rx_descriptors: 2048
    tx_descriptors: 2048
journal: {directory: "$work"}
listeners:
  - uri: coap://10.99.0.2
routes:
  - path: /hello
    respond: {payload: "hello world!", content_format: text/plain, max_age: 60s}
YAML
}

fail_with_log() {
    say "$1"
    tail -n 20 "$work/log" >&2
    exit 1
}

wait_for_socket() {
    local i

    for ((i = 0; i < 100; i++)); do
        if [[ -S $work/socket ]]; then
            return
        fi
        if ! kill -0 "$measured" 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    fail_with_log "$1 did not start"
}

# load NAME ARGUMENT...: runs the generator and leaves its JSON in $work/NAME.json.
load() {
    local name=$1

    shift
    "$build/bench/coapgun" --device "memif:$work/socket" --core 0 --huge --target 10.99.0.2 \
        --endpoints "$endpoints" --window "$window" --duration "$seconds" \
        --json "$work/$name.json" "$@" >"$work/$name.txt" 2>&1 &
    gun=$!
    # In the background, because a signal to this script waits for what runs in the foreground.
    if ! wait "$gun"; then
        gun=
        cat "$work/$name.txt" >&2
        fail_with_log "the generator failed in $name"
    fi
    gun=
}

stop() {
    if ! kill "$measured" 2>/dev/null; then
        fail_with_log "$1 ended by itself"
    fi
    wait "$measured" 2>/dev/null || true
    measured=
    rm -f "$work/socket"
}

run_reflector() {
    # testpmd ends when its input does: descriptor 3 never gets any.
    dpdk-testpmd --in-memory -m 512 --no-pci --no-telemetry --file-prefix="speed-$$" \
        --lcores=0@0,1@1 --main-lcore=0 \
        --vdev="net_memif0,role=server,socket=$work/socket,socket-abstract=no,rsize=11" -- \
        --forward-mode=5tswap --nb-cores=1 --rxd=2048 --txd=2048 --auto-start \
        >"$work/log" 2>&1 <&3 &
    measured=$!
    wait_for_socket dpdk-testpmd
    load "swap$1" --raw
    stop dpdk-testpmd
}

run_gateway() {
    "$build/coapgw" -c "$work/gateway.yaml" >"$work/log" 2>&1 3<&- &
    measured=$!
    wait_for_socket coapgw
    load "gateway$1" --expect "hello world!"
    stop coapgw
}

# A number behind its name, from the generator's one line of JSON.
field() {
    grep -oE "\"$2\": [0-9.]+" "$work/$1.json" | cut -d ' ' -f 2
}

# median KIND FIELD: over the rounds.
median() {
    local round

    for ((round = 1; round <= rounds; round++)); do
        field "$1$round" "$2"
    done | sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'
}

us() {
    awk -v ns="$1" 'BEGIN {printf "%.1f", ns / 1000}'
}

row() {
    printf '%-36s %12.0f %9.0f %9s %9s %9s %9.0f\n' "$1" "$(median "$2" rate)" \
        "$(median "$2" cycles_each)" "$(us "$(median "$2" p50_ns)")" "$(us "$(median "$2" p99_ns)")" \
        "$(us "$(median "$2" p999_ns)")" "$(median "$2" timeouts)"
}

report() {
    local ratio

    ratio=$(awk -v a="$(median gateway rate)" -v b="$(median swap rate)" \
        'BEGIN {printf "%.3f", a / b}')
    printf '%-36s %12s %9s %9s %9s %9s %9s\n' "medians of $rounds rounds" "answers/s" cycles \
        "p50 us" "p99 us" "p99.9 us" timeouts
    row "dpdk-testpmd, 5tswap" swap
    row "coapgw, respond, $endpoints endpoints" gateway
    printf '%-36s %12s\n' ratio "$ratio"
    if [[ -n $json ]]; then
        {
            printf '{"ratio": %s, "swap": [' "$ratio"
            cat "$work"/swap*.json | paste -s -d ,
            printf '], "gateway": ['
            cat "$work"/gateway*.json | paste -s -d ,
            printf ']}\n'
        } >"$json"
    fi
}

check_machine
work=$(mktemp -d)
mkfifo "$work/silence"
exec 3<>"$work/silence"
reserve_pages
write_config
for ((round = 1; round <= rounds; round++)); do
    run_reflector "$round"
    run_gateway "$round"
done
report
