#!/bin/bash
# coapgw beside what it can be compared with: one run, the same machine, the same requests. All of a
# case run in turn, several rounds, and medians are compared. As root:
#
#   bench/compare.sh [OPTION...]
#
#   --cases A,B,...    some of the cases (see --list); default: all
#   --rounds N         how often each is measured (3)
#   --seconds S        how long each load is measured (5)
#   --window N         requests that are outstanding (512)
#   --build DIR        the build (build/release)
#   --cpus G,S[,S]     CPU of the generator, and those of the servers (0,1,2)
#   --json FILE        everything that was measured, and the machine
#   --plots DIR        rates.svg and latency.svg
#   --smoke            all cases once, for moments: are the tools whole?
#   --list             the cases
#
# It fails when something does not run or an answer is wrong, never on a figure. It reserves huge
# pages and makes network namespaces, and gives all back. Nothing leaves the machine.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
# shellcheck source=bench/lib.sh
. "$here/lib.sh"
cd "$here/.."

declare -A cases=(
    [fixed]="a fixed response, 1,000 sessions: ceiling, dpdk-testpmd 5tswap, coapgw"
    [sessions]="the same with 1, 100,000 and 1,000,000 sessions"
    [payload]="a fixed response of 16 to 1,024 bytes"
)
order=(fixed sessions payload)

build=build/release
rounds=3
seconds=5
warmup=1
window=512
cpus=(0 1 2)
json=
plots=
smoke=
selected=()
huge=--huge
pages=1024 # of 2 MiB: 512 MiB for what is measured, 256 MiB for the generator, and some room
round=

usage() {
    sed -n '2,20s/^# \{0,1\}//p' "$0"
}

list_cases() {
    local name

    for name in "${order[@]}"; do
        printf '%-10s %s\n' "$name" "${cases[$name]}"
    done
}

parse() {
    while (($# > 0)); do
        case $1 in
        --help | --list | --smoke) ;;
        --*) [[ -n ${2-} ]] || die "$1 needs a value; see --help" ;;
        *) die "$1 is no option; see --help" ;;
        esac
        case $1 in
        --help) usage && exit ;;
        --list) list_cases && exit ;;
        --smoke) smoke=yes rounds=1 seconds=1 warmup=0 && shift && continue ;;
        --cases) IFS=, read -r -a selected <<<"$2" ;;
        --rounds) rounds=$2 ;;
        --seconds) seconds=$2 ;;
        --window) window=$2 ;;
        --build) build=$2 ;;
        --cpus) IFS=, read -r -a cpus <<<"$2" ;;
        --json) json=$(realpath -m "$2") ;;
        --plots) plots=$(realpath -m "$2") ;;
        *) die "$1 is no option; see --help" ;;
        esac
        shift 2
    done
    check_options
}

check_options() {
    local name

    if ((${#selected[@]} == 0)); then
        selected=("${order[@]}")
    fi
    for name in "${selected[@]}"; do
        [[ -n ${cases[$name]-} ]] || die "--cases: there is no $name; see --list"
    done
    [[ $rounds =~ ^[1-9][0-9]?$ ]] || die "--rounds $rounds: write a number from 1 to 99"
    [[ $seconds =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "--seconds $seconds: write a number"
    ((${#cpus[@]} >= 2)) || die "--cpus: write two at least"
}

note() {
    say "$*"
    echo "$*" >>"$work/notes"
}

# ---- what is measured ----

socket_exists() {
    [[ -S $work/socket ]]
}

start_ceiling() { # [PAYLOAD]
    start ceiling "$build/bench/ceiling" --device "memif:$work/socket" --core "${cpus[1]}" \
        --sessions 1000000 --payload "${1:-12}" ${huge:+"$huge"}
}

start_swap() {
    start dpdk-testpmd dpdk-testpmd "$([[ -n $huge ]] && echo --in-memory || echo --no-huge)" -m 512 --no-pci \
        --no-telemetry --file-prefix="compare-$$" --lcores="0@${cpus[0]},1@${cpus[1]}" \
        --main-lcore=0 \
        --vdev="net_memif0,role=server,socket=$work/socket,socket-abstract=no,rsize=11" -- \
        --forward-mode=5tswap --nb-cores=1 --rxd=2048 --txd=2048 --auto-start \
        --total-num-mbufs=16384
}

filler() { # N: bytes
    printf '%*s' "$1" '' | tr ' ' x
}

# write_config WORKERS CORES DEVICE
write_config() {
    local bytes huge_pages=never

    if [[ -n $huge ]]; then
        huge_pages=always
    fi
    cat >"$work/gateway.yaml" <<YAML
workers: $1
cores: "$2"
idle: spin
memory: {huge_pages: $huge_pages, size: 512MiB}
interfaces:
  - name: south
    device: "$3"
    addresses: [10.99.0.2/16]
    rx_descriptors: 2048
    tx_descriptors: 2048
journal: {directory: "$work"}
listeners:
  - uri: coap://10.99.0.2
admin: none
limits: {sessions: 1100000, amplification: 0}
routes:
  - path: /hello
    respond: {payload: "hello world!", content_format: text/plain, max_age: 60s}
YAML
    for bytes in 16 64 256 1024; do
        echo "  - path: /fixed/$bytes"
        echo "    respond: {payload: $(filler "$bytes"), content_format: text/plain, max_age: 60s}"
    done >>"$work/gateway.yaml"
}

start_coapgw() { # [WORKERS]
    local workers=${1:-1} cores

    cores=$(IFS=, && echo "${cpus[*]:1:workers}")
    write_config "$workers" "$cores" "memif:$work/socket,rsize=11"
    start coapgw "$build/coapgw" -c "$work/gateway.yaml"
}

# ---- loads ----

# fire CASE VARIANT SUBJECT COMMAND...: the generator's command, to which what is the same for all is
# added; its result becomes a line of $work/runs.
fire() {
    local case=$1 variant=$2 subject=$3 limit

    shift 3
    limit=$(awk -v s="$seconds" -v w="$warmup" 'BEGIN {print int(s + w + 60)}')
    rm -f "$work/load.json"
    if ! run_load "$limit" "$@" --warmup "$warmup" --duration "$seconds" --json "$work/load.json"; then
        cat "$work/load.txt" >&2
        fail_with_log "$case: the generator failed against $subject"
    fi
    printf '{"case": "%s", "variant": "%s", "subject": "%s", "round": %d, "load": %s}\n' \
        "$case" "$variant" "$subject" "$round" "$(tr -d '\n' <"$work/load.json")" >>"$work/runs"
    tail -n 1 "$work/runs" | "$here/report.py" line
}

# on_memif SUBJECT[:PARAMETER] CASE VARIANT ARGUMENT...
on_memif() {
    local subject=${1%%:*} parameter=${1#"${1%%:*}"} case=$2 variant=$3

    shift 3
    "start_$subject" ${parameter:+"${parameter#:}"}
    wait_until_started socket_exists
    fire "$case" "$variant" "$subject" "$build/bench/coapgun" --device "memif:$work/socket" \
        --core "${cpus[0]}" ${huge:+"$huge"} --target 10.99.0.2 --window "$window" "$@"
    stop memif
    rm -f "$work/socket"
}

# ---- cases: one round of each ----

hello=(--path /hello --expect "hello world!")

round_of_fixed() {
    on_memif ceiling fixed 1000 --endpoints 1000 "${hello[@]}"
    on_memif swap fixed 1000 --endpoints 1000 --path /hello --raw
    on_memif coapgw fixed 1000 --endpoints 1000 "${hello[@]}"
}

round_of_sessions() {
    local n

    for n in 1 100000 1000000; do
        on_memif ceiling sessions "$n" --endpoints "$n" "${hello[@]}"
        on_memif coapgw sessions "$n" --endpoints "$n" "${hello[@]}"
    done
}

round_of_payload() {
    local bytes

    for bytes in 16 64 256 1024; do
        on_memif "ceiling:$bytes" payload "$bytes" --expect "$(filler "$bytes")"
        on_memif coapgw payload "$bytes" --path "/fixed/$bytes" --expect "$(filler "$bytes")"
    done
}

# ---- the run ----

prepare() {
    lib_begin compare.sh
    need dpdk-testpmd dpdk
    need python3 python3
    need_built "$build" coapgw bench/coapgun bench/ceiling bench/echo
    : >"$work/notes"
    if ! reserve_pages "$pages"; then
        [[ -n $smoke ]] || exit 1
        huge=
        note "without huge pages"
    fi
}

lib_name=compare.sh
parse "$@"
prepare
for name in "${selected[@]}"; do
    for ((round = 1; round <= rounds; round++)); do
        "round_of_$name"
    done
done
"$here/report.py" all --runs "$work/runs" --notes "$work/notes" --build "$build" \
    ${json:+--json "$json"} ${plots:+--plots "$plots"}
