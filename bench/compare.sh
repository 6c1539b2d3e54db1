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
    [hit]="a cache hit of 64 bytes, 1,000 and 1,000,000 sessions"
    [miss]="a proxied miss of 64 bytes: four packets a request"
    [post]="POST of 64 bytes through to the origin"
    [observe]="notifications of a resource that 10,000 clients observe"
    [workers]="a fixed response by one worker and by two"
    [latency]="latency at 10 to 90 % of the highest rate, open loop"
    [af_xdp]="coapgw on AF_XDP beside servers of the kernel's stack, all on a veth"
    [libcoap]="libcoap's server and a bare echo on loopback, with 16 and 18,000 clients"
    [proxy]="libcoap's forward proxy on loopback, and coapgw's"
    [dtls]="DTLS with AES-128-CCM-8, 16 and 1,000 associations: coapgw, and libcoap's server with OpenSSL"
)
order=(fixed sessions payload hit miss post observe workers latency af_xdp libcoap proxy dtls)

build=build/release
rounds=3
seconds=5
warmup=1
window=512
cpus=(0 1 2)
json=
plots=
smoke=
remembered=1048576 # message IDs that coapgw keeps to recognise duplicates: its default
with_dtls= # coapgw has a listener for it
key=0123456789abcdef # as text, which is how libcoap takes it ...
hex=30313233343536373839616263646566 # ... and all others
few=64 # requests outstanding at servers of the kernel's stack: 512 overflow their sockets
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
        --smoke) smoke=yes rounds=1 seconds=0.3 warmup=0.1 && shift && continue ;;
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

gateway_is_ready() {
    grep -q '^coapgw: ready' "$work/log"
}

# is_bound NAMESPACE: somebody has the port of CoAP there, or of CoAP over DTLS.
is_bound() {
    within "$1" grep -q "$([[ -n $with_dtls ]] && echo ":1634 " || echo ":1633 ")" /proc/net/udp
}

start_ceiling() { # [PAYLOAD]
    start ceiling "$build/bench/ceiling" --device "memif:$work/socket" --core "${cpus[1]}" \
        --sessions 1000000 --payload "${1:-12}" ${huge:+"$huge"}
}

start_swap() {
    start dpdk-testpmd dpdk-testpmd "$([[ -n $huge ]] && echo --in-memory || echo --no-huge)" \
        -m 512 --no-pci --no-telemetry --file-prefix="compare-$$" \
        --lcores="0@${cpus[0]},1@${cpus[1]}" --main-lcore=0 \
        --vdev="net_memif0,role=server,socket=$work/socket,socket-abstract=no,rsize=11" -- \
        --forward-mode=5tswap --nb-cores=1 --rxd=2048 --txd=2048 --auto-start \
        --total-num-mbufs=16384
}

filler() { # N: bytes
    printf '%*s' "$1" '' | tr ' ' x
}

dtls_listener() {
    if [[ -n $with_dtls ]]; then
        (umask 077 && for ((i = 0; i < 1000; i++)); do echo "device-$i:$hex"; done >"$work/psk")
        echo "  - uri: coaps://10.99.0.2"
        echo "    dtls: {psk: {file: $work/psk}}"
    fi
}

# write_config WORKERS DEVICE: one for all cases. Every answer may be larger than its request by any
# factor: whether clients have the addresses that they send from is not at issue here.
write_config() {
    local bytes huge_pages=never cores

    if [[ -n $huge ]]; then
        huge_pages=always
    fi
    cores=$(IFS=, && echo "${cpus[*]:1:$1}")
    cat >"$work/gateway.yaml" <<YAML
instance: compare-$$
workers: $1
cores: "$cores"
idle: spin
memory: {huge_pages: $huge_pages, size: 512MiB}
interfaces:
  - name: south
    device: "$2"
    addresses: [10.99.0.2/16]
    rx_descriptors: 2048
    tx_descriptors: 2048
listeners:
  - uri: coap://10.99.0.2
$(dtls_listener)
admin: none
journal: {directory: "$work"}
limits: {sessions: 1100000, amplification: 0, remembered: $remembered}
upstream_ports: {base: 32768, per_worker: 16384}
upstreams:
  - name: origin
    servers: [coap://$origin]
    ports: 16384
    transmission: {nstart: 1024}
forward_proxy: {allow: [$origin], ports: 16384, transmission: {nstart: 1024}}
routes:
  - path: /
    to: origin
  - path: /hello
    respond: {payload: "hello world!", content_format: text/plain, max_age: 60s}
  - path: /time
    respond: {payload: "Jan 01 00:00:00", content_format: text/plain, max_age: 1s}
YAML
    for bytes in 16 64 256 1024; do
        echo "  - path: /fixed/$bytes"
        echo "    respond: {payload: $(filler "$bytes"), content_format: text/plain, max_age: 60s}"
    done >>"$work/gateway.yaml"
}

start_coapgw() { # [WORKERS]
    write_config "${1:-1}" "memif:$work/socket,rsize=11"
    start coapgw "$build/coapgw" -c "$work/gateway.yaml"
}

start_af_xdp() {
    write_config 1 "af_xdp:gw0,force_copy=1"
    start coapgw nsenter "$(net_of inner)" "$build/coapgw" -c "$work/gateway.yaml"
}

start_libcoap() { # NAMESPACE ADDRESS
    start coap-server-notls nsenter "$(net_of "$1")" taskset -c "${cpus[1]}" coap-server-notls -A "$2" -P ,proxy
}

start_libcoap_dtls() { # NAMESPACE ADDRESS
    start coap-server-openssl nsenter "$(net_of "$1")" taskset -c "${cpus[1]}" \
        coap-server-openssl -A "$2" -v 0 -k "$key"
}

start_echo() { # NAMESPACE ADDRESS
    start echo nsenter "$(net_of "$1")" "$build/bench/echo" "$2" 5683 "${cpus[1]}"
}

# A pair of interfaces: the generator's end is `south0`, the servers' `gw0`. It leaves checksums for
# later, and nobody behind a raw socket would compute them.
make_veth() {
    make_namespace south
    make_namespace inner
    within south ip link add south0 type veth peer name gw0 netns "bench-$$-inner"
    within south ethtool -K south0 tx off >/dev/null
    within south ip address add 10.99.0.1/16 dev south0
    within south ip link set south0 up
    within inner ip link set gw0 up
}

# ---- loads ----

# shoot SECONDS COMMAND...: the generator, for so long.
shoot() {
    local limit

    limit=$(awk -v s="$1" -v w="$warmup" 'BEGIN {print int(s + w + 60)}')
    rm -f "$work/load.json"
    run_load "$limit" "${@:2}" "${pace[@]}" --warmup "$warmup" --duration "$1" --no-progress \
        --json "$work/load.json"
}

# In a moment of a busy machine there may be no answer at all, and nothing wrong.
was_too_short() {
    [[ -n $smoke ]] && grep -q '"answered": 0,.*"wrong": 0,' "$work/load.json"
}

# fire CASE VARIANT SUBJECT COMMAND...: the generator's command, to which what is the same for all is
# added; its result becomes a line of $work/runs.
fire() {
    local case=$1 variant=$2 subject=$3

    shift 3
    if ! shoot "$seconds" "$@" && ! { was_too_short && shoot 5 "$@"; }; then
        cat "$work/load.txt" >&2
        fail_with_log "$case: the generator failed against $subject"
    fi
    printf '{"case": "%s", "variant": "%s", "subject": "%s", "round": %d, "load": %s}\n' \
        "$case" "$variant" "$subject" "$round" "$(tr -d '\n' <"$work/load.json")" >>"$work/runs"
    if ! tail -n 1 "$work/runs" | "$here/report.py" line; then
        fail_with_log "$case: $subject did not do what is measured"
    fi
}

# load_memif CASE VARIANT SUBJECT ARGUMENT...
load_memif() {
    local case=$1 variant=$2 subject=$3

    shift 3
    fire "$case" "$variant" "$subject" "$build/bench/coapgun" --device "memif:$work/socket" \
        --core "${cpus[0]}" ${huge:+"$huge"} --target 10.99.0.2 "$@"
}

# on_memif SUBJECT[:PARAMETER] CASE VARIANT ARGUMENT...: started, loaded and stopped.
on_memif() {
    local subject=${1%%:*} parameter=${1#"${1%%:*}"} case=$2 variant=$3

    shift 3
    "start_$subject" ${parameter:+"${parameter#:}"}
    wait_until_started socket_exists
    load_memif "$case" "$variant" "$subject" "$@"
    stop memif
    rm -f "$work/socket"
}

# on_sockets SUBJECT CASE VARIANT ARGUMENT...: the server's namespace is loopback.
on_sockets() {
    local subject=$1 case=$2 variant=$3

    shift 3
    "start_$subject" local 127.0.0.1
    wait_until_started is_bound local
    fire "$case" "$variant" "$subject" nsenter "$(net_of local)" "$build/bench/coapgun" --kernel \
        --core "${cpus[0]}" --target 127.0.0.1 "$@"
    stop
}

# on_veth SUBJECT CASE VARIANT ARGUMENT...
on_veth() {
    local subject=$1 case=$2 variant=$3

    shift 3
    if [[ $subject == af_xdp ]]; then
        within inner ip address flush dev gw0
        start_af_xdp
        wait_until_started gateway_is_ready
    else
        within inner ip address replace 10.99.0.2/16 dev gw0
        "start_$subject" inner 10.99.0.2
        wait_until_started is_bound inner
    fi
    fire "$case" "$variant" "$subject" nsenter "$(net_of south)" "$build/bench/coapgun" --kernel \
        --core "${cpus[0]}" --target 10.99.0.2 --source 10.99.0.1/32 "$@"
    stop
}

# ---- cases: one round of each ----

hello=(--path /hello --expect "hello world!")
origin=10.99.200.1

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

round_of_hit() {
    local n

    for n in 1000 1000000; do
        on_memif ceiling:64 hit "$n" --endpoints "$n"
        on_memif coapgw hit "$n" --endpoints "$n" --path /kept --origin "$origin" \
            --origin-payload 64 --origin-max-age 3600
    done
}

round_of_miss() {
    on_memif ceiling:64 miss 1000
    on_memif coapgw miss 1000 --path /fresh/%u --spread 1000000000 --origin "$origin" \
        --origin-payload 64
}

# The answer to each POST is kept for EXCHANGE_LIFETIME, 247 s, so that none is executed twice: there
# has to be room for all that are sent, and for those of one client (RFC 7252 4.2).
round_of_post() {
    local remembered

    remembered=$(awk -v s="$seconds" -v w="$warmup" 'BEGIN {print int((s + w) * 2e6) + 100000}')
    on_memif ceiling:64 post 20000 --endpoints 20000
    on_memif coapgw post 20000 --endpoints 20000 --path /sink --mix post=100 --payload 64 \
        --origin "$origin" --origin-payload 64
}

# More states than can be told: each client gets the latest one whenever it is its turn.
round_of_observe() {
    local pace=(--window 0)

    on_memif coapgw observe 10000 --endpoints 10000 --observe 10000 --path /state \
        --origin "$origin" --origin-payload 64 --notify-rate 1000
    pace=(--window "$window")
    on_memif ceiling:64 observe 10000 --endpoints 10000
}

round_of_workers() {
    on_memif coapgw workers 1 --endpoints 1000 "${hello[@]}"
    if (($(nproc) < 3 || ${#cpus[@]} < 3)); then
        if ((round == 1)); then
            note "no run with two workers: it takes three CPUs, and there are $(nproc)"
        fi
        return
    fi
    on_memif coapgw:2 workers 2 --endpoints 1000 --queues 2 "${hello[@]}"
}

# The highest rate is that of a closed loop just before.
round_of_latency() {
    local highest share pace=(--window "$window")

    start_coapgw 1
    wait_until_started socket_exists
    load_memif latency highest coapgw "${hello[@]}"
    highest=$(tail -n 1 "$work/runs" | "$here/report.py" rate)
    stop memif
    rm -f "$work/socket"
    for share in 10 25 50 75 90; do
        pace=(--rate $((highest * share / 100)))
        on_memif coapgw latency "$share %" "${hello[@]}"
    done
}

round_of_af_xdp() {
    local pace=(--window "$few")

    on_veth af_xdp af_xdp 1000 --endpoints 1000 --path /time
    on_veth libcoap af_xdp 1000 --endpoints 1000 --path /time
    on_veth echo af_xdp 1000 --endpoints 1000 --path /time --raw
}

round_of_libcoap() {
    local n pace

    for n in 16 18000; do
        pace=(--window "$few")
        on_sockets libcoap libcoap "$n" --endpoints "$n" --path /time
        on_sockets echo libcoap "$n" --endpoints "$n" --path /time --raw
        pace=(--window "$window")
        on_memif coapgw libcoap "$n" --endpoints "$n" --path /time
    done
}

# Proxied by what the request says: its path is a whole URI.
round_of_proxy() {
    local pace=(--window "$few")

    on_sockets libcoap proxy 1000 --path "coap://127.0.0.2:5690/%u" \
        --spread 1000000000 --origin 127.0.0.2:5690 --origin-payload 64
    pace=(--window "$window")
    on_memif coapgw proxy 1000 --path "coap://$origin/%u" \
        --spread 1000000000 --origin "$origin" --origin-payload 64
}

# Each device has a key of its own in coapgw's file, and all have the same: libcoap's server knows one.
round_of_dtls() {
    local n pace with_dtls=yes

    for n in 16 1000; do
        pace=(--window "$few")
        on_sockets libcoap_dtls dtls "$n" --endpoints "$n" --path /time --psk "device-%u:$hex"
        on_veth libcoap_dtls dtls "$n veth" --endpoints "$n" --path /time --psk "device-%u:$hex"
        on_veth af_xdp dtls "$n veth" --endpoints "$n" --path /time --psk "device-%u:$hex"
        pace=(--window "$window")
        on_memif coapgw dtls "$n" --endpoints "$n" --path /time --psk "device-%u:$hex"
    done
}

# ---- the run ----

prepare() {
    lib_begin compare.sh
    need dpdk-testpmd dpdk
    need coap-server-notls libcoap3-bin
    need coap-server-openssl libcoap3-bin
    need ethtool ethtool
    need python3 python3
    if [[ -n $plots ]]; then
        need gnuplot gnuplot-nox
    fi
    need_built "$build" coapgw bench/coapgun bench/ceiling bench/echo
    : >"$work/notes"
    make_namespace "local"
    make_veth
    if ! reserve_pages "$pages"; then
        [[ -n $smoke ]] || exit 1
        huge=
        note "without huge pages"
    fi
}

lib_name=compare.sh
parse "$@"
pace=(--window "$window")
prepare
for name in "${selected[@]}"; do
    for ((round = 1; round <= rounds; round++)); do
        "round_of_$name"
    done
done
"$here/report.py" all --runs "$work/runs" --notes "$work/notes" --build "$build" \
    ${json:+--json "$json"} ${plots:+--plots "$plots"}
