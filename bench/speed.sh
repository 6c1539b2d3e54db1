#!/bin/bash
# How fast the gateway answers, as a ratio within one run: coapgw with a `respond:` route against
# dpdk-testpmd that only swaps addresses (--forward-mode=5tswap). Both on a memif, each on CPU 1 with
# the generator on CPU 0.
#
#   bench/speed.sh [BUILD] [ROUNDS] [SECONDS]      default: build/release, 3 rounds of 5 s each
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
work=$(mktemp -d)
pages_before=$(cat /proc/sys/vm/nr_hugepages)
pid=

cleanup() {
    if [[ -n $pid ]]; then
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    rm -rf "$work"
    echo "$pages_before" >/proc/sys/vm/nr_hugepages
}
trap cleanup EXIT

for program in "$build/coapgw" "$build/bench/coapgun"; do
    if [[ ! -x $program ]]; then
        echo "$program is missing: cmake --preset release && cmake --build --preset release" >&2
        exit 1
    fi
done
if (($(nproc) < 2)); then
    echo "two CPUs are needed: one for the generator, one for what is measured" >&2
    exit 1
fi
if ((pages_before < 1024)); then
    echo 1024 >/proc/sys/vm/nr_hugepages
fi

cat >"$work/gateway.yaml" <<YAML
workers: 1
cores: "1"
idle: spin
memory: {huge_pages: auto, size: 512MiB}
interfaces:
  - name: memif
    device: "memif:$work/socket,rsize=11"
    mac: "02:00:00:00:00:02"
    addresses: [10.99.0.2/16]
    rx_descriptors: 2048
    tx_descriptors: 2048
listeners:
  - uri: coap://10.99.0.2
routes:
  - path: /hello
    respond: {payload: "hello world!", content_format: text/plain, max_age: 60s}
YAML

# load NAME ARGUMENT...: runs the generator and leaves its JSON in $work/NAME.json.
load() {
    local name=$1
    shift
    "$build/bench/coapgun" --device "memif:$work/socket" --core 0 --huge --target 10.99.0.2 \
        --endpoints "$endpoints" --window "$window" --duration "$seconds" \
        --json "$work/$name.json" "$@" >"$work/$name.txt" 2>&1 || {
        cat "$work/$name.txt" "$work/log" >&2
        exit 1
    }
}

wait_for_socket() {
    for _ in $(seq 100); do
        if [[ -S $work/socket ]]; then
            return
        fi
        sleep 0.1
    done
    cat "$work/log" >&2
    exit 1
}

stop() {
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    pid=
    rm -f "$work/socket"
}

# What cannot be read from a JSON of one line without a parser of JSON: a number behind its name.
field() {
    grep -oE "\"$2\": [0-9.]+" "$work/$1.json" | cut -d ' ' -f 2
}

median() {
    sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'
}

for round in $(seq "$rounds"); do
    # testpmd ends when its input does.
    dpdk-testpmd --in-memory -m 512 --no-pci --no-telemetry --file-prefix="speed-$$" \
        --lcores=0@0,1@1 --main-lcore=0 \
        --vdev="net_memif0,role=server,socket=$work/socket,socket-abstract=no,rsize=11" -- \
        --forward-mode=5tswap --nb-cores=1 --rxd=2048 --txd=2048 --auto-start \
        >"$work/log" 2>&1 < <(sleep 600) &
    pid=$!
    wait_for_socket
    load "swap$round" --raw
    stop
    "$build/coapgw" -c "$work/gateway.yaml" >"$work/log" 2>&1 &
    pid=$!
    wait_for_socket
    load "gateway$round" --expect "hello world!"
    stop
done

swap=$(for r in $(seq "$rounds"); do field "swap$r" rate; done | median)
gateway=$(for r in $(seq "$rounds"); do field "gateway$r" rate; done | median)
p99=$(for r in $(seq "$rounds"); do field "gateway$r" p99_ns; done | median)
printf '%-42s %12.0f packets/s\n' "dpdk-testpmd --forward-mode=5tswap" "$swap"
printf '%-42s %12.0f answers/s, p99 %.1f us\n' "coapgw, respond route, $endpoints endpoints" \
    "$gateway" "$(awk -v n="$p99" 'BEGIN {print n / 1000}')"
printf '%-42s %12.2f\n' "ratio" "$(awk -v a="$gateway" -v b="$swap" 'BEGIN {print a / b}')"
