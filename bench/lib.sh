# Parts of the benchmarks' scripts, which source this. It keeps what has to be given back (processes,
# namespaces, huge pages, a folder) and gives it back however the script ends.
#
# Whoever sources it runs `lib_begin NAME` first. Nothing leaves the machine: memif is shared memory,
# and sockets are in network namespaces that are made here.
# shellcheck shell=bash

lib_pages_file=/proc/sys/vm/nr_hugepages
lib_name=
work= # a folder for this run, in memory where that is possible
lib_pages_before=
lib_mounted=
lib_namespaces=()
lib_server= # process IDs
lib_server_name=
lib_load=

say() {
    echo "$lib_name: $*" >&2
}

die() {
    say "$@"
    exit 1
}

# ---- life ----

lib_end_process() {
    local i

    [[ -n $1 ]] || return 0
    kill "$1" 2>/dev/null || true
    for ((i = 0; i < 50; i++)); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

lib_cleanup() {
    local namespace

    trap - EXIT
    lib_end_process "$lib_load"
    lib_end_process "$lib_server"
    for namespace in "${lib_namespaces[@]}"; do
        ip netns delete "$namespace" || true
    done
    if [[ -n $lib_mounted ]]; then
        umount /dev/hugepages || true
    fi
    give_pages_back
    if [[ -n $work ]]; then
        rm -rf "$work"
    fi
}

# lib_begin NAME: NAME is what messages begin with. Sets `work`.
lib_begin() {
    lib_name=$1
    if ((EUID != 0)); then
        die "only root may reserve huge pages and make network namespaces"
    fi
    if (($(nproc) < 2)); then
        die "two CPUs are needed: one for the generator, one for what is measured"
    fi
    trap lib_cleanup EXIT
    trap 'exit 130' INT TERM HUP
    work=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
    # For programs that end when their input does: descriptor 3 never gets any.
    mkfifo "$work/silence"
    exec 3<>"$work/silence"
}

# need PROGRAM PACKAGE: or ends.
need() {
    if [[ -z $(type -P "$1") ]]; then
        die "$1 is missing: apt-get install $2"
    fi
}

# need_built BUILD PROGRAM...: or ends.
need_built() {
    local build=$1 program

    shift
    for program in "$@"; do
        if [[ ! -x $build/$program ]]; then
            die "$build/$program is missing: cmake --preset release && cmake --build --preset release"
        fi
    done
}

# ---- huge pages ----

free_pages() {
    awk '/^HugePages_Free:/ {print $2}' /proc/meminfo
}

give_pages_back() {
    if [[ -n $lib_pages_before ]]; then
        echo "$lib_pages_before" >"$lib_pages_file"
    fi
    lib_pages_before=
}

# reserve_pages N: of 2 MiB. False when there are not so many.
reserve_pages() {
    local free

    free=$(free_pages)
    if ((free < $1)); then
        lib_pages_before=$(cat "$lib_pages_file")
        echo $((lib_pages_before + $1 - free)) >"$lib_pages_file"
    fi
    if (($(free_pages) < $1)); then
        say "only $(free_pages) of $1 huge pages are free: memory is short or in fragments"
        give_pages_back
        return 1
    fi
    if ! grep -q ' /dev/hugepages hugetlbfs ' /proc/mounts; then
        mkdir -p /dev/hugepages
        mount -t hugetlbfs none /dev/hugepages
        lib_mounted=yes
    fi
}

# ---- namespaces ----

# make_namespace ROLE: with loopback; its name is bench-PID-ROLE.
make_namespace() {
    local name=bench-$$-$1

    ip netns add "$name"
    lib_namespaces+=("$name")
    within "$1" ip link set lo up
}

# net_of ROLE: what nsenter takes.
net_of() {
    echo "--net=/run/netns/bench-$$-$1"
}

# within ROLE COMMAND...: not "ip netns exec", which also wants mount namespaces.
within() {
    local role=$1

    shift
    nsenter "$(net_of "$role")" "$@"
}

# ---- what is measured, and the load ----

fail_with_log() {
    say "$1"
    tail -n 20 "$work/log" >&2
    exit 1
}

# start NAME PROGRAM...: in the background (no function: its process is killed), its output in $work/log. One at a time.
start() {
    lib_server_name=$1
    shift
    "$@" >"$work/log" 2>&1 <&3 &
    lib_server=$!
}

# wait_until_started COMMAND...: until it is true, for 20 s at most.
wait_until_started() {
    local i

    for ((i = 0; i < 200; i++)); do
        if "$@"; then
            return
        fi
        if ! kill -0 "$lib_server" 2>/dev/null; then
            break
        fi
        sleep 0.1
    done
    fail_with_log "$lib_server_name did not start"
}

# stop: ends what was started. An error when it has ended by itself. There is one exception: DPDK
# 22.11's memif driver unmaps its rings in one thread when the other end leaves, and a thread that
# was just reading them, and was interrupted in it, crashes. That is after the load, and said.
stop() {
    local status=0 i

    kill "$lib_server" 2>/dev/null || true
    for ((i = 0; i < 100; i++)); do
        kill -0 "$lib_server" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$lib_server" 2>/dev/null || true
    wait "$lib_server" 2>/dev/null || status=$?
    lib_server=
    case $status in
    0 | 143) ;;
    139)
        if [[ ${1-} != memif ]]; then
            fail_with_log "$lib_server_name crashed"
        fi
        say "$lib_server_name crashed when its memif was closed, after the load"
        ;;
    *) fail_with_log "$lib_server_name ended with status $status" ;;
    esac
}

# run_load SECONDS COMMAND...: the generator, for so long at most; its output in $work/load.txt. In
# the background, because a signal to this script waits for what runs in the foreground.
run_load() {
    local limit=$1 status=0

    shift
    timeout --kill-after=5 "$limit" "$@" >"$work/load.txt" 2>&1 3<&- &
    lib_load=$!
    wait "$lib_load" || status=$?
    lib_load=
    return "$status"
}
