#!/bin/bash
# A first look at coapgw on a Debian 12 machine, as root:
#
#   ./quickstart.sh        builds it and runs it between a CoAP client and a CoAP server
#   ./quickstart.sh stop   ends it again and removes all that was made, but for packages and build/
#
# Everything happens in a network namespace of its own: nothing of this machine's network is used
# or changed.
set -euo pipefail

cd "$(dirname "$(readlink -f "$0")")"

namespace=coapgw-quickstart
state=/run/coapgw-quickstart
build=build/quickstart
config=$state/coapgw.yaml
# Not "ip netns exec", which also wants mount namespaces and so fails in a plain chroot.
inside=(nsenter "--net=/run/netns/$namespace")

say() {
    printf '\n== %s\n' "$*"
}

fail() {
    printf '\nquickstart: %s\n' "$*" >&2
    for log in "$state"/*.log; do
        [[ -s $log ]] && printf -- '--- %s\n' "$log" >&2 && tail -n 30 "$log" >&2
    done
    exit 1
}

exists() {
    [[ -e /run/netns/$namespace ]]
}

# Ends the process whose number is in a file, if it still is one of this namespace's.
end_process() {
    local file=$1 pid i
    [[ -s $file ]] || return 0
    pid=$(<"$file")
    ip netns pids "$namespace" | grep -qx "$pid" || return 0
    kill -TERM "$pid" 2>/dev/null || return 0
    for ((i = 0; i < 50; i++)); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
}

stop() {
    if exists; then
        end_process "$state/observer.pid"
        end_process "$state/gateway.pid"
        end_process "$state/origin.pid"
        end_process "$state/redis.pid"
        ip netns delete "$namespace"
    fi
    rm -rf "$state"
}

# start NAME COMMAND...: in the namespace and in the background, with its output in a log.
start() {
    local name=$1
    shift
    setsid "${inside[@]}" "$@" </dev/null >"$state/$name.log" 2>&1 &
    echo "$!" >"$state/$name.pid"
    disown
}

# wait_for SECONDS WHAT COMMAND...
wait_for() {
    local tries=$(($1 * 10)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        ((tries-- > 0)) || fail "$what: waited in vain"
        sleep 0.1
    done
}

gateway_is_ready() {
    grep -q 'coapgw: ready' "$state/gateway.log" || ! kill -0 "$(<"$state/gateway.pid")"
}

origin_answers() {
    "${inside[@]}" coap-client-notls -B 1 coap://10.99.0.1/ 2>&1 | grep -q libcoap
}

redis_answers() {
    redis-cli -s "$state/redis.sock" ping | grep -q PONG
}

start_gateway() {
    start gateway "$PWD/$build/coapgw" -c "$config"
    wait_for 60 "coapgw gets ready" gateway_is_ready
    kill -0 "$(<"$state/gateway.pid")" 2>/dev/null || fail "coapgw did not start"
}

is_gone() {
    ! kill -0 "$1"
}

# How many times of day the observer has been told.
told() {
    grep -oE '[0-9]{2}:[0-9]{2}:[0-9]{2}' "$state/observer.log" | wc -l
}

has_been_told() {
    (($(told) >= $1))
}

# A client observes while coapgw is killed and comes back.
restart() {
    local before
    start observer coap-client-notls -s 60 coap://10.99.0.2/time
    wait_for 20 "the observer is notified" has_been_told 3
    before=$(told)
    printf '\nobserver: notified %s times; what Redis knows of it:\n' "$before"
    redis-cli -s "$state/redis.sock" --scan --pattern '*:observe:*'
    kill -KILL "$(<"$state/gateway.pid")"
    wait_for 10 "coapgw is gone" is_gone "$(<"$state/gateway.pid")"
    printf 'coapgw: killed, and started again\n'
    start_gateway
    wait_for 40 "the observer is notified again" has_been_told $((before + 3))
    printf 'observer: notified %s times; it has asked once\n' "$(told)"
    end_process "$state/observer.pid"
}

# A command as it would be typed.
typed() {
    local word
    for word in "$@"; do
        [[ $word =~ ^[[:alnum:]_./:=,-]+$ ]] || word=${word@Q}
        printf ' %s' "$word"
    done
}

# ask WANTED ARGUMENTS...: makes a request, prints it and its answer, and compares.
ask() {
    local wanted=$1 answer
    shift
    printf '\n$ coap-client-notls%s\n' "$(typed "$@")"
    answer=$("${inside[@]}" coap-client-notls -B 10 "$@" 2>&1) || true
    printf '%s\n' "${answer:-(no payload)}"
    # shellcheck disable=SC2053 # what is wanted is a pattern
    [[ $answer == $wanted ]] || fail "the answer should have been: $wanted"
}

run() {
    say "packages"
    tests/packages.sh build demo

    say "build"
    cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCOAPGW_TESTS=OFF >/dev/null
    cmake --build "$build" --target coapgw coapgwctl

    stop
    mkdir -p "$state"

    say "a network namespace with coapgw on a TAP, and a libcoap server behind it"
    ip netns add "$namespace"
    "${inside[@]}" ip link set lo up
    sed -e "s|^store: none|store: {url: \"unix://$state/redis.sock\", resume_spread: 1s}|" \
        -e "s|^  directory: /run/coapgw\$|  directory: $state|" \
        config/coapgw.yaml >"$config"
    start redis redis-server --port 0 --unixsocket "$state/redis.sock" --save '' --dir "$state"
    wait_for 20 "Redis answers" redis_answers
    start_gateway
    start origin coap-server-notls -A 10.99.0.1 -d 10
    wait_for 20 "the origin answers" origin_answers
    cat "$state/gateway.log"

    say "requests: coapgw answers /hello itself and takes all others to the origin"
    ask 'hello world!' coap://10.99.0.2/hello
    ask 'hello world!' 'coap://[fd99::2]/hello'
    ask '*test server made with libcoap*' coap://10.99.0.2/
    ask '' -m put -e 'twenty-one degrees' coap://10.99.0.2/room
    ask 'twenty-one degrees' -m get coap://10.99.0.2/room
    ask '' -m delete coap://10.99.0.2/room
    ask '4.04*' -m get coap://10.99.0.2/room
    ask '*:*:*' -s 2 coap://10.99.0.2/time
    ask 'done' 'coap://10.99.0.2/async?1'
    ask '*</hello>*' coap://10.99.0.2/.well-known/core

    say "a restart: observers are kept in Redis"
    restart

    say "all answers were right; coapgw is still running"
    cat <<END
Make a request of your own:
    nsenter --net=/run/netns/$namespace coap-client-notls coap://10.99.0.2/time
See the packets:
    nsenter --net=/run/netns/$namespace tcpdump -ni coapgw0
Print the counters into the log:
    kill -USR1 $(<"$state/gateway.pid"); tail -n 40 $state/gateway.log
Look inside:
    nsenter --net=/run/netns/$namespace $build/tools/coapgwctl sessions
Change the configuration: config/coapgw.yaml; check it, and start again:
    $build/coapgw -c config/coapgw.yaml --check && ./quickstart.sh
Stop and remove everything:
    ./quickstart.sh stop
END
}

if ((EUID != 0)); then
    echo "quickstart: run it as root; it makes a network namespace and a TAP" >&2
    exit 1
fi
case ${1-start} in
start) run ;;
stop) stop ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    exit 2
    ;;
esac
